"""CEL selectors of devices: (expression, device) -> whether it is meant. Answers are kept; the evaluator loads at first use.

A decision cannot wait, and nobody else is served while it is made: what would take long is put down as a question, and the
decision goes without an answer. devicefeed.py answers in slices (aio/slices.py), expression by expression in turns, and has
the pods tried again.

An expression sees `device.driver`, `device.attributes["domain"].name` and `device.capacity["domain"].name`. A domain that a
device lacks reads as empty, a name that it lacks is an error, and an error ends the allocation (upstream's rules).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jota.aio import slices
from jota.scheduler.deviceview import Device

if TYPE_CHECKING:  # loading it costs every start of the server; few clusters have devices
    from jota.meta.cel import Program

_WORD = re.compile(r"[A-Za-z0-9_]+")
_WHOLE = re.compile(r"\b(?:all|exists|exists_one|map|filter|size|in|transformList|transformMap)\b|\+")
"""In such an expression, names that are not written in it may matter too."""
_DOMAIN = re.compile(r"""\.(?:attributes|capacity)\s*\[\s*["']([^"']*)["']\s*]""")
_MOST_KEPT = 100_000
MOST_OPEN = 10_000
"""Questions that wait; more are asked again when the pods are tried again."""
SHARE = 4 * slices.FIRST
"""Units for answers within decisions, until the loop has had a turn."""
LIGHT = 100
"""Units. What takes no more is answered at once, however often it is asked: nearly all that people write."""
_MOST_LIGHT = 4096
Key = tuple[Any, ...]


class SelectorError(ValueError):
    """An expression that cannot be evaluated; the text names it."""


class Unanswered(SelectorError):
    """It is being evaluated."""


@dataclass(slots=True, frozen=True)
class Question:
    key: Key
    expression: str
    driver: str
    device: Device

    def answer(self) -> bool | str:
        return _answer(self.expression, self.driver, self.device)


class Selectors:
    """Devices that agree in all that an expression names have one answer: thousands of a model are asked about once."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, bool | str] = OrderedDict()
        self._open: OrderedDict[str, dict[Key, Question]] = OrderedDict()
        """Questions by expression."""
        self._count = 0
        self._light: OrderedDict[str, None] = OrderedDict()
        """Expressions that took no more than LIGHT."""
        self._left = SHARE
        self._asked: Callable[[], None] | None = None
        self._soon: Callable[[Callable[[], None]], object] | None = None

    def attend(self, asked: Callable[[], None], soon: Callable[[Callable[[], None]], object]) -> None:
        """From now on somebody answers questions: `asked` tells him of some, `soon` calls back in the loop's next turn. Until
        then every decision answers its own."""
        self._asked, self._soon = asked, soon

    def matches(self, expression: str, driver: str, device: Device) -> bool:
        """Raises SelectorError, Unanswered."""
        key = (expression, driver, *_facts(expression, driver, device))
        found = self._known.get(key)
        if found is None:
            found = self._find(Question(key, expression, driver, device))
        if isinstance(found, str):
            raise SelectorError(found)
        return found

    def _find(self, question: Question) -> bool | str:
        """Raises Unanswered."""
        if self._asked is None or self._soon is None:
            return self.learn(question, question.answer())
        expression = question.expression
        if expression in self._light or (self._left > 0 and expression not in self._open):
            try:
                found, units = slices.at_once(question.answer)
            except slices.TooLong:
                self._spend(slices.FIRST, self._soon)
                self._light.pop(expression, None)
            else:
                self._weigh(expression, units, self._soon)
                return self.learn(question, found)
        self._ask(question)
        self._asked()
        raise Unanswered(f"selector {expression!r} is being evaluated")

    def _weigh(self, expression: str, units: int, soon: Callable[[Callable[[], None]], object]) -> None:
        if units > LIGHT:
            self._light.pop(expression, None)
            self._spend(units, soon)
            return
        self._light[expression] = None
        self._light.move_to_end(expression)
        if len(self._light) > _MOST_LIGHT:
            self._light.popitem(last=False)

    def _spend(self, units: int, soon: Callable[[Callable[[], None]], object]) -> None:
        if self._left == SHARE:
            soon(self._renew)
        self._left -= units

    def _renew(self) -> None:
        self._left = SHARE

    def _ask(self, question: Question) -> None:
        waiting = self._open.setdefault(question.expression, {})
        if question.key not in waiting and self._count < MOST_OPEN:
            waiting[question.key] = question
            self._count += 1

    def next(self) -> Question | None:
        """A question to answer with `learn`: of each expression one after the other, so that none holds up all others."""
        if not self._open:
            return None
        expression, waiting = self._open.popitem(last=False)
        if not waiting:
            return self.next()
        question = waiting.pop(next(iter(waiting)))
        self._count -= 1
        self._open[expression] = waiting
        return question

    def settled(self, expression: str) -> bool:
        """Whether nothing is open about an expression any more; then it may be answered at once again."""
        if self._open.get(expression):
            return False
        self._open.pop(expression, None)
        return True

    def learn(self, question: Question, answer: bool | str) -> bool | str:
        self._known[question.key] = answer
        if len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return answer


