"""All benches by name, in the order in which `--all` runs them. A bench is a module with `run() -> list[Figure]`; the first
line of its docstring says what it measures."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from bench.figure import Figure

NAMES = (
    "start",
    "podstart",
    "idle",
    "api",
    "watch",
    "store",
    "scheduler",
    "schedulerperf",
    "endtoend",
    "growth",
    "large",
    "restart",
    "mixed",
    "expressions",
)


@dataclass(frozen=True, slots=True)
class Bench:
    name: str
    title: str
    method: str
    """The docstring's other lines: how it is measured."""
    run: Callable[[], list[Figure]]


def load(name: str) -> Bench:
    """Raises KeyError for a name that is not in NAMES."""
    if name not in NAMES:
        raise KeyError(name)
    module = importlib.import_module(f"bench.{name}")
    title, _, method = (module.__doc__ or "").strip().partition("\n")
    return Bench(name, title.strip(), method.strip(), cast(Callable[[], list[Figure]], module.run))
