"""Custom resources through the real engine: a definition comes, its instances live by its schema, and both go."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.api.custom.kinds import Rules
from jota.api.served import Served
from jota.kinds.table import KINDS
from jota.store.drivers.memory import MemoryStore
from jota.testing.cluster import ApiServer, Watching, story

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
            },
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "port": {"x-kubernetes-int-or-string": True},
    },
    "x-kubernetes-validations": [
        {"rule": "self.size <= 100", "message": "too large"},
        {"rule": "self.size >= oldSelf.size", "messageExpression": "'shrinks from ' + string(oldSelf.size)"},
    ],
}
STATUS = {"type": "object", "properties": {"replicas": {"type": "integer"}}}


def version(name: str = "v1", *, storage: bool = True, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec or SPEC, "status": STATUS}}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas"},
        },
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
    }


def definition(*versions: dict[str, Any]) -> dict[str, Any]:
    names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]}
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": list(versions) or [version()]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": spec}


async def do(api: ApiServer, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    response = await api.request(method, path, body, **headers)
    data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return response.status, orjson.loads(data)


async def established(api: ApiServer, crd: dict[str, Any] | None = None) -> None:
    status, made = await do(api, "POST", CRDS, crd or definition())
    assert status == 201, made
    assert made["status"]["storedVersions"] == ["v1"]
    await api.until(lambda: ("example.com", "v1", "widgets") in api.api.served)


def widget(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"size": 3, **spec}}


@story
async def test_a_definition_is_established_and_discovered(api: ApiServer) -> None:
    await established(api)
    _, crd = await do(api, "GET", CRDS + "/widgets.example.com")
    conditions = {c["type"]: (c["status"], c["reason"]) for c in crd["status"]["conditions"]}
    assert conditions == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert crd["status"]["acceptedNames"]["listKind"] == "WidgetList"
    _, found = await do(api, "GET", "/apis/example.com/v1")
    assert [r["name"] for r in found["resources"]] == ["widgets", "widgets/scale", "widgets/status"]
    _, v2 = await do(api, "GET", "/openapi/v2")
    published = v2["definitions"]["com.example.v1.Widget"]
    assert published["properties"]["spec"]["properties"]["color"]["default"] == "red"


@story
async def test_instances_are_pruned_and_defaulted(api: ApiServer) -> None:
    await established(api)
    status, obj = await do(api, "POST", WIDGETS, widget(foo=1, free={"any": [1]}, color=None))
    assert status == 201
    assert obj["spec"] == {"size": 3, "color": "red", "free": {"any": [1]}}
    assert obj["metadata"]["generation"] == 1
    status, refused = await do(api, "POST", WIDGETS + "?fieldValidation=Strict", widget("b", foo=1))
    assert (status, refused["message"]) == (400, 'strict decoding error: unknown field "spec.foo"')


@story
async def test_the_schema_is_law(api: ApiServer) -> None:
    await established(api)
    parts = [{"name": "x"}, {"name": "x"}, {"count": 1}]
    status, refused = await do(api, "POST", WIDGETS, widget(size=0, color="green", parts=parts, port=True))
    assert status == 422
    assert {(c["field"], c["reason"]) for c in refused["details"]["causes"]} == {
        ("spec.size", "FieldValueInvalid"),
        ("spec.color", "FieldValueNotSupported"),
        ("spec.parts[1]", "FieldValueDuplicate"),
        ("spec.parts[2].name", "FieldValueRequired"),
        ("spec.port", "FieldValueTypeInvalid"),
    }


@story
async def test_rules_judge_values_and_changes(api: ApiServer) -> None:
    await established(api)
    status, refused = await do(api, "POST", WIDGETS, widget(size=101))
    assert (status, refused["details"]["causes"][0]["message"]) == (422, 'Invalid value: "object": too large')
    await do(api, "POST", WIDGETS, widget())
    status, refused = await do(api, "PATCH", WIDGETS + "/a", {"spec": {"size": 2}}, content_type=MERGE)
    assert (status, refused["details"]["causes"][0]["message"]) == (422, 'Invalid value: "object": shrinks from 3')
    status, _ = await do(api, "PATCH", WIDGETS + "/a", {"spec": {"size": 4}}, content_type=MERGE)
    assert status == 200


@story
async def test_a_rule_that_does_not_compile_refuses_the_definition(api: ApiServer) -> None:
    spec = {**SPEC, "x-kubernetes-validations": [{"rule": "self.sise > 1"}]}
    status, refused = await do(api, "POST", CRDS, definition(version(spec=spec)))
    assert status == 422
    assert "compilation failed: ERROR: <input>:1:5: undefined field 'sise'" in refused["message"]


@story
async def test_schemas_must_be_structural(api: ApiServer) -> None:
    spec = {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {"minimum": 1}}}]}
    status, refused = await do(api, "POST", CRDS, definition(version(spec=spec)))
    at = "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
    assert status == 422
    fields = {c["field"] for c in refused["details"]["causes"]}
    assert {f"{at}.type", f"{at}.properties[a].type", f"{at}.properties[b]"} <= fields


@story
async def test_beside_properties_any_other_field_may_be_allowed_but_not_described(api: ApiServer) -> None:
    known = {"type": "object", "properties": {"size": {"type": "integer"}, "color": {"type": "string"}}}
    for extra in (False, {}, {"type": "string"}):
        status, refused = await do(
            api, "POST", CRDS, definition(version(spec={**known, "additionalProperties": extra}))
        )
        assert (status, refused["details"]["causes"][0]["message"].rpartition(": ")[2]) == (
            422,
            "additionalProperties and properties are mutual exclusive",
        )
    await established(api, definition(version(spec={**known, "additionalProperties": True})))
    status, made = await do(api, "POST", f"{WIDGETS}?fieldValidation=Strict", widget(other="x"))
    assert (status, made["spec"]) == (201, {"size": 3, "other": "x"})


@story
async def test_subresources(api: ApiServer) -> None:
    await established(api)
    await do(api, "POST", WIDGETS, {**widget(), "status": {"replicas": 9}})
    body = {"status": {"replicas": 2}, "spec": {"size": 50}, "metadata": {"labels": {"a": "b"}}}
    _, obj = await do(api, "PATCH", WIDGETS + "/a/status", body, content_type=MERGE)
    assert (obj["spec"]["size"], obj["status"], obj["metadata"].get("labels")) == (3, {"replicas": 2}, None)
    assert obj["metadata"]["generation"] == 1
    scale = {"metadata": {"name": "a"}, "spec": {"replicas": 7}}
    status, shown = await do(api, "PUT", WIDGETS + "/a/scale", scale)
    assert (status, shown["status"]["replicas"]) == (200, 2)
    _, obj = await do(api, "GET", WIDGETS + "/a")
    assert (obj["spec"]["size"], obj["metadata"]["generation"]) == (7, 2)


@story
async def test_patches_selectors_and_columns(api: ApiServer) -> None:
    await established(api)
    strategic = "application/strategic-merge-patch+json"
    await do(api, "POST", WIDGETS, widget())
    assert (await do(api, "PATCH", WIDGETS + "/a", {}, content_type=strategic))[0] == 415
    wanted = {"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"size": 5, "color": "blue"}}
    wanted["spec"]["parts"] = [{"name": "x", "count": 1}]
    status, _ = await do(api, "PATCH", WIDGETS + "/b?fieldManager=one", wanted, content_type=APPLY)
    assert status == 201
    more = {**wanted, "spec": {"size": 5, "parts": [{"name": "y"}]}}
    _, obj = await do(api, "PATCH", WIDGETS + "/b?fieldManager=two", more, content_type=APPLY)
    assert [p["name"] for p in obj["spec"]["parts"]] == ["x", "y"]
    _, found = await do(api, "GET", WIDGETS + "?fieldSelector=spec.color=blue")
    assert [i["metadata"]["name"] for i in found["items"]] == ["b"]
    _, table = await do(api, "GET", WIDGETS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert [r["cells"] for r in table["rows"]] == [["a", 3], ["b", 5]]


@pytest.mark.parametrize(
    ("value", "cell"),
    [(7, 7), (-1.9, -1), (2**63 - 1, 2**63 - 1), (1e300, None), (-1e300, None), ("7", None), (True, None)],
)
def test_columns_of_integers_hold_integers_or_nothing(value: Any, cell: Any) -> None:
    """One object with a number that is none must not spoil everybody's lists and watches."""

    @story
    async def run(api: ApiServer) -> None:
        any_ = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        columns = [{"name": "Size", "type": "integer", "jsonPath": ".size"}]
        served = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": any_}}
        names = {"plural": "things", "kind": "Thing"}
        versions = [{**served, "additionalPrinterColumns": columns}]
        spec = {"group": "example.com", "names": names, "scope": "Cluster", "versions": versions}
        await do(api, "POST", CRDS, {"metadata": {"name": "things.example.com"}, "spec": spec})
        await api.settle()
        path = "/apis/example.com/v1/things"
        as_table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        async with Watching(api, f"{path}?watch=1", **as_table) as seen:
            made = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "size": value}
            assert (await do(api, "POST", path, made))[0] == 201
            await api.settle()
            (event,) = seen.events
        status, table = await do(api, "GET", path, **as_table)
        assert status == 200
        assert [r["cells"] for r in (*table["rows"], *event[1]["rows"])] == [["a", cell]] * 2

    run()


