"""HorizontalPodAutoscaler: size follows load. In: autoscalers, their targets' scale, pods, the metrics APIs. Out: /scale, status.

Looks every ten seconds. Use of pods comes from metrics.k8s.io; Pods, Object and External metrics from custom.metrics.k8s.io
and external.metrics.k8s.io when somebody serves them, and a clear condition when nobody does. Next: hpa_plan.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import orjson

from jota.client.transport import error_from
from jota.controllers import conditions
from jota.controllers.controller import Context, Controller, own
from jota.controllers.discovery import discover
from jota.controllers.hpa_metrics import MetricFault, Proposal, Tolerance, resource_metric, value_metric
from jota.controllers.hpa_plan import Memory, Plan, plan, tolerance
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.quantity import milli
from jota.meta.resource import DEPLOYMENTS, PODS, Resource
from jota.meta.selectors import parse_labels

Object = dict[str, Any]

AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
PERIOD = 10.0
_CUSTOM, _EXTERNAL = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/external.metrics.k8s.io/v1beta1"


class HorizontalPodAutoscalerController(Controller):
    name: ClassVar[str] = "horizontalpodautoscaler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.autoscalers = self.watch(AUTOSCALERS, own, when=_spec_changed)
        self.pods = self.watch(PODS, type=Pod)
        self.events = context.recorder("horizontal-pod-autoscaler")
        self._memory: dict[str, Memory] = {}
        self._kinds: dict[tuple[str, str], Resource] = {(DEPLOYMENTS.api_version, DEPLOYMENTS.kind): DEPLOYMENTS}

    async def reconcile(self, key: str) -> float | None:
        owner = self.autoscalers.get(key)
        if owner is None:
            self._memory.pop(key, None)
            return None
        if "deletionTimestamp" in owner["metadata"]:
            return None
        target = owner["spec"]["scaleTargetRef"]
        try:
            resource = await self._resource(target)
            path = resource.path(owner["metadata"]["namespace"], target["name"], "scale")
            scale = await self._get(path)
        except ApiError as e:
            await self._fail(
                key, owner, "FailedGetScale", f"the HPA controller was unable to get the target's current scale: {e}"
            )
            return PERIOD
        await self._scale(key, owner, resource, scale)
        return PERIOD

    async def _scale(self, key: str, owner: Object, resource: Resource, scale: Object) -> None:
        now, memory = self.clock.now(), self._memory.setdefault(key, Memory())
        memory.forget(now)
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        selector = (scale.get("status") or {}).get("selector") or ""
        asked: list[Proposal | MetricFault] = []
        if not selector:
            asked = [MetricFault("InvalidSelector", "the HPA target's scale is missing a selector")]
        elif current:
            asked = [await self._ask(owner, m, current, selector) for m in owner["spec"].get("metrics") or ()]
        decided = plan(owner, current, asked, memory, now)
        if decided.replicas != current:
            await self._resize(key, owner, resource, scale, decided)
            memory.changes.append((now, decided.replicas - current))
        best = max((a.replicas for a in asked if isinstance(a, Proposal)), default=None)
        if best is not None:
            memory.recommendations.append((now, best))
        for fault in decided.faults:
            self.events.event(owner, "Warning", fault.reason, str(fault))
        await self._write(key, owner, decided.status)

    # -- asking

    async def _resource(self, target: Object) -> Resource:
        """The resource of a kind. Raises ApiError 404."""
        wanted = (target.get("apiVersion", ""), target["kind"])
        if wanted not in self._kinds:
            self._kinds |= (await discover(self.client)).kinds
        found = self._kinds.get(wanted)
        if found is None:
            raise ApiError(404, "NotFound", f'no matches for kind "{wanted[1]}" in version "{wanted[0]}"')
        return found

    async def _ask(self, owner: Object, metric: Object, current: int, selector: str) -> Proposal | MetricFault:
        namespace, kind = owner["metadata"]["namespace"], metric["type"]
        matching = parse_labels(selector)
        pods = [p for p in self.pods.list(namespace) if matching.matches(p.metadata.labels or {})]
        allow: Tolerance = tolerance(owner)
        try:
            if kind in ("Resource", "ContainerResource"):
                samples = await self._samples(namespace, selector, metric)
                return resource_metric(metric, current, pods, samples, allow, self.clock.now())
            values = await self._values(namespace, selector, metric)
            return value_metric(metric, current, sum(p.ready and p.active for p in pods), values, allow)
        except MetricFault as fault:
            return fault
        except ApiError as e:
            source = metric[kind[0].lower() + kind[1:]]
            name = source.get("name") or source["metric"]["name"]
            return MetricFault(f"FailedGet{kind}Metric", f"unable to get metric {name}: {e}")

    async def _samples(self, namespace: str, selector: str, metric: Object) -> dict[str, int]:
        """Pod name -> what it (or the container meant) uses, in thousandths. Raises ApiError."""
        query = urlencode({"labelSelector": selector})
        found = await self._get(f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", query)
        source = metric.get("resource") or metric["containerResource"]
        only, out = source.get("container", ""), {}
        for item in found["items"]:
            uses = [c["usage"][source["name"]] for c in item["containers"] if not only or c["name"] == only]
            if uses:
                out[item["metadata"]["name"]] = sum(milli(u) for u in uses)
        return out

    async def _values(self, namespace: str, selector: str, metric: Object) -> list[int]:
        """Thousandths. Raises ApiError, 404 when nobody serves the metrics API."""
        kind = metric["type"]
        source = metric[kind.lower()]
        name, of = quote(source["metric"]["name"]), _selector_text(source["metric"].get("selector"))
        if kind == "External":
            path, query = f"{_EXTERNAL}/namespaces/{namespace}/{name}", urlencode({"labelSelector": of} if of else {})
        elif kind == "Pods":
            path = f"{_CUSTOM}/namespaces/{namespace}/pods/*/{name}"
            query = urlencode({"labelSelector": selector, **({"metricLabelSelector": of} if of else {})})
        else:
            described = source["describedObject"]
            plural = (await self._resource(described)).group_resource
            path = f"{_CUSTOM}/namespaces/{namespace}/{plural}/{quote(described['name'])}/{name}"
            query = urlencode({"metricLabelSelector": of} if of else {})
        found = await self._get(path, query)
        return [milli(str(item["value"])) for item in found.get("items") or ()]

    async def _get(self, path: str, query: str = "") -> Object:
        response = await self.client.raw("GET", path, query)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        if response.status != 200:
            raise error_from(response.status, body)
        return dict(orjson.loads(body))

    # -- doing

    async def _resize(self, key: str, owner: Object, resource: Resource, scale: Object, decided: Plan) -> None:
        changed = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": decided.replicas}}
        try:
            await self.client.update(resource, changed, "scale")
        except ApiError as e:
            text = f"New size: {decided.replicas}; reason: {decided.reason}; error: {e}"
            self.events.event(owner, "Warning", "FailedRescale", text)
            await self._fail(
                key, owner, "FailedUpdateScale", f"the HPA controller was unable to update the target scale: {e}"
            )
            raise
        text = f"New size: {decided.replicas}; reason: {decided.reason}"
        self.events.event(owner, "Normal", "SuccessfulRescale", text)

    async def _fail(self, key: str, owner: Object, reason: str, message: str) -> None:
        self.events.event(owner, "Warning", reason, message)
        status = {"currentReplicas": 0, "desiredReplicas": 0, **(owner.get("status") or {})}
        found = conditions.put(
            status.get("conditions") or [], "AbleToScale", "False", reason, message, self.clock.now()
        )
        await self._write(key, owner, {**status, "conditions": found})

    async def _write(self, key: str, owner: Object, status: Object) -> None:
        if status != owner.get("status"):
            written = await self.client.update(AUTOSCALERS, {**owner, "status": status}, "status")
            self.wrote(key, self.autoscalers, written)

    def all_keys(self) -> Iterable[str]:
        return list(self.autoscalers.keys())


def _selector_text(selector: Object | None) -> str:
    """matchLabels and matchExpressions as query text."""
    parts = [f"{k}={v}" for k, v in ((selector or {}).get("matchLabels") or {}).items()]
    for one in (selector or {}).get("matchExpressions") or ():
        key, operator, values = one["key"], one["operator"], ",".join(one.get("values") or ())
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(words[operator])
    return ",".join(parts)


def _spec_changed(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or old["spec"] != new["spec"]
