"""TaintNodesByCondition: a new node takes no pods before it is ready; the node lifecycle controller then lifts the taint.

A node that is created ready (simulated ones) needs nobody to look at it first.
"""

from __future__ import annotations

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind
from jota.kinds.shape import attach, part, parts
from jota.meta import conditions
from jota.meta.resource import NODES

TAINT = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition(Plugin):
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == NODES

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation != "CREATE" or attrs.object is None or attrs.subresource:
            return
        if conditions.is_true(parts(part(attrs.object, "status"), "conditions"), "Ready"):
            return
        spec = attach(attrs.object, "spec")
        taints = parts(spec, "taints")
        if all((t.get("key"), t.get("effect")) != (TAINT["key"], TAINT["effect"]) for t in taints):
            spec["taints"] = [*taints, dict(TAINT)]
