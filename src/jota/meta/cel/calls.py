"""Calls: the runs of a call's arguments in, the run of the call out, which pays what its function's table says.

`&&`, `||`, `?:`, indexes and what comes of optionals decide themselves which of their arguments they run. Where the types leave
open which overload it is, the values tell. What runs most often (comparisons, calls of one or two values) is written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jota.meta.cel.errors import CelCostError, CelError
from jota.meta.cel.frame import Frame, Run
from jota.meta.cel.functions import Function, shorter
from jota.meta.cel.library.operators import index_list, index_map
from jota.meta.cel.syntax import Call, Const, Ident, Node, Select
from jota.meta.cel.values import NONE, Optional, Uint


def call(node: Call, nodes: list[Node], args: list[Run]) -> Run:
    """`nodes`: what is given to the function, its target first; `args`: their runs."""
    special = _SPECIAL.get(node.function)
    if special is not None and not all(f.strict for f in node.overloads):
        return special(*args)
    if node.function == "_[_]":
        return _index(args[0], args[1], step_cost(node.args[0]))
    if node.function in _CONVERSIONS and all(isinstance(n, Const) for n in nodes):
        return _folded(node, nodes)
    function = node.overloads[0]
    sure = len(node.overloads) == 1 and all(n.type.kind not in ("dyn", "param") for n in nodes)
    if function.name in ("_==_", "_!=_"):
        return _equality(function, args[0], args[1])
    if sure:
        return _sure(function, args)
    return _dispatched(node, args)


_SCALARS = {int, bool, float}


def _equality(function: Function, left: Run, right: Run) -> Run:
    """`==` and `!=`: of numbers and texts without a detour; equal() in values.py says what is equal else."""
    same = function.name == "_==_"

    def run(frame: Frame) -> Any:
        a, b = left(frame), right(frame)
        kind = type(a)
        if kind is type(b):
            if kind is str:
                frame.cost += shorter((a, b), None)
                if frame.cost > frame.stop:
                    frame.look()
                return (a == b) is same
            if kind in _SCALARS:
                frame.cost += 1
                if frame.cost > frame.stop:
                    frame.look()
                return (a == b) is same
        return _invoke(function, (a, b), frame)

    return run


def _sure(function: Function, args: list[Run]) -> Run:
    """A call of the only overload there is."""
    if function.cost is not None or len(args) not in (1, 2):
        return lambda frame: _invoke(function, tuple([arg(frame) for arg in args]), frame)
    apply, first, second = function.run, args[0], args[-1]
    if len(args) == 1:

        def one(frame: Frame) -> Any:
            value = first(frame)
            frame.cost += 1
            try:
                return apply(value)
            except Exception as problem:
                raise _failure(problem) from None

        return one

    def two(frame: Frame) -> Any:
        a, b = first(frame), second(frame)
        frame.cost += 1
        try:
            return apply(a, b)
        except Exception as problem:
            raise _failure(problem) from None

    return two


_CONVERSIONS = {"bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint"}


def _folded(node: Call, nodes: list[Node]) -> Run:
    """A conversion of a constant is one itself: done once, for nothing. One that fails does so when it is reached."""
    values = tuple(n.value for n in nodes if isinstance(n, Const))
    try:
        constant = _invoke(node.overloads[0], values, Frame({}, 1 << 60))
    except CelError as problem:
        said = str(problem)

        def fail(_: Frame) -> Any:
            raise CelError(said)

        return fail
    return lambda _: constant


def _invoke(function: Function, values: tuple[Any, ...], frame: Frame) -> Any:
    if function.cost is None:
        frame.cost += 1
    try:
        result = function.run(*values)
    except Exception as problem:
        raise _failure(problem) from None
    if function.cost is not None:
        frame.pay(function.cost(values, result))
    return result


def _failure(problem: Exception) -> Exception:
    """What a function raised, as an error of the expression."""
    if isinstance(problem, CelError):
        return problem
    if isinstance(problem, ValueError | ArithmeticError):
        return CelError(str(problem))
    if isinstance(problem, TypeError | AttributeError):
        # a null where the schema promises a value
        return CelError("no such overload")
    return problem


_FLAT = {"@in", "_<_", "_<=_", "_>_", "_>=_"}
"""Where cel-go does not know beforehand which overload it is, these cost one unit."""


def _dispatched(node: Call, args: list[Run]) -> Run:
    """Which overload it is shows only in the values."""
    candidates = [f for f in node.overloads if f.strict] or node.overloads
    flat = node.function in _FLAT and len(candidates) > 1
    known: dict[tuple[type, ...], Function] = {}

    def called(frame: Frame) -> Any:
        values = tuple([arg(frame) for arg in args])
        classes = tuple(map(type, values))
        function = known.get(classes)
        if function is None:
            function = next((f for f in candidates if f.takes(classes)), None)
            if function is None:
                raise CelError("no such overload")
            known[classes] = function
        if flat:
            frame.cost += 1
            return function.run(*values)
        return _invoke(function, values, frame)

    return called


def truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError("no such overload")


def _and(left: Run, right: Run) -> Run:
    return _logic(left, right, False)


def _or(left: Run, right: Run) -> Run:
    return _logic(left, right, True)


def _logic(left: Run, right: Run, decisive: bool) -> Run:
    """Either side decides alone, whatever the other one is, even when that one fails."""

    def run(frame: Frame) -> bool:
        problem: CelError | None = None
        try:
            found = left(frame)
            if found is decisive:
                return bool(decisive)
            truth(found)
        except CelCostError:
            raise
        except CelError as e:
            problem = e
        if problem is None:
            found = right(frame)
            return True if found is True else truth(found)
        try:
            if truth(right(frame)) is decisive:
                return decisive
        except CelCostError:
            raise
        except CelError:
            raise problem from None
        raise problem

    return run


def _condition(test: Run, yes: Run, no: Run) -> Run:

    def run(frame: Frame) -> Any:
        found = test(frame)
        if found is True:
            return yes(frame)
        if found is False:
            return no(frame)
        raise CelError("no such overload")

    return run


def _index(operand: Run, index: Run, cost: int = 1) -> Run:
    """`a[i]` where `a` may be an optional."""

    def run(frame: Frame) -> Any:
        value, key = operand(frame), index(frame)
        frame.cost += cost
        if isinstance(value, Optional):
            return within(value, key)
        if isinstance(value, dict):
            return index_map(value, key)
        if isinstance(value, list) and isinstance(key, int | float) and not isinstance(key, bool):
            return index_list(value, key)
        raise CelError("no such overload")

    return run


def _optional_index(operand: Run, index: Run) -> Run:
    def run(frame: Frame) -> Any:
        value, key = operand(frame), index(frame)
        return paid(frame, within(value, key) if isinstance(value, Optional) else _maybe(value, key))

    return run


def _or_optional(first: Run, second: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = wrapped(first(frame))
        return value if value.present else wrapped(second(frame))

    return run


def _or_value(first: Run, second: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = wrapped(first(frame))
        return value.value if value.present else second(frame)

    return run


_SPECIAL: dict[str, Callable[..., Run]] = {
    "_&&_": _and,
    "_||_": _or,
    "_?_:_": _condition,
    "_[_]": _index,
    "_[?_]": _optional_index,
    "or": _or_optional,
    "orValue": _or_value,
}


# --- fields and items of optionals --------------------------------------------------------------------------------------


def step_cost(operand: Node) -> int:
    """A field or an item of a variable's, or of what is not a variable: then the value itself counts, too."""
    chained = isinstance(operand, Call) and operand.function in ("_[_]", "_[?_]")
    return 1 if isinstance(operand, Ident | Select) or chained else 2


def paid(frame: Frame, found: Optional) -> Optional:
    """What is not there was not gone to."""
    frame.cost += found.present
    return found


def within(held: Optional, key: Any) -> Optional:
    """A field, an item or an entry of what an optional holds."""
    if not held.present or held.value is None:
        return NONE
    return _maybe(held.value, key)


def _maybe(value: Any, key: Any) -> Optional:
    try:
        if isinstance(value, dict):
            return Optional(index_map(value, key))
        if isinstance(value, list) and isinstance(key, int | float | Uint) and not isinstance(key, bool):
            return Optional(index_list(value, key))
    except CelError:
        return NONE
    raise CelError("no such overload")


def wrapped(value: Any) -> Optional:
    if isinstance(value, Optional):
        return value
    raise CelError("no such overload")
