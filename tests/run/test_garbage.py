"""When Python's collector looks at what: at the young while that pays, at everything in quiet moments, and not never."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest

from jota.aio.clock import SystemClock
from jota.run import garbage
from jota.run.garbage import AT_LAST, CROWD, MOST_PASSED, OFTEN, QUIET, WORTH, YOUNG, Young, due


@pytest.mark.parametrize(
    ("since", "rate", "generations", "expected"),
    [
        (OFTEN, 0.0, WORTH, True),
        (OFTEN - 1, 0.0, WORTH, False),
        (OFTEN, QUIET + 1, WORTH, False),
        (OFTEN, 0.0, WORTH - 1, False),
        (AT_LAST - 1, QUIET + 1, 10**6, False),
        (AT_LAST, 1e5, 1, True),
        (AT_LAST, 0.0, 0, False),
    ],
)
def test_a_whole_look_waits_for_a_quiet_moment(since: float, rate: float, generations: int, expected: bool) -> None:
    assert due(since, rate, generations) is expected


def test_looks_that_find_nothing_become_rare_and_one_that_finds_brings_them_back() -> None:
    young = Young()
    looks = []
    for generation in range(100):
        if young.worth(YOUNG + 1):
            looks.append(generation)
            young.found(0)
    assert looks == [0, 2, 6, 14, 30, 46, 62, 78, 94]
    assert {b - a for a, b in pairwise(looks[4:])} == {MOST_PASSED + 1}
    while not young.worth(YOUNG + 1):
        pass
    young.found(7)
    assert young.worth(YOUNG + 1)
    young.found(7)
    assert young.worth(YOUNG + 1)


def test_too_many_at_once_are_passed_over() -> None:
    young = Young()
    assert not young.worth(CROWD + 1)
    assert young.worth(CROWD)


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def as_it_was() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    gc.unfreeze()
    if enabled:
        gc.enable()


def test_nothing_is_looked_at_before_the_start_is_over(as_it_was: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LARGEST", 10**9)  # what other tests left is no matter here
    gc.enable()
    garbage.postpone()
    dead = weakref.ref(Cycle())
    kept = [[] for _ in range(CROWD)]  # type: ignore[var-annotated]
    garbage.settle()
    assert dead() is not None
    assert len(kept) == CROWD
    garbage._look_at_all()
    assert dead() is None


def test_cycles_among_the_young_and_those_passed_over_are_freed(
    as_it_was: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "SOON", 0.0)
    monkeypatch.setattr(garbage, "LATER", 0.0)
    monkeypatch.setattr(garbage, "LARGEST", 10**9)

    async def main() -> None:
        garbage.settle()
        assert not gc.isenabled()
        task = asyncio.ensure_future(garbage.run_collector(SystemClock(), lambda: 0))
        dead = weakref.ref(Cycle())
        kept = [[] for _ in range(2 * YOUNG)]  # type: ignore[var-annotated]
        await asyncio.sleep(0.05)
        assert dead() is None, "the first look finds it"
        passed = weakref.ref(Cycle())
        kept += [[] for _ in range(CROWD + 1)]
        await asyncio.sleep(0.05)
        assert passed() is not None, "too many: nobody looked"
        garbage._look_at_all()
        assert passed() is None
        assert len(kept) == 2 * YOUNG + CROWD + 1
        task.cancel()

    asyncio.run(main())


def test_a_heap_that_is_too_large_is_left_alone(as_it_was: None, monkeypatch: pytest.MonkeyPatch) -> None:
    garbage.settle()
    dead = weakref.ref(Cycle())
    monkeypatch.setattr(garbage, "LARGEST", 10)
    garbage._look_at_all()
    assert dead() is not None
    monkeypatch.setattr(garbage, "LARGEST", 10**9)
    garbage._look_at_all()
    assert dead() is None
