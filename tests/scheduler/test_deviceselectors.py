"""Selectors of devices within decisions: cheap ones are answered at once, others become questions, which take turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jota.aio import slices
from jota.meta.resource import PODS
from jota.scheduler.deviceselectors import SHARE, SelectorError, Selectors, Unanswered
from jota.scheduler.deviceview import Device
from jota.scheduler.resources import RESOURCECLAIMS, RESOURCESLICES
from jota.testing.cluster import ApiServer

from .dra import claim, device, request, slice_, uses
from .test_dynamic_resources import create, devices_of, get_claim, message, told
from .test_scheduler import pod, where

DRIVER = "gpu.example.com"
LIGHT = 'device.driver == "gpu.example.com"'
NUMBERS = "[" + ",".join(map(str, range(60))) + "]"
HEAVY = f'{NUMBERS}.all(x, {NUMBERS}.all(y, x + y >= 0)) && device.attributes["{DRIVER}"].index >= 0'
FEW = "[" + ",".join(map(str, range(25))) + "]"
BITTER = f'{FEW}.all(x, {FEW}.all(y, {FEW}.all(z, x + y + z >= 0))) && device.attributes["{DRIVER}"].index > 0'


def made(index: int) -> Device:
    return Device(name=f"g{index}", attributes={"index": {"int": index}})


class Attended:
    """Selectors with somebody who answers; `turn` is a turn of the loop."""

    def __init__(self) -> None:
        self.selectors = Selectors()
        self.asked = 0
        self._soon: list[Callable[[], None]] = []
        self.selectors.attend(self._count, self._soon.append)

    def _count(self) -> None:
        self.asked += 1

    def turn(self) -> None:
        calls, self._soon[:] = list(self._soon), []
        for call in calls:
            call()

    def matches(self, expression: str, index: int) -> bool | None:
        try:
            return self.selectors.matches(expression, DRIVER, made(index))
        except Unanswered:
            return None

    def answer(self) -> str:
        """One question; the name of its device."""
        question = self.selectors.next()
        assert question is not None
        self.selectors.learn(question, question.answer())
        self.selectors.settled(question.expression)
        return f"{question.expression[:4]} {question.device.name}"


def test_without_anybody_who_answers_everything_is_answered_at_once() -> None:
    assert Selectors().matches(HEAVY, DRIVER, made(1))


def test_light_ones_are_always_answered_at_once() -> None:
    those = Attended()
    expression = f'device.attributes["{DRIVER}"].index % 2 == 0'
    assert [those.matches(expression, n) for n in range(5000)] == [n % 2 == 0 for n in range(5000)]
    assert those.asked == 0


def test_heavy_ones_become_questions_and_are_answered_once() -> None:
    those = Attended()
    assert those.matches(HEAVY, 1) is None
    assert those.matches(HEAVY, 1) is None
    assert those.matches(HEAVY, 2) is None
    assert those.asked == 3
    assert [those.answer(), those.answer()] == [f"{HEAVY[:4]} g1", f"{HEAVY[:4]} g2"]
    assert those.selectors.next() is None
    assert [those.matches(HEAVY, n) for n in (1, 2)] == [True, True]


def test_many_expressions_share_what_a_turn_of_the_loop_may_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    at_once = slices.at_once

    def counted(work: Callable[[], Any]) -> Any:
        tried.append(1)
        return at_once(work)

    monkeypatch.setattr(slices, "at_once", counted)
    those = Attended()
    assert [those.matches(f"{HEAVY} || {n} == 0", 1) for n in range(50)] == [None] * 50
    assert len(tried) == SHARE // slices.FIRST
    those.turn()
    assert those.matches(f"{HEAVY} || 99 == 0", 1) is None
    assert len(tried) == SHARE // slices.FIRST + 1
    assert those.matches(LIGHT, 1) is True


def test_questions_of_expressions_take_turns_and_errors_are_answers() -> None:
    those = Attended()
    other = HEAVY.replace(".all(x", ".exists(x", 1) + " && device.nope"
    for n in range(3):
        assert those.matches(HEAVY, n) is None
    assert those.matches(other, 7) is None
    order = [those.answer() for _ in range(4)]
    assert order.index(f"{other[:4]} g7") <= 1, "the one does not wait for all of the other"
    with pytest.raises(SelectorError, match="failed for device"):
        those.selectors.matches(other, DRIVER, made(7))


def test_a_pod_whose_selector_takes_long_gets_its_device_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    sliced: list[slices.Sliced[Any]] = []
    begin = slices.Sliced.__init__

    def noted(self: slices.Sliced[Any], work: Any) -> None:
        sliced.append(self)
        begin(self, work)

    monkeypatch.setattr(slices.Sliced, "__init__", noted)

    async def story(api: ApiServer) -> None:
        await create(api, RESOURCESLICES, slice_("", *(device(f"s{n}", index=n) for n in range(6)), pool="wide"))
        await create(api, RESOURCECLAIMS, claim("slow", request("r", "gpu", BITTER)), claim("plain"))
        await create(api, PODS, pod("slow", **uses("slow")))
        await api.settle()
        assert "is being evaluated" in await message(api, "slow")
        await create(api, PODS, pod("plain", **uses("plain")))
        order: list[str] = []
        for _ in range(500):
            await api.advance(0.1)
            order += [name for name in ("plain", "slow") if name not in order and (await where(api)).get(name)]
            if len(order) == 2:
                break
        assert order == ["plain", "slow"], await message(api, "slow")
        (given,) = devices_of(await get_claim(api, "slow"))
        assert not given.endswith("0"), "its selector wants another than the first"
        assert len(sliced) >= 3

    told(story)
