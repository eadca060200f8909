"""Clients that take protobuf and nothing else: objects, lists, metadata, watches and errors come in it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import orjson

from jota.api import protobuf_form
from jota.api.path import parse
from jota.meta import protobuf, protobuf_encode
from jota.testing.cluster import ApiServer, Watching, story
from jota.wire.message import Response

CM = "/api/v1/namespaces/default/configmaps"
PROTOBUF = "application/vnd.kubernetes.protobuf"
METADATA = f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
KITES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kites.jota.test"},
    "spec": {
        "group": "jota.test",
        "scope": "Namespaced",
        "names": {"plural": "kites", "kind": "Kite"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}


def header(response: Response, name: str) -> str:
    return next((v for k, v in response.headers if k.lower() == name), "")


def whole(response: Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b"".join(response.body)


def read(response: Response) -> dict[str, Any]:
    assert header(response, "content-type") == PROTOBUF
    return protobuf.decode(whole(response))


class Frames(Watching):
    """A watch whose events come in frames: four bytes of length, then a WatchEvent."""

    def write(self, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        while data:
            (size,) = struct.unpack(">I", data[:4])
            body, data = data[4 : 4 + size], data[4 + size :]
            assert len(body) == size
            type_ = body[2 : 2 + body[1]].decode()
            self.events.append((type_, protobuf.decode(body[body.index(protobuf.MAGIC) :])))


@story
async def test_objects_and_lists(api: ApiServer) -> None:
    body = protobuf_encode.object_(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    )
    made = await api.request("POST", CM, body, content_type=PROTOBUF, accept=PROTOBUF)
    assert (made.status, read(made)["kind"], read(made)["data"]) == (201, "ConfigMap", {"k": "v"})
    asked = orjson.loads(whole(await api.request("GET", f"{CM}/a")))
    assert read(await api.request("GET", f"{CM}/a", accept=PROTOBUF)) == asked
    patched = await api.request(
        "PATCH", f"{CM}/a", {"data": {"k": "w"}}, content_type="application/merge-patch+json", accept=PROTOBUF
    )
    assert read(patched)["data"] == {"k": "w"}
    found = read(await api.request("GET", CM, accept=f"{PROTOBUF}, text/html"))
    assert (found["kind"], [item["data"] for item in found["items"]]) == ("ConfigMapList", [{"k": "w"}])
    gone = read(await api.request("DELETE", f"{CM}/a", accept=PROTOBUF))
    assert (gone["kind"], gone["status"]) == ("Status", "Success")


@story
async def test_a_large_answer(api: ApiServer) -> None:
    data = {"k": "v" * 2 * protobuf_form.LARGE}
    await api.request("POST", CM, {"metadata": {"name": "large"}, "data": data})
    assert read(await api.request("GET", f"{CM}/large", accept=PROTOBUF))["data"] == data


@story
async def test_errors(api: ApiServer) -> None:
    absent = await api.request("GET", f"{CM}/absent", accept=PROTOBUF)
    assert (absent.status, read(absent)["reason"]) == (404, "NotFound")
    assert read(absent)["details"] == {"name": "absent", "kind": "configmaps"}
    nowhere = await api.request("GET", "/apis/nowhere.test/v1/things", accept=PROTOBUF)
    assert (nowhere.status, read(nowhere)["code"]) == (404, 404)


@story
async def test_a_table_has_no_such_form(api: ApiServer) -> None:
    table = f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1"
    refused = await api.request("GET", CM, accept=table)
    assert (refused.status, read(refused)["reason"]) == (406, "NotAcceptable")
    served = await api.request("GET", CM, accept=f"{table},{PROTOBUF}")
    assert (served.status, read(served)["kind"]) == (200, "ConfigMapList")


@story
async def test_a_watch_comes_in_frames(api: ApiServer) -> None:
    watch = Frames(api, f"{CM}?watch=1", accept=PROTOBUF)
    async with watch:
        await api.request("POST", CM, {"metadata": {"name": "a"}})
        await api.settle()
        await api.request("DELETE", f"{CM}/a")
        await api.settle()
    assert watch.names() == [("ADDED", "a"), ("DELETED", "a")]
    assert watch.events[0][1]["kind"] == "ConfigMap"


@story
async def test_what_a_watch_is_told_late_is_in_a_frame_too(api: ApiServer) -> None:
    answer = await api.request("GET", CM, query="watch=1", accept=PROTOBUF)
    assert header(answer, "content-type") == f"{PROTOBUF};stream=watch"
    error = b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"code":410}}'
    frame = protobuf_form.frame(error)
    assert struct.unpack(">I", frame[:4]) == (len(frame) - 4,)
    assert protobuf.decode(frame[frame.index(protobuf.MAGIC) :])["code"] == 410


@story
async def test_custom_resources_have_metadata_in_protobuf_and_nothing_more(api: ApiServer) -> None:
    await api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", KITES)
    await api.settle()
    kites = "/apis/jota.test/v1/namespaces/default/kites"
    refused = await api.request("POST", kites, {"metadata": {"name": "a"}}, accept=PROTOBUF)
    assert (refused.status, read(refused)["message"]) == (
        406,
        "only the following media types are accepted: application/json, application/yaml",
    )
    assert (await api.request("GET", f"{kites}/a")).status == 404, "what is refused is not done"
    kite = {"apiVersion": "jota.test/v1", "kind": "Kite", "metadata": {"name": "a"}}
    assert (await api.request("POST", kites, kite)).status == 201
    found = read(await api.request("GET", kites, accept=METADATA))
    assert (found["kind"], [item["metadata"]["name"] for item in found["items"]]) == (
        "PartialObjectMetadataList",
        ["a"],
    )


@story
async def test_every_kind_can_be_listed(api: ApiServer) -> None:
    for served in list(api.api.served.values()):
        resource = served.resource
        base = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
        plain = await api.request("GET", f"{base}/{resource.plural}")
        if plain.status != 200:
            continue  # reviews and the like
        answer = await api.request("GET", f"{base}/{resource.plural}", accept=PROTOBUF)
        if resource.group == "metrics.k8s.io":
            assert answer.status == 406
            continue
        assert (answer.status, read(answer)["kind"]) == (200, f"{resource.kind}List"), resource


@story
async def test_what_cannot_be_told_is_an_error_of_its_own(api: ApiServer) -> None:
    """It ends one answer or one watch, and the feed goes on for the others."""
    asked = await api.request("GET", CM)
    broken = Response(200, [("Content-Type", "application/json")], b'{"kind":"Kite","apiVersion":"jota.test/v1"}')
    told = await protobuf_form.answer(parse("GET", CM, {}), broken)
    assert (asked.status, told.status, read(told)["reason"]) == (200, 500, "InternalError")
    sink = Frames(api, CM)
    frames = protobuf_form._Frames(sink)
    kite = b'{"type":"ADDED","object":{"kind":"Kite","apiVersion":"jota.test/v1"}}'
    frames.write((kite[:9],))
    frames.write((kite[9:] + b"\n",))
    frames.write((b'{"type":"ADDED","object":{"kind":"Namespace","apiVersion":"v1"}}\n',))
    assert [(type_, value["code"]) for type_, value in sink.events] == [("ERROR", 500)]
