"""A checked tree as nested closures: values in, a value out, and what it cost, counted as cel-go counts.

Every closure takes the frame: variables, cost so far, limit. Selecting and naming costs one unit, calls what their table
says, lists 10, maps 30, objects 40; steps of macros cost what cel-go's expansion of them does. The limit is looked at in
every turn of a loop and at every call that is not cheap; there, too, others may have their turn (aio/slices.py). Errors are
CelError; `&&`, `||`, all and exists absorb them. What runs most often (names, fields, comparisons, loops) is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from jota.aio import slices
from jota.meta.cel import types
from jota.meta.cel.errors import CelCostError, CelError
from jota.meta.cel.functions import Function, shorter
from jota.meta.cel.library.collections import sorted_by
from jota.meta.cel.library.operators import index_list, index_map
from jota.meta.cel.syntax import (
    NODE,
    Call,
    Const,
    Ident,
    Let,
    ListNode,
    Macro,
    MapNode,
    Node,
    Select,
    StructNode,
    qualified,
)
from jota.meta.cel.values import NONE, ObjectValue, Optional, TypeValue, Uint, counted

LIST_COST, MAP_COST, OBJECT_COST = 10, 30, 40
_MISSING: Any = object()


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


def build(node: Node, locals_: frozenset[str] = frozenset()) -> Run:
    slices.spend(NODE)
    match node:
        case Const():
            value = node.value
            return lambda _: value
        case Ident():
            return _ident(node, locals_)
        case Select():
            return _select(node, locals_)
        case Call():
            return _call(node, locals_)
        case ListNode():
            return _list(node, locals_)
        case MapNode():
            return _map(node, locals_)
        case StructNode():
            return _struct(node, locals_)
        case Macro():
            return _MACROS[node.kind](node, locals_)
        case Let():
            return _let(node, locals_)
    raise AssertionError(type(node))


def _ident(node: Ident, locals_: frozenset[str]) -> Run:
    name = node.name
    if node.type.kind == "type" and node.type.params and name in types.NAMES and name not in locals_:
        value = TypeValue(name)
        return lambda _: value
    return _variable(name)


def _variable(name: str) -> Run:
    def run(frame: Frame) -> Any:
        frame.cost += 1
        try:
            return frame.variables[name]
        except KeyError:
            raise CelError(f"no such attribute(s): {name}") from None

    return run


def _select(node: Select, locals_: frozenset[str]) -> Run:
    full = qualified(node)
    if node.type.kind == "type" and full in types.NAMES:
        constant = TypeValue(full)
        return lambda _: constant
    if node.variable:
        return _variable(full)
    operand, name, optional = build(node.operand, locals_), node.name, node.optional
    cost = _step_cost(node.operand)
    if node.test:
        return lambda frame: _has(operand(frame), name)

    def run(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is dict and not optional:
            frame.cost += cost
            try:
                return value[name]
            except KeyError:
                raise CelError(f"no such key: {name}") from None
        if isinstance(value, dict):
            found = value.get(name, _MISSING)
            if optional and found is _MISSING:
                return NONE
            frame.cost += cost
            if optional:
                return Optional(found)
            if found is _MISSING:
                raise CelError(f"no such key: {name}")
            return found
        if isinstance(value, Optional):
            return _paid(frame, _within(value, name))
        if optional and value is None:
            return NONE
        raise CelError(f"no such key: {name}")

    return run


def _step_cost(operand: Node) -> int:
    """A field or an item of a variable's, or of what is not a variable: then the value itself counts, too."""
    chained = isinstance(operand, Call) and operand.function in ("_[_]", "_[?_]")
    return 1 if isinstance(operand, Ident | Select) or chained else 2


def _paid(frame: Frame, found: Optional) -> Optional:
    """What is not there was not gone to."""
    frame.cost += found.present
    return found


def _has(value: Any, name: str) -> bool:
    if isinstance(value, Optional):
        return value.present and _has(value.value, name)
    if not isinstance(value, dict):
        raise CelError("no such overload")
    return name in value


def _within(wrapped: Optional, key: Any) -> Optional:
    """A field, an item or an entry of what an optional holds."""
    if not wrapped.present or wrapped.value is None:
        return NONE
    return _maybe(wrapped.value, key)