@story
async def test_apply_takes_declared_fields_alone(api: ApiServer) -> None:
    await established(api)
    wanted = {"apiVersion": "example.com/v1", "kind": "Widget", "zz": 1, "spec": {"size": 5, "foo": 1}}
    status, refused = await do(api, "PATCH", WIDGETS + "/b?fieldManager=one", wanted, content_type=APPLY)
    assert status == 400
    assert ".zz: field not declared in schema, .spec.foo: field not declared in schema" in refused["message"]
    twice = b"apiVersion: example.com/v1\nkind: Widget\nspec:\n  size: 1\n  size: 2\n"
    path = WIDGETS + "/b?fieldManager=one&fieldValidation=Strict"
    status, refused = await do(api, "PATCH", path, twice, content_type=APPLY)
    assert status == 400
    assert 'line 5: key "size" already set in map' in refused["message"]


@story
async def test_an_update_names_the_version_that_it_replaces(api: ApiServer) -> None:
    await established(api)
    await do(api, "POST", WIDGETS, widget())
    status, refused = await do(api, "PUT", WIDGETS + "/a", widget())
    assert status == 422
    assert "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in refused["message"]
    status, refused = await do(api, "PUT", WIDGETS + "/nowhere", widget("nowhere"))
    assert (status, refused["reason"]) == (404, "NotFound")


