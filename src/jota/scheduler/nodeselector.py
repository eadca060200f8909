"""NodeSelectorTerms over all nodes at once: (snapshot, term) -> mask. Used by node affinity, volumes and topologies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jota.scheduler.snapshot import Mask, Snapshot


def selector_mask(nodes: Snapshot, selector: dict[str, Any]) -> Mask:
    """A NodeSelector: any of its terms."""
    out = np.zeros(nodes.size, np.bool_)
    for term in selector.get("nodeSelectorTerms") or ():
        out |= term_mask(nodes, term)
    return out


def term_mask(nodes: Snapshot, term: dict[str, Any]) -> Mask:
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
    found = _one_of(codes, [values[w] for w in wanted if w in values])
    return found if operator == "In" else ~found


def _compare(codes: Any, values: dict[str, int], operator: str, wanted: Any) -> Mask:
    try:
        bound = int(wanted[0])
    except (ValueError, IndexError):
        return np.zeros(len(codes), np.bool_)
    fitting = [c for text, c in values.items() if _beyond(text, operator, bound)]
    return _one_of(codes, fitting)


def _one_of(codes: Any, wanted: list[int]) -> Mask:
    if len(wanted) > 4:
        return np.isin(codes, wanted)
    found: Mask = np.zeros(len(codes), np.bool_)
    for code in wanted:
        found |= codes == code
    return found


def term_fits(name: str, labels: Mapping[str, str], term: dict[str, Any]) -> bool:
    """The same for one node."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = all((name in (f.get("values") or ())) == (f["operator"] == "In") for f in fields)
    return named and all(_holds(e, labels.get(e["key"])) for e in expressions)


def _holds(expression: dict[str, Any], text: str | None) -> bool:
    operator: str = expression["operator"]
    wanted: list[str] = expression.get("values") or []
    if operator in ("Exists", "DoesNotExist"):
        return (text is not None) == (operator == "Exists")
    if operator in ("In", "NotIn"):
        return (text in wanted) == (operator == "In")
    try:
        return text is not None and _beyond(text, operator, int(wanted[0]))
    except (ValueError, IndexError):
        return False


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
