"""What an evaluation carries along: its variables, what it has cost so far, how much it may. All closures of a program take it.

The limit is looked at in every turn of a loop and at every call that is not cheap; there, too, others may have their turn
(aio/slices.py). Next: interpreter.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jota.aio import slices
from jota.meta.cel.errors import CelCostError, CelError

MISSING: Any = object()


class Frame:
    __slots__ = ("_told", "cost", "limit", "stop", "variables")

    def __init__(self, variables: dict[str, Any], limit: int) -> None:
        self.variables, self.limit, self.cost, self._told = variables, limit, 0, 0
        self.stop = min(limit, slices.pace.left)
        """Beyond this cost, `look`."""

    def pay(self, units: int) -> None:
        self.cost += units
        if self.cost > self.stop:
            self.look()

    def look(self) -> None:
        """Beyond the limit: raises CelCostError. Else others may have their turn."""
        if self.cost > self.limit:
            raise CelCostError
        slices.spend(self.tell())
        self.stop = min(self.limit, self.cost + slices.pace.left)

    def tell(self) -> int:
        """What it cost since it was last asked."""
        new, self._told = self.cost - self._told, self.cost
        return new


Run = Callable[[Frame], Any]


def variable(name: str) -> Run:
    def run(frame: Frame) -> Any:
        frame.cost += 1
        try:
            return frame.variables[name]
        except KeyError:
            raise CelError(f"no such attribute(s): {name}") from None

    return run
