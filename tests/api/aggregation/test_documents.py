"""Discovery, OpenAPI and the end of namespaces, where another server has a part of the API."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.api.aggregation import documents, openapi
from jota.api.aggregation.remote import Answer
from jota.api.openapi.documents import PROTOBUF, PROTOBUF_ACCEPTED, Document
from jota.controllers.discovery import discover
from jota.testing.extension import GROUP, ROOT, VERSION
from jota.wire.dial import BadGateway

from .world import Object, World, told, world


@pytest.mark.parametrize("aggregated", [True, False])
def test_discovery_names_what_the_extension_server_has(aggregated: bool) -> None:
    async def tale() -> None:
        async with world(aggregated=aggregated) as w:
            await w.register()
            await w.becomes("True", "Passed")
            accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

            async def version() -> Object:
                items = (await w.get("/apis", accept=accept))[1]["items"]
                names = [i["metadata"]["name"] for i in items]
                assert names[0] == "apiregistration.k8s.io"
                assert names.index("discovery.k8s.io") < names.index(GROUP) < names.index("metrics.k8s.io")
                found = next(i for i in items if i["metadata"]["name"] == GROUP)["versions"]
                assert [v["version"] for v in found] == [VERSION]
                return found[0]

            for _ in range(100):
                if (await version())["resources"]:
                    break
                await asyncio.sleep(0.05)
            found = await version()
            assert found["freshness"] == "Current"
            (resource,) = found["resources"]
            assert resource["resource"] == "flunders"
            assert resource["shortNames"] == ["fl"]
            assert resource["responseKind"] == {"group": GROUP, "version": VERSION, "kind": "Flunder"}
            assert (resource["scope"], resource["singularResource"]) == ("Namespaced", "flunder")
            groups = (await w.get("/apis"))[1]["groups"]
            assert groups[0]["name"] == "apiregistration.k8s.io"
            group = next(g for g in groups if g["name"] == GROUP)
            assert group["preferredVersion"] == {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
            assert (await w.get(f"/apis/{GROUP}"))[1]["versions"] == group["versions"]
            assert (await w.get(ROOT))[1]["resources"][0]["name"] == "flunders"
            assert ROOT in (await w.get("/"))[1]["paths"]
            await w.endpoints(False)
            await w.becomes("False", "MissingEndpoints")
            assert (await version())["freshness"] == "Stale"
            found_ = await discover(w.api.client)
            assert list(found_.failed) == [f"{GROUP}/{VERSION}"]
            assert "service unavailable" in found_.failed[f"{GROUP}/{VERSION}"]

    asyncio.run(tale())


@told
async def test_openapi_holds_the_extension_servers_schemas(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    for _ in range(100):
        paths = (await w.get("/openapi/v3"))[1]["paths"]
        if ROOT[1:] in paths:
            break
        await asyncio.sleep(0.05)
    url = paths[ROOT[1:]]["serverRelativeURL"]
    assert "api/v1" in paths
    document = (await w.get(url))[1]
    assert "com.example.wardle.v1alpha1.Flunder" in document["components"]["schemas"]
    status, swagger = await w.get("/openapi/v2")
    assert status == 200
    assert "io.k8s.api.core.v1.Pod" in swagger["definitions"]
    spec = swagger["definitions"]["com.example.wardle.v1alpha1.Flunder"]["properties"]["spec"]
    assert spec["description"] == "What a flunder is."
    assert f"{ROOT}/namespaces/{{namespace}}/flunders" in swagger["paths"]
    assert w.extension.looks.count("/openapi/v2") == 1
    await w.get("/openapi/v2")
    assert w.extension.looks.count("/openapi/v2") == 1, "what was read a moment ago is not asked again"
    old = await w.api.request("GET", "/openapi/v2", accept=PROTOBUF_ACCEPTED[0])
    assert dict(old.headers)["Content-Type"] == PROTOBUF
    assert isinstance(old.body, bytes)
    for name in (
        "io.k8s.api.core.v1.Pod",
        "com.example.wardle.v1alpha1.Flunder",
        f"{ROOT}/namespaces/{{namespace}}/flunders",
    ):
        assert name.encode() in old.body
    known = dict(old.headers)["ETag"]
    again = await w.api.request("GET", "/openapi/v2", accept=PROTOBUF_ACCEPTED[1], **{"if-none-match": known})
    assert (again.status, w.extension.looks.count("/openapi/v2")) == (304, 1)


def test_definitions_of_the_same_name_live_side_by_side() -> None:
    import zlib

    def document(value: Object) -> Document:
        squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
        return Document("application/json", '"x"', squeeze.compress(orjson.dumps(value)) + squeeze.flush())

    reference = {"$ref": "#/definitions/T"}
    own = document(
        {"paths": {"/api/v1/x": reference}, "definitions": {"T": {"type": "object"}, "Same": {"type": "string"}}}
    )
    theirs = {
        "paths": {"/apis/g/v1/x": reference, "/apis/g/v11/x": reference, "/api/v1/x": {"hostile": True}},
        "definitions": {
            "T": {"properties": {"a": {"$ref": "#/definitions/Same"}}},
            "Same": {"type": "string"},
            "Unused": {},
        },
    }
    deep: Any = {}
    for _ in range(3000):
        deep = {"a": deep}
    merged = orjson.loads(openapi.merge(own, [("/apis/g/v1", orjson.dumps(theirs)), ("/apis/h/v1", b"{")]).identity())
    assert merged["paths"] == {"/api/v1/x": reference, "/apis/g/v1/x": {"$ref": "#/definitions/T_v2"}}
    assert merged["definitions"]["T"] == {"type": "object"}
    assert merged["definitions"]["T_v2"] == {"properties": {"a": {"$ref": "#/definitions/Same"}}}
    assert set(merged["definitions"]) == {"T", "T_v2", "Same"}
    import json

    nested = json.dumps({"paths": {"/apis/h/v1": {}}, "definitions": {"X": {}}}).replace("{}", "[" * 900 + "]" * 900, 1)
    assert "/api/v1/x" in orjson.loads(openapi.merge(own, [("/apis/h/v1", nested.encode())]).identity())["paths"]


class Saying:
    """What an extension server says, by path."""

    group_version, root = ("g.example", "v1"), "/apis/g.example/v1"

    def __init__(self, version: Any, url: str = "/openapi/v3/apis/g.example/v1?hash=A") -> None:
        groups = {"items": [{"metadata": {"name": "g.example"}, "versions": [version]}]}
        self.said = {"/apis": groups, "/openapi/v3": {"paths": {"apis/g.example/v1": {"serverRelativeURL": url}}}}

    async def fetch(self, path: str, accept: str, etag: str = "") -> Answer:
        kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        return Answer(200, {"content-type": kind}, orjson.dumps(self.said[path]))


GOOD = {"version": "v1", "resources": [{"resource": "flunders", "scope": "Namespaced", "verbs": None, "new": 1}]}


@pytest.mark.parametrize(
    "resources",
    [
        5,
        [5],
        [{"resource": 5}],
        [{"resource": "flunders", "verbs": "get"}],
        [{"resource": "flunders", "verbs": [None]}],
        [{"resource": "flunders", "responseKind": []}],
        [{"resource": "flunders", "subresources": [{"subresource": {}}]}],
    ],
)
def test_what_is_no_discovery_does_not_spoil_everybodys(resources: Any) -> None:
    """kubectl decodes the list of all groups as a whole."""

    async def tale() -> None:
        known = documents.Documents()
        assert await known.refresh(Saying(GOOD))
        with pytest.raises(BadGateway, match="APIVersionDiscovery"):
            await known.refresh(Saying({"version": "v1", "resources": resources}))
        assert known.discovery("v1", fresh=True) == {**GOOD, "freshness": "Current"}

    asyncio.run(tale())


def test_an_address_that_is_none_leaves_the_rest_readable() -> None:
    async def tale() -> None:
        known = documents.Documents()
        assert await known.refresh(Saying(GOOD, "//["))
        assert (known.openapi, known.discovery("v1", fresh=True)["resources"]) == ("", GOOD["resources"])

    asyncio.run(tale())


@pytest.mark.parametrize(
    ("item", "definition"), [({"get": {"$ref": "#/definitions/X"}}, 5), (7, {}), ([{"$ref": "#/definitions/X"}], {})]
)
def test_openapi_entries_that_are_none_do_not_spoil_everybodys(item: Any, definition: Any) -> None:
    own = openapi._document(orjson.dumps({"paths": {"/api": {}}, "definitions": {"A": {"type": "object"}}}))
    theirs = {"paths": {"/apis/g.example/v1/x": item}, "definitions": {"X": definition}}
    merged = openapi.merge(own, [("/apis/g.example/v1", orjson.dumps(theirs))])
    assert merged.identity() == own.identity()


def test_resources_of_the_old_form() -> None:
    found = documents.from_legacy(
        "g",
        "v1",
        [
            {
                "name": "as/scale",
                "kind": "Scale",
                "group": "autoscaling",
                "version": "v1",
                "verbs": ["get"],
                "namespaced": True,
            },
            {
                "name": "as",
                "singularName": "a",
                "kind": "A",
                "namespaced": True,
                "verbs": ["list"],
                "categories": ["all"],
            },
            {"name": "as/status", "kind": "A", "verbs": ["get"], "namespaced": True},
        ],
    )
    (resource,) = found["resources"]
    assert resource["verbs"] == ["list"]
    assert resource["categories"] == ["all"]
    assert [s["subresource"] for s in resource["subresources"]] == ["scale", "status"]
    assert resource["subresources"][0]["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert resource["subresources"][1]["responseKind"] == {"group": "g", "version": "v1", "kind": "A"}
