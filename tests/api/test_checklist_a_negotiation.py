"""API checklist, section A: media types, discovery, OpenAPI, tables, /version."""

from __future__ import annotations

import gzip
from typing import Any

import orjson

from jota.meta import protobuf
from jota.testing.cluster import ApiServer, Watching, story

CM = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PROTOBUF = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def read(response: Any) -> Any:
    body = response.body
    return orjson.loads(body if isinstance(body, bytes) else b"".join(body))


def header(response: Any, name: str) -> str:
    return next((v for k, v in response.headers if k.lower() == name), "")


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of protobuf, short values only."""
    return bytes((number << 3 | 2, len(value))) + value


def config_map(name: str, **data: str) -> bytes:
    """A ConfigMap in client-go's envelope, put together by hand."""
    pairs = b"".join(field(2, field(1, k.encode()) + field(2, v.encode())) for k, v in data.items())
    raw = field(1, field(1, name.encode())) + pairs
    return b"k8s\0" + field(1, field(1, b"v1") + field(2, b"ConfigMap")) + field(2, raw)


@story
async def test_01_protobuf_bodies_are_read(api: ApiServer) -> None:
    response = await api.request("POST", CM, config_map("a", k="v"), content_type=PROTOBUF)
    assert (response.status, read(response)["data"]) == (201, {"k": "v"})
    options = b"k8s\0" + field(1, field(1, b"v1") + field(2, b"DeleteOptions")) + field(2, b"")
    assert (await api.request("DELETE", f"{CM}/a", options, content_type=PROTOBUF)).status == 200
    for broken in (b"k8s", b"k8s\0", b"k8s\0\xff\xff", config_map("b")[:-3], b"{}"):
        assert (await api.request("POST", CM, broken, content_type=PROTOBUF)).status == 400, broken
    assert protobuf.message_of("v1", "ConfigMap")


@story
async def test_02_who_accepts_protobuf_and_json_gets_json(api: ApiServer) -> None:
    response = await api.request("GET", CM, accept=f"{PROTOBUF},application/json")
    assert (response.status, header(response, "content-type")) == (200, "application/json")
    either = f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert read(await api.request("GET", CM, accept=either))["kind"] == "PartialObjectMetadataList"


@story
async def test_03_accept_is_a_list_of_wishes(api: ApiServer) -> None:
    for accept in ("*/*", "application/json;q=0.5, text/html", f"{PROTOBUF}, */*", "application/*"):
        assert (await api.request("GET", CM, accept=accept)).status == 200, accept
    refused = await api.request("GET", CM, accept="text/html")
    assert (refused.status, read(refused)["reason"]) == (406, "NotAcceptable")
    assert read(refused)["message"].startswith("only the following media types are accepted: ")
    unknown = await api.request("POST", CM, b"<a/>", content_type="text/xml")
    assert (unknown.status, read(unknown)["reason"]) == (415, "UnsupportedMediaType")
    text = "the body of the request was in an unknown format - accepted media types include: "
    assert read(unknown)["message"].startswith(text)


@story
async def test_04_discovery_has_two_forms(api: ApiServer) -> None:
    for path in ("/api", "/apis"):
        aggregated = await api.request("GET", path, accept=f"{AGGREGATED},application/json")
        assert header(aggregated, "content-type") == AGGREGATED
        assert read(aggregated)["kind"] == "APIGroupDiscoveryList"
    assert read(await api.request("GET", "/api"))["kind"] == "APIVersions"
    groups = read(await api.request("GET", "/apis"))["groups"]
    for group in groups:
        for version in group["versions"]:
            document = read(await api.request("GET", f"/apis/{version['groupVersion']}"))
            assert (document["groupVersion"], bool(document["resources"])) == (version["groupVersion"], True)


