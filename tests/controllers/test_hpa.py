"""HorizontalPodAutoscaler: tables for the arithmetic and the limits; stories with a node agent that tells loads."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson
import pytest

from jota.aio.clock import rfc3339
from jota.api.metricsapi import scrape
from jota.api.path import parse
from jota.controllers.deployment import DeploymentController
from jota.controllers.hpa import AUTOSCALERS, HorizontalPodAutoscalerController
from jota.controllers.hpa_metrics import (
    MetricFault,
    Proposal,
    Tolerance,
    amount,
    pods_metric,
    resource_metric,
    said_of,
    value_metric,
)
from jota.controllers.hpa_plan import Memory, plan
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.views import Pod
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.autoscaling.horizontalpodautoscaler import KIND as AUTOSCALER
from jota.meta.resource import DEPLOYMENTS, EVENTS, NODES, PODS
from jota.testing.cluster import ApiServer
from jota.testing.virtual import VirtualClock
from jota.wire.message import Response

from .builders import NOW
from .stories import Kubelet, running, web

Object = dict[str, Any]


def pod(
    name: str, *, ready: bool = True, phase: str = "Running", requests: str | None = "100m", age: float = 900
) -> Pod:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": rfc3339(NOW - age + 5)}
    resources = {"requests": {"cpu": requests}} if requests else {}
    raw = {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": phase, "startTime": rfc3339(NOW - age), "conditions": [condition]},
    }
    return msgspec.convert(raw, Pod)


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
AVERAGE = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "200m"}}}
PODS3 = [pod("a"), pod("b"), pod("c")]


@pytest.mark.parametrize(
    ("metric", "pods", "uses", "wanted"),
    [
        (CPU, PODS3, {"a": 90, "b": 90, "c": 90}, 6),
        (CPU, PODS3, {"a": 50, "b": 52, "c": 50}, 3),
        (CPU, PODS3, {"a": 10, "b": 10, "c": 10}, 1),
        (CPU, PODS3, {"a": 90, "b": 90}, 4),
        (CPU, PODS3, {"a": 10, "b": 10}, 2),
        (CPU, [*PODS3[:2], pod("c", phase="Pending")], {"a": 100, "b": 100}, 4),
        (CPU, [*PODS3[:2], pod("c", ready=False, age=20)], {"a": 10, "b": 10, "c": 900}, 1),
        (AVERAGE, PODS3, {"a": 400, "b": 400, "c": 400}, 6),
    ],
)
def test_what_a_resource_metric_asks_for(metric: Object, pods: list[Pod], uses: dict[str, int], wanted: int) -> None:
    assert resource_metric(metric, 3, pods, uses, Tolerance(), NOW).replicas == wanted


def test_a_missing_request_is_named() -> None:
    text = "^failed to get cpu utilization: missing request for cpu in container c of Pod x$"
    with pytest.raises(MetricFault, match=text) as fault:
        resource_metric(CPU, 1, [pod("x", requests=None)], {"x": 1}, Tolerance(), NOW)
    assert fault.value.reason == "FailedGetResourceMetric"
    inside = {"type": "ContainerResource", "containerResource": {**CPU["resource"], "container": "d"}}
    with pytest.raises(MetricFault, match="container d not found in Pod x") as fault:
        resource_metric(inside, 1, [pod("x")], {"x": 1}, Tolerance(), NOW)
    assert fault.value.reason == "FailedGetContainerResourceMetric"


@pytest.mark.parametrize(
    ("metric", "called"),
    [
        (CPU, "cpu resource metric"),
        ({"type": "ContainerResource", "containerResource": {"name": "memory"}}, "memory container metric"),
        ({"type": "Pods", "pods": {"metric": {"name": "rps"}}}, "pods metric"),
        ({"type": "Object", "object": {"metric": {"name": "rps"}}}, "object metric"),
        ({"type": "External", "external": {"metric": {"name": "queue"}}}, "queue external metric"),
    ],
)
def test_what_messages_call_a_metric(metric: Object, called: str) -> None:
    assert said_of(metric) == called


def test_other_metrics() -> None:
    each = {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"averageValue": "10"}}}
    two = [pod("a"), pod("b")]
    assert pods_metric(each, 2, two, {"a": 30000, "b": 10000}, Tolerance(), NOW).replicas == 4
    queue = {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"value": "100"}}}
    assert value_metric(queue, 2, 2, 2, [250000], Tolerance()).replicas == 5
    per = {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"averageValue": "100"}}}
    assert value_metric(per, 2, 2, 2, [250000], Tolerance()).replicas == 3
    assert value_metric(per, 3, 3, 3, [290000], Tolerance()).replicas == 3
    assert value_metric(per, 5, 3, 3, [290000], Tolerance()).replicas == 3, "an average is of those that there are"
    assert value_metric(per, 2, 2, 2, [250000], Tolerance()).name == "external metric queue(nil)"
    selector = {"matchLabels": {"q": "a"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}
    named = {**per["external"], "metric": {"name": "queue", "selector": selector}}
    assert value_metric({"type": "External", "external": named}, 2, 2, 2, [250000], Tolerance()).name == (
        "external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,},"
        "MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},})"
    )
    of = {"kind": "Ingress", "name": "main", "apiVersion": "networking.k8s.io/v1"}
    hits = {"describedObject": of, "metric": {"name": "hits"}, "target": {"value": "10"}}
    asked = value_metric({"type": "Object", "object": hits}, 2, 2, 2, [25000], Tolerance())
    assert (asked.replicas, asked.status["object"]["describedObject"]) == (5, of)
    assert asked.name == "Ingress metric hits"
    assert amount(1500) == "1500m"
    assert amount(2000) == "2"


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"a": 10000, "b": 10000, "c": 10000}, 3),
        ({"a": 10500, "b": 10500, "c": 10500}, 3),
        ({"a": 30000, "b": 30000}, 6),
        ({"a": 15000, "b": 15000}, 3),
        ({"a": 1000, "b": 1000}, 2),
        ({"a": 1000}, 3),
    ],
)
def test_pods_that_say_nothing_hold_a_pods_metric_back(values: dict[str, int], wanted: int) -> None:
    each = {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"averageValue": "10"}}}
    assert pods_metric(each, 3, [pod(n) for n in "abc"], values, Tolerance(), NOW).replicas == wanted


def test_a_pods_metric_of_nobody_is_a_fault_of_its_own() -> None:
    each = {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"averageValue": "10"}}}
    with pytest.raises(MetricFault, match="unable to get metric rps") as fault:
        pods_metric(each, 1, [pod("a")], {}, Tolerance(), NOW)
    assert fault.value.reason == "FailedGetPodsMetric"


def scaler(low: int = 1, high: int = 10, **spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"scaleTargetRef": target, "minReplicas": low, "maxReplicas": high, "metrics": [CPU], **spec},
    }


def asks(n: int) -> list[Proposal | MetricFault]:
    return [Proposal(n, "cpu", {})]


@pytest.mark.parametrize(
    ("owner", "current", "wanted", "memory", "size", "limited"),
    [
        (scaler(), 2, 4, Memory(), 4, "DesiredWithinRange"),
        (scaler(), 1, 9, Memory(), 4, "ScaleUpLimit"),
        (scaler(), 3, 9, Memory(), 6, "ScaleUpLimit"),
        (scaler(), 2, 3, Memory([(NOW - 15, 10)]), 4, "ScaleUpLimit"),
        (scaler(behavior={"scaleUp": {}}), 1, 9, Memory(), 5, "ScaleUpLimit"),
        (scaler(behavior={"scaleUp": {}}), 2, 3, Memory([(NOW - 15, 10)]), 3, "DesiredWithinRange"),
        (scaler(high=4), 2, 9, Memory(), 4, "TooManyReplicas"),
        (scaler(), 5, 2, Memory(), 2, "DesiredWithinRange"),
        (scaler(), 5, 2, Memory([(NOW - 100, 4)]), 4, "DesiredWithinRange"),
        (scaler(low=3), 5, 1, Memory(), 3, "TooFewReplicas"),
        (scaler(behavior={"scaleDown": {"selectPolicy": "Disabled"}}), 5, 1, Memory(), 5, "ScaleDownLimit"),
        (scaler(behavior={"scaleUp": {}}), 5, 9, Memory(changes=[(NOW - 5, 4)]), 5, "ScaleUpLimit"),
        (scaler(), 5, 9, Memory(changes=[(NOW - 5, 4)]), 5, "ScaleUpLimit"),
        (scaler(), 5, 9, Memory(changes=[(NOW - 15, 4)]), 9, "DesiredWithinRange"),
    ],
)
def test_the_limits(owner: Object, current: int, wanted: int, memory: Memory, size: int, limited: str) -> None:
    decided = plan(owner, current, asks(wanted), memory, NOW, NOW)
    assert decided.replicas == size
    reasons = {c["type"]: c["reason"] for c in decided.status["conditions"]}
    assert reasons["ScalingLimited"] == limited
    assert reasons["ScalingActive"] == "ValidMetricFound"


def test_nothing_is_taken_away_while_a_metric_is_missing() -> None:
    fault = MetricFault("FailedGetResourceMetric", "gone")
    assert plan(scaler(), 5, [*asks(2), fault], Memory(), NOW, NOW).replicas == 5
    assert plan(scaler(), 5, [*asks(8), fault], Memory(), NOW, NOW).replicas == 8
    even = plan(scaler(), 5, [*asks(5), fault], Memory(), NOW, NOW)
    assert {c["type"]: c["reason"] for c in even.status["conditions"]}["ScalingActive"] == "ValidMetricFound"
    decided = plan(scaler(), 5, [fault], Memory(), NOW, NOW)
    active = next(c for c in decided.status["conditions"] if c["type"] == "ScalingActive")
    assert (active["status"], active["reason"]) == ("False", "FailedGetResourceMetric")


class Loaded(Kubelet):
    """Containers report that they run, and since when."""

    async def start(self, pod: Object) -> None:
        await super().start(pod)
        meta, now = pod["metadata"], rfc3339(self.api.clock.now())
        status = {"name": "c", "state": {"running": {}}, "ready": True, "restartCount": 0, "image": "x", "imageID": ""}
        patch = {"status": {"containerStatuses": [status], "startTime": now}}
        await self.api.client.patch(PODS, meta["name"], meta["namespace"], patch, subresource="status")


async def work(api: ApiServer, kubelet: Kubelet, seconds: float) -> int:
    """Let time pass; the deployment's size then."""
    for _ in range(int(seconds)):
        await api.advance(1)
        await kubelet.tick()
    return int((await api.client.get(DEPLOYMENTS, "web", "ns"))["spec"]["replicas"])


