"""HorizontalPodAutoscaler: size follows load. In: autoscalers, their targets' scale, pods, the metrics APIs. Out: /scale, status.

Looks every ten seconds. Use of pods comes from metrics.k8s.io; Pods, Object and External metrics from custom.metrics.k8s.io
and external.metrics.k8s.io when somebody serves them, and a clear condition when nobody does. Next: hpa_plan.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from jota.client.informer import split_key
from jota.controllers import conditions, scales
from jota.controllers.controller import Context, Controller, own
from jota.controllers.hpa_metrics import (
    MetricFault,
    Proposal,
    Tolerance,
    pods_metric,
    resource_fault,
    resource_metric,
    said_of,
    value_metric,
)
from jota.controllers.hpa_plan import Memory, Plan, plan, tolerance, within
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.quantity import milli
from jota.meta.resource import PODS, Resource
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
        self._scales = scales.Scales(self.client)
        self._selectors: dict[str, str] = {}
        """Key -> the selector of its target's pods: two autoscalers must not pull at the same ones."""

    async def reconcile(self, key: str) -> float | None:
        owner = self.autoscalers.get(key)
        if owner is None:
            self._memory.pop(key, None)
            self._selectors.pop(key, None)
            return None
        if "deletionTimestamp" in owner["metadata"]:
            return None
        target = owner["spec"]["scaleTargetRef"]
        try:
            resource = await self._scales.resource(target.get("apiVersion", ""), target["kind"])
            scale = await self._scales.get(resource, owner["metadata"]["namespace"], target["name"])
        except ApiError as e:
            self.events.event(owner, "Warning", "FailedGetScale", str(e))
            text = f"the HPA controller was unable to get the target's current scale: {e}"
            await self._fail(key, owner, "FailedGetScale", text)
            return PERIOD
        await self._scale(key, owner, resource, scale)
        return PERIOD

    async def _scale(self, key: str, owner: Object, resource: Resource, scale: Object) -> None:
        now, moment = self.clock.now(), self.clock.monotonic()
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        shown = int((scale.get("status") or {}).get("replicas") or 0)
        memory = self._memory.setdefault(key, Memory([(moment, current)]))
        memory.forget(moment)
        selector = (scale.get("status") or {}).get("selector") or ""
        asked: list[Proposal | MetricFault] = []
        self._selectors[key] = selector
        if not within(owner, current):
            pass  # the limits decide
        elif not selector:
            missing = MetricFault("SelectorRequired", "the HPA target's scale is missing a selector")
            missing.brief = "selector is required"
            asked = [missing]
        elif len(rivals := self._rivals(key, selector)) > 1:
            text = f"pods by selector {selector} are controlled by multiple HPAs: [{' '.join(rivals)}]"
            asked = [MetricFault("AmbiguousSelector", text)]
        else:
            asked = [await self._ask(owner, m, (current, shown), selector) for m in owner["spec"].get("metrics") or ()]
        decided = plan(owner, current, asked, memory, now, moment)
        if decided.replicas != current:
            await self._resize(key, owner, resource, scale, decided)
            memory.changes.append((moment, decided.replicas - current))
        best = max((a.replicas for a in asked if isinstance(a, Proposal)), default=None)
        if best is not None:
            memory.recommendations.append((moment, best))
        for fault in decided.faults:
            self.events.event(owner, "Warning", fault.reason, fault.brief or str(fault))
        if decided.failure:
            self.events.event(owner, "Warning", "FailedComputeMetricsReplicas", decided.failure)
        await self._write(key, owner, decided.status)

    # -- asking

    def _rivals(self, key: str, selector: str) -> list[str]:
        """Keys of the autoscalers of the namespace whose targets have one of the pods that `selector` finds."""
        namespace, matching = split_key(key)[0], parse_labels(selector)
        labels = [p.metadata.labels or {} for p in self.pods.list(namespace)]
        pods = [given for given in labels if matching.matches(given)]
        others = {k: t for k, t in self._selectors.items() if t and split_key(k)[0] == namespace and k != key}
        found = [k for k, text in others.items() if any(map(parse_labels(text).matches, pods))]
        return sorted([key, *found])

    async def _ask(
        self, owner: Object, metric: Object, sizes: tuple[int, int], selector: str
    ) -> Proposal | MetricFault:
        """`sizes`: the target's spec.replicas and status.replicas."""
        try:
            return await self._proposal(owner, metric, sizes, selector)
        except MetricFault as found:
            fault = found
        except ApiError as e:
            kind = metric["type"]
            name = metric[kind.lower()]["metric"]["name"]
            fault = MetricFault(f"FailedGet{kind}Metric", f"unable to get metric {name}: {e}")
        fault.metric = said_of(metric)
        return fault

    async def _proposal(self, owner: Object, metric: Object, sizes: tuple[int, int], selector: str) -> Proposal:
        """Raises MetricFault, and ApiError when a metrics API does not give the values."""
        current, shown = sizes
        namespace, kind = owner["metadata"]["namespace"], metric["type"]
        matching = parse_labels(selector)
        pods = [p for p in self.pods.list(namespace) if matching.matches(p.metadata.labels or {})]
        allow: Tolerance = tolerance(owner)
        if kind in ("Resource", "ContainerResource"):
            samples = await self._samples(namespace, selector, metric)
            return resource_metric(metric, current, pods, samples, allow, self.clock.now())
        items = await self._values(namespace, selector, metric)
        if kind == "Pods":
            by_name = {i["describedObject"]["name"]: milli(str(i["value"])) for i in items}
            return pods_metric(metric, current, pods, by_name, allow, self.clock.now())
        values = [milli(str(i["value"])) for i in items]
        return value_metric(metric, current, shown, sum(p.ready and p.active for p in pods), values, allow)

    async def _samples(self, namespace: str, selector: str, metric: Object) -> dict[str, int]:
        """Pod name -> what it (or the container meant) uses, in thousandths. Raises MetricFault."""
        query = urlencode({"labelSelector": selector})
        source = metric.get("resource") or metric["containerResource"]
        unable = f"unable to get metrics for resource {source['name']}:"
        try:
            found = await scales.get(self.client, f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", query)
        except ApiError as e:
            text = f"{unable} unable to fetch metrics from resource metrics API: {e}"
            raise resource_fault(metric, text) from e
        if not found["items"]:
            raise resource_fault(metric, f"{unable} no metrics returned from resource metrics API")
        only, out = source.get("container", ""), {}
        for item in found["items"]:
            uses = [c["usage"][source["name"]] for c in item["containers"] if not only or c["name"] == only]
            if uses:
                out[item["metadata"]["name"]] = sum(milli(u) for u in uses)
        return out

    async def _values(self, namespace: str, selector: str, metric: Object) -> list[Object]:
        """The values of a metrics API. Raises ApiError, 404 when nobody serves it."""
        kind = metric["type"]
        source = metric[kind.lower()]
        name, of = (
            quote(source["metric"]["name"], safe=""),
            scales.selector_text(source["metric"].get("selector") or {}),
        )
        if kind == "External":
            path, query = f"{_EXTERNAL}/namespaces/{namespace}/{name}", urlencode({"labelSelector": of} if of else {})
        elif kind == "Pods":
            path = f"{_CUSTOM}/namespaces/{namespace}/pods/*/{name}"
            query = urlencode({"labelSelector": selector, **({"metricLabelSelector": of} if of else {})})
        else:
            described = source["describedObject"]
            kind_of = await self._scales.resource(described.get("apiVersion", ""), described["kind"])
            plural = kind_of.group_resource
            path = f"{_CUSTOM}/namespaces/{namespace}/{plural}/{quote(described['name'], safe='')}/{name}"
            query = urlencode({"metricLabelSelector": of} if of else {})
        return list((await scales.get(self.client, path, query)).get("items") or ())

    # -- doing

    async def _resize(self, key: str, owner: Object, resource: Resource, scale: Object, decided: Plan) -> None:
        changed = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": decided.replicas}}
        try:
            await self.client.update(resource, changed, "scale")
        except ApiError as e:
            text = f"New size: {decided.replicas}; reason: {decided.reason}; error: {e}"
            self.events.event(owner, "Warning", "FailedRescale", text)
            why = f"the HPA controller was unable to update the target scale: {e}"
            await self._fail(key, owner, "FailedUpdateScale", why)
            raise
        text = f"New size: {decided.replicas}; reason: {decided.reason}"
        self.events.event(owner, "Normal", "SuccessfulRescale", text)

    async def _fail(self, key: str, owner: Object, reason: str, message: str) -> None:
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


def _spec_changed(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or old["spec"] != new["spec"]