@story
async def test_05_subresources_say_which_kind_they_speak(api: ApiServer) -> None:
    core = {r["name"]: r for r in read(await api.request("GET", "/api/v1"))["resources"]}
    eviction = core["pods/eviction"]
    assert (eviction["group"], eviction["version"], eviction["kind"]) == ("policy", "v1", "Eviction")
    token = core["serviceaccounts/token"]
    assert (token["group"], token["kind"]) == ("authentication.k8s.io", "TokenRequest")
    apps = {r["name"]: r for r in read(await api.request("GET", "/apis/apps/v1"))["resources"]}
    assert (apps["deployments/scale"]["group"], apps["deployments/scale"]["kind"]) == ("autoscaling", "Scale")
    assert "group" not in core["pods/status"]


@story
async def test_06_openapi_v3_has_what_kubectl_needs(api: ApiServer) -> None:
    index = read(await api.request("GET", "/openapi/v3"))["paths"]
    url = index["apis/apps/v1"]["serverRelativeURL"]
    assert url.startswith("/openapi/v3/apis/apps/v1?hash=")
    document = read(await api.request("GET", url))
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert {"fieldValidation", "dryRun", "fieldManager", "force"} <= {p["name"] for p in patch["parameters"]}
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]


@story
async def test_07_openapi_v2_in_json_and_protobuf_with_an_etag(api: ApiServer) -> None:
    plain = await api.request("GET", "/openapi/v2")
    assert read(plain)["swagger"] == "2.0"
    tag = header(plain, "etag")
    assert (await api.request("GET", "/openapi/v2", if_none_match=tag)).status == 304
    gnostic = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    packed = await api.request("GET", "/openapi/v2", accept=gnostic)
    assert (packed.status, packed.body[:1]) == (200, b"\x0a")  # type: ignore[index]


@story
async def test_08_tables_on_get_list_and_watch(api: ApiServer) -> None:
    await api.request("POST", CM, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    one, many = [read(await api.request("GET", p, accept=TABLE)) for p in (f"{CM}/a", CM)]
    assert (one["kind"], one["rows"][0]["cells"][:2]) == ("Table", ["a", 1])
    assert (many["rows"][-1]["object"]["kind"], "resourceVersion" in many["metadata"]) == (
        "PartialObjectMetadata",
        True,
    )
    whole = read(await api.request("GET", f"{CM}/a?includeObject=Object", accept=TABLE))
    assert whole["rows"][0]["object"]["data"] == {"k": "v"}
    none = read(await api.request("GET", f"{CM}/a?includeObject=None", accept=TABLE))
    assert "object" not in none["rows"][0] or none["rows"][0]["object"] is None
    async with Watching(api, f"{CM}?watch=1", accept=TABLE) as watching:
        await api.request("POST", CM, {"metadata": {"name": "b"}})
        await api.settle()
        heads = [bool(table.get("columnDefinitions")) for _, table in watching.events]
        assert (heads[0], any(heads[1:])) == (True, False)


@story
async def test_09_bodies_in_yaml_and_answers_in_gzip(api: ApiServer) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {k: 'v'}\n"
    made = await api.request("POST", CM, text, content_type="application/yaml")
    assert (made.status, read(made)["data"]) == (201, {"k": "v"})
    await api.request("POST", CM, {"metadata": {"name": "big"}, "data": {"k": "x" * 200_000}})
    packed = await api.request("GET", CM, accept_encoding="gzip")
    assert header(packed, "content-encoding") == "gzip"
    whole = packed.body if isinstance(packed.body, bytes) else b"".join(packed.body)
    assert orjson.loads(gzip.decompress(whole))["kind"] == "ConfigMapList"
    assert header(await api.request("GET", f"{CM}/y", accept_encoding="gzip"), "content-encoding") == ""
    cbor = await api.request("POST", CM, b"\xa0", content_type="application/cbor")
    assert cbor.status == 415


@story
async def test_10_version_is_a_release(api: ApiServer) -> None:
    version = read(await api.request("GET", "/version"))
    wanted = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ]
    assert set(wanted) <= version.keys()
    assert version["gitVersion"].removeprefix("v").split(".")[:2] == [version["major"], version["minor"]]