@dataclass(slots=True, frozen=True)
class _Reading:
    """What an expression may look at."""

    domains: tuple[str, ...]
    words: frozenset[str]
    whole: bool
    """Whether names that are not written in it may matter."""


@lru_cache(maxsize=1024)
def _reading(expression: str) -> _Reading:
    words = frozenset(_WORD.findall(expression))
    return _Reading(tuple(_DOMAIN.findall(expression)), words, bool(_WHOLE.search(expression)))


def _facts(expression: str, driver: str, device: Device) -> list[Any]:
    """All that can decide the answer for this device, hashable."""
    reading = _reading(expression)
    out: list[Any] = [device.allowMultipleAllocations]
    for name, value in (device.attributes or {}).items():
        if reading.whole or split(name, driver)[1] in reading.words:
            out += (name, *((k, tuple(v) if isinstance(v, list) else v) for k, v in value.items()))
    for name, amount in (device.capacity or {}).items():
        if reading.whole or split(name, driver)[1] in reading.words:
            out += (name, amount.value)
    return out


def _answer(expression: str, driver: str, device: Device) -> bool | str:
    from jota.meta.cel import CelCompileError, CelError

    try:
        found = _compiled(expression).evaluate({"device": _shown(driver, device, _reading(expression).domains)})
    except CelCompileError as error:
        return f"selector {expression!r}: {error}"
    except (CelError, ValueError) as error:
        return f"selector {expression!r} failed for device {driver}/{device.name}: {error}"
    return found if isinstance(found, bool) else f"selector {expression!r} does not give true or false"


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> Program:
    from jota.meta import cel

    return cel.compile(expression, {"device": None})


def _shown(driver: str, device: Device, domains: tuple[str, ...]) -> dict[str, Any]:
    from jota.meta.cel.library.amounts import quantity_of

    attributes: dict[str, dict[str, Any]] = {d: {} for d in domains}
    capacity: dict[str, dict[str, Any]] = {d: {} for d in domains}
    for name, value in (device.attributes or {}).items():
        domain, plain = split(name, driver)
        attributes.setdefault(domain, {})[plain] = attribute(value)
    for name, amount in (device.capacity or {}).items():
        domain, plain = split(name, driver)
        capacity.setdefault(domain, {})[plain] = quantity_of(str(amount.value))
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": device.allowMultipleAllocations,
    }


def split(name: str, driver: str) -> tuple[str, str]:
    """(domain, name) of a qualified name; the driver is the domain of an unqualified one."""
    domain, slash, plain = name.rpartition("/")
    return (domain, plain) if slash else (driver, name)


def attribute(value: dict[str, Any]) -> Any:
    """As expressions see it."""
    for kind in ("string", "int", "bool"):
        if value.get(kind) is not None:
            return value[kind]
    from jota.meta.cel.library.amounts import semver_of

    if value.get("version") is not None:
        return semver_of(str(value["version"]))
    for kind in ("strings", "ints", "bools"):
        if value.get(kind) is not None:
            return value[kind]
    return [semver_of(str(v)) for v in value.get("versions") or ()]
