"""Which Services and controllers mean a pod: the selector of the cluster's default spread constraints.

Upstream's helper.DefaultSelector: all Services that select the pod together with its owner's own selector. Fed by the
scheduler from informers; empty in tests that do not care.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jota.meta.selectors import LabelSelector, Requirement
from jota.scheduler.terms import Group, label_selector


class _Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""


class _Spec(msgspec.Struct, gc=False):
    selector: dict[str, Any] | None = None


class Selecting(msgspec.Struct, gc=False):
    """A Service, ReplicationController, ReplicaSet or StatefulSet, as far as it is read."""

    metadata: _Meta
    spec: _Spec | None = None


class Workloads:
    """`generation` moves with every change; answers are memoised until then."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, Mapping[str, str]]] = {}
        """Namespace -> Service -> selector."""
        self._owners: dict[tuple[str, str, str], LabelSelector] = {}
        """(namespace, kind, name) -> selector."""
        self._known: dict[tuple[Group, tuple[str, str]], LabelSelector | None] = {}

    def put(self, kind: str, obj: Selecting) -> bool:
        """Whether it selects otherwise than before."""
        selector = (obj.spec.selector if obj.spec else None) or {}
        meta = obj.metadata
        if kind == "Service":
            services = self._services.setdefault(meta.namespace, {})
            if services.get(meta.name) == selector:
                return False
            services[meta.name] = selector
            self._known.clear()
            return True
        # A ReplicationController's selector is a plain map of labels.
        found = _exact(selector) if kind == "ReplicationController" else label_selector(selector)
        key = (meta.namespace, kind, meta.name)
        if self._owners.get(key) == found:
            return False
        self._owners[key] = found
        self._known.clear()
        return True

    def remove(self, kind: str, obj: Selecting) -> None:
        meta = obj.metadata
        if kind == "Service":
            self._services.get(meta.namespace, {}).pop(meta.name, None)
        else:
            self._owners.pop((meta.namespace, kind, meta.name), None)
        self._known.clear()

    def selector_of(self, group: Group, owner: tuple[str, str]) -> LabelSelector | None:
        """None: nothing means this pod, so nothing is to be spread."""
        if not self._services and not self._owners:
            return None
        key = (group, owner)
        if key not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = self._find(group, owner)
        return self._known[key]

    def _find(self, group: Group, owner: tuple[str, str]) -> LabelSelector | None:
        found: set[Requirement] = set()
        for selector in self._services.get(group.namespace, {}).values():
            requirements = _exact(selector)
            if selector and requirements.matches(group.labels):
                found.update(requirements.requirements)
        own = self._owners.get((group.namespace, *owner))
        if own is not None and not own.nothing:
            found.update(own.requirements)
        return LabelSelector(tuple(sorted(found))) if found else None


def _exact(selector: Mapping[str, str]) -> LabelSelector:
    return LabelSelector(tuple(sorted(Requirement(k, "=", (v,)) for k, v in selector.items())))
