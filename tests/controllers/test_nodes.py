"""Planners about nodes and time: address ranges, tolerations, what the cleaners remove."""

from __future__ import annotations

import asyncio
import base64
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import rfc3339
from jota.controllers import nodeipam, podgc, tainteviction
from jota.controllers.controller import ControllerConfig
from jota.controllers.nodelifecycle import Heartbeat, NodeLifecycleController, heard
from jota.controllers.nodelifecycle import plan as judge
from jota.controllers.table import run_controllers
from jota.meta.resource import EVENTS, NAMESPACES, NODES, PODS, SECRETS
from jota.testing.cluster import ApiServer

from .builders import NOW, pod
from .stories import exists, names, running

UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": rfc3339(NOW - 100)}


@given(st.lists(st.integers(0, 15), unique=True, max_size=16), st.booleans())
def test_a_free_part_overlaps_nothing(used: list[int], wide: bool) -> None:
    taken = [f"10.0.{n}.0/24" for n in used]
    if wide:
        taken.append("10.0.8.0/22")
    part = nodeipam.plan(["10.0.0.0/20"], 24, taken)
    if part is None:
        assert {str(n) for t in taken for n in ip_network(t).subnets(new_prefix=24)} == {
            f"10.0.{n}.0/24" for n in range(16)
        }
    else:
        chosen = ip_network(part[0])
        assert chosen.subnet_of(ip_network("10.0.0.0/20"))  # type: ignore[arg-type]
        assert not any(chosen.overlaps(ip_network(t)) for t in taken)


def test_dual_stack_gives_a_part_of_each() -> None:
    assert nodeipam.plan(["10.0.0.0/16", "fd00::/48"], 24, ["10.0.0.0/24", "fd00::/64"]) == [
        "10.0.1.0/24",
        "fd00:0:0:1::/64",
    ]


def test_a_node_without_a_part_waits_for_one_and_its_heartbeats_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, plan = [0], nodeipam.plan

    def counted(*args: Any) -> Any:
        looks[0] += 1
        return plan(*args)

    monkeypatch.setattr(nodeipam, "plan", counted)

    async def main() -> None:
        config = ControllerConfig(cluster_cidr="10.0.0.0/23", node_mask=24)
        async with running(nodeipam.NodeIpamController, config=config) as api:
            for name in "abcd":
                await api.client.create(NODES, {"metadata": {"name": name}})
                await api.settle()
            parts = {n["metadata"]["name"]: n["spec"].get("podCIDR") for n in (await api.client.list(NODES))["items"]}
            assert parts == {"a": "10.0.0.0/24", "b": "10.0.1.0/24", "c": None, "d": None}
            before = looks[0]
            for n in range(5):
                status = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": f"r{n}"}]}}
                await api.client.patch(NODES, "c", patch=status, subresource="status")
                await api.advance(31)
            assert looks[0] == before
            await api.client.delete(NODES, "a")
            await api.advance(31)
            parts = {n["metadata"]["name"]: n["spec"].get("podCIDR") for n in (await api.client.list(NODES))["items"]}
            assert parts.pop("b") == "10.0.1.0/24"
            assert sorted(parts.values(), key=str) == ["10.0.0.0/24", None]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("tolerations", "goes"),
    [
        ([], NOW - 100),
        ([{"operator": "Exists"}], None),
        ([{"key": UNREACHABLE["key"], "operator": "Exists", "tolerationSeconds": 300}], NOW + 200),
        (
            [
                {"key": UNREACHABLE["key"], "operator": "Exists", "tolerationSeconds": 300},
                {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 150},
            ],
            NOW + 200,
        ),
        ([{"key": UNREACHABLE["key"], "operator": "Exists", "effect": "NoSchedule"}], NOW - 100),
        ([{"key": UNREACHABLE["key"], "value": "x"}], NOW - 100),
        ([{"key": UNREACHABLE["key"], "operator": "Exists", "tolerationSeconds": -5}], NOW - 100),
    ],
)
def test_when_a_pod_must_go(tolerations: list[dict[str, Any]], goes: float | None) -> None:
    assert tainteviction.plan(pod(tolerations=tolerations), [UNREACHABLE], NOW) == goes


