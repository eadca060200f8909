"""Whether a pod template may be on a node: name, selector, required affinity, taints. Pure; the scheduler has the last word.

In: a pod spec and a Node. Out: upstream's pair (should run, may go on running). Used by daemonset_plan.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from jota.controllers.tainteviction import tolerates
from jota.controllers.views import Toleration
from jota.meta.selectors import from_node_terms

Object = dict[str, Any]


class Fit(NamedTuple):
    run: bool
    stay: bool


def tolerations_of(spec: Object) -> list[Toleration]:
    return msgspec.convert(spec.get("tolerations") or [], list[Toleration])


def fits(spec: Object, node: Object, tolerations: list[Toleration]) -> Fit:
    """`tolerations`: the template's and those that its controller adds."""
    name = node["metadata"]["name"]
    if spec.get("nodeName") not in (None, "", name) or not selects(spec, node):
        return Fit(False, False)
    taints = (node.get("spec") or {}).get("taints") or ()
    bad = {t.get("effect") for t in taints if not any(tolerates(one, t) for one in tolerations)}
    return Fit(not bad & {"NoSchedule", "NoExecute"}, "NoExecute" not in bad)


def selects(spec: Object, node: Object) -> bool:
    """nodeSelector and requiredDuringSchedulingIgnoredDuringExecution."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or terms_match(required, node)


def terms_match(selector: Object, node: Object) -> bool:
    """A NodeSelector: one of its terms matches; an empty term matches nothing."""
    return any(_term(term, node) for term in selector.get("nodeSelectorTerms") or ())


def _term(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    name = node["metadata"]["name"]
    for one in fields:
        if (name in (one.get("values") or ())) != (one.get("operator") == "In"):
            return False
    return from_node_terms(expressions).matches(node["metadata"].get("labels") or {}) if expressions else True