def test_a_deployment_follows_its_load_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    load = {"total": 0.05}
    cpu: dict[str, float] = {}

    async def story() -> None:
        controllers = (DeploymentController, ReplicaSetController, HorizontalPodAutoscalerController)
        async with running(*controllers) as api:
            last = {"at": api.clock.now()}

            async def node_agent(*_: Any) -> Response:
                now = api.clock.now()
                pods = [p["metadata"]["name"] for p in (await api.client.list(PODS, "ns"))["items"]]
                lines = []
                for name in pods:
                    cpu[name] = cpu.get(name, 0.0) + (now - last["at"]) * load["total"] / len(pods)
                    whose = f'{{container="c",namespace="ns",pod="{name}"}}'
                    lines.append(f"container_cpu_usage_seconds_total{whose} {cpu[name]} {int(now * 1000)}")
                last["at"] = now
                return Response(200, [], "\n".join(lines).encode())

            monkeypatch.setattr(scrape, "hand_over", node_agent)
            await api.client.create(NODES, {"metadata": {"name": "n1"}})
            body = web(1)
            body["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
            await api.client.create(DEPLOYMENTS, body)
            kubelet = Loaded(api)
            await kubelet.settle()
            quick = {"scaleDown": {"stabilizationWindowSeconds": 30}}
            await api.client.create(AUTOSCALERS, scaler(high=6, behavior=quick))
            assert await work(api, kubelet, 30) == 1
            load["total"] = 0.2
            grown = await work(api, kubelet, 16)
            assert grown > 1
            assert await work(api, kubelet, 40) == 4
            load["total"] = 0.01
            assert await work(api, kubelet, 120) == 1
            status = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
            assert status["lastScaleTime"]
            assert status["currentMetrics"][0]["resource"]["current"]["averageValue"]
            reasons = {e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
            assert "SuccessfulRescale" in reasons

    asyncio.run(story())


def test_what_is_in_no_namespace_is_not_scaled_from_one() -> None:
    """The controller may do everything, whoever names a target may do so in a namespace."""
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"scale": scale}}
    names = {"plural": "fleets", "kind": "Fleet"}
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}

    async def story() -> None:
        async with running(HorizontalPodAutoscalerController) as api:
            await api.client.create(CRDS, {"metadata": {"name": "fleets.example.com"}, "spec": spec})
            await api.until(lambda: ("example.com", "v1", "fleets") in api.api.served)
            fleet = {"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "f"}, "spec": {"size": 9}}
            assert (await api.request("POST", "/apis/example.com/v1/fleets", fleet)).status == 201
            made = scaler()
            made["spec"]["scaleTargetRef"] = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "f"}
            await api.client.create(AUTOSCALERS, made)
            await api.advance(12)
            status = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
            assert next(c["reason"] for c in status["conditions"] if c["type"] == "AbleToScale") == "FailedGetScale"
            found = await api.request("GET", "/apis/example.com/v1/fleets/f")
            assert orjson.loads(found.body)["spec"]["size"] == 9  # type: ignore[arg-type]

    asyncio.run(story())


