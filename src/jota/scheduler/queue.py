"""Pods that wait for a node: ready ones by priority and age, refused ones until something changes or their backoff ends.

Three places (upstream's names): active, backoff, unschedulable. `move` is called when the cluster changed in a way that may
help pods which certain plugins refused (queueing hints); such a pod is tried again, but not before its backoff (1 s doubling
to 10 s) has passed, unless the room that others were sent away for is there (`hasten`). Pods come out grouped: all
neighbours in order that share a shape but for its volumes, a priority and a profile.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from jota.scheduler.pod import Pod, Shape

_BACKOFF_BASE, _BACKOFF_CAP = 1.0, 10.0
_FORGOTTEN = 300.0
"""Seconds after which an unschedulable pod is tried again even if nothing seems to have changed (upstream: 5 minutes)."""


@dataclass(slots=True)
class Waiting:
    pod: Pod
    shape: Shape
    order: tuple[int, float, int]
    attempts: int = 0
    due: float = 0.0
    rejected: frozenset[str] = frozenset()
    """The plugins that refused it last; none: it is tried again whatever happens."""
    gang: str = ""
    """Key of the pod group that it stands for or belongs to (gang.py); "" for a pod by itself."""

    @property
    def key(self) -> str:
        return self.gang or self.pod.key

    def alike(self, other: Waiting) -> bool:
        """Whether one decision serves both, or may do so (VolumeBinder.alike says of pods that differ in their volumes)."""
        if self.gang or other.gang:
            return False
        mine, theirs = self.pod.spec, other.pod.spec
        return (self.shape.kin, mine.priority, mine.schedulerName, mine.preemptionPolicy) == (
            other.shape.kin,
            theirs.priority,
            theirs.schedulerName,
            theirs.preemptionPolicy,
        )


class SchedulingQueue:
    """Keyed by pod key; a gang waits as one, under its own key. All times are monotonic seconds that the caller gives."""

    def __init__(self, backoff_base: float = _BACKOFF_BASE, backoff_cap: float = _BACKOFF_CAP) -> None:
        """Seconds."""
        self._base, self._cap = backoff_base, backoff_cap
        self._by_plugin: dict[str, dict[str, None]] = {}
        """Plugin -> the refused keys that it had a part in; "" for those that anything may help."""
        self._active: list[tuple[tuple[int, float, int], str]] = []
        self._waiting: dict[str, Waiting] = {}
        self._refused: dict[str, None] = {}
        """Unschedulable, oldest first."""
        self._backoff: list[tuple[float, str]] = []
        self._held: dict[str, int] = {}
        """Refused keys that nothing helps for now -> `_moves` when that began."""
        self._moves = 0
        self._last_move: dict[str, int] = {}
        """Plugin -> `_moves` when something happened last that may help whom it refused."""
        self._ready: set[str] = set()
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pod: Pod, shape: Shape, now: float) -> None:
        """A new pod, or a changed one: both are tried at once."""
        key = pod.key
        known = self._waiting.get(key)
        if known is not None and known.pod.metadata.uid == pod.metadata.uid:
            changed = known.shape is not shape
            known.pod, known.shape = pod, shape
            if not changed:
                return
        else:
            self._unrefuse(key)  # a namesake that is gone
            self._sequence += 1
            known = self._waiting[key] = Waiting(pod, shape, (-pod.spec.priority, now, self._sequence))
        self._unrefuse(key)
        self._activate(key, known)

    def add_gang(self, gang: str, first: Pod, shape: Shape, priority: int, now: float) -> None:
        """A gang that has come together, or has changed: it is tried at once, in the place of its oldest try."""
        known = self._waiting.get(gang)
        if known is None:
            self._sequence += 1
            known = self._waiting[gang] = Waiting(first, shape, (-priority, now, self._sequence), gang=gang)
        known.pod, known.shape = first, shape
        self._unrefuse(gang)
        self._activate(gang, known)

    def remove(self, key: str) -> None:
        """Deleted, bound, or not ours any more."""
        self._unrefuse(key)
        self._waiting.pop(key, None)
        self._ready.discard(key)

    def next_group(self, now: float, most: int) -> list[Waiting]:
        """The first pods in order that share a shape; they are taken out. Empty when nothing is ready."""
        self._release(now)
        group: list[Waiting] = []
        while self._active and len(group) < most:
            order, key = self._active[0]
            waiting = self._waiting.get(key)
            if waiting is None or key not in self._ready or waiting.order != order:
                heapq.heappop(self._active)
                continue
            if group and not waiting.alike(group[0]):
                break
            heapq.heappop(self._active)
            self._ready.discard(key)
            del self._waiting[key]
            group.append(waiting)
        return group

    def put_back(self, group: Iterable[Waiting]) -> None:
        """They were taken out and nothing has happened since, nor was anything tried: they are the next again."""
        for waiting in group:
            self._waiting[waiting.key] = waiting
            self._activate(waiting.key, waiting)

    def refuse(self, waiting: Waiting, now: float) -> None:
        """Put back a pod that fits nowhere. One that has changed since it was taken out is tried as it is now instead."""
        waiting.attempts += 1
        waiting.due = now + min(self._cap, self._base * 2.0 ** min(waiting.attempts - 1, 10))
        key = waiting.key
        if self._waiting.setdefault(key, waiting) is not waiting:
            return
        self._refused[key] = None
        self._held.pop(key, None)
        self._list(key)

    def retry(self, waiting: Waiting, now: float) -> None:
        """Put back a pod whose binding failed: tried again after its backoff, whatever happens meanwhile."""
        self.refuse(waiting, now)
        if self._waiting[waiting.key] is not waiting:
            self.again(waiting.key, now)  # a gang, others of which were refused meanwhile: they were, this one was not
            return
        self._unrefuse(waiting.key)
        heapq.heappush(self._backoff, (waiting.due, waiting.key))

    def move(self, plugins: Iterable[str], now: float) -> bool:
        """Something changed that may help pods which these plugins refused; whether any is tried again for it."""
        if not self._refused:
            return False  # nor is anybody held back
        self._moves += 1
        keys: dict[str, None] = {}
        for plugin in (*plugins, ""):
            self._last_move[plugin] = self._moves
            if found := self._by_plugin.get(plugin):
                keys |= found
        for key in keys:
            self.again(key, now)
        return bool(keys)

    def again(self, key: str, now: float) -> bool:
        """A refused pod is tried once more, after its backoff; whether it was one."""
        if key not in self._refused:
            return False
        self._unrefuse(key)
        waiting = self._waiting[key]
        if waiting.due <= now:
            self._activate(key, waiting)
        else:
            heapq.heappush(self._backoff, (waiting.due, key))
        return True

    def hold(self, key: str) -> None:
        """No change gives the refused pod another try until `release`: others are being sent away for it."""
        if key in self._refused:
            self._unlist(key)
            self._held[key] = self._moves

    def release(self, key: str, now: float) -> bool:
        """What happened meanwhile counts now; whether the pod is tried again for it."""
        since = self._held.pop(key, None)
        if since is None:
            return False
        self._list(key)
        happened = any(self._last_move.get(p, 0) > since for p in self._waiting[key].rejected or ("",))
        return happened and self.again(key, now)

    def hasten(self, key: str) -> bool:
        """The pod can be placed now: it is tried at once, without the rest of its backoff; whether it waits here."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return False
        self._unrefuse(key)
        self._activate(key, waiting)
        return True

    def refused_by(self) -> Iterable[str]:
        """The plugins that pods wait for."""
        held = (self._waiting[key].rejected or ("",) for key in self._held)
        return self._by_plugin.keys() | set(chain.from_iterable(held))

    def wait(self, now: float) -> float | None:
        """Seconds until something becomes ready by itself; 0 when something is; None when only a change can help."""
        self._release(now)
        if self._ready:
            return 0.0
        dues = [self._backoff[0][0]] if self._backoff else []
        if self._refused:
            dues.append(self._waiting[next(iter(self._refused))].due + _FORGOTTEN)
        return max(0.0, min(dues) - now) if dues else None

    def _release(self, now: float) -> None:
        while self._backoff and self._backoff[0][0] <= now:
            _, key = heapq.heappop(self._backoff)
            waiting = self._waiting.get(key)
            if waiting is not None and key not in self._refused:
                self._activate(key, waiting)
        while self._refused:
            key = next(iter(self._refused))
            if self._waiting[key].due + _FORGOTTEN > now:
                break
            self._unrefuse(key)
            self._activate(key, self._waiting[key])

    def _unrefuse(self, key: str) -> None:
        if key not in self._refused:
            return
        del self._refused[key]
        if self._held.pop(key, None) is None:
            self._unlist(key)

    def _list(self, key: str) -> None:
        for plugin in self._waiting[key].rejected or ("",):
            self._by_plugin.setdefault(plugin, {})[key] = None

    def _unlist(self, key: str) -> None:
        for plugin in self._waiting[key].rejected or ("",):
            keys = self._by_plugin.get(plugin, {})
            keys.pop(key, None)
            if not keys:
                self._by_plugin.pop(plugin, None)

    def _activate(self, key: str, waiting: Waiting) -> None:
        if key not in self._ready:
            self._ready.add(key)
            heapq.heappush(self._active, (waiting.order, key))
