"""Protobuf on its way out: Google's library and our own reader get back what was written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta import protobuf, protobuf_encode

META = {
    "name": "a",
    "namespace": "n",
    "labels": {"a": "b", "empty": ""},
    "annotations": {"한": "글"},
    "creationTimestamp": "2026-01-02T03:04:05Z",
    "deletionGracePeriodSeconds": 0,
    "generation": 3,
    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": False}],
    "managedFields": [{"manager": "k", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:a": {}}}}],
}
OBJECTS: dict[str, dict[str, Any]] = {
    "pod": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": META,
        "spec": {
            "volumes": [
                {"name": "v", "emptyDir": {}},
                {"name": "w", "configMap": {"name": "cm", "defaultMode": 420}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
            "containers": [
                {
                    "name": "c",
                    "command": ["a", ""],
                    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                    "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False},
                }
            ],
            "ephemeralContainers": [{"name": "e", "image": "x", "targetContainerName": "c"}],
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": -1}],
        },
        "status": {
            "phase": "Running",
            "startTime": "1960-01-02T03:04:05Z",
            "conditions": [{"type": "R", "status": "True"}],
        },
    },
    "bytes": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "binaryData": {"x": "AAH/", "y": ""}},
    "intOrString": {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "p"},
        "spec": {"minAvailable": "50%", "maxUnavailable": -2},
    },
    "micro time": {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": {"renewTime": "2026-01-02T03:04:05.000678Z", "leaseTransitions": 2147483647},
    },
    "schema": {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "d"},
        "spec": {
            "group": "g",
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "maximum": 1.5,
                            "additionalProperties": False,
                            "properties": {
                                "a": {"type": "array", "items": {"type": "string", "default": "x"}},
                                "b": {"type": "object", "additionalProperties": {"type": "integer", "enum": [1, None]}},
                            },
                        }
                    },
                }
            ],
        },
    },
    "extra": {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {"name": "x"},
        "spec": {"user": "u", "extra": {"scopes": ["a", "b"]}},
    },
    "raw": {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "r"},
        "data": {"spec": {"n": [1, 2.5, None, "x"]}},
        "revision": 9007199254740993,
    },
    "status": {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "details": {"name": "a", "causes": [{"reason": "FieldValueInvalid", "field": "spec"}]},
        "code": 422,
    },
    "partial": {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": META},
}


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_written_is_read_again(name: str) -> None:
    value = OBJECTS[name]
    assert protobuf.decode(protobuf_encode.object_(value)) == value


def test_a_list_holds_items_without_kinds_of_their_own() -> None:
    pods = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7", "remainingItemCount": 0}}
    items = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
    assert protobuf.decode(protobuf_encode.object_({**pods, "items": items})) == {**pods, "items": items}


def test_null_is_absence_and_a_time_that_is_none_is_gos_zero_time() -> None:
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": None, "labels": None}}
    assert protobuf.decode(protobuf_encode.object_(value)) == {**value, "metadata": {"name": "a"}}
    value["metadata"] = {"name": "a", "creationTimestamp": "soon"}
    assert protobuf.decode(protobuf_encode.object_(value)) == {**value, "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("1h0m0s", 3600 * 10**9), ("1.5s", 1_500_000_000), ("-10ms", -(10**7)), ("0s", 0), ("1µs", 1000), ("3ns", 3)],
)
def test_durations_are_nanoseconds(text: str, nanos: int) -> None:
    seen = protobuf._duration(memoryview(protobuf_encode._duration(text)), 0)
    assert (seen, protobuf.go_duration(nanos)) == (text, text)


def test_an_event_is_bare_and_its_object_is_not() -> None:
    data = protobuf_encode.event("ADDED", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    assert data.startswith(b"\n\x05ADDED\x12")
    assert protobuf.decode(data[data.index(protobuf.MAGIC) :])["metadata"] == {"name": "n"}


def test_a_kind_without_protobuf_is_said() -> None:
    with pytest.raises(LookupError, match=r"no kind .Kite. is registered"):
        protobuf_encode.object_({"apiVersion": "jota.test/v1", "kind": "Kite"})


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_numbers_and_texts(number: int, fraction: float, text: str) -> None:
    schema = {"maxLength": number, "minimum": fraction, "title": text}
    version = {"name": "v", "served": False, "storage": False, "schema": {"openAPIV3Schema": schema}}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"versions": [version]}}
    seen = protobuf.decode(protobuf_encode.object_(crd))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert (seen["maxLength"], seen["minimum"], seen.get("title", "")) == (number, fraction, text)