def _maybe(value: Any, key: Any) -> Optional:
    try:
        if isinstance(value, dict):
            return Optional(index_map(value, key))
        if isinstance(value, list) and isinstance(key, int | float | Uint) and not isinstance(key, bool):
            return Optional(index_list(value, key))
    except CelError:
        return NONE
    raise CelError("no such overload")


# --- calls -------------------------------------------------------------------------------------------------------------


def _call(node: Call, locals_: frozenset[str]) -> Run:
    nodes = ([node.target] if node.target is not None else []) + node.args
    args = [build(n, locals_) for n in nodes]
    special = _SPECIAL.get(node.function)
    if special is not None and not all(f.strict for f in node.overloads):
        return special(*args)
    if node.function == "_[_]":
        return _index(args[0], args[1], _step_cost(node.args[0]))
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


def _bool(value: Any) -> bool:
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
            _bool(found)
        except CelCostError:
            raise
        except CelError as e:
            problem = e
        if problem is None:
            found = right(frame)
            return True if found is True else _bool(found)
        try:
            if _bool(right(frame)) is decisive:
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
            return _within(value, key)
        if isinstance(value, dict):
            return index_map(value, key)
        if isinstance(value, list) and isinstance(key, int | float) and not isinstance(key, bool):
            return index_list(value, key)
        raise CelError("no such overload")

    return run


def _optional_index(operand: Run, index: Run) -> Run:
    def run(frame: Frame) -> Any:
        value, key = operand(frame), index(frame)
        return _paid(frame, _within(value, key) if isinstance(value, Optional) else _maybe(value, key))

    return run


