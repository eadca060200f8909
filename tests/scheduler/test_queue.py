"""The scheduling queue: each pod is in one place of it, whatever happens while it is being decided about."""

from __future__ import annotations

from random import Random

import msgspec
from tests.scheduler.test_scheduler import pod

from jota.scheduler.pod import Pod, Shapes
from jota.scheduler.queue import SchedulingQueue, Waiting

shapes = Shapes()
ROOM = "NodeResourcesFit"
STEPS = ("put", "put", "go", "take", "back", "move", "release", "again", "hasten")


def made(name: str, cpu: str = "100m") -> Pod:
    body = pod(name, cpu=cpu)
    body["metadata"] |= {"namespace": "default", "uid": f"uid-{name}"}
    return msgspec.json.decode(msgspec.json.encode(body), type=Pod)


def put(queue: SchedulingQueue, name: str, now: float = 0.0, cpu: str = "100m") -> None:
    one = made(name, cpu)
    queue.add(one, shapes.of(one), now)


def refused(queue: SchedulingQueue, name: str, now: float = 0.0) -> Waiting:
    """Try it once, and put it back."""
    put(queue, name, now)
    (waiting,) = queue.next_group(now, 1)
    waiting.rejected = frozenset({ROOM})
    queue.refuse(waiting, now)
    return waiting


def names(group: list[Waiting]) -> list[str]:
    return [w.pod.metadata.name for w in group]


def test_a_pod_that_changes_while_it_is_refused_is_tried_again_and_spoils_nothing() -> None:
    queue = SchedulingQueue()
    put(queue, "a")
    (before,) = queue.next_group(0, 8)
    put(queue, "a", cpu="200m")
    before.rejected = frozenset({ROOM})
    queue.refuse(before, 0)
    (after,) = queue.next_group(0, 8)
    assert after.pod.spec.containers[0].resources.requests == {"cpu": "200m"}  # type: ignore[union-attr]
    assert not queue.move([ROOM], 5)
    assert not queue.move([ROOM], 5)
    put(queue, "a")
    queue.retry(after, 5)
    assert names(queue.next_group(5, 8)) == ["a"]
    assert queue.next_group(100, 8) == []


def test_what_happens_while_others_are_sent_away_for_a_pod_counts_afterwards() -> None:
    queue = SchedulingQueue()
    refused(queue, "a")
    refused(queue, "b")
    queue.hold("default/a")
    assert queue.move([ROOM], 5)
    assert names(queue.next_group(5, 8)) == ["b"]
    assert set(queue.refused_by()) == {ROOM}
    assert queue.release("default/a", 5)
    assert names(queue.next_group(5, 8)) == ["a"]


def test_nothing_happened_while_others_were_sent_away() -> None:
    queue = SchedulingQueue()
    refused(queue, "a")
    queue.move([ROOM], 0)
    queue.hold("default/a")  # not among the refused any more
    assert names(queue.next_group(1, 8)) == ["a"]
    refused(queue, "a", 2)
    queue.hold("default/a")
    assert not queue.move(["NodePorts"], 20)
    assert not queue.release("default/a", 20)
    assert queue.next_group(20, 8) == []
    assert queue.move([ROOM], 20)
    assert names(queue.next_group(20, 8)) == ["a"]


def test_the_room_is_there_and_no_backoff_is_waited_for() -> None:
    queue = SchedulingQueue()
    refused(queue, "a")
    queue.hold("default/a")
    assert queue.hasten("default/a")
    assert names(queue.next_group(0, 8)) == ["a"]
    assert not queue.hasten("default/a")
    assert not queue.release("default/a", 0)


def test_nobody_is_lost_and_nobody_comes_twice() -> None:
    """Whatever the order of events, a pod that waits comes out again once something happens."""
    for seed in range(200):
        random, queue = Random(seed), SchedulingQueue()
        out: dict[str, Waiting] = {}
        alive: set[str] = set()
        now = 0.0
        for _ in range(60):
            now += random.choice((0.0, 0.1, 2.0))
            name, what = random.choice("abc"), random.choice(STEPS)
            if what == "put":
                put(queue, name, now, random.choice(("100m", "200m")))
                alive.add(name)
            elif what == "go":
                queue.remove(f"default/{name}")
                out.pop(name, None)
                alive.discard(name)
            elif what == "take":
                group = queue.next_group(now, 2)
                assert alive.issuperset(names(group)), seed
                if random.random() < 0.3:  # not tried after all
                    queue.put_back(group)
                    assert names(queue.next_group(now, 2)) == names(group), seed
                out |= dict(zip(names(group), group, strict=True))
            elif what == "back" and name in out:
                waiting = out.pop(name)
                waiting.rejected = frozenset({ROOM})
                random.choice((queue.refuse, queue.retry))(waiting, now)
                if random.random() < 0.3:
                    queue.hold(f"default/{name}")
            elif what == "release":
                queue.release(f"default/{name}", now)
            elif what == "again":
                queue.again(f"default/{name}", now)
            elif what == "hasten":
                queue.hasten(f"default/{name}")
            else:
                queue.move([ROOM], now)
        for waiting in out.values():
            queue.refuse(waiting, now)
        for name in "abc":
            queue.release(f"default/{name}", now)
        queue.move([ROOM], now)
        found = []
        while group := queue.next_group(now + 100, 8):
            found += names(group)
        assert sorted(found) == sorted(alive), seed


def test_a_gang_that_was_refused_in_part_is_tried_again_when_a_binding_of_the_rest_fails() -> None:
    queue = SchedulingQueue()
    one = made("a")
    queue.add_gang("group", one, shapes.of(one), 0, 0)
    (entry,) = queue.next_group(0, 1)
    entry.rejected = frozenset({"NodeAffinity"})
    queue.refuse(entry, 0)
    queue.retry(Waiting(one, shapes.of(one), entry.order, gang="group"), 0)
    assert not queue.next_group(0.5, 1), "not before its backoff"
    assert queue.next_group(3, 1) == [entry]


def test_a_namesake_of_a_refused_pod_takes_nothing_over() -> None:
    queue = SchedulingQueue()
    refused(queue, "a")
    other = made("a")
    other.metadata.uid = "another"
    queue.add(other, shapes.of(other), 0)
    (waiting,) = queue.next_group(0, 1)
    assert waiting.pod is other
    assert not queue.move([ROOM], 0)


def test_who_was_refused_is_tried_again_after_five_minutes_whatever_happens() -> None:
    queue = SchedulingQueue()
    refused(queue, "a")
    queue.hold("default/a")
    assert queue.wait(0) == 301
    assert queue.next_group(300, 1) == []
    assert names(queue.next_group(301, 1)) == ["a"]
    assert queue.wait(301) is None
