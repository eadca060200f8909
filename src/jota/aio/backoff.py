"""Exponential backoff per key, as pure arithmetic: the caller owns the clock."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays that double from `base` to `cap` seconds, per key; `forget` after a success."""

    base: float
    cap: float
    factor: float = 2.0
    _failures: dict[str, int] = field(default_factory=dict)

    def next(self, key: str) -> float:
        """The delay in seconds before the next attempt of `key`; counts one more failure."""
        n = self._failures.get(key, 0)
        self._failures[key] = n + 1
        return float(min(self.cap, self.base * self.factor ** min(n, 64)))

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)
