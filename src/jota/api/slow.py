"""Watchers that do not read fast enough, and the memory that all of them together may hold.

A watcher is slow while what earlier batches brought is still unsent when the next batch comes. One that never is, is fast, and
is never cut. When all slow ones together hold more than the budget, those with the most unsent bytes are cut (410), but only
such as have been slow for a while: a burst makes everybody late for a moment.
"""

from __future__ import annotations

from typing import Protocol

NOTICED = 64 * 1024
"""Unsent bytes of earlier batches that make a watcher slow."""
EACH, TOGETHER = 16 << 20, 64 << 20
"""Bytes that one slow watcher, and all of them, may hold."""
PATIENCE = 1.0
"""Seconds for which a watcher may be late."""


class Reader(Protocol):
    """A watch stream (verbs/watch.py)."""

    def unsent(self) -> int:
        """Bytes that wait for the peer."""
        ...

    def too_slow(self) -> None:
        """End with 410."""
        ...


class SlowWatchers:
    def __init__(self, each: int = EACH, together: int = TOGETHER) -> None:
        self.each, self.together = each, together
        self.cut = 0
        """How many were, ever."""
        self._held: dict[Reader, tuple[int, float]] = {}
        """Unsent bytes when last looked at, and since when it is slow."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def late(self, reader: Reader, unsent: int, now: float) -> bool:
        """A batch came for a reader with `unsent` bytes of earlier ones. False: the reader was cut. `now` monotonic."""
        before, since = self._held.get(reader, (0, now))
        self._held[reader] = unsent, since
        self.bytes += unsent - before
        if unsent > self.each:
            self._cut(reader)
            return False
        if self.bytes > self.together:
            self._shed(now)
        return reader in self._held

    def forget(self, reader: Reader) -> None:
        """It has caught up, or is gone."""
        self.bytes -= self._held.pop(reader, (0, 0.0))[0]

    def _shed(self, now: float) -> None:
        for reader, (_, since) in list(self._held.items()):
            unsent = reader.unsent()
            self.forget(reader)
            if unsent > NOTICED:
                self._held[reader] = unsent, since
                self.bytes += unsent
        slowest = sorted(self._held.items(), key=lambda item: item[1][0], reverse=True)
        for reader, (_, since) in slowest:
            if self.bytes <= self.together:
                return
            if now - since >= PATIENCE:
                self._cut(reader)

    def _cut(self, reader: Reader) -> None:
        self.forget(reader)
        self.cut += 1
        reader.too_slow()

    def text(self) -> list[str]:
        """Lines for /metrics."""
        gauges = (("jota_slow_watchers", len(self)), ("jota_slow_watchers_bytes", self.bytes))
        out = [
            "# HELP apiserver_terminated_watchers_total Watchers closed because they did not read.",
            "# TYPE apiserver_terminated_watchers_total counter",
            f"apiserver_terminated_watchers_total {self.cut}",
        ]
        for name, value in gauges:
            out += [f"# HELP {name} Watchers that do not keep up, or what they hold.", f"# TYPE {name} gauge"]
            out.append(f"{name} {value}")
        return out