def _or_optional(first: Run, second: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = _wrapped(first(frame))
        return value if value.present else _wrapped(second(frame))

    return run


def _or_value(first: Run, second: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = _wrapped(first(frame))
        return value.value if value.present else second(frame)

    return run


def _wrapped(value: Any) -> Optional:
    if isinstance(value, Optional):
        return value
    raise CelError("no such overload")


_SPECIAL: dict[str, Callable[..., Run]] = {
    "_&&_": _and,
    "_||_": _or,
    "_?_:_": _condition,
    "_[_]": _index,
    "_[?_]": _optional_index,
    "or": _or_optional,
    "orValue": _or_value,
}


# --- literals ----------------------------------------------------------------------------------------------------------


def _constant(node: Node) -> bool:
    """Literals of literals are made once, and cost nothing."""
    match node:
        case Const():
            return True
        case ListNode():
            return not node.optional and all(map(_constant, node.items))
        case MapNode():
            return all(not optional and isinstance(k, Const) and _constant(v) for k, v, optional in node.entries)
    return False


def _value(node: Node) -> Any:
    match node:
        case ListNode():
            return [_value(item) for item in node.items]
        case MapNode():
            return {_value(k): _value(v) for k, v, _ in node.entries}
    assert isinstance(node, Const)
    return node.value


def _list(node: ListNode, locals_: frozenset[str]) -> Run:
    if _constant(node):
        constant = [_value(item) for item in node.items]
        return lambda _: constant
    items, optional = [build(item, locals_) for item in node.items], node.optional

    def run(frame: Frame) -> list[Any]:
        frame.cost += LIST_COST
        if not optional:
            return [item(frame) for item in items]
        made: list[Any] = []
        for index, item in enumerate(items):
            value = item(frame)
            if index not in optional:
                made.append(value)
            elif _wrapped(value).present:
                made.append(value.value)
        return made

    return run


def _map(node: MapNode, locals_: frozenset[str]) -> Run:
    keys = [k.value for k, _, _ in node.entries if isinstance(k, Const)]
    if _constant(node) and all(isinstance(k, str | int | float) for k in keys):
        constant = _value(node)
        return lambda _: constant
    entries = [(build(k, locals_), build(v, locals_), optional) for k, v, optional in node.entries]

    def run(frame: Frame) -> dict[Any, Any]:
        frame.cost += MAP_COST
        made: dict[Any, Any] = {}
        for key, value, optional in entries:
            k, v = key(frame), value(frame)
            if optional:
                if not _wrapped(v).present:
                    continue
                v = v.value
            _insert(made, k, v)
        return made

    return run


def _insert(made: dict[Any, Any], key: Any, value: Any) -> None:
    if not isinstance(key, str | bool | int | float):
        raise CelError("unsupported key type")
    made[key] = value


def _struct(node: StructNode, locals_: frozenset[str]) -> Run:
    name, fields = node.name, [(key, build(v, locals_), optional) for key, v, optional in node.fields]

    def run(frame: Frame) -> ObjectValue:
        frame.cost += OBJECT_COST
        made: dict[str, Any] = {}
        for key, value, optional in fields:
            v = value(frame)
            if optional:
                if not _wrapped(v).present:
                    continue
                v = v.value
            made[key] = v
        return ObjectValue(name, made)

    return run


# --- macros ------------------------------------------------------------------------------------------------------------

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
        self._was = [variables.get(name, _MISSING) for name in self._names]
        return variables

    def __exit__(self, *_: object) -> None:
        variables = self._frame.variables
        for name, was in zip(self._names, self._was, strict=True):
            if was is _MISSING:
                variables.pop(name, None)
            else:
                variables[name] = was


def _judge(node: Macro, locals_: frozenset[str]) -> Run:
    """all and exists: one decisive turn settles it; else the first error counts."""
    assert node.condition is not None
    over, names, inner = build(node.range, locals_), node.variables, locals_ | set(node.variables)
    test, decisive = build(node.condition, inner), node.kind == "exists"
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
                    _bool(found)
                except CelCostError:
                    raise
                except CelError as e:
                    problem = problem or e
        frame.cost += 1
        if problem is not None:
            raise problem
        return not decisive

    return run


def _one(node: Macro, locals_: frozenset[str]) -> Run:
    assert node.condition is not None
    each = _each(node, locals_, build(node.condition, locals_ | set(node.variables)))

    def run(frame: Frame) -> bool:
        count = 0
        for _, holds in each(frame):
            if _bool(holds):
                frame.cost += 2
                count += 1
        frame.cost += 2
        return count == 1

    return run


def _each(node: Macro, locals_: frozenset[str], body: Run) -> Callable[[Frame], Iterator[tuple[Any, Any]]]:
    """(the first variable, the body's value) of each turn."""
    over, names = build(node.range, locals_), node.variables
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


def _filtered(node: Macro, locals_: frozenset[str]) -> Run:
    """Condition and step in one: _SKIP where the condition is false."""
    inner = locals_ | set(node.variables)
    step = build(node.step, inner) if node.step is not None else _variable(node.variables[0])
    if node.condition is None:
        return step
    test = build(node.condition, inner)

    def run(frame: Frame) -> Any:
        found = test(frame)
        if found is False:
            return _SKIP
        _bool(found)
        return step(frame)

    return run


def _list_of(node: Macro, locals_: frozenset[str]) -> Run:
    each = _each(node, locals_, _filtered(node, locals_))

    def run(frame: Frame) -> list[Any]:
        made: list[Any] = []
        frame.cost += 1
        for _, value in each(frame):
            if value is not _SKIP:
                frame.cost += LIST_COST + 2
                made.append(value)
        return made

    return run


def _map_of(node: Macro, locals_: frozenset[str]) -> Run:
    each, entries = _each(node, locals_, _filtered(node, locals_)), node.kind == "transformMapEntry"

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


def _sorted_by(node: Macro, locals_: frozenset[str]) -> Run:
    """cel-go makes lists of keys and of items of it: both are paid for."""
    assert node.step is not None
    each = _each(node, locals_, build(node.step, locals_ | set(node.variables)))

    def run(frame: Frame) -> list[Any]:
        made: list[tuple[Any, Any]] = []
        frame.cost += 2 * LIST_COST
        for item, key in each(frame):
            frame.cost += LIST_COST + 3
            made.append((key, item))
        return sorted_by([key for key, _ in made], [item for _, item in made])

    return run


_MACROS: dict[str, Callable[[Macro, frozenset[str]], Run]] = {
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


def _let(node: Let, locals_: frozenset[str]) -> Run:
    value, body = build(node.value, locals_), build(node.body, locals_ | {node.name})
    names, optional = (node.name,), node.optional

    def run(frame: Frame) -> Any:
        before = frame.cost
        bound = value(frame)
        if optional:
            # cel-go asks hasValue() of it, then evaluates it again for value()
            frame.cost += frame.cost - before + (3 if optional == "map" else 2)
            if not _wrapped(bound).present:
                return NONE
            bound = bound.value
        with _Bound(frame, names) as variables:
            variables[names[0]] = bound
            result = body(frame)
        return Optional(result) if optional == "map" else result

    return run
