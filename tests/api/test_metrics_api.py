"""metrics.k8s.io: the text of a node as rates, and the kinds over a node that really answers on a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.api.metricsapi import scrape
from jota.api.metricsapi.samples import Reading, parse, use
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, NODES, PODS
from jota.testing.cluster import ApiServer
from jota.wire.message import Request, Response

Object = dict[str, Any]

TEXT = """# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 100.5 1000000
node_memory_working_set_bytes 2048 1000000
container_cpu_usage_seconds_total{container="c",namespace="ns",pod="web"} 7.25 1000000
container_memory_working_set_bytes{container="c",namespace="ns",pod="web"} 4096 1000000
something_else{x="y"} NaN
garbage
"""


def test_a_nodes_text_is_read() -> None:
    sample = parse(TEXT, 1.0)
    assert sample.node == Reading(100.5, 2048, 1000.0)
    assert sample.containers == {("ns", "web", "c"): Reading(7.25, 4096, 1000.0)}


@pytest.mark.parametrize(
    ("before", "after", "cores"),
    [
        (Reading(10, 1, 100), Reading(12.5, 1, 105), 0.5),
        (Reading(10, 1, 100), Reading(3, 1, 105), None),
        (Reading(10, 1, 100), Reading(10, 1, 100), None),
        (None, Reading(10, 1, 100), None),
        (None, Reading(10, 1, 100, 80), 0.5),
        (Reading(90, 1, 99, 5), Reading(10, 1, 100, 80), 0.5),
    ],
)
def test_the_rate(before: Reading | None, after: Reading, cores: float | None) -> None:
    found = use(before, after)
    assert (found.cpu if found else None) == cores


def text_at(now: float, cores: float) -> str:
    at = int(now * 1000)
    whose = '{container="c",namespace="ns",pod="web"}'
    return (
        f"node_cpu_usage_seconds_total {cores * now} {at}\nnode_memory_working_set_bytes 1048576 {at}\n"
        f"container_cpu_usage_seconds_total{whose} {cores * now} {at}\n"
        f"container_memory_working_set_bytes{whose} 524288 {at}\n"
    )


async def cluster(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
    for name in ("n1", "dead"):
        await api.client.create(NODES, {"metadata": {"name": name, "labels": {"name": name}}})
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}
    await api.client.create(
        PODS, {"metadata": {"name": "web", "namespace": "ns", "labels": {"app": "web"}}, "spec": spec}
    )
    container = {"name": "c", "state": {"running": {}}, "ready": True, "restartCount": 0, "image": "x", "imageID": ""}
    status = {"status": {"phase": "Running", "containerStatuses": [container]}}
    await api.client.patch(PODS, "web", "ns", status, subresource="status")


async def got(api: ApiServer, path: str) -> Object:
    task = asyncio.ensure_future(api.request("GET", path))
    await api.advance(2)
    response = await task
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return dict(orjson.loads(body))


def test_metrics_of_nodes_and_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def story() -> None:
        async with ApiServer() as api:
            await cluster(api)

            async def node_agent(_engine: Any, _request: Request, node: str, path: str, _query: str) -> Response:
                asked.append(node)
                if node == "dead":
                    raise ApiError(503, "ServiceUnavailable", "no answer")
                return Response(200, [], text_at(api.clock.now(), 0.25).encode())

            monkeypatch.setattr(scrape, "hand_over", node_agent)
            nodes = await got(api, "/apis/metrics.k8s.io/v1beta1/nodes")
            assert nodes["kind"] == "NodeMetricsList"
            (node,) = nodes["items"]
            assert node["metadata"]["name"] == "n1"
            assert node["usage"] == {"cpu": "250000000n", "memory": "1024Ki"}
            before = len(asked)
            pods = await got(api, "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods?labelSelector=app%3Dweb")
            assert pods["items"][0]["containers"] == [{"name": "c", "usage": {"cpu": "250000000n", "memory": "512Ki"}}]
            assert len(asked) == before, "a fresh sample is used again, and a silent node is left alone"
            none = await got(api, "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods?labelSelector=app%3Dother")
            assert none["items"] == []
            one = await got(api, "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods/web")
            assert one["kind"] == "PodMetrics"
            missing = await got(api, "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods/none")
            assert (missing["code"], missing["reason"]) == (404, "NotFound")
            assert missing["message"] == 'podmetrics.metrics.k8s.io "ns/none" not found', "as metrics-server says it"
            table = await got(api, "/apis/metrics.k8s.io/v1beta1/nodes/dead")
            assert (table["code"], table["message"]) == (404, 'nodemetrics.metrics.k8s.io "dead" not found')
            refused = await api.request("DELETE", "/apis/metrics.k8s.io/v1beta1/nodes/n1")
            assert refused.status == 405
            refused = await api.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes?limit=many")
            assert refused.status == 400

    asyncio.run(story())


def test_discovery_and_openapi_tell_of_them() -> None:
    async def story() -> None:
        async with ApiServer() as api:
            listed = await got(api, "/apis/metrics.k8s.io/v1beta1")
            assert [(r["name"], r["kind"], r["verbs"]) for r in listed["resources"]] == [
                ("nodes", "NodeMetrics", ["get", "list"]),
                ("pods", "PodMetrics", ["get", "list"]),
            ]
            for path in ("/openapi/v2", "/openapi/v3/apis/metrics.k8s.io/v1beta1"):
                assert "/apis/metrics.k8s.io/v1beta1/nodes" in (await got(api, path))["paths"]

    asyncio.run(story())
