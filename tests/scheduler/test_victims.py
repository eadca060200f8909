"""Victims are chosen from one pod to the next by what has changed: always those that a look at everything gives."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Requests, Shape, Spec, shape_of
from jota.scheduler.preemption import Asked, Candidate, Placed, find, find_alike
from jota.scheduler.profile import default_profile
from jota.scheduler.snapshot import Node, NodeMeta, NodeStatus, Snapshot

_SIZES = ("200m", "500m", "900m")
_SHAPES = [shape_of(Spec([Container(name="c", resources=Requests({"cpu": size}))])) for size in _SIZES]
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["find", "find", "alike", "alike", "away", "come", "free", "late", "node"]),
        st.integers(0, 999),
        st.integers(0, 2),
    ),
    min_size=5,
    max_size=60,
)


class _World:
    def __init__(self, nodes: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.nodes, self.there = Snapshot(), dict[str, dict[str, Placed]]()
        self.room: list[tuple[str, Shape]] = []
        self.chosen: list[Candidate] = []
        self.serial = 0
        for _ in range(nodes):
            self.node()
        self.cycle = Cycle(default_profile(), self.nodes, 7)

    def node(self) -> None:
        self.serial += 1
        room: dict[str, str | int | float] = {"cpu": "1", "memory": "1Gi", "pods": "4"}
        self.nodes.put_node(Node(NodeMeta(f"n{self.serial}"), status=NodeStatus(allocatable=room)))
        for _ in range(self.random.randrange(3)):
            self.come(f"n{self.serial}", self.random.choice(_SHAPES), self.random.choice(["", "2026-01-01T00:00:00Z"]))

    def come(self, node: str, shape: Shape, started: str) -> None:
        self.serial += 1
        uid = f"u{self.serial}"
        self.nodes.add_pod(node, shape)
        placed = Placed(node, shape, uid, "default", uid, self.random.randrange(3), started)
        self.there.setdefault(node, {})[uid] = placed

    def leave(self, pod: Placed) -> None:
        if self.there[pod.node].pop(pod.uid, None) is not None:
            self.nodes.remove_pod(pod.node, pod.shape)

    def pods(self) -> Iterator[Placed]:
        return (pod for pods in self.there.values() for pod in pods.values())


def _same(one: Candidate | None, other: Candidate | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.node, [v.uid for v in one.victims]) == (other.node, [v.uid for v in other.victims])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6), _STEPS)
def test_what_is_remembered_between_pods_is_what_everything_says(
    nodes: int, seed: int, steps: list[tuple[str, int, int]]
) -> None:
    world = _World(nodes, seed)
    for verb, number, size in steps:
        if verb == "find":
            shape, priority, start = _SHAPES[1 + size // 2], 3 - size // 2, number % world.nodes.size
            found = find(Asked(world.cycle, world.nodes, shape, priority, world.there, [], start))
            fresh = Cycle(default_profile(), world.nodes, 7)
            wanted = find(Asked(fresh, world.nodes, shape, priority, world.there, [], start))
            assert _same(found[0], wanted[0])
            assert found[1] == wanted[1]
            if found[0] is not None:
                world.nodes.add_pod(found[0].node, shape)
                world.room.append((found[0].node, shape))
                world.chosen.append(found[0])
        elif verb == "alike":
            _find_for_several(world, _SHAPES[1 + size // 2], 3 - size // 2, number % world.nodes.size, 1 + number % 40)
        elif verb == "away" and world.chosen:
            for victim in world.chosen.pop(number % len(world.chosen)).victims:
                world.leave(victim)
        elif verb == "free" and world.room:
            world.nodes.remove_pod(*world.room.pop(number % len(world.room)))
        elif verb == "come":
            world.come(world.nodes.names[number % world.nodes.size], _SHAPES[size], "")
        elif verb == "late" and (pods := [*world.pods()]):
            world.leave(pods[number % len(pods)])
        elif verb == "node":
            world.node()


def _find_for_several(world: _World, shape: Shape, priority: int, start: int, count: int) -> None:
    """Room is kept for each of them before the next is looked at: nothing else may come of looking at them together."""
    several = find_alike(Asked(world.cycle, world.nodes, shape, priority, world.there, [], start), count)
    assert len(several) <= count
    for each in several:
        alone, _ = find(
            Asked(Cycle(default_profile(), world.nodes, 7), world.nodes, shape, priority, world.there, [], start)
        )
        assert _same(each, alone)
        world.nodes.add_pod(each.node, shape)
        world.room.append((each.node, shape))
        world.chosen.append(each)
    if not several:
        assert find(Asked(world.cycle, world.nodes, shape, priority, world.there, [], start))[0] is None