@pytest.mark.parametrize("name", ["n/proxy/configz", "n?a=b", "..", "a%2Fb"])
def test_a_name_is_no_path(name: str) -> None:
    """Of an autoscaler, and of whatever else users write: it is asked for as it is."""
    targets: list[Object] = [{"kind": "Node", "name": name}, {"kind": name, "name": "n"}]
    metric = {"target": {"type": "Value", "value": "1"}, "metric": {"name": name}}
    wrong = [scaler() for _ in targets]
    for made, target in zip(wrong, targets, strict=True):
        made["spec"]["scaleTargetRef"] = {"apiVersion": "v1", **target}
    wrong += [scaler(metrics=[{"type": "External", "external": metric}])]
    described = {"apiVersion": "v1", "kind": "Node", "name": name}
    good = {**metric, "metric": {"name": "m"}, "describedObject": described}
    wrong += [scaler(metrics=[{"type": "Object", "object": good}])]
    if "?" not in name:
        assert all(AUTOSCALER.validate(made) for made in wrong)
    asked = unquote(NODES.path(name=name, subresource="scale"))
    assert asked == f"/api/v1/nodes/{name}/scale"
    target = parse("GET", NODES.path(name=name, subresource="scale"), {})
    assert (target.name, target.subresource) == (name, "scale")


