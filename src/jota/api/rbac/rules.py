"""RBAC rules as values: does this rule allow that request? Pure; the meaning is rbac.authorization.k8s.io/v1 PolicyRule's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jota.api.filters.attributes import Attributes


@dataclass(slots=True, frozen=True)
class Rule:
    """One PolicyRule. "*" in a set stands for everything."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """Empty: every name."""
    urls: tuple[str, ...] = ()

    def allows(self, asked: Attributes) -> bool:
        if "*" not in self.verbs and asked.verb not in self.verbs:
            return False
        if not asked.resource:
            return any(_url_matches(u, asked.path) for u in self.urls)
        return (
            ("*" in self.groups or asked.group in self.groups)
            and self._covers(asked.resource, asked.subresource)
            and (not self.names or asked.name in self.names)
        )

    def _covers(self, resource: str, subresource: str) -> bool:
        if "*" in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources


def _url_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


def parse(rule: dict[str, Any]) -> Rule:
    """A PolicyRule object as a Rule; absent parts are empty."""
    return Rule(
        frozenset(rule.get("verbs") or ()),
        frozenset(rule.get("apiGroups") or ()),
        frozenset(rule.get("resources") or ()),
        frozenset(rule.get("resourceNames") or ()),
        tuple(rule.get("nonResourceURLs") or ()),
    )


class TooManyRules(Exception):
    """What is wanted cannot be compared with what is held in reasonable time."""


class Budget:
    """Comparisons of one escalation check: both sides are written by users, and every pair may have to be looked at."""

    __slots__ = ("_left",)

    def __init__(self, most: int = 1_000_000) -> None:
        self._left = most

    def spend(self, count: int) -> None:
        """Raises TooManyRules."""
        self._left -= count
        if self._left < 0:
            raise TooManyRules


MOST_MISSING = 200
"""Missing rules that are looked for and told."""


def covered(wanted: Rule, held: list[Rule]) -> bool:
    """Whether `held` together grant all that `wanted` grants. For rules that are our own: without a bound."""
    return not missing(wanted, held, Budget(1 << 60))


def missing(wanted: Rule, held: list[Rule], budget: Budget | None = None) -> list[Rule]:
    """What `wanted` grants and `held` do not, one rule per group, resource and name (the escalation check), at most about
    MOST_MISSING. Raises TooManyRules."""
    budget = budget or Budget()
    budget.spend(len(held) + 1)
    if any(_covers_whole(have, wanted) for have in held):
        return []
    lacking: list[Rule] = []
    for url in wanted.urls:
        budget.spend((len(held) + 1) * len(wanted.verbs))
        verbs = frozenset(v for v in wanted.verbs if not any(_url_covers(have, url, v) for have in held))
        if verbs:
            lacking.append(Rule(verbs, urls=(url,)))
    for group in sorted(wanted.groups):
        for resource in sorted(wanted.resources):
            for name in sorted(wanted.names) or [""]:
                if len(lacking) >= MOST_MISSING:
                    return lacking
                budget.spend(len(held) + 1)
                verbs = _not_granted(wanted.verbs, group, resource, name, held)
                if verbs:
                    names = frozenset((name,)) if name else frozenset()
                    lacking.append(Rule(verbs, frozenset((group,)), frozenset((resource,)), names))
    return lacking


def _covers_whole(have: Rule, wanted: Rule) -> bool:
    """The short way: one rule that grants it all."""
    return (
        not wanted.urls
        and ("*" in have.verbs or wanted.verbs <= have.verbs)
        and ("*" in have.groups or wanted.groups <= have.groups)
        and ("*" in have.resources or wanted.resources <= have.resources)
        and (not have.names or (bool(wanted.names) and wanted.names <= have.names))
        and "" not in wanted.resources
    )


def _not_granted(verbs: frozenset[str], group: str, resource: str, name: str, held: list[Rule]) -> frozenset[str]:
    left = verbs
    for have in held:
        if _reaches(have, group, resource, name):
            if "*" in have.verbs:
                return frozenset()
            left -= have.verbs
    return left


def _url_covers(have: Rule, url: str, verb: str) -> bool:
    return ("*" in have.verbs or verb in have.verbs) and any(_url_matches(u, url) for u in have.urls)


def _reaches(have: Rule, group: str, resource: str, name: str) -> bool:
    base, _, sub = resource.partition("/")
    return (
        ("*" in have.groups or group in have.groups)
        and ("*" in have.resources or resource in have.resources or (bool(sub) and f"*/{sub}" in have.resources))
        and (not have.names or (name != "" and name in have.names))
        and bool(base)
    )
