"""Environments: values, references, service links, expansion, and what is said when something is missing."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta.resource import CONFIGMAPS, SECRETS
from jota.node.env import ConfigError, command_line, environment, expand, references
from jota.node.fields import Place, UnknownField, field_value, format_map, resource_value

from .shapes import pod

PLACE = Place("n1", ("10.0.0.1",), ("10.42.0.7",), {"cpu": "4", "memory": "8Gi"})
OBJECTS = {
    (CONFIGMAPS, "cm"): {"data": {"a": "1", "b c": "2", "x=y": "3"}},
    (SECRETS, "s"): {"data": {"token": base64.b64encode(b"t0p").decode()}},
}


def env_of(*entries: Any, services: Any = (), **container: Any) -> dict[str, str]:
    obj = pod()
    obj["metadata"] |= {"labels": {"app": "web"}, "annotations": {"note": "hi"}}
    obj["spec"]["serviceAccountName"] = "robot"
    obj["spec"]["containers"][0] |= {"env": list(entries), **container}
    return environment(obj, obj["spec"]["containers"][0], lambda r, n: OBJECTS.get((r, n)), services, PLACE)[0]


def ref(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {kind: fields}}


VALUES = [
    (ref("fieldRef", fieldPath="metadata.name"), "web"),
    (ref("fieldRef", fieldPath="metadata.labels['app']"), "web"),
    (ref("fieldRef", fieldPath="metadata.annotations['none']"), ""),
    (ref("fieldRef", fieldPath="spec.nodeName"), "n1"),
    (ref("fieldRef", fieldPath="spec.serviceAccountName"), "robot"),
    (ref("fieldRef", fieldPath="status.podIP"), "10.42.0.7"),
    (ref("fieldRef", fieldPath="status.hostIPs"), "10.0.0.1"),
    (ref("configMapKeyRef", name="cm", key="a"), "1"),
    (ref("secretKeyRef", name="s", key="token"), "t0p"),
    (ref("resourceFieldRef", resource="limits.cpu"), "4"),
    (ref("resourceFieldRef", resource="limits.memory", divisor="1Mi"), "8192"),
    (ref("resourceFieldRef", resource="requests.memory"), "0"),
    (ref("configMapKeyRef", name="cm", key="none", optional=True), None),
    (ref("secretKeyRef", name="none", key="x", optional=True), None),
]


@pytest.mark.parametrize(("entry", "expected"), VALUES)
def test_value_from(entry: Any, expected: str | None) -> None:
    assert env_of(entry).get("V") == expected


MISSING = [
    (ref("configMapKeyRef", name="none", key="a"), 'configmap "none" not found'),
    (ref("secretKeyRef", name="none", key="a"), 'secret "none" not found'),
    (ref("configMapKeyRef", name="cm", key="zz"), "couldn't find key zz in ConfigMap default/cm"),
    (ref("secretKeyRef", name="s", key="zz"), "couldn't find key zz in Secret default/s"),
]


@pytest.mark.parametrize(("entry", "message"), MISSING)
def test_what_is_missing_is_named(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        env_of(entry)


def test_env_from_with_a_prefix() -> None:
    sources = [{"configMapRef": {"name": "cm"}, "prefix": "P."}, {"secretRef": {"name": "s"}}]
    obj = pod()
    obj["spec"]["containers"][0]["envFrom"] = sources
    found, skipped = environment(obj, obj["spec"]["containers"][0], lambda r, n: OBJECTS.get((r, n)), (), PLACE)
    assert found == {"P.a": "1", "P.b c": "2", "token": "t0p"}
    assert skipped == ["P.x=y"]


def test_env_wins_over_env_from_and_services() -> None:
    service = {
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"clusterIP": "10.1.1.1", "ports": [{"port": 80}]},
    }
    found = env_of(
        {"name": "a", "value": "mine"},
        {"name": "A_SERVICE_HOST", "value": "me"},
        envFrom=[{"configMapRef": {"name": "cm"}}],
        services=[service],
    )
    assert found["a"] == "mine"
    assert found["A_SERVICE_HOST"] == "me"
    assert found["A_SERVICE_PORT"] == "80"


def test_service_links() -> None:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    service = {"metadata": {"name": "my-db", "namespace": "default"}, "spec": {"clusterIP": "10.1.1.1", "ports": ports}}
    other = {"metadata": {"name": "far", "namespace": "else"}, "spec": {"clusterIP": "10.1.1.2", "ports": ports}}
    headless = {"metadata": {"name": "less", "namespace": "default"}, "spec": {"clusterIP": "None", "ports": ports}}
    found = env_of(services=[service, other, headless])
    assert found == {
        "MY_DB_SERVICE_HOST": "10.1.1.1",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_HTTP": "80",
        "MY_DB_SERVICE_PORT_DNS": "53",
        "MY_DB_PORT": "tcp://10.1.1.1:80",
        "MY_DB_PORT_80_TCP": "tcp://10.1.1.1:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "10.1.1.1",
        "MY_DB_PORT_53_UDP": "udp://10.1.1.1:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "10.1.1.1",
    }


EXPANSION = [
    ("$(A)", "1"),
    ("x$(A)y$(B)", "x1y2"),
    ("$(NONE)", "$(NONE)"),
    ("$$(A)", "$(A)"),
    ("$$$(A)", "$1"),
    ("$$", "$"),
    ("$A", "$A"),
    ("$(A", "$(A"),
    ("100%", "100%"),
]


@pytest.mark.parametrize(("text", "expected"), EXPANSION)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@given(st.text())
def test_text_without_a_dollar_is_untouched(text: str) -> None:
    text = text.replace("$", "")
    assert expand(text, {"A": "1"}) == text


def test_earlier_variables_are_seen_by_later_ones() -> None:
    found = env_of({"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "3"})
    assert found["B"] == "1$(C)"
    assert command_line({"command": ["x", "$(A)"], "args": ["$(B)"]}, found) == (["x", "1"], ["1$(C)"])


def test_references_are_found_everywhere() -> None:
    obj = pod(inits=({"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "s2"}}]},))
    obj["spec"]["containers"][0] |= {"env": [ref("configMapKeyRef", name="cm", key="a")]}
    assert references(obj) == {(SECRETS, "s2"), (CONFIGMAPS, "cm")}


def test_downward_maps_and_unknown_fields() -> None:
    assert format_map({"b": 'q"', "a": "line\nbreak é"}) == 'a="line\\nbreak é"\nb="q\\""'
    with pytest.raises(UnknownField):
        field_value(pod(), "spec.color", PLACE)
    with pytest.raises(UnknownField):
        resource_value(pod(), {"resource": "limits.cpu", "containerName": "none"}, PLACE)


def test_divisors_round_up() -> None:
    obj = pod()
    obj["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1500m"}, "requests": {"cpu": "250m"}}
    assert resource_value(obj, {"resource": "limits.cpu"}, PLACE, "c") == "2"
    assert resource_value(obj, {"resource": "limits.cpu", "divisor": "1m"}, PLACE, "c") == "1500"
    assert resource_value(obj, {"resource": "requests.cpu", "divisor": "0"}, PLACE, "c") == "1"