def test_what_nobody_serves_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController, HorizontalPodAutoscalerController) as api:
            await api.client.create(DEPLOYMENTS, web(2))
            metric = {
                "type": "Pods",
                "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "1"}},
            }
            await api.client.create(AUTOSCALERS, scaler(metrics=[metric]))
            await api.advance(12)
            status = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
            active = next(c for c in status["conditions"] if c["type"] == "ScalingActive")
            assert (active["status"], active["reason"]) == ("False", "FailedGetPodsMetric")
            said = {e["reason"]: e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
            assert said["FailedComputeMetricsReplicas"].startswith(
                "invalid metrics (1 invalid out of 1), first error is: "
                "failed to get pods metric value: unable to get metric rps: "
            )
            await api.client.delete(DEPLOYMENTS, "web", "ns")
            await api.advance(12)
            status = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
            able = next(c for c in status["conditions"] if c["type"] == "AbleToScale")
            assert (able["status"], able["reason"]) == ("False", "FailedGetScale")
            said = {e["reason"]: e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
            assert (
                able["message"]
                == f"the HPA controller was unable to get the target's current scale: {said['FailedGetScale']}"
            )

    asyncio.run(story())


def test_pods_without_metrics_or_requests_are_told_in_upstreams_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController, HorizontalPodAutoscalerController) as api:
            told = {"cpu": 0.0}

            async def node_agent(*_: Any) -> Response:
                told["cpu"] += 0.01
                lines = [
                    f'container_cpu_usage_seconds_total{{container="c",namespace="ns",pod="{p["metadata"]["name"]}"}}'
                    f" {told['cpu']} {int(api.clock.now() * 1000)}"
                    for p in (await api.client.list(PODS, "ns"))["items"]
                    if shown
                ]
                return Response(200, [], "\n".join(lines).encode())

            shown: list[bool] = []
            monkeypatch.setattr(scrape, "hand_over", node_agent)
            await api.client.create(NODES, {"metadata": {"name": "n1"}})
            await api.client.create(DEPLOYMENTS, web(1))
            await Loaded(api).settle()
            await api.client.create(AUTOSCALERS, scaler())

            async def said() -> tuple[str, list[str]]:
                await api.advance(25)
                status = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
                active = next(c for c in status["conditions"] if c["type"] == "ScalingActive")
                events = [e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]]
                return active["message"], [m for m in events if m.startswith(("invalid metrics", "failed to get"))]

            why = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from "
            why += "resource metrics API"
            whole = "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: "
            message, events = await said()
            assert message == f"the HPA was unable to compute the replica count: {why}"
            assert set(events) == {why, whole + why}
            name = (await api.client.list(PODS, "ns"))["items"][0]["metadata"]["name"]
            shown.append(True)
            await said()
            message, events = await said()
            why = f"failed to get cpu utilization: missing request for cpu in container c of Pod {name}"
            assert message == f"the HPA was unable to compute the replica count: {why}"
            assert {why, whole + why} <= set(events)

    asyncio.run(story())


