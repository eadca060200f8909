"""ReplicaSet's planner: how many, which ones to lose, what the status says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.controllers.replicaset import (
    REPLICATIONCONTROLLERS,
    DeletionRank,
    ReplicaSetController,
    ReplicationControllerController,
    plan,
    pod_from,
    status_of,
)
from jota.controllers.views import grouped
from jota.meta.resource import EVENTS, PODS, REPLICASETS
from jota.wire.message import Request, Response

from .builders import NOW, pod, replica_set
from .stories import Kubelet, running


@pytest.mark.parametrize(
    ("wanted", "have", "create", "delete"),
    [(3, 0, 3, 0), (3, 3, 0, 0), (3, 5, 0, 2), (0, 4, 0, 4), (900, 0, 500, 0)],
)
def test_the_number_of_pods(wanted: int, have: int, create: int, delete: int) -> None:
    active = [pod(f"p{n}") for n in range(have)]
    decided = plan(replica_set(replicas=wanted), grouped(active), active, NOW)
    assert (decided.create, len(decided.delete)) == (create, delete)


def test_a_set_that_is_being_deleted_changes_nothing() -> None:
    owner = replica_set()
    owner["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    assert plan(owner, [], [], NOW).create == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"node": ""}, {}),
        ({"phase": "Pending"}, {"phase": "Running"}),
        ({"ready": False}, {"ready": 50}),
        ({"ready": 50, "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}, {"ready": 50}),
        ({"ready": 2}, {"ready": 5000}),
        ({"ready": 50, "restarts": 4}, {"ready": 50, "restarts": 0}),
        ({"age": 3}, {"age": 90000}),
    ],
)
def test_who_goes_first(first: dict[str, Any], second: dict[str, Any]) -> None:
    a, b = pod("z", **first), pod("a", **second)
    decided = plan(replica_set(replicas=1), grouped([b, a]), [a, b], NOW)
    assert decided.delete == [a]


def test_the_crowded_node_loses_first() -> None:
    pods = [pod("a", node="n1", ready=50), pod("b", node="n2", ready=50), pod("c", node="n2", ready=50)]
    assert plan(replica_set(replicas=2), grouped(pods), pods, NOW).delete[0].spec.nodeName == "n2"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9999), st.integers(0, 3)), max_size=8), st.integers(0, 8))
def test_deletes_are_always_the_least_by_rank(shape: list[tuple[bool, int, int]], wanted: int) -> None:
    pods = [pod(f"p{n}", ready=(age if ready else False), restarts=r) for n, (ready, age, r) in enumerate(shape)]
    decided = plan(replica_set(replicas=wanted), grouped(pods), [], NOW)
    assert len(pods) - len(decided.delete) + decided.create == wanted
    kept = [p for p in pods if p not in decided.delete]
    if kept and decided.delete:
        rank = DeletionRank([], NOW)
        assert max(map(rank, decided.delete)) <= min(map(rank, kept))


def test_status_counts_and_min_ready_seconds() -> None:
    owner = replica_set()
    owner["spec"]["minReadySeconds"] = 10
    labels = {"app": "web"}
    pods = [pod("a", ready=5, labels=labels), pod("b", ready=50, labels=labels), pod("c", ready=False)]
    status, again = status_of(owner, grouped(pods), None, NOW)
    counts = (status["replicas"], status["fullyLabeledReplicas"], status["readyReplicas"], status["availableReplicas"])
    assert counts == (3, 2, 2, 1)
    assert again == 5


def test_a_failure_becomes_a_condition_and_goes_again() -> None:
    owner = replica_set()
    owner["status"], _ = status_of(owner, [], ("FailedCreate", "quota"), NOW)
    assert owner["status"]["conditions"][0]["reason"] == "FailedCreate"
    again, _ = status_of(owner, [], ("FailedCreate", "another message"), NOW + 9)
    assert again == owner["status"]
    healed, _ = status_of(owner, [], None, NOW)
    assert "conditions" not in healed


def test_a_pod_carries_the_template_and_its_owner() -> None:
    owner = replica_set()
    made = pod_from(owner, REPLICASETS)
    assert made["metadata"]["labels"] == {"app": "web"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-rs"
    made["spec"]["containers"].clear()
    assert owner["spec"]["template"]["spec"]["containers"], "the cached template must not be shared"


SHARED = {"app": "web"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Pending", "Running", "Succeeded"]),
            st.sampled_from([False, 5, 50]),
            st.booleans(),
            st.sampled_from([SHARED, {"app": "web", "a": "b"}, {}]),
        ),
        max_size=9,
    )
)
def test_a_look_at_groups_counts_as_a_look_at_each_pod(shapes: list[tuple[str, Any, bool, dict[str, str]]]) -> None:
    owner = replica_set()
    owner["spec"]["minReadySeconds"] = 10
    pods = [
        pod(f"p{n}", phase=phase, ready=ready, terminating=going, labels=labels)
        for n, (phase, ready, going, labels) in enumerate(shapes)
    ]
    groups = grouped(pods)
    assert sorted(p.metadata.name for group in groups for p in group) == sorted(p.metadata.name for p in pods)
    active = [p for p in pods if p.active]
    status, again = status_of(owner, [g for g in groups if g.first.active], None, NOW)
    ready = [p for p in active if p.ready]
    assert status["replicas"] == len(active)
    assert status.get("readyReplicas", 0) == len(ready)
    assert status.get("availableReplicas", 0) == sum(NOW - p.ready_since >= 10 for p in ready)
    assert status.get("fullyLabeledReplicas", 0) == sum(
        p.metadata.labels.get("app") == "web" for p in active if p.metadata.labels
    )
    assert again == (5 if any(NOW - p.ready_since == 5 for p in ready) else None)


def counting(seen: list[Request]) -> Callable[[Client], Client]:
    """A client whose requests are noted."""

    def wrapped(client: Client) -> Client:
        transport: Any = client.transport

        async def handle(request: Request) -> Response:
            seen.append(request)
            answer: Response = await transport._handler(request)
            return answer

        return Client(InProcess(handle, transport._user))

    return wrapped


def test_a_thousand_pods_are_a_handful_of_requests_and_of_statuses() -> None:
    async def story() -> None:
        seen: list[Request] = []
        async with running(ReplicaSetController, client=counting(seen)) as api:
            kubelet = Kubelet(api)
            body = {
                "metadata": {"name": "web"},
                "spec": {**replica_set(replicas=1000)["spec"], "selector": {"matchLabels": SHARED}},
            }
            body["spec"]["template"]["spec"]["containers"] = [{"name": "a", "image": "i"}]
            await api.client.create(REPLICASETS, body, "ns")
            await api.advance(1)
            made = [r.times for r in seen if r.method == "POST" and r.path.endswith("/pods")]
            assert len((await api.client.list(PODS, "ns"))["items"]) == 1000
            assert len(made) <= 6, made
            seen.clear()
            await kubelet.tick()
            await api.advance(1)
            told = [r for r in seen if r.path.endswith("/web/status")]
            assert (await api.client.get(REPLICASETS, "web", "ns"))["status"]["readyReplicas"] == 1000
            assert len(told) <= 2, "what a thousand pods tell at one moment is told once"

    asyncio.run(story())


def test_events_name_upstreams_components() -> None:
    async def story() -> None:
        async with running(ReplicaSetController, ReplicationControllerController) as api:
            template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
            spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
            await api.client.create(REPLICASETS, {"metadata": {"name": "rs"}, "spec": spec}, "ns")
            template = {**template, "metadata": {"labels": {"c": "d"}}}
            rc = {"replicas": 1, "template": template}
            await api.client.create(REPLICATIONCONTROLLERS, {"metadata": {"name": "rc"}, "spec": rc}, "ns")
            await api.advance(1)
            events = (await api.client.list(EVENTS, "ns"))["items"]
            assert {(e["involvedObject"]["kind"], e["source"]["component"]) for e in events} == {
                ("ReplicaSet", "replicaset-controller"),
                ("ReplicationController", "replication-controller"),
            }

    asyncio.run(story())
