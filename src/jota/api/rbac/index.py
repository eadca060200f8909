"""RBAC bindings -> the rules that a user has, kept in memory and rebuilt when a role or binding changes.

A user's rules are found once per (user, namespace) and kept until the next change of policy. Next: filters/authz.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from jota.api.filters.attributes import Attributes, User
from jota.api.rbac.rules import Rule, parse
from jota.meta.resource import Resource
from jota.meta.selectors import from_object

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False)

_MOST_CACHED = 10_000


class Objects(Protocol):
    """The part of the registry that policy is read from."""

    def objects(self, resource: Resource, namespace: str = "") -> Iterable[dict[str, Any]]: ...

    def subscribe(self, resource: Resource, callback: Callable[[], None]) -> None: ...


class RbacIndex:
    def __init__(self, source: Objects) -> None:
        self._source = source
        self._fresh = False
        self._cache: dict[tuple[str, tuple[str, ...], str], list[Rule]] = {}
        self._bindings: dict[str, list[tuple[str, list[Rule]]]] = {}
        """Subject ("U:name" or "G:name") -> (namespace or "" for everywhere, rules)."""
        for resource in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
            source.subscribe(resource, self._forget)

    def allows(self, user: User, asked: Attributes) -> bool:
        return any(rule.allows(asked) for rule in self.rules(user, asked.namespace))

    def always(self, user: User, asked: Attributes) -> bool:
        """Whether it is allowed whatever the name."""
        return any(not rule.names and rule.allows(asked) for rule in self.rules(user, asked.namespace))

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """Every rule that holds for the user in `namespace` ("": cluster-wide ones only)."""
        if not self._fresh:
            self._rebuild()
        key = (user.name, user.groups, namespace)
        found = self._cache.get(key)
        if found is None:
            found = [
                rule
                for subject in (f"U:{user.name}", *(f"G:{g}" for g in user.groups))
                for where, rules in self._bindings.get(subject, ())
                if where in ("", namespace)
                for rule in rules
            ]
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[key] = found
        return found

    def role_rules(self, kind: str, name: str, namespace: str) -> list[Rule]:
        """The rules of one Role or ClusterRole; empty when it does not exist."""
        if kind == "ClusterRole":
            return _cluster_roles(list(self._source.objects(CLUSTER_ROLES))).get(name, [])
        for role in self._source.objects(ROLES, namespace):
            if role["metadata"]["name"] == name:
                return [parse(r) for r in role.get("rules") or ()]
        return []

    def _forget(self) -> None:
        self._fresh = False

    def _rebuild(self) -> None:
        self._fresh = True
        self._cache.clear()
        self._bindings.clear()
        cluster = _cluster_roles(list(self._source.objects(CLUSTER_ROLES)))
        local = {
            (r["metadata"].get("namespace", ""), r["metadata"]["name"]): [parse(x) for x in r.get("rules") or ()]
            for r in self._source.objects(ROLES)
        }
        for binding in self._source.objects(CLUSTER_ROLE_BINDINGS):
            self._bind(binding, "", cluster.get(_ref(binding)[1], []))
        for binding in self._source.objects(ROLE_BINDINGS):
            namespace = binding["metadata"].get("namespace", "")
            kind, name = _ref(binding)
            rules = cluster.get(name, []) if kind == "ClusterRole" else local.get((namespace, name), [])
            self._bind(binding, namespace, rules)

    def _bind(self, binding: dict[str, Any], namespace: str, rules: list[Rule]) -> None:
        if not rules:
            return
        for subject in binding.get("subjects") or ():
            self._bindings.setdefault(_subject(subject, namespace), []).append((namespace, rules))


def _ref(binding: dict[str, Any]) -> tuple[str, str]:
    ref = binding.get("roleRef") or {}
    return ref.get("kind", ""), ref.get("name", "")


def _subject(subject: dict[str, Any], namespace: str) -> str:
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "ServiceAccount":
        return f"U:system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
    return f"{'G' if kind == 'Group' else 'U'}:{name}"


def _cluster_roles(roles: list[dict[str, Any]]) -> dict[str, list[Rule]]:
    """Rules by ClusterRole name; aggregated roles have those of the roles that their selectors match, too."""
    own = {r["metadata"]["name"]: [parse(x) for x in r.get("rules") or ()] for r in roles}
    parts: dict[str, list[str]] = {}
    for role in roles:
        selectors = [from_object(s) for s in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()]
        if selectors:
            parts[role["metadata"]["name"]] = [
                r["metadata"]["name"] for r in roles if any(s.matches(r["metadata"].get("labels")) for s in selectors)
            ]

    def gather(name: str, seen: set[str]) -> list[Rule]:
        seen.add(name)
        rules = list(own[name])
        for part in parts.get(name, ()):
            if part not in seen:
                rules += gather(part, seen)
        return rules

    return {name: gather(name, set()) if name in parts else own[name] for name in own}
