"""ResourceQuotas -> their status: what the namespace uses of them, counted from the objects themselves.

In: quotas, and the pods, services and claims whose changes move the numbers. Out: status.hard and status.used. Other kinds
are counted again every few seconds while a quota limits them. Admission does not read this status; people and tests do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jota.client.pods import FINISHED, TEMPLATE
from jota.controllers.controller import Context, Controller, Object, own
from jota.controllers.views import Pod
from jota.kinds.core import quota as rules
from jota.kinds.core.pod.totals import Amounts, add
from jota.kinds.core.quota import QUOTAS
from jota.kinds.table import KINDS
from jota.meta.errors import ApiError
from jota.meta.quantity import NANO
from jota.meta.resource import PODS, SERVICES, Resource

_SOON, _LATER = 2.0, 60.0
"""Seconds until the next look: with kinds that are not watched, and without."""
_PAGE = 1
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)


def plan(quota: Object, used: Amounts) -> Object:
    """The status that a quota should show; `used` by resource name, in nano-units."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    return {"hard": dict(hard), "used": {name: rules.shown(name, used.get(name, 0)) for name in hard}}


def _uses_otherwise(old: Any, new: Any) -> bool:
    """It appears, ends, or is resized."""
    if old is None or new is None or old.finished != new.finished:
        return True
    return old.spec.containers is not new.spec.containers or old.status.resized is not new.status.resized


class ResourceQuotaController(Controller):
    name: ClassVar[str] = "resourcequota"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.quotas = self.watch(QUOTAS, own)
        self.quotas.add_index("namespace", lambda q: [q["metadata"]["namespace"]])
        self.pods = self.watch(
            PODS, self._quotas_of, type=Pod, when=_uses_otherwise, on=FINISHED | TEMPLATE, of=self._quotas_of
        )
        self.quotas.add_handler(self._quota_changed)
        self.watch(SERVICES, lambda service: self._quotas_in(service["metadata"]["namespace"]))
        self._known = {k.resource.group_resource: k.resource for k in KINDS if k.storage is None}

    def _quotas_of(self, pod: Pod) -> Iterable[str]:
        return self._quotas_in(pod.metadata.namespace)

    def _quota_changed(self, old: Any, new: Any) -> None:
        if old is None or new is None:
            self.pods.reconsider()

    def _quotas_in(self, namespace: str) -> Iterable[str]:
        return [own(q)[0] for q in self.quotas.by_index("namespace", namespace)] if len(self.quotas) else ()

    async def reconcile(self, key: str) -> float | None:
        quota = self.quotas.get(key)
        if quota is None:
            return None
        counted = await self._counted(quota)
        status = plan(quota, await self._used(quota, counted))
        if status != {k: v for k, v in (quota.get("status") or {}).items() if k in status}:
            self.wrote(key, self.quotas, await self.client.update(QUOTAS, {**quota, "status": status}, "status"))
        return _SOON if counted - {PODS, SERVICES} else _LATER

    async def _counted(self, quota: Object) -> set[Resource]:
        """What the quota limits, as far as it is served."""
        found = set()
        for name in (quota.get("spec") or {}).get("hard") or {}:
            resource = rules.resource_of(name, self._known) or await self._custom(name[len(rules.COUNT) :])
            if resource is not None:
                found.add(resource)
        return found

    async def _custom(self, name: str) -> Resource | None:
        """The custom resource `foos.example.com`, which is the name of its definition, too."""
        try:
            spec = (await self.client.get(CRDS, name))["spec"]
        except ApiError as e:
            if e.code != 404:
                raise
            return None
        served = [v for v in spec["versions"] if v.get("served")]
        if not served or spec["scope"] != "Namespaced":
            return None
        # without a conversion, if that is possible
        version = next((v for v in served if v.get("storage")), served[0])
        names = spec["names"]
        return Resource(spec["group"], version["name"], names["plural"], names["kind"])

    async def _used(self, quota: Object, counted: set[Resource]) -> Amounts:
        namespace = quota["metadata"]["namespace"]
        used: Amounts = {}
        for resource in counted:
            if resource in (PODS, SERVICES, rules.CLAIMS):
                listed = await self.client.list(resource, namespace)
                add(used, rules.total(quota, resource, listed["items"]))
            elif rules.matches(quota, resource, {}):
                number = await self._count(resource, namespace)
                add(used, dict.fromkeys(rules.usage(resource, {}), number * NANO))
        return used

    async def _count(self, resource: Resource, namespace: str) -> int:
        listed = await self.client.list(resource, namespace, limit=_PAGE)
        return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount") or 0)
