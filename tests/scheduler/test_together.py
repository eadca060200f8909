"""All or none: a trial agrees with plain counting, never places a pod where the naive scheduler would not, and undoes itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.naive import NaiveCluster, NaiveNode, NaivePod
from tests.scheduler.test_agreement import NAMESPACES, clusters, naive_pod

from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Meta, Pod, Requests, Shape, Spec, shape_of
from jota.scheduler.preemption import Placed
from jota.scheduler.profile import default_profile
from jota.scheduler.queue import Waiting
from jota.scheduler.snapshot import Node, NodeMeta, NodeSpec, NodeStatus, Snapshot
from jota.scheduler.together import Together


def waiting(n: int, wanted: Shape, priority: int = 0) -> Waiting:
    pod = Pod(Meta(f"p{n}", "one", f"uid{n}"), Spec(priority=priority))
    return Waiting(pod, wanted, (-priority, 0.0, n), gang="g")


def simple(cpu: str) -> Shape:
    return shape_of(Spec(containers=[Container(Requests({"cpu": cpu}))]))


def world(nodes: list[Node] | tuple[Node, ...]) -> tuple[Snapshot, Together]:
    snapshot = Snapshot()
    for name, labels in NAMESPACES.items():
        snapshot.pods.set_namespace(name, labels)
    for n in nodes:
        snapshot.put_node(n)
    cycle = Cycle(default_profile(), snapshot, 1)
    return snapshot, Together(snapshot, lambda _: cycle, [])


def accounts(snapshot: Snapshot) -> Any:
    used = {r: snapshot.used(r).round(6).tolist() for r in ("cpu", "memory", "pods")}
    return used, {k: dict(v) for k, v in snapshot.ports.items() if v}, snapshot.used_cpu[: snapshot.size].tolist()


@given(clusters, naive_pod(("node",)), st.integers(1, 12), st.integers(0, 14))
@settings(max_examples=150, deadline=None)
def test_a_gang_of_alike_pods_is_placed_exactly_when_counting_says_it_fits(
    nodes: tuple[Node, ...], pod: NaivePod, size: int, least: int
) -> None:
    # Only what each node decides for itself, where the greedy order finds the most that can be placed.
    wanted = pod.shape
    snapshot, together = world(nodes)
    room = 0
    for n in nodes:
        naive = NaiveNode(n)
        while room < size and not naive.own_refusals(pod):
            naive.pods.append(pod)
            room += 1
    before = accounts(snapshot)
    trial = together.place([waiting(n, wanted) for n in range(size)], least)
    assert len(trial.placed) == min(room, size)
    assert len(trial.placed) + len(trial.refused) == size
    assert bool(trial.refusals) == bool(trial.refused)
    if room < least:
        assert accounts(snapshot) == before, "nothing is held"
    else:
        assert snapshot.used("pods").sum() == len(trial.placed)


@given(clusters, st.lists(st.tuples(st.lists(naive_pod(), min_size=1, max_size=5), st.integers(0, 6)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_gangs_of_any_pods_are_whole_or_absent_and_every_place_is_one_the_naive_scheduler_allows(
    nodes: tuple[Node, ...], gangs: list[tuple[list[NaivePod], int]]
) -> None:
    snapshot, together = world(nodes)
    naive = {n.metadata.name: NaiveNode(n) for n in nodes}
    cluster = NaiveCluster(list(naive.values()), NAMESPACES)
    for pods, least in gangs:
        before = accounts(snapshot)
        trial = together.place([waiting(n, p.shape) for n, p in enumerate(pods)], least)
        held: list[tuple[NaiveNode, NaivePod]] = []
        for member, slot in trial.placed:
            node = naive[snapshot.names[slot]]
            pod = pods[int(member.pod.metadata.name[1:])]
            assert cluster.refusals(pod, node) == []
            node.pods.append(pod)
            held.append((node, pod))
        if len(trial.placed) < least:
            for node, placed in held:
                node.pods.remove(placed)
            assert accounts(snapshot) == before
        for node in naive.values():
            assert snapshot.used("pods")[snapshot.slots[node.name]] == len(node.pods)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=12),
    st.integers(1, 8),
    st.integers(5, 15),
)
@settings(max_examples=200, deadline=None)
def test_room_is_made_for_the_whole_gang_or_for_nobody(
    capacity: list[int], pods: list[tuple[int, int]], least: int, priority: int
) -> None:
    """Pods of one size: there is room exactly when the less important ones and the free places are enough together."""
    nodes = [
        Node(NodeMeta(f"n{i}"), NodeSpec(), NodeStatus({"cpu": str(c), "memory": "1Gi", "pods": "99"}))
        for i, c in enumerate(capacity)
    ]
    snapshot, together = world(nodes)
    one, on_node = simple("1"), dict[str, dict[str, Placed]]()
    for n, (where, important) in enumerate(pods):
        name = f"n{where % len(nodes)}"
        if len(on_node.get(name, {})) < capacity[where % len(nodes)]:
            on_node.setdefault(name, {})[f"u{n}"] = Placed(name, one, f"u{n}", "one", f"low{n}", important)
            snapshot.add_pod(name, one)
    before = accounts(snapshot)
    everyone = [p for there in on_node.values() for p in there.values()]
    lower = sum(p.priority < priority for p in everyone)
    free = sum(capacity) - len(everyone)
    members = [waiting(n, simple("1"), priority) for n in range(least)]
    room = together.make_room(members, least, None, on_node, [], lambda _: [], 0)
    assert bool(room) == (free + lower >= least)
    assert accounts(snapshot) == before
    if room:
        victims = [v for _, c in room for v in c.victims]
        assert len(room) == least
        assert len({v.uid for v in victims}) == len(victims) == max(0, least - free), "none too many"
        assert all(v.priority < priority for v in victims)


def test_the_largest_are_placed_first() -> None:
    """Small ones first would fill the only node that takes the large one."""
    nodes = [Node(NodeMeta(n), NodeSpec(), NodeStatus({"cpu": c, "pods": "9"})) for n, c in (("a", "2"), ("b", "1"))]
    _, together = world(nodes)
    members = [waiting(0, simple("1")), waiting(1, simple("2"))]
    assert len(together.place(members, 2).placed) == 2