@story
async def test_a_new_default_shows_on_read(api: ApiServer) -> None:
    await established(api)
    await do(api, "POST", WIDGETS, widget())
    _, crd = await do(api, "GET", CRDS + "/widgets.example.com")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["shape"] = {"type": "string", "default": "round"}
    async with Watching(api, WIDGETS + "?watch=1") as watching:
        assert (await do(api, "PUT", CRDS + "/widgets.example.com", crd))[0] == 200
        await api.settle()
        assert watching.ended
    _, obj = await do(api, "GET", WIDGETS + "/a")
    assert obj["spec"]["shape"] == "round"
    _, listed = await do(api, "GET", WIDGETS)
    assert listed["items"][0]["spec"]["shape"] == "round"


@story
async def test_versions_differ_in_name_and_schema(api: ApiServer) -> None:
    newer = copy.deepcopy(SPEC)
    newer["properties"]["weight"] = {"type": "integer", "default": 1}
    await established(api, definition(version(), version("v2", storage=False, spec=newer)))
    await do(api, "POST", WIDGETS, widget())
    path = WIDGETS.replace("/v1/", "/v2/")
    _, obj = await do(api, "GET", path + "/a")
    assert (obj["apiVersion"], obj["spec"]["weight"]) == ("example.com/v2", 1)
    await do(api, "PATCH", path + "/a", {"spec": {"size": 8}}, content_type=MERGE)
    _, obj = await do(api, "GET", WIDGETS + "/a")
    assert (obj["apiVersion"], obj["spec"]) == ("example.com/v1", {"size": 8, "color": "red"})


