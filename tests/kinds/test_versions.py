"""Kinds with two names for the same stored object: what goes in comes out."""

from __future__ import annotations

import copy
from typing import Any

from jota.kinds import table
from jota.kinds.virtual import SUBRESOURCES, VIRTUAL

EVENT: dict[str, Any] = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "metadata": {"name": "e", "namespace": "default"},
    "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    "note": "hello",
    "reason": "Started",
    "action": "Start",
    "type": "Normal",
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingController": "jota/node",
    "reportingInstance": "n1",
}


def test_events_share_their_storage() -> None:
    kind = table.by_resource("events.k8s.io", "v1", "events")
    assert kind is not None
    assert kind.stored.group == ""
    assert kind.validate(EVENT) == []
    stored = copy.deepcopy(EVENT)
    kind.to_storage(stored)
    assert stored["apiVersion"] == "v1"
    assert (stored["involvedObject"]["name"], stored["message"], stored["reportingComponent"]) == (
        "p",
        "hello",
        "jota/node",
    )
    core = table.by_resource("", "v1", "events")
    assert core is not None
    assert core.selectable["involvedObject.name"](stored) == "p"
    assert core.selectable["source"](stored) == "jota/node"
    kind.from_storage(stored)
    assert stored == EVENT
    assert {c.name: c.cell(EVENT, 1767225603.0) for c in kind.columns}["Object"] == "pod/p"


def test_events_of_the_new_group_say_who_reports() -> None:
    kind = table.by_resource("events.k8s.io", "v1", "events")
    assert kind is not None
    mute = {k: v for k, v in EVENT.items() if k not in ("reportingController", "action")}
    assert [e.field for e in kind.validate(mute)] == ["reportingController", "action"]


def test_what_happened_does_not_change_in_the_new_group() -> None:
    """Upstream's ValidateEventUpdate: but for metadata and the series."""
    kind = table.by_resource("events.k8s.io", "v1", "events")
    assert kind is not None
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:09.000000Z"}
    same = {"eventTime": "2026-01-01T00:00:00Z", "series": series, "deprecatedSource": {"component": ""}, "related": {}}
    assert kind.validate_update({**EVENT, **same}, EVENT) == []
    for field, value, told in (
        ("eventTime", None, "eventTime"),
        ("note", "bye", "message"),
        ("regarding", {"kind": "Pod", "name": "q"}, "involvedObject"),
        ("deprecatedCount", 7, "count"),
        ("reportingController", "me", "reportingController"),
        ("series", {**series, "count": 1}, "series.count"),
    ):
        assert [e.field for e in kind.validate_update({**EVENT, field: value}, EVENT)] == [told]
    assert [e.field for e in kind.validate_create({**EVENT, "series": {}})] == [
        "series.count",
        "series.lastObservedTime",
    ]


def scaler(**spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3, "minReplicas": 1, **spec},
    }


def test_autoscalers_of_v1() -> None:
    v1 = table.by_resource("autoscaling", "v1", "horizontalpodautoscalers")
    v2 = table.by_resource("autoscaling", "v2", "horizontalpodautoscalers")
    assert v1 is not None
    assert v2 is not None
    given = scaler(targetCPUUtilizationPercentage=60)
    stored = copy.deepcopy(given)
    v1.to_storage(stored)
    assert stored["apiVersion"] == "autoscaling/v2"
    assert stored["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    assert v2.validate(stored) == []
    v1.from_storage(stored)
    assert stored == given


def test_what_v1_cannot_say_survives_in_annotations() -> None:
    v1 = table.by_resource("autoscaling", "v1", "horizontalpodautoscalers")
    assert v1 is not None
    stored = scaler()
    stored["apiVersion"] = "autoscaling/v2"
    memory = {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
    }
    stored["spec"] |= {"metrics": [memory], "behavior": {"scaleUp": {"selectPolicy": "Max"}}}
    shown = copy.deepcopy(stored)
    v1.from_storage(shown)
    assert "metrics" not in shown["spec"]
    assert set(shown["metadata"]["annotations"]) == {
        "autoscaling.alpha.kubernetes.io/metrics",
        "autoscaling.alpha.kubernetes.io/behavior",
    }
    v1.to_storage(shown)
    shown["metadata"] = {"name": "h"}
    assert shown == stored


def test_preferred_versions_come_first() -> None:
    groups = table.groups()
    assert groups["autoscaling"] == ("v2", "v1")
    assert list(groups)[:2] == ["", "apps"]


def test_foreign_kinds_of_subresources_are_declared() -> None:
    for (group, plural, subresource), spoken in SUBRESOURCES.items():
        kind = next(k for k in table.KINDS if (k.resource.group, k.resource.plural) == (group, plural))
        assert subresource in kind.subresources, (plural, subresource)
        assert spoken.verbs
    declared = {(k.resource.group, k.resource.plural, s) for k in table.KINDS for s in k.subresources}
    assert declared == set(SUBRESOURCES)


def test_virtual_kinds_can_only_be_created() -> None:
    assert {v.verbs for v in VIRTUAL} == {("create",)}
    assert {v.resource.kind for v in VIRTUAL} >= {"TokenReview", "SubjectAccessReview", "SelfSubjectReview", "Binding"}
