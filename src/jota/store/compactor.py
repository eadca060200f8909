"""Keep history as long as clients need it and no longer: by age (watches may resume for minutes) and by bytes held."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from jota.aio.clock import Clock
from jota.store.protocol import Unavailable


class Compactable(Protocol):
    @property
    def revision(self) -> int: ...

    @property
    def history_bytes(self) -> int: ...

    async def compact(self, revision: int) -> None: ...


async def run_compactor(
    store: Compactable, clock: Clock, *, keep: float = 300.0, most_bytes: int = 64 << 20, every: float = 15.0
) -> None:
    """Every `every` seconds forget what is older than `keep` seconds (etcd's default in Kubernetes: five minutes), and more
    while history holds over `most_bytes`, though never what is younger than two rounds."""
    marks: deque[tuple[float, int]] = deque()
    while True:
        await clock.sleep(every)
        now = clock.monotonic()
        target = 0
        while marks and now - marks[0][0] >= keep:
            target = marks.popleft()[1]
        if store.history_bytes > most_bytes:
            while len(marks) > 2:
                target = marks.popleft()[1]
        if not marks or marks[-1][1] != store.revision:
            marks.append((now, store.revision))
        if target:
            try:
                await store.compact(target)
            except Unavailable:
                continue  # a full disk: the next round tries again, and writers report it meanwhile