@story
async def test_a_conversion_webhook_must_be_reachable_somewhere(api: ApiServer) -> None:
    crd = definition(version(), version("v2", storage=False))
    crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}
    status, refused = await do(api, "POST", CRDS, crd)
    assert status == 422
    assert "spec.conversion.webhook.clientConfig: Required value: required when" in refused["message"]


@story
async def test_deletion_takes_the_instances_along(api: ApiServer) -> None:
    await established(api)
    held = widget("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await do(api, "POST", WIDGETS, held)
    await do(api, "POST", WIDGETS, widget())
    async with Watching(api, WIDGETS + "?watch=1") as watching:
        await do(api, "DELETE", CRDS + "/widgets.example.com")
        await api.settle()
        _, crd = await do(api, "GET", CRDS + "/widgets.example.com")
        assert crd["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        assert (await do(api, "POST", WIDGETS, widget("late")))[0] == 405
        await do(api, "PATCH", WIDGETS + "/held", {"metadata": {"finalizers": None}}, content_type=MERGE)
        await api.settle()
        assert [n for n in watching.names() if n[0] == "DELETED"] == [("DELETED", "a"), ("DELETED", "held")]
        assert watching.ended
    assert (await do(api, "GET", CRDS + "/widgets.example.com"))[0] == 404
    assert (await do(api, "GET", WIDGETS))[0] == 404
    assert (await do(api, "GET", "/apis/example.com"))[0] == 404


@story
async def test_names_are_given_once(api: ApiServer) -> None:
    await established(api)
    other = definition()
    other["metadata"]["name"] = "gadgets.example.com"
    other["spec"]["names"] = {"plural": "gadgets", "kind": "Widget"}
    await do(api, "POST", CRDS, other)
    await api.settle()
    _, crd = await do(api, "GET", CRDS + "/gadgets.example.com")
    reasons = {c["type"]: (c["status"], c["reason"]) for c in crd["status"]["conditions"]}
    assert reasons["NamesAccepted"][0] == reasons["Established"][0] == "False"
    await do(api, "DELETE", CRDS + "/widgets.example.com")
    await api.until(lambda: ("example.com", "v1", "gadgets") in api.api.served)


@story
async def test_a_kind_that_is_gone_leaves_no_rules_to_the_next(api: ApiServer) -> None:
    """Requests that are at work while a definition goes still ask for the plugins of what it defined."""
    engine, feed = api.api.engine, api.api.feed
    pods, nodes = (next(kind for kind in KINDS if kind.resource.plural == plural) for plural in ("pods", "nodes"))
    for _ in range(64):
        for kind in (pods, nodes):
            served = Served(kind, feed)
            handled = [plugin for plugin in engine.plugins(served) if not plugin.handles(kind)]
            assert not handled, kind.resource
            assert engine.voices(served, "").beside == ()
            del served


ROLES = "/apis/rbac.authorization.k8s.io/%s/clusterroles"


@story
async def test_what_is_built_in_is_no_definitions_to_serve(api: ApiServer) -> None:
    """In another version it would show the same objects, without their rules, and its end would be theirs."""
    role = {"metadata": {"name": "kept"}, "rules": []}
    assert (await do(api, "POST", ROLES % "v1", role))[0] == 201
    name, pull = "clusterroles.rbac.authorization.k8s.io", "https://github.com/kubernetes/kubernetes/pull/1"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd = {
        "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": pull}},
        "spec": {
            "group": "rbac.authorization.k8s.io",
            "names": {"plural": "clusterroles", "kind": "Other"},
            "scope": "Cluster",
            "versions": [{"name": "v9", "served": True, "storage": True, "schema": schema}],
        },
    }
    assert (await do(api, "POST", CRDS, crd))[0] == 201
    await api.advance(2)
    _, told = await do(api, "GET", f"{CRDS}/{name}")
    reasons = {c["type"]: (c["status"], c["reason"]) for c in told["status"]["conditions"]}
    assert reasons["NamesAccepted"] == ("False", "PluralConflict")
    assert reasons["Established"][0] == "False"
    assert (await do(api, "GET", ROLES % "v9" + "/kept"))[0] == 404
    # one that says of itself that it is established, as an older release left it
    told["status"]["conditions"] = [
        {**condition, "status": "True", "reason": "Said"} for condition in told["status"]["conditions"]
    ]
    told["status"]["acceptedNames"] = {"plural": "clusterroles", "kind": "Other"}
    assert (await do(api, "PUT", f"{CRDS}/{name}/status", told))[0] == 200
    await api.advance(2)
    assert (await do(api, "GET", ROLES % "v9" + "/kept"))[0] == 404
    await do(api, "DELETE", f"{CRDS}/{name}")
    await api.advance(2)
    assert (await do(api, "GET", f"{CRDS}/{name}"))[0] == 404
    assert (await do(api, "GET", ROLES % "v1" + "/kept"))[0] == 200


