"""The items of a List are made while they are sent: the same objects as GET gives, in JSON that nobody has to parse to make."""

from __future__ import annotations

import gzip
from itertools import pairwise
from typing import Any

import orjson
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jota.api.items import Items
from jota.meta.resource import CONFIGMAPS
from jota.store.protocol import Entry
from jota.testing.cluster import ApiServer, story
from jota.wire.answer import PIECE
from jota.wire.message import Made, Response, joined

CM = "/api/v1/namespaces/default/configmaps"
SIZES = st.sampled_from([2, 3, 100, 4000, PIECE // 2, PIECE - 50, PIECE, 3 * PIECE])


@given(
    st.lists(st.tuples(SIZES, st.integers(1, 10**12)), min_size=1, max_size=40),
    st.sampled_from([b"{", b'{"kind":"Widget","apiVersion":"example.org/v1",']),
)
def test_each_object_is_spliced_and_no_piece_is_larger_than_it_must_be(
    objects: list[tuple[int, int]], opening: bytes
) -> None:
    entries = [Entry(f"/k/{n}", b"{%b}\n" % (b"v" * size), revision, 1) for n, (size, revision) in enumerate(objects)]
    items = Items(b"start[", entries, opening, b"]end")
    head = opening + b'"metadata":{"resourceVersion":"%d",'
    rendered = [head % entry.revision + (entry.value or b"")[1:] + b"}" for entry in entries]
    pieces = list(items)
    assert b"".join(pieces) == b"start[" + b",".join(rendered) + b"]end"
    assert items.size == len(joined(items)) == sum(map(len, pieces))
    assert all(len(piece) <= max(PIECE, max(map(len, rendered)) + len(b"start[]end},")) for piece in pieces)
    assert all(len(a) + len(b) > PIECE for a, b in pairwise(pieces))


async def several(api: ApiServer) -> None:
    for n, size in enumerate((1, 70_000, 0, 300_000, 5, 90_000)):
        made = {"metadata": {"name": f"c{n}", "labels": {"odd": str(n % 2)}}, "data": {"k": "{" * size}}
        await api.client.create(CONFIGMAPS, made, "default")


async def objects(api: ApiServer, path: str, query: str = "") -> tuple[Response, dict[str, Any]]:
    answer = await api.request("GET", path + query)
    listed: dict[str, Any] = orjson.loads(joined(answer.body))
    return answer, listed


@story
async def test_a_list_holds_what_get_gives(api: ApiServer) -> None:
    await several(api)
    for query, count in (("", 6), ("?labelSelector=odd=1", 3), ("?limit=2", 2), ("?fieldSelector=metadata.name=c3", 1)):
        answer, listed = await objects(api, CM, query)
        assert isinstance(answer.body, Made)
        names = [item["metadata"]["name"] for item in listed["items"]]
        assert len(names) == count
        for name, item in zip(names, listed["items"], strict=True):
            _, one = await objects(api, f"{CM}/{name}")
            assert {"kind": "ConfigMap", "apiVersion": "v1", **item} == one
    _, none = await objects(api, CM, "?labelSelector=odd=2")
    assert none["items"] == []


@story
async def test_custom_resources_say_in_each_item_what_they_are(api: ApiServer) -> None:
    names = {"plural": "widgets", "kind": "Widget"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"metadata": {"name": "widgets.example.org"}, "spec": spec}
    assert (await api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)).status == 201
    path = "/apis/example.org/v1/namespaces/default/widgets"
    await api.until(lambda: ("example.org", "v1", "widgets") in api.api.served)
    for name in ("a", "b"):
        assert (await api.request("POST", path, {"metadata": {"name": name}, "spec": {"n": name}})).status == 201
    _, listed = await objects(api, path)
    assert [(item["kind"], item["spec"]) for item in listed["items"]] == [
        ("Widget", {"n": "a"}),
        ("Widget", {"n": "b"}),
    ]
    for item in listed["items"]:
        assert (await objects(api, f"{path}/{item['metadata']['name']}"))[1] == item


@story
async def test_who_needs_it_whole_or_its_length_gets_the_same(api: ApiServer) -> None:
    await several(api)
    answer, listed = await objects(api, CM)
    whole = joined(answer.body)
    packed = await api.request("GET", CM, accept_encoding="gzip")
    assert ("Content-Encoding", "gzip") in packed.headers
    assert gzip.decompress(joined(packed.body)) == whole
    head = await api.request("HEAD", CM)
    assert (head.body, ("Content-Length", str(len(whole))) in head.headers) == (b"", True)
    text = joined((await api.request("GET", CM, accept="application/yaml")).body)
    assert yaml.load(text, Loader=yaml.CSafeLoader) == listed
    translated = joined((await api.request("GET", CM, accept="application/vnd.kubernetes.protobuf")).body)
    assert translated.startswith(b"k8s\0")
    assert all(f"c{n}".encode() in translated for n in range(6))


@story
async def test_an_answer_tells_of_the_time_of_the_question(api: ApiServer) -> None:
    await several(api)
    answer, before = await objects(api, CM)
    await api.client.delete(CONFIGMAPS, "c0", "default")
    await api.client.patch(CONFIGMAPS, "c1", "default", {"data": {"k": "other"}})
    await api.store.compact(api.store.revision)
    assert orjson.loads(joined(answer.body)) == before
