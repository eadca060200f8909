"""Does a FlowSchema speak about this request? A stored FlowSchema in, a `Schema` with `matches` out. Pure.

Rules are upstream's (flowcontrol/v1 types): a schema matches when one of its rules has both a subject that is the user and
a resource or non-resource rule that is the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jota.api.filters.attributes import User
from jota.api.path import Target
from jota.kinds.kind import Object
from jota.kinds.shape import deep, part, parts, text

_ACCOUNT = "system:serviceaccount:"


@dataclass(slots=True, frozen=True)
class Schema:
    name: str
    uid: str
    precedence: int
    level: str
    """Name of the PriorityLevelConfiguration."""
    distinguisher: str
    """ByUser, ByNamespace or ""."""
    rules: tuple[Object, ...]

    def matches(self, user: User, target: Target) -> bool:
        return any(
            any(_is_subject(subject, user) for subject in parts(rule, "subjects")) and _is_about(rule, target)
            for rule in self.rules
        )

    def flow(self, user: User, target: Target) -> str:
        """What tells the flows of this schema apart."""
        if self.distinguisher == "ByUser":
            return user.name
        return target.namespace if self.distinguisher == "ByNamespace" else ""


def read(obj: Object) -> Schema:
    """A stored FlowSchema (validated when it was written)."""
    spec, meta = part(obj, "spec"), obj["metadata"]
    return Schema(
        meta["name"],
        meta.get("uid", ""),
        int(spec.get("matchingPrecedence", 1000)),
        text(part(spec, "priorityLevelConfiguration"), "name"),
        text(part(spec, "distinguisherMethod"), "type"),
        tuple(parts(spec, "rules")),
    )


def _is_subject(subject: Object, user: User) -> bool:
    kind = text(subject, "kind")
    if kind == "User":
        return _one_of([deep(subject, "user").get("name")], user.name)
    if kind == "Group":
        name = deep(subject, "group").get("name")
        return name == "*" or name in user.groups
    account = part(subject, "serviceAccount")
    if not user.name.startswith(_ACCOUNT):
        return False
    namespace, _, name = user.name[len(_ACCOUNT) :].partition(":")
    return namespace == account.get("namespace") and _one_of([account.get("name")], name)


def _is_about(rule: Object, target: Target) -> bool:
    if not target.resource:
        return any(_is_path(r, target) for r in parts(rule, "nonResourceRules"))
    what = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    return any(
        _one_of(r.get("verbs"), target.verb)
        and _one_of(r.get("apiGroups"), target.group)
        and _one_of(r.get("resources"), what)
        and (_one_of(r.get("namespaces"), target.namespace) if target.namespace else bool(r.get("clusterScope")))
        for r in parts(rule, "resourceRules")
    )


def _is_path(rule: Object, target: Target) -> bool:
    if not _one_of(rule.get("verbs"), target.verb):
        return False
    for url in rule.get("nonResourceURLs") or ():
        if url in ("*", target.path) or (url.endswith("/*") and target.path.startswith(url[:-1])):
            return True
    return False


def _one_of(allowed: Any, value: str) -> bool:
    return bool(allowed) and ("*" in allowed or value in allowed)
