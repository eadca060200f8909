"""Tier 0 of the conformance suite, its rows about CustomResourceDefinitions: api/crd, api/crd-openapi-publish, and the
custom part of api/field-validation and api/discovery-aggregated."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from jota.testing.cluster import ApiServer, Watching, story

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "tier0.example.com"
FOOS = f"/apis/{GROUP}/v1/namespaces/default/foos"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
SCHEMA: dict[str, Any] = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": {
                    "description": "List of Bars and their specs.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "age": {"type": "string"}},
                    },
                },
                "color": {"type": "string", "default": "red"},
                "template": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                },
            },
        },
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    },
}


def version(name: str = "v1", *, storage: bool = True, schema: Any = SCHEMA) -> dict[str, Any]:
    shape = {"openAPIV3Schema": copy.deepcopy(schema)}
    return {"name": name, "served": True, "storage": storage, "schema": shape, "subresources": {"status": {}}}


def definition(*versions: dict[str, Any], plural: str = "foos", kind: str = "Foo", **meta: Any) -> dict[str, Any]:
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": GROUP, "names": names, "scope": "Namespaced", "versions": list(versions) or [version()]}
    return {"metadata": {"name": f"{plural}.{GROUP}", **meta}, "spec": spec}


async def do(api: ApiServer, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, Any]:
    response = await api.request(method, path, body, **headers)
    data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return response.status, orjson.loads(data)


async def defined(api: ApiServer, crd: dict[str, Any] | None = None) -> dict[str, Any]:
    crd = crd or definition()
    status, made = await do(api, "POST", CRDS, crd)
    assert status == 201, made
    plural = crd["spec"]["names"]["plural"]
    await api.until(lambda: any(key[0] == GROUP and key[2] == plural for key in api.api.served))
    return dict(made)


@story
async def test_api_crd_conditions_finalizer_and_status_endpoint(api: ApiServer) -> None:
    await defined(api)
    one = f"{CRDS}/foos.{GROUP}"
    _, crd = await do(api, "GET", one)
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert (conditions["NamesAccepted"], conditions["Established"]) == ("True", "True")
    assert crd["status"]["storedVersions"] == ["v1"]
    assert crd["status"]["acceptedNames"] == crd["spec"]["names"]
    assert (await do(api, "GET", f"{one}/status"))[1]["status"] == crd["status"]
    told = {"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "m", "lastTransitionTime": None}
    for method, media in (("PUT", "application/json"), ("PATCH", MERGE)):
        _, crd = await do(api, "GET", f"{one}/status")
        told["reason"] = method
        conditions = [c for c in crd["status"]["conditions"] if c["type"] != "StatusUpdated"]
        crd["status"]["conditions"] = [*conditions, {k: v for k, v in told.items() if v}]
        crd["spec"]["names"]["shortNames"] = ["never"]
        body = crd if method == "PUT" else {"status": crd["status"]}
        status, done = await do(api, method, f"{one}/status", body, content_type=media)
        assert status == 200, done
        assert done["status"]["conditions"][-1]["reason"] == method
        assert "shortNames" not in done["spec"]["names"]


@story
async def test_api_crd_waits_for_its_instances_under_its_finalizer(api: ApiServer) -> None:
    await defined(api)
    meta = {"name": "held", "finalizers": ["example.com/hold"]}
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": meta}
    assert (await do(api, "POST", FOOS, body))[0] == 201
    one = f"{CRDS}/foos.{GROUP}"
    assert (await do(api, "DELETE", one))[0] == 200
    await api.advance(10)
    _, crd = await do(api, "GET", one)
    assert crd["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert {c["type"]: c["status"] for c in crd["status"]["conditions"]}["Terminating"] == "True"
    assert (await do(api, "POST", FOOS, {**body, "metadata": {"name": "late"}}))[0] in (404, 405, 403)
    assert (await do(api, "PATCH", f"{FOOS}/held", {"metadata": {"finalizers": None}}, content_type=MERGE))[0] == 200
    await api.advance(30)
    assert (await do(api, "GET", one))[0] == 404
    assert (await do(api, "GET", FOOS))[0] == 404


@story
async def test_api_crd_list_and_delete_by_label(api: ApiServer) -> None:
    for number in range(3):
        await defined(api, definition(plural=f"bars{number}", kind=f"Bar{number}", labels={"e2e": "yes"}))
    await defined(api)
    _, found = await do(api, "GET", f"{CRDS}?labelSelector=e2e%3Dyes")
    assert len(found["items"]) == 3
    assert (await do(api, "DELETE", f"{CRDS}?labelSelector=e2e%3Dyes"))[0] == 200
    await api.advance(30)
    _, left = await do(api, "GET", CRDS)
    assert [o["metadata"]["name"] for o in left["items"]] == [f"foos.{GROUP}"]


@story
async def test_api_crd_defaults_on_write_on_read_and_not_after_they_are_gone(api: ApiServer) -> None:
    plain = copy.deepcopy(SCHEMA)
    del plain["properties"]["spec"]["properties"]["color"]["default"]
    await defined(api, definition(version(schema=plain)))
    _, old = await do(
        api, "POST", FOOS, {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": {"name": "old"}, "spec": {}}
    )
    assert "color" not in old["spec"]
    one = f"{CRDS}/foos.{GROUP}"
    await do(api, "PATCH", one, {"spec": {"versions": [version()]}}, content_type=MERGE)
    await api.settle()
    assert (await do(api, "GET", f"{FOOS}/old"))[1]["spec"]["color"] == "red"
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": {"name": "new"}, "spec": {}}
    assert (await do(api, "POST", FOOS, body))[1]["spec"]["color"] == "red"
    await do(api, "PATCH", one, {"spec": {"versions": [version(schema=plain)]}}, content_type=MERGE)
    await api.settle()
    assert (await do(api, "GET", f"{FOOS}/new"))[1]["spec"]["color"] == "red"
    assert "color" not in (await do(api, "GET", f"{FOOS}/old"))[1]["spec"]


@story
async def test_api_crd_watch_by_name(api: ApiServer) -> None:
    await defined(api)
    async with Watching(api, f"{FOOS}?watch=1&fieldSelector=metadata.name%3Dname1") as watching:
        for name in ("name1", "name2"):
            body = {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": {"name": name}}
            assert (await do(api, "POST", FOOS, body))[0] == 201
        for name in ("name1", "name2"):
            await do(api, "PATCH", f"{FOOS}/{name}", {"spec": {"color": "blue"}}, content_type=MERGE)
            await do(api, "DELETE", f"{FOOS}/{name}")
        await api.settle()
        assert watching.names() == [("ADDED", "name1"), ("MODIFIED", "name1"), ("DELETED", "name1")]


@story
async def test_api_field_validation_of_custom_resources(api: ApiServer) -> None:
    await defined(api)
    head = f"apiVersion: {GROUP}/v1\nkind: Foo\nmetadata:\n  name: y\n"
    strict = "fieldManager=m&fieldValidation=Strict"
    for body, words in (
        (head + "unknownField: 1\n", ".unknownField: field not declared in schema"),
        (
            head + "spec:\n  template:\n    apiVersion: v1\n    kind: X\n    metadata:\n      unknownSubMeta: a\n",
            ".spec.template.metadata.unknownSubMeta: field not declared in schema",
        ),
        (head + "spec:\n  color: a\n  color: b\n", 'line 7: key "color" already set in map'),
    ):
        status, told = await do(api, "PATCH", f"{FOOS}/y?{strict}", body.encode(), content_type=APPLY)
        assert (status, words in told["message"]) == (400, True), told
    body = b'{"apiVersion":"%s/v1","kind":"Foo","metadata":{"name":"j","unknownMeta":1},"spec":{"x":1,"color":"a","color":"b"}}'
    status, told = await do(api, "POST", f"{FOOS}?fieldValidation=Strict", body % GROUP.encode())
    assert status == 400
    for words in ('unknown field "metadata.unknownMeta"', 'unknown field "spec.x"', 'duplicate field "spec.color"'):
        assert words in told["message"]
    response = await api.request("POST", FOOS, body % GROUP.encode())
    assert (response.status, sum(name == "Warning" for name, _ in response.headers)) == (201, 3)
    assert (await do(api, "POST", f"{FOOS}?fieldValidation=Ignore", body.replace(b'"j"', b'"k"') % GROUP.encode()))[
        0
    ] == 201


@story
async def test_api_field_validation_takes_anything_without_a_schema(api: ApiServer) -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    await defined(api, definition(version(schema=free)))
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": {"name": "f"}, "any": {"thing": [1]}}
    status, made = await do(api, "POST", f"{FOOS}?fieldValidation=Strict", body)
    assert (status, made["any"]) == (201, {"thing": [1]})
    apply = f"apiVersion: {GROUP}/v1\nkind: Foo\nmetadata: {{name: f}}\nmore: [2]\n".encode()
    status, made = await do(api, "PATCH", f"{FOOS}/f?fieldManager=m&fieldValidation=Strict", apply, content_type=APPLY)
    assert (status, made["more"]) == (200, [2])


@story
async def test_api_discovery_aggregated_shows_a_new_definition(api: ApiServer) -> None:
    await defined(api)
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    response = await api.request("GET", "/apis", accept=accept)
    kind = dict(response.headers)["Content-Type"]
    assert all(part in kind for part in ("g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"))
    groups = {g["metadata"]["name"]: g for g in orjson.loads(response.body)["items"]}  # type: ignore[arg-type]
    (foos,) = groups[GROUP]["versions"][0]["resources"]
    assert (foos["resource"], foos["scope"], foos["responseKind"]["kind"]) == ("foos", "Namespaced", "Foo")
    assert [s["subresource"] for s in foos["subresources"]] == ["status"]


def _key(name: str, kind: str = "Foo") -> str:
    return ".".join([*reversed(GROUP.split(".")), name, kind])


async def _swagger(api: ApiServer) -> tuple[dict[str, Any], str]:
    response = await api.request("GET", "/openapi/v2")
    assert response.status == 200
    document = orjson.loads(b"".join([response.body] if isinstance(response.body, bytes) else response.body))
    return document["definitions"], dict(response.headers).get("Etag") or dict(response.headers)["ETag"]


@story
async def test_api_crd_openapi_publish_follows_the_definition(api: ApiServer) -> None:
    before, etag = await _swagger(api)
    assert (await api.request("GET", "/openapi/v2", if_none_match=etag)).status == 304
    assert not any(key.startswith("com.example.tier0") for key in before)
    await defined(api, definition(version("v1"), version("v2", storage=False)))
    published, changed = await _swagger(api)
    assert changed != etag
    assert (await api.request("GET", "/openapi/v2", if_none_match=etag)).status == 200
    for name in ("v1", "v2"):
        shown = published[_key(name)]
        assert shown["x-kubernetes-group-version-kind"] == [{"group": GROUP, "kind": "Foo", "version": name}]
        assert {"apiVersion", "kind", "metadata"} <= shown["properties"].keys()
        bars = shown["properties"]["spec"]["properties"]["bars"]
        assert bars == SCHEMA["properties"]["spec"]["properties"]["bars"]
        assert shown["properties"]["status"] == SCHEMA["properties"]["status"]
    assert (await _swagger(api))[1] == changed, "stable while nothing changes"
    # a version is renamed: the new one is there, the old one is not, the other stays
    renamed = {"spec": {"versions": [version("v1"), version("v3", storage=False)]}}
    assert (await do(api, "PATCH", f"{CRDS}/foos.{GROUP}", renamed, content_type=MERGE))[0] == 200
    await api.settle()
    after, _ = await _swagger(api)
    assert {_key("v1"), _key("v3")} <= after.keys()
    assert _key("v2") not in after
    assert after[_key("v1")] == published[_key("v1")]
    unserved = {"spec": {"versions": [version("v1"), {**version("v3", storage=False), "served": False}]}}
    assert (await do(api, "PATCH", f"{CRDS}/foos.{GROUP}", unserved, content_type=MERGE))[0] == 200
    await api.settle()
    assert _key("v3") not in (await _swagger(api))[0]
    await do(api, "DELETE", f"{CRDS}/foos.{GROUP}")
    await api.advance(30)
    assert not any(key.startswith("com.example.tier0") for key in (await _swagger(api))[0])


@story
async def test_api_crd_openapi_publish_without_a_schema_and_with_two_kinds(api: ApiServer) -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    await defined(api, definition(version(schema=free)))
    await defined(api, definition(plural="baz", kind="Baz"))
    published, _ = await _swagger(api)
    assert published[_key("v1")]["type"] == "object"
    assert published[_key("v1", "Baz")]["properties"]["spec"]["description"] == "Specification of Foo"
    index = (await do(api, "GET", "/openapi/v3"))[1]["paths"]
    _, three = await do(api, "GET", index[f"apis/{GROUP}/v1"]["serverRelativeURL"])
    assert {_key("v1"), _key("v1", "Baz")} <= three["components"]["schemas"].keys()
