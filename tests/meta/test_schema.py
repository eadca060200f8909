"""The schema's facts, the complete walk, the fast check, and that the two never disagree."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta import schema, structs
from jota.meta.check import suggest

POD, DEPLOYMENT = "io.k8s.api.core.v1.Pod", "io.k8s.api.apps.v1.Deployment"
CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
GOOD: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"a": "b"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "image": "x",
                        "resources": {"limits": {"cpu": "1", "memory": 1.5}},
                        "ports": [{"containerPort": 80}],
                    }
                ]
            },
        },
    },
}


def _field(name: str, *path: str) -> schema.Type:
    at = schema.definition(name)
    for part in path:
        assert at is not None
        at = at.item if part == "[]" else at.fields[part]
    assert at is not None
    return at


def test_merge_facts() -> None:
    containers = _field(POD, "spec", "containers")
    assert (containers.list_type, containers.keys, containers.merge_key) == ("map", ("name",), "name")
    assert containers.strategies == {"merge"}
    ports = _field(POD, "spec", "containers", "[]", "ports")
    assert ports.keys == ("containerPort", "protocol")
    assert ports.item is not None
    assert ports.item.defaults == {"protocol": "TCP"}
    assert _field(POD, "metadata", "finalizers").list_type == "set"
    assert _field(POD, "spec", "tolerations").list_type == "atomic"
    assert _field(DEPLOYMENT, "spec", "selector").atomic
    assert _field(DEPLOYMENT, "spec", "strategy").strategies == {"retainKeys"}
    assert _field(DEPLOYMENT, "spec").required == ("selector", "template")


def test_every_definition_loads_and_names_resolve() -> None:
    for name in schema.names():
        assert schema.definition(name) is not None
    assert schema.definition("no.such.Thing") is None
    assert schema.find("apps", "v1", "Deployment") == DEPLOYMENT
    assert schema.find("apps", "v1", "Nothing") == ""
    assert POD in schema.closure([POD + "List"])


def test_what_is_wrong_is_found_in_document_order() -> None:
    bad = copy.deepcopy(GOOD)
    bad["spec"]["replicaz"] = 1
    bad["spec"]["replicas"] = "3"
    bad["spec"]["template"]["spec"]["containers"][0] |= {
        "imagee": "y",
        "resources": {"limits": {"cpu": "1x"}},
        "tty": "no",
    }
    del bad["spec"]["strategy"]
    found = schema.check(DEPLOYMENT, bad)
    container = "spec.template.spec.containers[0]"
    assert [(p.kind, p.path) for p in found] == [
        ("type", "spec.replicas"),
        ("type", f"{container}.resources.limits.cpu"),
        ("unknown", f"{container}.imagee"),
        ("type", f"{container}.tty"),
        ("unknown", "spec.replicaz"),
    ]
    assert found[0].message == (
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    )
    assert found[2].message == f'unknown field "{container}.imagee"'
    assert found[3].message == (
        "json: cannot unmarshal string into Go struct field Container.spec.template.spec.containers.tty of type bool"
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spec",), [], "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (
            ("spec",),
            {"containers": {}},
            "cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1",
        ),
        (("metadata", "labels"), {"a": 1}, "struct field ObjectMeta.metadata.labels of type string"),
        (("metadata", "labels"), "x", "of type map[string]string"),
        (("metadata", "generation"), 1.5, "cannot unmarshal number 1.5 into"),
        (("spec", "priority"), 2**31, "cannot unmarshal number 2147483648 into"),
        (("metadata", "creationTimestamp"), "yesterday", 'parsing time "yesterday"'),
        (
            ("spec", "hostNetwork"),
            1,
            "cannot unmarshal number into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
    ],
)
def test_messages_of_wrong_types(path: tuple[str, ...], value: Any, message: str) -> None:
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod"}
    at = pod
    for part in path[:-1]:
        at = at.setdefault(part, {})
    at[path[-1]] = value
    assert message in schema.check(POD, pod)[0].message
    assert not structs.clean(POD, orjson.dumps(pod))


def test_base64_is_checked() -> None:
    secret = "io.k8s.api.core.v1.Secret"
    assert schema.check(secret, {"data": {"a": "eA=="}}) == []
    assert "illegal base64 data at input byte 1" in schema.check(secret, {"data": {"a": "e!=="}})[0].message


def test_schemas_inside_crds_are_looked_into() -> None:
    inner: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"items": {"type": "string"}}},
        "default": {"x": None},
    }
    crd = {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": inner}}]}}
    assert schema.check(CRD, crd) == []
    inner["properties"]["a"]["items"]["typo"] = 1
    found = schema.check(CRD, crd)
    assert [p.path for p in found] == ["spec.versions[0].schema.openAPIV3Schema.properties.a.items.typo"]
    schema.prune(CRD, crd)
    assert inner == {"type": "object", "properties": {"a": {"items": {"type": "string"}}}, "default": {"x": None}}


def test_pruning_drops_what_decoding_drops() -> None:
    value = {"metadata": {"labels": {"a": None}, "name": None}, "spec": {"containers": [None], "nope": 1}}
    schema.prune(POD, value)
    assert value == {"metadata": {"labels": {"a": ""}}, "spec": {"containers": [{}]}}


def test_a_null_in_a_map_of_bytes_is_no_bytes() -> None:
    """As of strings; a reader of bytes is promised text."""
    value = {"metadata": {"name": "a"}, "data": {"a": None, "b": "YQ=="}}
    schema.prune("io.k8s.api.core.v1.Secret", value)
    assert value["data"] == {"a": "", "b": "YQ=="}


def test_suggestions() -> None:
    root = schema.definition(DEPLOYMENT)
    assert root is not None
    assert suggest(root, "spec.template.spec.containers[0].imagee") == "spec.template.spec.containers[0].image"
    assert suggest(root, "spec.replicaz") == "spec.replicas"
    assert suggest(root, "spec.template.containers") == "spec.template.spec.containers"
    assert suggest(root, "spec.template.spec.replicas") == "spec.replicas"
    assert suggest(root, "spec.qqqq") == ""


def test_custom_resources() -> None:
    root = schema.from_structural(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "size": {"type": "integer"},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        "items": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["id"],
                            "items": {"type": "object", "properties": {"id": {"type": "string", "default": "x"}}},
                        },
                    },
                }
            },
        }
    )
    items = root.fields["spec"].fields["items"]
    assert items.keys == ("id",)
    assert items.item is not None
    assert items.item.defaults == {"id": "x"}
    value = {"kind": "X", "metadata": {"name": "a", "bad": 1}, "spec": {"free": {"any": None}, "typo": 1, "size": None}}
    assert [p.path for p in schema.check(root, value)] == ["metadata.bad", "spec.typo"]
    schema.prune(root, value)
    assert value == {"kind": "X", "metadata": {"name": "a"}, "spec": {"free": {"any": None}, "size": None}}


def test_the_fast_check_accepts_a_good_object() -> None:
    assert structs.clean(DEPLOYMENT, orjson.dumps(GOOD))
    assert structs.clean_value(DEPLOYMENT, GOOD)
    assert schema.check(DEPLOYMENT, GOOD) == []
    assert not structs.clean("no.such.Thing", b"{}")


JUNK = st.sampled_from([None, True, 1, -1, 2**31, 1.5, "", "x", "1", "25%", "1Gi", [], [1], {}, {"a": "b"}])


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(p for key, child in children for p in _paths(child, (*at, key)))]


@given(st.sampled_from(_paths(GOOD)[1:]), JUNK, st.sampled_from([None, "extra", "name", "value"]))
def test_the_fast_check_never_accepts_what_the_walk_refuses(path: tuple[Any, ...], junk: Any, key: str | None) -> None:
    value = copy.deepcopy(GOOD)
    at: Any = value
    for part in path[:-1]:
        at = at[part]
    if key is not None and isinstance(at[path[-1]], dict):
        at[path[-1]][key] = junk
    else:
        at[path[-1]] = junk
    if structs.clean(DEPLOYMENT, orjson.dumps(value)):
        assert schema.check(DEPLOYMENT, value) == []
        pruned = copy.deepcopy(value)
        schema.prune(DEPLOYMENT, pruned)
        assert pruned == value
    if structs.clean_value(DEPLOYMENT, value):
        assert schema.check(DEPLOYMENT, value) == []


def test_hostile_paths_have_no_suggestions() -> None:
    root = schema.definition(DEPLOYMENT)
    assert root is not None
    assert [suggest(root, path) for path in ("", ".", "[0]", "..", "spec." + "x" * 10_000)] == [""] * 5