async def tainted(api: ApiServer, *taints: dict[str, Any]) -> None:
    await api.client.patch(NODES, "n", "", {"spec": {"taints": list(taints)}})
    await api.advance(1)


async def comes(api: ApiServer, name: str) -> None:
    patience = {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n", "tolerations": [patience]}
    await api.client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "ns")


async def staying(api: ApiServer) -> set[str]:
    pods = (await api.client.list(PODS, "ns"))["items"]
    return {p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]}


@pytest.mark.parametrize("dated", [True, False])
def test_who_comes_to_a_node_that_was_tainted_long_ago_has_all_its_time(dated: bool) -> None:
    """Its successors come there, too: without this they come and go as fast as the control plane can."""

    async def story() -> None:
        async with running(tainteviction.TaintEvictionController) as api:
            await api.client.create(NODES, {"metadata": {"name": "n"}})
            await tainted(api, {"key": "k", "effect": "NoExecute", **({"timeAdded": rfc3339(NOW)} if dated else {})})
            await comes(api, "first")
            await api.advance(29)
            assert await staying(api) == {"first"}
            await api.advance(2)
            assert await staying(api) == set()
            await comes(api, "second")
            await api.advance(28)
            assert await staying(api) == {"second"}
            await api.advance(3)
            assert await staying(api) == set()

    asyncio.run(story())


def test_a_taint_that_comes_back_counts_from_then_and_the_pardon_is_told() -> None:
    async def story() -> None:
        async with running(tainteviction.TaintEvictionController) as api:
            await api.client.create(NODES, {"metadata": {"name": "n"}})
            await comes(api, "p")
            await tainted(api, {"key": "k", "effect": "NoExecute"})
            await api.advance(20)
            await tainted(api)
            events = (await api.client.list(EVENTS, "ns"))["items"]
            assert [(e["reason"], e["message"]) for e in events] == [
                ("TaintManagerEviction", "Cancelling deletion of Pod ns/p")
            ]
            await api.advance(100)
            await tainted(api, {"key": "k", "effect": "NoExecute"})
            await api.advance(27)
            assert await staying(api) == {"p"}
            await api.advance(4)
            assert await staying(api) == set()

    asyncio.run(story())


def test_pods_are_evicted_whether_the_taint_or_the_pod_comes_first_and_others_are_not_looked_at() -> None:
    async def story() -> None:
        looked: list[str] = []

        class Watched(tainteviction.TaintEvictionController):
            async def reconcile(self, key: str) -> float | None:
                looked.append(key)
                return await super().reconcile(key)

        async with running(Watched) as api:
            taints = [{"key": "k", "effect": "NoExecute"}]
            for name, spec in (("calm", {}), ("sick", {"taints": taints}), ("falls", {})):
                await api.client.create(NODES, {"metadata": {"name": name}, "spec": spec})
            await api.settle()
            for node in ("calm", "sick", "falls"):
                spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": node}
                await api.client.create(PODS, {"metadata": {"name": f"on-{node}"}, "spec": spec}, "ns")
            await api.settle()
            assert looked == ["ns/on-sick"], "nothing threatens the others"
            await api.client.patch(NODES, "falls", "", {"spec": {"taints": taints}})
            await api.advance(1)
            pods = (await api.client.list(PODS, "ns"))["items"]
            going = {p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]}
            assert going == {"on-sick", "on-falls"}
            assert "ns/on-calm" not in looked

    asyncio.run(story())


def test_a_taint_that_only_keeps_new_pods_away_evicts_nobody() -> None:
    assert tainteviction.plan(pod(), [{**UNREACHABLE, "effect": "NoSchedule"}], NOW) is None


