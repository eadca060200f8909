"""OpenAPI documents: what clients look for is there, references resolve, and gnostic's reader would accept the protobuf."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import orjson
import pytest

from jota.api.openapi.definitions import definitions
from jota.api.openapi.documents import PROTOBUF, Documents
from jota.api.runtime_config import serves
from jota.kinds.kind import Kind, Scale
from jota.kinds.table import KINDS as ALL
from jota.meta.resource import DEPLOYMENTS, PODS, SERVICEACCOUNTS, Resource

FOO = Resource("stable.example.com", "v1", "foos", "Foo")
FOO_SCHEMA = {
    "type": "object",
    "description": "A foo.",
    "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer", "description": "How large."}}}
    },
}
KINDS = (
    Kind(PODS, schema="io.k8s.api.core.v1.Pod", status=True, subresources=("eviction", "binding", "log")),
    Kind(SERVICEACCOUNTS, schema="io.k8s.api.core.v1.ServiceAccount", subresources=("token",)),
    Kind(DEPLOYMENTS, schema="io.k8s.api.apps.v1.Deployment", status=True, scale=Scale()),
    Kind(FOO, status=True),
)


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents(KINDS, {("stable.example.com", "v1", "Foo"): FOO_SCHEMA})


def _v3(documents: Documents, path: str) -> Any:
    found = documents.v3(path)
    assert found is not None
    return orjson.loads(found.identity())


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "$ref" and isinstance(child, str):
                yield child
            else:
                yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def test_the_index_points_to_every_group_version(documents: Documents) -> None:
    index = orjson.loads(documents.v3_index().identity())["paths"]
    assert list(index) == ["api/v1", "apis/apps/v1", "apis/stable.example.com/v1"]
    for path, entry in index.items():
        found = documents.v3(path)
        assert found is not None
        assert entry["serverRelativeURL"] == f"/openapi/v3/{path}?hash={found.etag.strip(chr(34))}"
    assert documents.v3("apis/apps/v2") is None


def test_references_resolve_in_v3(documents: Documents) -> None:
    for path in documents.group_versions():
        document = _v3(documents, path)
        schemas = document["components"]["schemas"]
        assert {r.removeprefix("#/components/schemas/") for r in _references(document)} <= schemas.keys()


def test_a_patch_in_v3_has_what_kubectl_looks_for(documents: Documents) -> None:
    item = _v3(documents, "apis/apps/v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    patch = item["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert {"fieldValidation", "dryRun", "fieldManager", "force"} <= {p["name"] for p in patch["parameters"]}
    assert set(patch["requestBody"]["content"]) == {
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    }
    assert {p["name"] for p in item["parameters"]} == {"namespace", "name"}
    assert set(item) == {"get", "put", "patch", "delete", "parameters"}


def test_schemas_in_v3(documents: Documents) -> None:
    schemas = _v3(documents, "apis/apps/v1")["components"]["schemas"]
    spec = schemas["io.k8s.api.apps.v1.DeploymentSpec"]
    assert spec["type"] == "object"
    assert spec["properties"]["replicas"]["type"] == "integer"
    assert spec["properties"]["replicas"]["description"].startswith("Number of desired pods")
    assert spec["properties"]["strategy"]["x-kubernetes-patch-strategy"] == "retainKeys"
    reference = {"$ref": "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"}
    assert spec["properties"]["template"]["allOf"] == [reference]
    choice = schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert (choice["format"], len(choice["oneOf"])) == ("int-or-string", 2)
    assert "io.k8s.api.autoscaling.v1.Scale" in schemas


def _foo(schema: dict[str, Any], version: int) -> dict[str, Any]:
    name = "com.example.stable.v1.Foo"
    return dict(definitions(KINDS[3:], {("stable.example.com", "v1", "Foo"): schema}, version))[name]


def test_a_custom_schema_is_shown_as_it_is_where_v2_can_say_it() -> None:
    age = {"type": "string", "enum": ["Young", "Old"], "pattern": "Young|Old"}
    bars = {"type": "array", "items": {"type": "object", "required": ["age"], "properties": {"age": age}}}
    for version in (2, 3):
        foo = _foo({"type": "object", "properties": {"bars": bars}}, version)
        assert foo["properties"]["bars"] == bars
        assert {"apiVersion", "kind", "metadata", "bars"} == set(foo["properties"])


def test_a_custom_schema_in_v2_leaves_open_what_its_clients_could_not_read() -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {"type": "string"}}}
    assert set(_foo(free, 2)) == {"type", "x-kubernetes-group-version-kind"}
    assert "a" in _foo(free, 3)["properties"]
    members = {
        "free": free,
        "none": {"type": "array", "nullable": True, "items": {"type": "string"}},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
    }
    foo = _foo({"type": "object", "required": ["free", "none"], "not": {}, "properties": members}, 2)
    assert foo["properties"]["free"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert foo["properties"]["none"] == {}
    assert foo["properties"]["either"] == {"x-kubernetes-int-or-string": True}
    assert (foo["required"], "not" in foo) == (["free"], False)


@pytest.mark.parametrize(("version", "open_"), [(2, False), (3, False), (2, True), (3, True)])
def test_embedded_resources_have_their_own_type_and_metadata(version: int, open_: bool) -> None:
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": open_}
    shown = _foo({"type": "object", "properties": {"inner": inner}}, version)["properties"]["inner"]
    if version == 2 and open_:
        assert "properties" not in shown
    else:
        assert set(shown["properties"]) == {"apiVersion", "kind", "metadata"}
        assert shown["required"] == ["kind", "apiVersion"]


def test_custom_resources_have_no_strategic_patch_and_a_full_metadata(documents: Documents) -> None:
    document = _v3(documents, "apis/stable.example.com/v1")
    item = document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/foos/{name}"]
    assert "application/strategic-merge-patch+json" not in item["patch"]["requestBody"]["content"]
    foo = document["components"]["schemas"]["com.example.stable.v1.Foo"]
    gvk = {"group": "stable.example.com", "kind": "Foo", "version": "v1"}
    assert foo["x-kubernetes-group-version-kind"] == [gvk]
    assert foo["properties"]["spec"]["properties"]["size"]["description"] == "How large."
    assert foo["properties"]["metadata"]["allOf"][0]["$ref"].endswith(".ObjectMeta")
    described = [foo["properties"][name]["description"] for name in ("apiVersion", "kind", "metadata")]
    assert [d.split()[0] for d in described] == ["APIVersion", "Kind", "Standard"], "kubectl explain shows them"
    assert "com.example.stable.v1.FooList" in document["components"]["schemas"]


def test_swagger(documents: Documents) -> None:
    document = orjson.loads(documents.v2().identity())
    assert document["swagger"] == "2.0"
    assert {r.removeprefix("#/definitions/") for r in _references(document)} <= document["definitions"].keys()
    item = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    assert "dryRun" in {p["name"] for p in item["patch"]["parameters"]}
    pod = document["definitions"]["io.k8s.api.core.v1.Pod"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "Pod", "version": "v1"}]
    assert document["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] == "string"
    assert not re.search(rb'"type":\[', documents.v2().identity())


def test_documents_are_built_once_and_known_by_their_inputs(documents: Documents) -> None:
    assert documents.v2() is documents.v2()
    again = Documents(KINDS, {("stable.example.com", "v1", "Foo"): FOO_SCHEMA})
    assert again.v2().etag == documents.v2().etag
    changed = Documents(KINDS, {("stable.example.com", "v1", "Foo"): {"type": "object"}})
    assert changed.v2().etag != documents.v2().etag
    unchanged, same = changed.v3("api/v1"), documents.v3("api/v1")
    assert unchanged is not None
    assert same is not None
    assert unchanged.etag == same.etag
    assert documents.v2().etag != documents.v2_protobuf().etag


# --- gnostic ---------------------------------------------------------------------------------------------------------


def _fields(data: bytes) -> dict[int, list[Any]]:
    """A message without its schema: number -> values."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value: Any = varint()
        else:
            assert key & 7 == 2
            size = varint()
            value = data[at : at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


def _map(data: bytes, number: int) -> dict[str, bytes]:
    entries = [_fields(entry) for entry in _fields(data)[number]]
    return {entry[1][0].decode(): entry[2][0] for entry in entries}


def test_the_gnostic_document(documents: Documents) -> None:
    found = documents.v2_protobuf()
    assert found.content_type == PROTOBUF
    document = _fields(found.identity())
    assert document[1] == [b"2.0"]
    swagger = orjson.loads(documents.v2().identity())
    definitions = _map(document[9][0], 1)
    assert definitions.keys() == swagger["definitions"].keys()
    assert _map(document[8][0], 2).keys() == swagger["paths"].keys()
    spec = _fields(definitions["io.k8s.api.apps.v1.DeploymentSpec"])
    assert [r.decode() for r in spec[19]] == ["selector", "template"]
    properties = _map(spec[25][0], 1)
    replicas = _fields(properties["replicas"])
    assert (_fields(replicas[22][0])[1], replicas[2]) == ([b"integer"], [b"int32"])
    assert replicas[4][0].startswith(b"Number of desired pods")
    assert _fields(properties["template"])[1] == [b"#/definitions/io.k8s.api.core.v1.PodTemplateSpec"]
    deployment = _fields(definitions["io.k8s.api.apps.v1.Deployment"])
    extension = _fields(deployment[31][0])
    assert extension[1] == [b"x-kubernetes-group-version-kind"]
    assert b'"Deployment"' in _fields(extension[2][0])[2][0]


def test_the_gnostic_document_with_what_other_servers_have(documents: Documents) -> None:
    from jota.api.aggregation import openapi

    reference = {"$ref": "#/definitions/io.example.T"}
    good = {
        "get": {
            "parameters": [{"$ref": "#/parameters/limit-1"}, {"in": "path", "name": "name", "type": "string"}],
            "responses": {"200": {"schema": reference}},
        }
    }
    theirs = {
        "paths": {
            "/apis/example.io/v1/ts/{name}": good,
            "/apis/apps/v1/hidden": good,
            "/apis/example.io/v1/odd": {"get": {"responses": 7}},
            "/apis/example.io/v1/cookie": {"get": {"parameters": [{"in": "cookie", "name": "c"}], "responses": {}}},
        },
        "parameters": {"limit-1": {"in": "query", "name": "limit", "type": "integer", "uniqueItems": True}},
        "definitions": {
            "io.example.T": {
                "type": "object",
                "properties": {
                    "pod": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"},
                    "odd": {"$ref": "#/definitions/io.example.Odd"},
                    "both": {"allOf": [{"type": ["string", "null"]}]},
                },
            },
            "io.k8s.api.core.v1.Pod": {"type": "object", "description": "of another version"},
            "io.example.Odd": {"maxLength": -1},
        },
    }
    foos = "/apis/stable.example.com/v1"
    plain = {"get": {"responses": {"200": {"schema": reference}}}}
    taken = {"paths": {f"{foos}/jobs": plain, f"{foos}/dangling": good}, "definitions": {}}
    taken["definitions"] = {"io.example.T": {"type": "string"}, "io.example.Unused": {}}
    servers = {"/apis/example.io/v1": orjson.dumps(theirs), foos: orjson.dumps(taken), "/apis/x/v1": b"["}
    found = openapi.merge_protobuf(documents.v2(), documents.v2_protobuf(), list(servers.items()))
    own, document = _fields(documents.v2_protobuf().identity()), _fields(found.identity())
    assert found.content_type == PROTOBUF
    assert {n: document[n] for n in document if n not in (8, 9)} == {n: own[n] for n in own if n not in (8, 9)}
    assert found.etag != documents.v2_protobuf().etag

    paths, before = _map(document[8][0], 2), _map(own[8][0], 2)
    hidden = {p for p in before if p.startswith(f"{foos}/")}
    assert hidden
    new = {"/apis/example.io/v1/ts/{name}", f"{foos}/jobs"}
    assert paths.keys() == before.keys() - hidden | new, "odd ones are left out, and what is not below their root"
    assert all(paths[p] == before[p] for p in before.keys() - hidden)
    get = _fields(_fields(paths["/apis/example.io/v1/ts/{name}"])[2][0])
    limit = _fields(_fields(_fields(_fields(get[8][0])[1][0])[2][0])[3][0])
    assert limit[4] == [b"limit"], "shared parameters are written out"

    definitions, known = _map(document[9][0], 1), _map(own[9][0], 1)
    assert all(definitions[name] == known[name] for name in known)
    assert definitions.keys() - known.keys() == {"io.example.T", "io.example.T_v2", "io.k8s.api.core.v1.Pod_v2"}
    properties = _map(_fields(definitions["io.example.T"])[25][0], 1)
    assert _fields(properties["pod"])[1] == [b"#/definitions/io.k8s.api.core.v1.Pod_v2"]
    assert _fields(_fields(_fields(properties["both"])[24][0])[22][0])[1] == [b"string", b"null"]


def test_gnostic_operations(documents: Documents) -> None:
    paths = _map(_fields(documents.v2_protobuf().identity())[8][0], 2)
    item = _fields(paths["/api/v1/namespaces/{namespace}/pods/{name}"])
    patch = _fields(item[8][0])
    query = [
        _fields(_fields(_fields(_fields(p)[1][0])[2][0])[3][0]) for p in patch[8] if 2 in _fields(_fields(p)[1][0])
    ]
    assert {"dryRun", "fieldManager", "force", "fieldValidation"} <= {q[4][0].decode() for q in query}
    assert b"application/apply-patch+yaml" in patch[7]
    assert {_fields(e)[1][0] for e in patch[13]} == {b"x-kubernetes-action", b"x-kubernetes-group-version-kind"}


# -- what requests are answered with, beside what the official Python client was generated to expect


def _expected() -> dict[tuple[str, str], dict[str, str]]:
    """(method, path) -> code -> type, of every operation of the Python client; "object": a Status."""
    found = {}
    for file in Path(kubernetes.client.__file__).parent.glob("api/*_api.py"):
        answers = {}
        for definition in file.read_text().split("\n    def ")[1:]:
            name, _, source = definition.partition("(")
            codes = re.search(r"response_types_map[^{]*\{(.*?)\}", source, re.S)
            where = re.search(r"method='(\w+)',\s*resource_path='([^']+)'", source)
            if codes:
                answers[name] = {code: kind.strip('"') for code, kind in re.findall(r"'(\d+)': (\S+),", codes[1])}
            elif where and name.endswith("_serialize"):
                found[where[1], where[2]] = answers[name[1:].removesuffix("_serialize")]
    return found


def test_answers_are_those_that_upstream_documents() -> None:
    stable = tuple(kind for kind in ALL if serves({}, kind))
    documents, expected, compared = Documents(stable), _expected(), 0
    for path in documents.group_versions():
        for url, item in _v3(documents, path)["paths"].items():
            for method, operation in item.items():
                answers = expected.get((method.upper(), url))
                if method == "parameters" or answers is None:
                    continue
                compared += 1
                assert operation["responses"].keys() == answers.keys(), (method, url)
                if operation["x-kubernetes-action"] == "delete":
                    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
                    assert schema.endswith(".Status") == (answers["200"] in ("object", "V1Status")), (url, answers)
    assert compared > 400