def test_a_restart_serves_them_again() -> None:
    async def main() -> None:
        store = MemoryStore()
        first = ApiServer(store=store)
        await first.api.start()
        await established(first)
        await do(first, "POST", WIDGETS, widget())
        await first.api.close()
        async with ApiServer(store=store) as second:
            status, obj = await do(second, "GET", WIDGETS + "/a")
            assert (status, obj["spec"]["size"]) == (200, 3)

    asyncio.run(main())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["size", "color", "parts", "free", "port", "name", "count", "zz"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_normalizing_is_idempotent_and_checks_never_raise(spec: Any, status: Any) -> None:
    rules = Rules(
        {"type": "object", "properties": {"spec": {**SPEC, "x-kubernetes-validations": []}, "status": STATUS}}
    )
    obj = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec, "status": status}
    rules.normalize(obj)
    once = copy.deepcopy(obj)
    rules.normalize(obj)
    assert obj == once
    rules.check_new(obj)
    rules.check_update(obj, once)


@story
async def test_metadata_of_embedded_resources_is_whole_also_where_a_schema_narrows_it(api: ApiServer) -> None:
    metadata = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"metadata": metadata}}
    await established(api, definition(version(spec={**SPEC, "properties": {**SPEC["properties"], "template": inner}})))

    def holding(**meta: Any) -> dict[str, Any]:
        template = {"apiVersion": "v1", "kind": "Sub", "metadata": meta}
        return {"metadata": {"name": "a"}, "spec": {"size": 1, "template": template}}

    strict = WIDGETS + "?fieldValidation=Strict"
    status, refused = await do(api, "POST", strict, holding(name="sub", namespace="ns", beside="bar"))
    assert (status, "namespace" in refused["message"]) == (400, False)
    assert 'unknown field "spec.template.metadata.beside"' in refused["message"]
    assert (await do(api, "POST", strict, holding(name="longer")))[0] == 422
    _, made = await do(api, "POST", strict, holding(name="sub", namespace="ns", labels={"a": "b"}))
    assert made["spec"]["template"]["metadata"] == {"name": "sub", "namespace": "ns", "labels": {"a": "b"}}
