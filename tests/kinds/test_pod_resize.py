"""What a write through pods/resize may change: cpu and memory of what is there, in place, and nothing of the pod's class."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from kinds_build import kind

from jota.kinds.core.pod.resize import prepare_resize, validate_resize

POD = kind("pods")
Object = dict[str, Any]


def container(name: str, **fields: Any) -> Object:
    return {"name": name, "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}, **fields}


def pod(**spec: Any) -> Object:
    made = {
        "metadata": {"name": "p", "namespace": "d"},
        "spec": {"containers": [container("a"), container("b")], "initContainers": [container("i")], **spec},
        "status": {},
    }
    POD.default(made)
    return made


def resized(old: Object, change: Callable[[Object], None]) -> list[str]:
    """The errors of a write that changes the spec so."""
    new = copy.deepcopy(old)
    change(new["spec"])
    prepare_resize(new, old)
    POD.default(new)
    return [f"{e.field}: {e.message}" for e in validate_resize(new, old)]


def swap(spec: Object) -> None:
    spec["containers"].reverse()


def requests(spec: Object, n: int = 0, key: str = "containers") -> Object:
    found: Object = spec[key][n]["resources"]["requests"]
    return found


CASES: list[tuple[str, Callable[[Object], Any], list[str]]] = [
    ("more", lambda s: requests(s).update(cpu="2"), []),
    ("a limit", lambda s: s["containers"][0]["resources"].update(limits={"memory": "2Gi"}), []),
    ("an init container", lambda s: requests(s, key="initContainers").update(cpu="2"), []),
    ("an image, which is not taken", lambda s: s["containers"][0].update(image="x"), []),
    ("no cpu", lambda s: requests(s).pop("cpu"), ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]),
    ("storage", lambda s: requests(s).update({"ephemeral-storage": "1Gi"}), ["spec: Forbidden: only cpu and memory resources are mutable"]),
    ("storage of an init container", lambda s: requests(s, key="initContainers").update({"ephemeral-storage": "1Gi"}),
     ["spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"]),
    ("another policy", lambda s: s["containers"][0].update(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
     ["spec: Forbidden: only cpu and memory resources are mutable"]),
    ("another order", swap, [f"spec.containers[{n}].name: Forbidden: containers may not be renamed or reordered on resize" for n in (0, 1)]),
    ("one more", lambda s: s["containers"].append(container("c")), ["spec.containers: Forbidden: containers may not be added or removed on resize"]),
    ("no init containers", lambda s: s["initContainers"].clear(), ["spec.initContainers: Forbidden: initContainers may not be added or removed on resize"]),
    ("resources of the pod's own", lambda s: s.update(resources={"requests": {"cpu": "4"}}), []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "errors"), CASES, ids=[c[0] for c in CASES])
def test_changes(name: str, change: Callable[[Object], Any], errors: list[str]) -> None:
    assert resized(pod(), change) == errors


def test_the_pods_own_resources_stay_when_they_are_left_out_and_cannot_be_taken_away() -> None:
    old = pod(resources={"requests": {"cpu": "4", "memory": "4Gi"}, "limits": {"cpu": "5"}})
    assert resized(old, lambda s: s.pop("resources")) == []
    assert resized(old, lambda s: s["resources"]["requests"].update(cpu="5")) == []
    assert resized(old, lambda s: s["resources"]["requests"].pop("cpu")) == []  # that of the containers together
    assert resized(old, lambda s: s["resources"]["limits"].pop("cpu")) == [
        "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed"
    ]


def test_an_init_container_that_ends_is_not_restarted_for_a_resize() -> None:
    hard = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    old = pod(
        initContainers=[container("i", resizePolicy=hard), container("s", resizePolicy=hard, restartPolicy="Always")]
    )
    assert resized(old, lambda s: requests(s, 1, "initContainers").update(cpu="2")) == []
    assert resized(old, lambda s: requests(s, 0, "initContainers").update(cpu="2")) == [
        "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
    ]


@pytest.mark.parametrize(
    ("metadata", "status", "error"),
    [
        ({"annotations": {"kubernetes.io/config.mirror": "x"}}, {}, ": Forbidden: static pods cannot be resized"),
        (
            {},
            {"containerStatuses": [{"name": "a", "state": {"running": {}}}]},
            "spec: Forbidden: Pod running on node without support for resize",
        ),
        ({}, {"containerStatuses": [{"name": "a", "state": {"running": {}}, "resources": {}}]}, ""),
        (
            {},
            {"qosClass": "Guaranteed"},
            'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing',
        ),
    ],
)
def test_who_can_be_resized(metadata: Object, status: Object, error: str) -> None:
    old = pod()
    old["metadata"].update(metadata)
    old["status"] = status
    assert resized(old, lambda s: requests(s).update(cpu="2")) == ([error] if error else [])
