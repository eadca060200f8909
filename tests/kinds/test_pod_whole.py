"""Resources that a pod has of its own: what follows from its containers, and that they fit in."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import container, kind, pod

POD = kind("pods")
Object = dict[str, Any]


def given(own: Object, *containers: Object) -> Object:
    made = pod(resources=own, containers=[container(name=f"c{n}", resources=r) for n, r in enumerate(containers)])
    POD.default(made)
    return made


def both(side: str, cpu: str, memory: str = "") -> Object:
    return {side: {"cpu": cpu, **({"memory": memory} if memory else {})}}


@pytest.mark.parametrize(
    ("own", "containers", "wanted"),
    [
        (both("limits", "2", "1Gi"), [{}], {**both("limits", "2", "1Gi"), **both("requests", "2", "1Gi")}),
        (
            both("limits", "2", "1Gi"),
            [both("requests", "500m"), both("requests", "250m")],
            {**both("limits", "2", "1Gi"), **both("requests", "750m", "1Gi")},
        ),
        (both("requests", "1"), [{}], both("requests", "1")),
        (
            both("requests", "1"),
            [both("limits", "300m", "64Mi"), both("limits", "300m", "64Mi")],
            {"requests": {"cpu": "1", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        ),
        (both("requests", "1"), [both("limits", "300m"), {}], both("requests", "1")),
        ({}, [both("limits", "300m")], {}),
    ],
)
def test_what_is_left_out(own: Object, containers: list[Object], wanted: Object) -> None:
    made = given(own, *containers)
    assert made["spec"]["resources"] == wanted
    POD.default(made)
    assert made["spec"]["resources"] == wanted
    assert POD.validate(made) == []


@pytest.mark.parametrize(
    ("own", "containers", "errors"),
    [
        (
            both("requests", "1"),
            [both("requests", "600m"), both("requests", "600m")],
            [
                'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 1200m'
            ],
        ),
        (
            both("limits", "1"),
            [{**both("limits", "2"), **both("requests", "100m")}],
            [
                'spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1'
            ],
        ),
        (
            {"requests": {"ephemeral-storage": "1Gi"}},
            [{}],
            [
                'spec.resources.requests: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"'
            ],
        ),
        (
            {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}},
            [{}],
            ['spec.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
    ],
)
def test_its_containers_must_fit_in(own: Object, containers: list[Object], errors: list[str]) -> None:
    assert [f"{e.field}: {e.message}" for e in POD.validate(given(own, *containers))] == errors
