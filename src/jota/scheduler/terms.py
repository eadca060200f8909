"""What pods say about other pods, as values: selectors over pods, affinity terms, topology spread constraints.

In: the API's fields of one pod, once per shape. Out: hashable values, by which counts.py keeps its counts. A selector that
two pods share is one value, whatever pods they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jota.meta.selectors import NOTHING, LabelSelector, Requirement

Namespaces = Mapping[str, Mapping[str, str]]
"""Namespace -> its labels."""
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


class Group:
    """Pods that no selector can tell apart: one namespace, the same labels. One object per group (Shapes interns them)."""

    __slots__ = ("labels", "namespace", "terminating")

    def __init__(self, namespace: str, labels: Mapping[str, str] | None = None, terminating: bool = False) -> None:
        self.namespace, self.labels, self.terminating = namespace, dict(labels or {}), terminating


@dataclass(slots=True, frozen=True)
class PodSelector:
    """Pods in these namespaces with these labels. `living`: leave out those that are being deleted (topology spread)."""

    namespaces: frozenset[str]
    labels: LabelSelector
    namespace_selector: LabelSelector | None = None
    living: bool = False
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Selectors are looked up for every pod; their parts are hashed once."""
        parts = (self.namespaces, self.labels, self.namespace_selector, self.living)
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        return self._hash

    def matches(self, group: Group, namespaces: Namespaces) -> bool:
        if self.living and group.terminating:
            return False
        if group.namespace not in self.namespaces:
            chosen = self.namespace_selector
            if chosen is None or not chosen.matches(namespaces.get(group.namespace)):
                return False
        return self.labels.matches(group.labels)


@dataclass(slots=True, frozen=True)
class Term:
    """One pod (anti-)affinity term. `weight`: 0 for a required one, negative for a preferred anti-affinity."""

    selector: PodSelector
    topology: str
    weight: int = 0


@dataclass(slots=True, frozen=True)
class Spread:
    """One topology spread constraint. `hard`: DoNotSchedule."""

    selector: PodSelector
    topology: str
    max_skew: int
    hard: bool
    min_domains: int = 0
    honor_affinity: bool = True
    honor_taints: bool = False
    matches_self: bool = False
    needs_all_keys: bool = True
    """Nodes without one of the topology keys do not count; False for the cluster's own default constraints."""


@dataclass(slots=True, frozen=True)
class PodTerms:
    """All that one pod says about others."""

    affinity: tuple[Term, ...] = ()
    anti_affinity: tuple[Term, ...] = ()
    preferred: tuple[Term, ...] = ()
    spread: tuple[Spread, ...] = ()


NO_TERMS = PodTerms()


def terms_of(group: Group, affinity: Mapping[str, Any], spread: list[dict[str, Any]] | None) -> PodTerms:
    """`affinity`: spec.affinity; `spread`: spec.topologySpreadConstraints."""
    with_, against = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    if not with_ and not against and not spread:
        return NO_TERMS
    return PodTerms(
        _required(with_, group),
        _required(against, group),
        (*_preferred(with_, group, 1), *_preferred(against, group, -1)),
        tuple(_spread(c, group) for c in spread or ()),
    )


def label_selector(given: Mapping[str, Any] | None) -> LabelSelector:
    """A LabelSelector object; None selects nothing, an empty one everything (apimachinery)."""
    if given is None:
        return NOTHING
    found = [Requirement(k, "=", (v,)) for k, v in (given.get("matchLabels") or {}).items()]
    for e in given.get("matchExpressions") or ():
        found.append(Requirement(e["key"], _OPERATORS[e["operator"]], tuple(sorted(e.get("values") or ()))))
    return LabelSelector(tuple(sorted(set(found))))


def _required(part: Mapping[str, Any], group: Group) -> tuple[Term, ...]:
    return tuple(_term(t, group, 0) for t in part.get("requiredDuringSchedulingIgnoredDuringExecution") or ())


def _preferred(part: Mapping[str, Any], group: Group, sign: int) -> tuple[Term, ...]:
    entries = part.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(e.get("podAffinityTerm") or {}, group, sign * int(e.get("weight", 0))) for e in entries)


def _term(term: Mapping[str, Any], group: Group, weight: int) -> Term:
    """Without namespaces and namespaceSelector, the pod's own namespace is meant (Kubernetes API)."""
    names, chosen = term.get("namespaces") or (), term.get("namespaceSelector")
    selector = label_selector(term.get("labelSelector"))
    selector = _with_keys(selector, group, term.get("matchLabelKeys") or (), "in")
    selector = _with_keys(selector, group, term.get("mismatchLabelKeys") or (), "notin")
    namespaces = frozenset(names) if names or chosen is not None else frozenset((group.namespace,))
    where = label_selector(chosen) if chosen is not None else None
    return Term(PodSelector(namespaces, selector, where), term.get("topologyKey", ""), weight)


def _spread(given: Mapping[str, Any], group: Group) -> Spread:
    selector = label_selector(given.get("labelSelector"))
    selector = _with_keys(selector, group, given.get("matchLabelKeys") or (), "in")
    return Spread(
        PodSelector(frozenset((group.namespace,)), selector, living=True),
        given.get("topologyKey", ""),
        int(given.get("maxSkew", 1)),
        given.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        int(given.get("minDomains") or 0),
        given.get("nodeAffinityPolicy", "Honor") == "Honor",
        given.get("nodeTaintsPolicy", "Ignore") == "Honor",
        selector.matches(group.labels),
    )


def _with_keys(selector: LabelSelector, group: Group, keys: Any, op: str) -> LabelSelector:
    """matchLabelKeys and mismatchLabelKeys: the pod's own values of these labels become requirements."""
    extra = {Requirement(k, op, (group.labels[k],)) for k in keys if k in group.labels}
    if not extra or selector.nothing:
        return selector
    return LabelSelector(tuple(sorted({*selector.requirements, *extra})))
