"""Comprehensions: the macros that bind variables (loops over lists and maps, and `let`). The runs of their parts in, a run out.

A turn costs what cel-go's expansion of the macro does. all and exists absorb errors, as `&&` and `||` do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from jota.meta.cel.calls import truth, wrapped
from jota.meta.cel.errors import CelCostError, CelError
from jota.meta.cel.frame import MISSING, Frame, Run, variable
from jota.meta.cel.library.collections import sorted_by
from jota.meta.cel.syntax import Let, Macro
from jota.meta.cel.values import NONE, Optional, counted

LIST_COST = 10
_LOOP_COST = {"all": 3, "exists": 4}
"""What a turn costs beside its expression: the accumulator and the loop's condition in cel-go's expansion."""


def _turns(value: Any, pairs: bool) -> Collection[Any]:
    """What the variable is in each turn; with `pairs`, the two of them."""
    if isinstance(value, list):
        return list(enumerate(value)) if pairs else value
    if isinstance(value, dict):
        return list(value.items() if pairs else value)
    raise CelError("no such overload")


class _Bound:
    """Sets a macro's variables and puts back what was there."""

    __slots__ = ("_frame", "_names", "_was")

    def __init__(self, frame: Frame, names: tuple[str, ...]) -> None:
        self._frame, self._names = frame, names

    def __enter__(self) -> dict[str, Any]:
        variables = self._frame.variables
        self._was = [variables.get(name, MISSING) for name in self._names]
        return variables

    def __exit__(self, *_: object) -> None:
        variables = self._frame.variables
        for name, was in zip(self._names, self._was, strict=True):
            if was is MISSING:
                variables.pop(name, None)
            else:
                variables[name] = was


def _judge(node: Macro, over: Run, test: Run | None, _: Run | None) -> Run:
    """all and exists: one decisive turn settles it; else the first error counts."""
    assert test is not None
    names, decisive = node.variables, node.kind == "exists"
    cost, pairs, first, second = _LOOP_COST[node.kind], len(names) == 2, names[0], names[-1]

    def run(frame: Frame) -> bool:
        turns = _turns(over(frame), pairs)
        last = len(turns) - 1
        problem: CelError | None = None
        with _Bound(frame, names) as variables:
            for at, turn in enumerate(counted(turns)):
                if pairs:
                    variables[first], variables[second] = turn
                else:
                    variables[first] = turn
                frame.cost += cost
                if frame.cost > frame.stop:
                    frame.look()
                try:
                    found = test(frame)
                    if found is decisive:
                        # the loop's condition is looked at once more where another turn could follow
                        frame.cost += cost if at < last else 1
                        return bool(decisive)
                    truth(found)
                except CelCostError:
                    raise
                except CelError as e:
                    problem = problem or e
        frame.cost += 1
        if problem is not None:
            raise problem
        return not decisive

    return run


def _one(node: Macro, over: Run, test: Run | None, _: Run | None) -> Run:
    assert test is not None
    each = _each(node, over, test)

    def run(frame: Frame) -> bool:
        count = 0
        for _, holds in each(frame):
            if truth(holds):
                frame.cost += 2
                count += 1
        frame.cost += 2
        return count == 1

    return run


def _each(node: Macro, over: Run, body: Run) -> Callable[[Frame], Iterator[tuple[Any, Any]]]:
    """(the first variable, the body's value) of each turn."""
    names = node.variables
    pairs, first, second = len(names) == 2, names[0], names[-1]

    def run(frame: Frame) -> Iterator[tuple[Any, Any]]:
        turns = _turns(over(frame), pairs)
        with _Bound(frame, names) as variables:
            for turn in counted(turns):
                value = turn
                if pairs:
                    value, variables[second] = turn
                variables[first] = value
                if frame.cost > frame.stop:
                    frame.look()
                yield value, body(frame)

    return run


_SKIP: Any = object()


def _filtered(node: Macro, test: Run | None, step: Run | None) -> Run:
    """Condition and step in one: _SKIP where the condition is false."""
    make = step if step is not None else variable(node.variables[0])
    if test is None:
        return make

    def run(frame: Frame) -> Any:
        found = test(frame)
        if found is False:
            return _SKIP
        truth(found)
        return make(frame)

    return run


def _list_of(node: Macro, over: Run, test: Run | None, step: Run | None) -> Run:
    each = _each(node, over, _filtered(node, test, step))

    def run(frame: Frame) -> list[Any]:
        made: list[Any] = []
        frame.cost += 1
        for _, value in each(frame):
            if value is not _SKIP:
                frame.cost += LIST_COST + 2
                made.append(value)
        return made

    return run


def _map_of(node: Macro, over: Run, test: Run | None, step: Run | None) -> Run:
    each, entries = _each(node, over, _filtered(node, test, step)), node.kind == "transformMapEntry"

    def run(frame: Frame) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        frame.cost += 1
        for key, value in each(frame):
            if value is _SKIP:
                continue
            frame.cost += 2 if entries else 3
            if not entries:
                made[key] = value
            elif isinstance(value, dict):
                for k, v in value.items():
                    if k in made:
                        raise CelError(f"insert failed: key {k} already exists")
                    made[k] = v
            else:
                raise CelError("no such overload")
        return made

    return run


def _sorted_by(node: Macro, over: Run, _: Run | None, step: Run | None) -> Run:
    """cel-go makes lists of keys and of items of it: both are paid for."""
    assert step is not None
    each = _each(node, over, step)

    def run(frame: Frame) -> list[Any]:
        made: list[tuple[Any, Any]] = []
        frame.cost += 2 * LIST_COST
        for item, key in each(frame):
            frame.cost += LIST_COST + 3
            made.append((key, item))
        return sorted_by([key for key, _ in made], [item for _, item in made])

    return run


_MACROS: dict[str, Callable[[Macro, Run, Run | None, Run | None], Run]] = {
    "all": _judge,
    "exists": _judge,
    "exists_one": _one,
    "map": _list_of,
    "filter": _list_of,
    "sortBy": _sorted_by,
    "transformList": _list_of,
    "transformMap": _map_of,
    "transformMapEntry": _map_of,
}


def comprehension(node: Macro, over: Run, test: Run | None, step: Run | None) -> Run:
    """`over`, `test`, `step`: the runs of its range, condition and step."""
    return _MACROS[node.kind](node, over, test, step)


def let(node: Let, value: Run, body: Run) -> Run:
    names, optional = (node.name,), node.optional

    def run(frame: Frame) -> Any:
        before = frame.cost
        bound = value(frame)
        if optional:
            # cel-go asks hasValue() of it, then evaluates it again for value()
            frame.cost += frame.cost - before + (3 if optional == "map" else 2)
            if not wrapped(bound).present:
                return NONE
            bound = bound.value
        with _Bound(frame, names) as variables:
            variables[names[0]] = bound
            result = body(frame)
        return Optional(result) if optional == "map" else result

    return run
