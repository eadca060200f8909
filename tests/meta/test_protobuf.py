"""Protobuf bodies: what real encoders write comes back as the JSON that a JSON client would send."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.meta import protobuf, schema
from jota.meta.errors import ApiError


def _encoder() -> Any:
    """The helper beside this file (tests are no package)."""
    path = Path(__file__).with_name("proto_encoder.py")
    spec = importlib.util.spec_from_file_location("jota_test_proto_encoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Encoder()


CONTAINER = {
    "name": "c",
    "image": "nginx",
    "command": ["a", "b"],
    "ports": [{"containerPort": 80, "protocol": "TCP"}],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}},
    ],
    "envFrom": [{"configMapRef": {"name": "cm"}}],
    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
    "readinessProbe": {"tcpSocket": {"port": 80}},
    "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
    "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False},
}
POD_SPEC = {
    "containers": [CONTAINER],
    "ephemeralContainers": [{"name": "e", "image": "x", "targetContainerName": "c"}],
    "volumes": [
        {"name": "v", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "w", "configMap": {"name": "cm", "defaultMode": 420}},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ],
    "terminationGracePeriodSeconds": 0,
    "automountServiceAccountToken": False,
    "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 0}],
    "nodeSelector": {"a": "b", "c": ""},
}
META = {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z"}
OBJECTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "data": {"a": "b"}, "binaryData": {"x": "AAH/"}},
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": META,
        "data": {"p": "cGFzcw=="},
        "type": "Opaque",
        "immutable": False,
    },
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": META, "imagePullSecrets": [{"name": "x"}]},
    {"apiVersion": "v1", "kind": "Pod", "metadata": META, "spec": POD_SPEC},
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**META, "managedFields": [{"manager": "k", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD_SPEC},
        },
    },
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": META,
        "spec": {"backoffLimit": 0, "suspend": False, "template": {"spec": POD_SPEC}},
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": META,
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": META,
        "spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}, "claimRef": {"name": "c", "uid": "u"}},
    },
    {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": META, "spec": {"storageClassName": ""}},
    {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}},
    },
    {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "u", "extra": {"scopes": ["a", "b"]}},
    },
    {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
        "propagationPolicy": "Background",
        "dryRun": ["All"],
    },
    {"apiVersion": "apps/v1", "kind": "DeleteOptions", "orphanDependents": False},
    {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "n"}},
    {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 0},
    },
    {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["a"], "expirationSeconds": 600, "boundObjectRef": {"kind": "Pod", "name": "p"}},
    },
    {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": META,
        "spec": {"request": "cmVx", "signerName": "s", "usages": ["client auth"], "extra": {"a": ["b"]}},
    },
    {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": META,
        "spec": {"holderIdentity": "x", "renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": 0},
    },
    {
        "apiVersion": "v1",
        "kind": "List",
        "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}],
    },
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "foos", "kind": "Foo"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": False,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "additionalProperties": {"type": "integer", "minimum": 1, "default": 5},
                                },
                                "list": {"type": "array", "items": {"type": "number", "maximum": 1.5}},
                                "off": {"additionalProperties": False, "enum": [1, "a", None]},
                            },
                        }
                    },
                }
            ],
        },
    },
]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda o: o["kind"])
def test_an_encoded_object_comes_back(value: dict[str, Any]) -> None:
    body = _encoder().encode(value["apiVersion"], value["kind"], value)
    decoded = protobuf.decode(body)
    assert decoded == value
    name = schema.find(*_gvk(value))
    assert [p for p in schema.check(name, decoded) if name] == []


def _gvk(value: dict[str, Any]) -> tuple[str, str, str]:
    group, _, version = value["apiVersion"].rpartition("/")
    return group, version, value["kind"]


def test_zero_values_that_json_omits_are_dropped_and_pointers_to_zero_stay() -> None:
    """Go writes every field that is not a pointer, set or not."""
    value = {"metadata": {"name": "a", "namespace": "", "generation": 0}, "spec": {"replicas": 0, "minReadySeconds": 0}}
    body = _encoder().encode("apps/v1", "Deployment", value)
    assert protobuf.decode(body) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"replicas": 0},
    }


def test_every_message_of_the_data_file_has_a_plan() -> None:
    for name in protobuf.messages():
        protobuf._plan(name)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (10**7, "10ms"),
        (15 * 10**8, "1.5s"),
        (3600 * 10**9, "1h0m0s"),
        (-(10**9), "-1s"),
    ],
)
def test_durations(nanos: int, text: str) -> None:
    assert protobuf.go_duration(nanos) == text


GOOD = b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x05\x0a\x03\x0a\x01n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"k8s\x00",
        GOOD[:-1],
        GOOD.replace(b"Namespace", b"Nonsense!"),
        GOOD.replace(b"\x0a\x03\x0a\x01n", b"\x0a\x03\x0a\x09n"),
        GOOD.replace(b"\x0a\x01n", b"\x08\x01n"),
        GOOD.replace(b"\x0a\x01n", b"\x0a\x01\xff"),
        b"k8s\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"k8s\x00\x0b",
    ],
)
def test_what_is_malformed_is_400(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        protobuf.decode(body)
    assert caught.value.code == 400


def test_the_smallest_body() -> None:
    assert protobuf.decode(GOOD) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}


def test_nesting_is_bounded() -> None:
    inner = GOOD
    for _ in range(200):
        item = _field(1, inner)
        inner = b"k8s\x00" + _field(1, _field(1, b"v1") + _field(2, b"List")) + _field(2, _field(2, item))
    with pytest.raises(ApiError, match="max depth"):
        protobuf.decode(inner)


def _field(number: int, data: bytes) -> bytes:
    size, length = bytearray(), len(data)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(size) + bytes([length]) + data


_BODIES = [_encoder().encode(o["apiVersion"], o["kind"], o) for o in OBJECTS]


@settings(max_examples=400)
@given(st.sampled_from(_BODIES), st.data())
def test_damaged_bodies_are_values_or_400(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for variant in (bytes(damaged), bytes(damaged[:cut])):
        try:
            protobuf.decode(variant)
        except ApiError as e:
            assert e.code == 400
