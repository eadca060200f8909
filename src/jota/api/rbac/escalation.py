"""Nobody grants what they do not hold: the checks on writes of roles and bindings (upstream's policybased storage).

A role may hold rules that its writer has, or any if the writer may `escalate` it; a binding may name a role whose rules
its writer has, or any that the writer may `bind`.
"""

from __future__ import annotations

from collections.abc import Iterable

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import MASTERS, Attributes, Authorizer
from jota.api.filters.authz import EVERYTHING, decide
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, RbacIndex
from jota.api.rbac.rules import MOST_MISSING, Budget, Rule, TooManyRules, missing, parse
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta.errors import ApiError, forbidden, not_found

_BINDINGS = (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)


class NoEscalation(Plugin):
    asks = True

    def __init__(self, authorizer: Authorizer, index: RbacIndex) -> None:
        self._authorizer, self._index = authorizer, index

    def handles(self, kind: Kind) -> bool:
        return kind.resource in (ROLES, CLUSTER_ROLES, *_BINDINGS)

    async def judge(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403, 404 (a binding to a role that is not there)."""
        if attrs.object is None or MASTERS in attrs.user.groups:
            return
        if attrs.kind.resource in _BINDINGS:
            await self._binding(attrs, attrs.object)
        else:
            await self._role(attrs, attrs.object)

    async def _role(self, attrs: AdmissionAttributes, role: Object) -> None:
        old = attrs.old or {}
        same_rules = attrs.old is not None and parts(role, "rules") == parts(old, "rules")
        aggregation = role.get("aggregationRule")
        if (same_rules and aggregation == old.get("aggregationRule")) or await self._may(attrs, "escalate", attrs.name):
            return
        self._require(attrs, [parse(rule) for rule in parts(role, "rules")])
        if aggregation and aggregation != old.get("aggregationRule") and self._lacks(attrs, EVERYTHING):
            raise _refuse(attrs, "must have cluster-admin privileges to use an aggregationRule")

    async def _binding(self, attrs: AdmissionAttributes, binding: Object) -> None:
        ref = part(binding, "roleRef")
        old = attrs.old
        if old is not None and part(old, "roleRef") == ref and parts(old, "subjects") == parts(binding, "subjects"):
            return
        kind, name = text(ref, "kind"), text(ref, "name")
        if await self._may(attrs, "bind", name, "clusterroles" if kind == "ClusterRole" else "roles"):
            return
        resource = CLUSTER_ROLES if kind == "ClusterRole" else ROLES
        if attrs.registry.get(resource, attrs.namespace if resource.namespaced else "", name) is None:
            raise not_found(resource.plural, name, resource.group)
        self._require(attrs, self._index.role_rules(kind, name, attrs.namespace))

    async def _may(self, attrs: AdmissionAttributes, verb: str, name: str, plural: str = "") -> bool:
        resource = attrs.kind.resource
        asked = Attributes(
            attrs.user, verb, resource.group, "*", plural or resource.plural, "", attrs.namespace, name=name
        )
        return (await decide(self._authorizer, attrs.user, asked)).allowed

    def _lacks(self, attrs: AdmissionAttributes, wanted: Iterable[Rule]) -> list[Rule]:
        """Raises ApiError 403 when there is too much to compare: what cannot be shown to be held is not granted."""
        held, budget, lacking = self._index.rules(attrs.user, attrs.namespace), Budget(), list[Rule]()
        try:
            for rule in wanted:
                lacking += missing(rule, held, budget)
                if len(lacking) >= MOST_MISSING:
                    break
        except TooManyRules:
            detail = f"too many rules to compare with the {len(held)} that the user holds; split the role, or escalate"
            raise _refuse(attrs, detail) from None
        return lacking

    def _require(self, attrs: AdmissionAttributes, wanted: list[Rule]) -> None:
        lacking = self._lacks(attrs, wanted)
        if lacking:
            who = f'user "{attrs.user.name}" (groups={_quoted(attrs.user.groups)})'
            listed = "\n".join(_shown(rule) for rule in lacking)
            raise _refuse(attrs, f"{who} is attempting to grant RBAC permissions not currently held:\n{listed}")


def _refuse(attrs: AdmissionAttributes, detail: str) -> ApiError:
    resource = attrs.kind.resource
    return forbidden(resource.plural, attrs.name, detail, resource.group)


def _quoted(values: Iterable[str]) -> str:
    return "[" + " ".join(f'"{v}"' for v in values) + "]"


def _shown(rule: Rule) -> str:
    named = (
        ("APIGroups", sorted(rule.groups)),
        ("Resources", sorted(rule.resources)),
        ("NonResourceURLs", list(rule.urls)),
        ("ResourceNames", sorted(rule.names)),
        ("Verbs", sorted(rule.verbs)),
    )
    return "{" + ", ".join(f"{name}:{_quoted(values)}" for name, values in named if values) + "}"