def test_a_heartbeat_counts_only_when_it_changes() -> None:
    node = {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": "t1"}]}}
    first = heard(node, None, None, 10.0)
    assert heard(node, None, first, 99.0) is first
    node["status"]["conditions"][0]["lastHeartbeatTime"] = "t2"  # type: ignore[index]
    assert heard(node, None, first, 99.0) == Heartbeat(("", "t2"), 99.0)


@pytest.mark.parametrize(
    ("status", "silent", "want"),
    [
        ("True", 10, set()),
        ("False", 10, {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}),
        ("True", 50, {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
        ("Unknown", 500, {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
    ],
)
def test_taints_follow_readiness_and_spare_the_taints_of_others(status: str, silent: float, want: set[Any]) -> None:
    mine = {"key": "mine", "effect": "NoExecute"}
    node = {
        "metadata": {"name": "n"},
        "spec": {"taints": [mine, {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": status}]},
    }
    decided = judge(node, silent, ControllerConfig(), True, NOW)
    taints = decided.taints if decided.taints is not None else node["spec"]["taints"]  # type: ignore[index]
    assert mine in taints
    assert {(t["key"].rpartition("/")[2], t["effect"]) for t in taints if t != mine} == want


def test_pod_garbage() -> None:
    done = [pod(f"d{n}", phase="Succeeded", age=100 - n) for n in range(5)]
    lost, unscheduled = pod("lost", node="gone"), pod("u", node="", terminating=True)
    decided = podgc.plan([*done, lost, unscheduled, pod("fine")], {"gone"}, 3)
    assert [p.metadata.name for p in decided.finished] == ["d0", "d1"]
    assert (decided.orphaned, decided.unscheduled) == ([lost], [unscheduled])
    assert podgc.plan(done, set(), 0).finished == []


def test_tokens_end_at_their_time_and_events_after_an_hour() -> None:
    async def story() -> None:
        async with running() as api:
            if not await exists(api, NAMESPACES, "kube-system"):
                await api.client.create(NAMESPACES, {"metadata": {"name": "kube-system"}})
            end = base64.b64encode(rfc3339(api.clock.now() + 600).encode()).decode()
            for name, data in (("bootstrap-token-short1", {"expiration": end}), ("bootstrap-token-always", {})):
                secret = {"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token", "data": data}
                await api.client.create(SECRETS, secret, "kube-system")
            event = {
                "metadata": {"name": "old", "namespace": "ns"},
                "involvedObject": {"kind": "Pod", "namespace": "ns", "name": "p"},
                "lastTimestamp": rfc3339(api.clock.now()),
                "reason": "R",
                "type": "Normal",
            }
            await api.client.create(EVENTS, event)
            await api.advance(590)
            assert "bootstrap-token-short1" in await names(api, SECRETS, "kube-system")
            await api.advance(20)
            left = await names(api, SECRETS, "kube-system")
            assert "bootstrap-token-always" in left
            assert "bootstrap-token-short1" not in left
            await api.advance(2700)
            assert "old" in await names(api, EVENTS)
            await api.advance(900)
            assert "old" not in await names(api, EVENTS)

    asyncio.run(story())


def test_nodes_that_come_and_go_are_told_of_and_a_new_controller_tells_of_none() -> None:
    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NODES, {"metadata": {"name": "old"}})
            await api.advance(100)
            stop = asyncio.Event()
            work = run_controllers(
                api.client, api.clock, ControllerConfig(), stop, controllers=(NodeLifecycleController,)
            )
            task = asyncio.ensure_future(work)
            await api.advance(1)
            await api.client.create(NODES, {"metadata": {"name": "new"}})
            await api.advance(1)
            await api.client.delete(NODES, "new")
            await api.advance(1)
            events = (await api.client.list(EVENTS))["items"]
            stop.set()
            await task
        told = [(e["involvedObject"]["name"], e["reason"], e["message"]) for e in events]
        assert sorted(told) == [
            ("new", "RegisteredNode", "Node new event: Registered Node new in Controller"),
            ("new", "RemovingNode", "Node new event: Removing Node new from Controller"),
        ]

    asyncio.run(story())
