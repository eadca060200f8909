"""Room that is kept for pods while others make way for them (status.nominatedNodeName).

In: for whom, where, and who is being sent away. Out: the snapshot counts these pods as if they were there, for all but those who
may take that room (`lifted`); and who can be placed now that a victim is gone. Used by scheduler.py and gang.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, ValuesView
from contextlib import contextmanager

from jota.scheduler.preemption import Placed
from jota.scheduler.snapshot import Snapshot


class Nominations:
    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes
        self._kept: dict[str, Placed] = {}
        """By the pods' uids."""
        self._priorities: Counter[int] = Counter()
        self._going: dict[str, list[str]] = {}
        """Nominated pod's uid -> uids of its victims, until their eviction fails or it is nominated no more."""
        self._awaited: dict[str, set[str]] = {}
        """Victim's uid -> those of the pods that it makes room for, until it is gone."""

    def __contains__(self, uid: str) -> bool:
        return uid in self._kept

    def get(self, uid: str) -> Placed | None:
        return self._kept.get(uid)

    def values(self) -> ValuesView[Placed]:
        return self._kept.values()

    def keep(self, room: Placed) -> list[Placed]:
        """For a pod that no room is kept for. What is kept on that node for less important pods is theirs no more: these."""
        displaced: list[Placed] = []
        if self._any_below(room.priority):
            displaced += [n for n in self._kept.values() if n.node == room.node and n.priority < room.priority]
            self._drop_all(n.uid for n in displaced)
        self._kept[room.uid] = room
        self._priorities[room.priority] += 1
        self._nodes.add_pod(room.node, room.shape)
        return displaced

    def drop(self, uid: str) -> None:
        kept = self._kept.pop(uid, None)
        self._going.pop(uid, None)
        if kept is not None:
            uncount(self._priorities, kept.priority)
            self._nodes.remove_pod(kept.node, kept.shape)

    def take(self, uid: str) -> None:
        """The pod moves in: what the snapshot counts there is the pod itself from now on."""
        kept = self._kept.pop(uid)
        self._going.pop(uid, None)
        uncount(self._priorities, kept.priority)

    def drop_on(self, node: str) -> None:
        self._drop_all(uid for uid, n in self._kept.items() if n.node == node)

    def _drop_all(self, uids: Iterable[str]) -> None:
        for uid in list(uids):
            self.drop(uid)

    # -- who may take the room

    def tell_apart(self, uids: Iterable[str], priority: int) -> bool:
        """Whether room that is kept counts differently for some of these pods of one priority: their own, or that of less
        important pods."""
        return bool(self._kept) and (self._any_below(priority) or any(uid in self._kept for uid in uids))

    @contextmanager
    def lifted(self, uids: Collection[str], priority: int) -> Iterator[None]:
        """Room that is kept for less important pods is not respected, nor that of these pods themselves."""
        if self._any_below(priority):
            lifted = [n for uid, n in self._kept.items() if uid in uids or n.priority < priority]
        else:
            lifted = [self._kept[uid] for uid in uids if uid in self._kept]
        for n in lifted:
            self._nodes.remove_pod(n.node, n.shape)
        try:
            yield
        finally:
            for n in lifted:
                self._nodes.add_pod(n.node, n.shape)

    def _any_below(self, priority: int) -> bool:
        return any(p < priority for p in self._priorities)

    # -- who makes it

    def expect(self, uid: str, victims: list[str]) -> None:
        """These are being sent away for the pod."""
        self._going[uid] = victims
        for victim in victims:
            self._awaited.setdefault(victim, set()).add(uid)

    def give_up(self, uid: str) -> None:
        """Nobody is being sent away for it after all."""
        self._going.pop(uid, None)

    def going(self, uid: str) -> list[str]:
        return self._going.get(uid, [])

    def gone(self, victim: str, there: Mapping[str, Placed]) -> Iterator[Placed]:
        """The room of those for whom this was the last victim that was still `there`."""
        for uid in self._awaited.pop(victim, ()):
            kept, going = self._kept.get(uid), self._going.get(uid)
            if kept is not None and going is not None and there.keys().isdisjoint(going):
                yield kept


def uncount(counts: Counter[int], priority: int) -> None:
    counts[priority] -= 1
    if not counts[priority]:
        del counts[priority]
