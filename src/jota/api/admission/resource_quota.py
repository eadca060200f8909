"""ResourceQuota: what would take a namespace beyond its quota is refused; exactly, however many write at once.

In: a write that was found valid. Out: 403, or a reservation. Use is counted from the stored objects themselves, plus what
was let in and is not visible yet, so it can neither drift nor lag; the controller (controllers/resourcequota.py) writes the
same numbers into status. Several servers on one store each count what they see: two writes of one moment may both pass.
"""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.registry import Registry
from jota.kinds.core import quota as rules
from jota.kinds.core.pod.totals import Amounts, add
from jota.kinds.core.quota import CLAIMS, QUOTAS
from jota.kinds.kind import Kind, Object
from jota.meta.errors import ApiError, forbidden
from jota.meta.quantity import NANO
from jota.meta.resource import PODS, SERVICES, Resource

_MEASURED = (PODS, SERVICES, CLAIMS)
"""Kinds whose use depends on what is in them; of others only the number counts."""


class _Ledger:
    """The measured objects of one kind, by namespace and name; refreshed by name when they changed."""

    def __init__(self, registry: Registry, resource: Resource) -> None:
        self._registry, self._resource = registry, resource
        self._objects: dict[str, dict[str, Object]] = {}
        self._dirty: dict[str, set[str]] = {}
        self.pending: dict[str, dict[str, Object]] = {}
        registry.touched(resource, self._touch)

    def _touch(self, keys: list[str], anew: bool) -> None:
        if anew:
            self._objects.clear()
            self._dirty.clear()
        for key in keys:
            _, _, _, namespace, name = key.split("/", 4)
            self._dirty.setdefault(namespace, set()).add(name)
            self.settle(namespace, name)

    def settle(self, namespace: str, name: str) -> None:
        """A reservation has become visible, or came to nothing."""
        waiting = self.pending.get(namespace)
        if waiting is not None:
            waiting.pop(name, None)

    def objects(self, namespace: str) -> dict[str, Object]:
        known = self._objects.setdefault(namespace, {})
        for name in self._dirty.pop(namespace, ()):
            found = self._registry.get(self._resource, namespace, name)
            if found is None:
                known.pop(name, None)
            else:
                known[name] = {key: found[key] for key in ("spec", "status") if key in found}
        return {**known, **self.pending.get(namespace, {})}


class ResourceQuota(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (QUOTAS,)
    apart: ClassVar[bool] = True

    def __init__(self) -> None:
        self._ledgers: dict[Resource, _Ledger] = {}
        self._counted: dict[tuple[Resource, str], set[str]] = {}
        """Names let in and not yet visible, of kinds that are only counted."""

    def handles(self, kind: Kind) -> bool:
        return kind.resource.namespaced and not kind.resource.kind.endswith("Review")

    def minds(self, attrs: AdmissionAttributes) -> bool:
        # the class of a claim, by which it is counted, may stand in an annotation
        return attrs.kind.stored == CLAIMS and bool(attrs.registry.count(QUOTAS, attrs.namespace))

    def allocate(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403."""
        obj, resource = attrs.object, attrs.kind.stored
        if attrs.operation != "CREATE" and (resource not in _MEASURED or attrs.subresource not in ("", "resize")):
            return
        if obj is None or not attrs.registry.count(QUOTAS, attrs.namespace):
            return
        wants = rules.usage(resource, obj)
        for quota in attrs.registry.objects(QUOTAS, attrs.namespace):
            self._check(attrs, quota, resource, obj, wants)
        if not attrs.dry_run:
            self._reserve(attrs, resource, obj)

    def release(self, attrs: AdmissionAttributes) -> None:
        resource = attrs.kind.stored
        if resource in self._ledgers:
            self._ledgers[resource].settle(attrs.namespace, attrs.name)
        elif waiting := self._counted.get((resource, attrs.namespace)):
            waiting.discard(attrs.name)

    def _check(
        self, attrs: AdmissionAttributes, quota: Object, resource: Resource, obj: Object, wants: Amounts
    ) -> None:
        if not rules.matches(quota, resource, obj):
            return
        hard, name = rules.hard(quota), quota["metadata"]["name"]
        if resource == PODS and attrs.operation == "CREATE":
            silent = rules.silent_containers(obj, hard)
            if silent:
                raise _refuse(attrs, f"failed quota: {name}: must specify {silent}")
        had = rules.usage(resource, attrs.old) if attrs.old is not None else {}
        more = {n: wants[n] - had.get(n, 0) for n in wants if n in hard and wants[n] > had.get(n, 0)}
        if not more:
            return
        used = self._used(attrs, quota, resource)
        beyond = sorted(n for n in more if used.get(n, 0) - had.get(n, 0) + wants[n] > hard[n])
        if beyond:
            texts = (
                ",".join(f"{n}={rules.shown(n, amounts.get(n, 0))}" for n in beyond) for amounts in (more, used, hard)
            )
            asked, taken, most = texts
            raise _refuse(attrs, f"exceeded quota: {name}, requested: {asked}, used: {taken}, limited: {most}")

    def _used(self, attrs: AdmissionAttributes, quota: Object, resource: Resource) -> Amounts:
        """What the namespace uses of one quota, by the kind at hand."""
        attrs.registry.catch_up()
        if resource in _MEASURED:
            objects = self._ledger(attrs.registry, resource).objects(attrs.namespace).values()
            return rules.total(quota, resource, objects)
        waiting = self._counted.get((resource, attrs.namespace), set())
        waiting -= {n for n in waiting if attrs.registry.look(resource, attrs.namespace, n) is not None}
        number = attrs.registry.count(resource, attrs.namespace) + len(waiting)
        used: Amounts = {}
        add(used, dict.fromkeys(rules.usage(resource, {}), number * NANO))
        return used

    def _ledger(self, registry: Registry, resource: Resource) -> _Ledger:
        found = self._ledgers.get(resource)
        if found is None:
            found = self._ledgers[resource] = _Ledger(registry, resource)
        return found

    def _reserve(self, attrs: AdmissionAttributes, resource: Resource, obj: Object) -> None:
        if resource in _MEASURED:
            kept: Object = {key: obj[key] for key in ("spec", "status") if key in obj}
            self._ledger(attrs.registry, resource).pending.setdefault(attrs.namespace, {})[attrs.name] = kept
        else:
            self._counted.setdefault((resource, attrs.namespace), set()).add(attrs.name)


def _refuse(attrs: AdmissionAttributes, detail: str) -> ApiError:
    resource = attrs.kind.resource
    return forbidden(resource.plural, attrs.name, detail, resource.group)
