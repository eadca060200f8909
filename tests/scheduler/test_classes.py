"""Placing by classes of nodes chooses what a look at every node would have chosen, pod after pod."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.scheduler.classes import Classes
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Meta, Owner, Pod, Requests, Shape, Shapes, Spec
from jota.scheduler.profile import default_profile
from jota.scheduler.related import Following
from jota.scheduler.snapshot import Column, Node, NodeMeta, NodeSpec, NodeStatus, Snapshot
from jota.scheduler.standing import Standings
from jota.scheduler.workloads import Selecting

HOSTNAME, ZONE, RACK = "kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack"
NODES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["1", "2", "8"]), st.integers(0, 2)),
    min_size=2,
    max_size=24,
)
"""Zone, rack, cpu, and how many pods of the set are there."""
WAYS = st.sampled_from(
    [
        [],
        [(ZONE, 1)],
        [(HOSTNAME, 1)],
        [(ZONE, 1), (HOSTNAME, 2)],
        [(RACK, 1), (ZONE, 3), (HOSTNAME, 1)],
    ]
)
"""Soft constraints; none: the defaults of the set."""


def cluster(nodes: list[tuple[str, str, str, int]], shape: Shape) -> Snapshot:
    snapshot = Snapshot()
    meant = {"metadata": {"name": "web", "namespace": "d"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}
    snapshot.workloads.put("ReplicaSet", msgspec.convert(meant, Selecting))
    for n, (zone, rack, cpu, pods) in enumerate(nodes):
        labels = {HOSTNAME: f"n{n}", ZONE: zone, RACK: rack}
        snapshot.put_node(Node(NodeMeta(f"n{n}", labels=labels), NodeSpec(), NodeStatus({"cpu": cpu, "pods": "9"})))
        for _ in range(pods):
            snapshot.add_pod(f"n{n}", shape)
    return snapshot


def wanted(ways: list[tuple[str, int]]) -> Shape:
    selector = {"matchLabels": {"app": "web"}}
    spread: list[dict[str, Any]] = [
        {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
        for key, skew in ways
    ]
    container = Container(Requests({"cpu": "100m"}))
    owner = Owner("apps/v1", "ReplicaSet", "web", "rs", controller=True)
    meta = Meta("p", "d", "u", labels={"app": "web"}, ownerReferences=[owner])
    return Shapes().of(Pod(meta, Spec(containers=[container], topologySpreadConstraints=spread or None)))


def placed(
    few: int, nodes: list[tuple[str, str, str, int]], ways: list[tuple[str, int]], batches: list[int]
) -> list[int]:
    shape = wanted(ways)
    snapshot = cluster(nodes, shape)
    cycle = Cycle(default_profile(), snapshot, 1)
    cycle.few = few
    slots = [slot for count in batches for slot in cycle.place(shape, count)]
    assert snapshot.used("pods").tolist() == [pods + slots.count(n) for n, (_, _, _, pods) in enumerate(nodes)]
    return slots


@given(NODES, WAYS, st.lists(st.integers(1, 60), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_classes_choose_as_rows_do(
    nodes: list[tuple[str, str, str, int]], ways: list[tuple[str, int]], batches: list[int]
) -> None:
    assert placed(0, nodes, ways, batches) == placed(10**6, nodes, ways, batches)


def test_a_sets_pods_are_placed_by_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, chosen, plain, ahead = [], [], Following.added_to, Classes.ahead

    def added_to(self: Following, row: Column) -> Column:
        rows.append(row)
        return plain(self, row)

    def choose(self: Classes, most: int) -> list[int]:
        chosen.append(ahead(self, most))
        return chosen[-1]

    monkeypatch.setattr(Following, "added_to", added_to)
    monkeypatch.setattr(Classes, "ahead", choose)
    nodes = [("abc"[n % 3], "x", "8", 0) for n in range(300)]
    slots = placed(24, nodes, [], [90])
    assert len(rows) == 1, "for the first"
    assert [len(some) for some in chosen] == [32, 57, 0]
    assert slots[1:] == [slot for some in chosen for slot in some]
    assert len({*slots}) == 90
    few = [("abc"[n % 3], "x", "8", 0) for n in range(30)]
    slots = placed(24, few, [], [90])
    assert {slots.count(n) for n in range(30)} == {3}
    assert placed(24, few, [], [20]) == placed(10**6, few, [], [20])


def test_who_would_rather_have_gone_to_a_large_node_is_taken_back() -> None:
    nodes = [("a", "x", "64" if n < 2 else "1", 0) for n in range(20)]
    chosen = placed(0, nodes, [(ZONE, 1)], [40])
    assert chosen == placed(10**6, nodes, [(ZONE, 1)], [40])
    assert set(chosen) > {0, 1}


def test_a_plugins_mistake_leaves_nobody_in_the_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    def ahead(*_: Any) -> list[float]:
        raise ZeroDivisionError

    monkeypatch.setattr(Standings, "ahead", ahead)
    shape = wanted([])
    snapshot = cluster([("abc"[n % 3], "x", "8", 0) for n in range(30)], shape)
    with pytest.raises(ZeroDivisionError):
        Cycle(default_profile(), snapshot, 1).place(shape, 90)
    assert not snapshot.used("pods").any()
