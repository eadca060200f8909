"""NodeAffinity: nodeSelector and node affinity, required as a filter, preferred as a score."""

from __future__ import annotations

from typing import Any

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


class NodeAffinity:
    name = "NodeAffinity"
    static = True

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        required = shape.affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        if not shape.selector and not required:
            return None
        passed = np.ones(nodes.size, np.bool_)
        for key, text in shape.selector:
            codes, values = nodes.label(key)
            passed &= codes == values.get(text, -2)
        if required:
            terms = [_term(nodes, t) for t in required.get("nodeSelectorTerms") or ()]
            passed &= np.logical_or.reduce(terms) if terms else False
        return passed

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) didn't match Pod's node affinity/selector": int(refused.sum())}

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        preferred = shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if not preferred:
            return None
        total = np.zeros(nodes.size)
        for entry in preferred:
            total += float(entry.get("weight", 0)) * _term(nodes, entry.get("preference") or {})
        most = total[feasible].max(initial=0.0)
        return total * (BEST / most) if most else None

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None if shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") else 0.0


def _term(nodes: Snapshot, term: dict[str, Any]) -> Mask:
    """One nodeSelectorTerm; an empty one matches nothing (Kubernetes API)."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return np.zeros(nodes.size, np.bool_)
    passed = np.ones(nodes.size, np.bool_)
    for expression in expressions:
        passed &= _expression(nodes, expression)
    for expression in fields:
        passed &= _field(nodes, expression)
    return passed


def _expression(nodes: Snapshot, expression: dict[str, Any]) -> Mask:
    codes, values = nodes.label(expression["key"])
    operator, wanted = expression["operator"], expression.get("values") or ()
    if operator == "Exists":
        return codes >= 0
    if operator == "DoesNotExist":
        return codes < 0
    if operator in ("Gt", "Lt"):
        return _compare(codes, values, operator, wanted)
    found = np.isin(codes, [values[w] for w in wanted if w in values])
    return found if operator == "In" else ~found


def _compare(codes: Any, values: dict[str, int], operator: str, wanted: Any) -> Mask:
    try:
        bound = int(wanted[0])
    except (ValueError, IndexError):
        return np.zeros(len(codes), np.bool_)
    fitting = [c for text, c in values.items() if _beyond(text, operator, bound)]
    return np.isin(codes, fitting)


def _beyond(text: str, operator: str, bound: int) -> bool:
    try:
        number = int(text)
    except ValueError:
        return False
    return number > bound if operator == "Gt" else number < bound


def _field(nodes: Snapshot, expression: dict[str, Any]) -> Mask:
    """matchFields knows metadata.name with In and NotIn (Kubernetes API)."""
    slots = [nodes.slots[n] for n in expression.get("values") or () if n in nodes.slots]
    found = np.zeros(nodes.size, np.bool_)
    found[slots] = True
    return found if expression["operator"] == "In" else ~found