def test_two_autoscalers_of_the_same_pods_do_nothing_and_say_why() -> None:
    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController, HorizontalPodAutoscalerController) as api:
            await api.client.create(DEPLOYMENTS, web(2))
            await Kubelet(api).settle()
            first, second = scaler(), scaler()
            second["metadata"]["name"] = "rival"
            await api.client.create(AUTOSCALERS, first)
            await api.client.create(AUTOSCALERS, second)
            await api.advance(25)
            for name in ("web", "rival"):
                status = (await api.client.get(AUTOSCALERS, name, "ns"))["status"]
                active = next(c for c in status["conditions"] if c["type"] == "ScalingActive")
                text = "pods by selector app=web are controlled by multiple HPAs: [ns/rival ns/web]"
                assert (active["reason"], active["message"]) == ("AmbiguousSelector", text)
            assert (await api.client.get(DEPLOYMENTS, "web", "ns"))["spec"]["replicas"] == 2
            await api.client.delete(AUTOSCALERS, "rival", "ns")
            await api.advance(12)
            status = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
            active = next(c for c in status["conditions"] if c["type"] == "ScalingActive")
            assert active["reason"] != "AmbiguousSelector"

    asyncio.run(story())


class Quiet(HorizontalPodAutoscalerController):
    """A metrics API says that there is next to nothing to do."""

    async def _values(self, namespace: str, selector: str, metric: Object) -> list[Object]:
        return [{"value": "1"}]


class Jumping(VirtualClock):
    """Its wall clock can be set."""

    jump = 0.0

    def now(self) -> float:
        return super().now() + self.jump


@pytest.mark.parametrize("jump", [0.0, 86400.0, -86400.0])
def test_a_new_controller_takes_nothing_away_before_the_window_has_passed(jump: float) -> None:
    """The size that it finds was somebody's recommendation, which died with the last controller."""

    async def story() -> None:
        clock = Jumping()
        async with running(DeploymentController, ReplicaSetController, Quiet, clock=clock) as api:
            await api.client.create(DEPLOYMENTS, web(4))
            await Kubelet(api).settle()
            queue = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
            await api.client.create(AUTOSCALERS, scaler(metrics=[{"type": "External", "external": queue}]))
            await api.advance(60)
            assert (await api.client.get(DEPLOYMENTS, "web", "ns"))["spec"]["replicas"] == 4
            clock.jump = jump
            await api.advance(400)
            assert (await api.client.get(DEPLOYMENTS, "web", "ns"))["spec"]["replicas"] == 1

    asyncio.run(story())
