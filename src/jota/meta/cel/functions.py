"""What a function is, for the checker and at run time. The tables are in library/, one file per library.

    Function("startsWith", "string.(string) bool", starts_with, traversal(0))

The notation is: receiver, dot, arguments in brackets, result. A failing function raises CelError or ValueError.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jota.meta.cel import types
from jota.meta.cel.types import Type
from jota.meta.cel.values import (
    AuthorizerValue,
    Cidr,
    Decision,
    Duration,
    Format,
    GroupCheck,
    Ip,
    MapList,
    ObjectValue,
    Optional,
    PathCheck,
    Quantity,
    ResourceCheck,
    Semver,
    SetList,
    Timestamp,
    TypeValue,
    Uint,
    Url,
)

Cost = Callable[[tuple[Any, ...], Any], int]
"""(arguments, result) -> units."""
TRAVERSAL, REGEX = 0.1, 0.25
"""Units per byte of a text that is gone through, and per character of a pattern (cel-go's factors)."""
_SIGNATURE = re.compile(r"(?:(?P<receiver>[^.]+)\.)?\((?P<arguments>.*)\) (?P<result>.+)")
CLASSES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "uint": (Uint,),
    "double": (float,),
    "string": (str,),
    "bytes": (bytes,),
    "timestamp": (Timestamp,),
    "duration": (Duration,),
    "list": (list, SetList, MapList),
    "map": (dict,),
    "optional": (Optional,),
    "type": (TypeValue,),
    "struct": (ObjectValue,),
    types.OPAQUE["quantity"]: (Quantity,),
    types.OPAQUE["url"]: (Url,),
    types.OPAQUE["ip"]: (Ip,),
    types.OPAQUE["cidr"]: (Cidr,),
    types.OPAQUE["semver"]: (Semver,),
    types.OPAQUE["format"]: (Format,),
    types.OPAQUE["authorizer"]: (AuthorizerValue,),
    types.OPAQUE["pathcheck"]: (PathCheck,),
    types.OPAQUE["groupcheck"]: (GroupCheck,),
    types.OPAQUE["resourcecheck"]: (ResourceCheck,),
    types.OPAQUE["decision"]: (Decision,),
}


@dataclass(slots=True, eq=False)
class Function:
    name: str
    signature: str
    run: Callable[..., Any]
    cost: Cost | None = None
    """None: one unit."""
    strict: bool = True
    """False: the interpreter handles it itself (&&, ||, the condition)."""
    _parsed: tuple[bool, tuple[Type, ...], Type] | None = None

    def parsed(self) -> tuple[bool, tuple[Type, ...], Type]:
        """(is a method, parameters with the receiver first, result)."""
        if self._parsed is None:
            found = _SIGNATURE.fullmatch(self.signature)
            assert found is not None, self.signature
            receiver = found["receiver"]
            parameters = ([receiver] if receiver else []) + _split(found["arguments"])
            self._parsed = (
                bool(receiver),
                tuple(types.notation(p) for p in parameters),
                types.notation(found["result"]),
            )
        return self._parsed

    def takes(self, classes: tuple[type, ...]) -> bool:
        """Whether values of these classes may be its arguments."""
        _, parameters, _ = self.parsed()
        return len(parameters) == len(classes) and all(
            p.kind in ("dyn", "param") or c in CLASSES[p.kind] for p, c in zip(parameters, classes, strict=True)
        )


def _split(text: str) -> list[str]:
    """At the commas outside brackets."""
    parts, level, start = [], 0, 0
    for at, char in enumerate(text):
        level += (char == "(") - (char == ")")
        if char == "," and level == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()] if text.strip() else []


# --- costs (k8s.io/apiserver/pkg/cel/library/cost.go, cel-go/interpreter/runtimecost.go) ---------------------------------


def size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | dict) else 1


def traversal(index: int, factor: float = TRAVERSAL) -> Cost:
    """One pass over an argument."""
    return lambda args, _: math.ceil(size(args[index]) * factor)


def of_result(factor: float) -> Cost:
    return lambda _, result: math.ceil(size(result) * factor)


def shorter(args: tuple[Any, ...], _: Any) -> int:
    return math.ceil(min(size(args[0]), size(args[1])) * TRAVERSAL)


def both(args: tuple[Any, ...], _: Any) -> int:
    return math.ceil((size(args[0]) + size(args[1])) * TRAVERSAL)


def product(args: tuple[Any, ...], _: Any) -> int:
    return math.ceil(size(args[0]) * TRAVERSAL) * math.ceil(size(args[1]) * TRAVERSAL)


def regex(args: tuple[Any, ...], _: Any) -> int:
    return math.ceil((1 + size(args[0])) * TRAVERSAL) * math.ceil(size(args[1]) * REGEX)


def items(index: int) -> Cost:
    """One unit for each item of a list; a text counts by its length."""

    def cost(args: tuple[Any, ...], _: Any) -> int:
        value = args[index]
        if isinstance(value, list):
            return sum(int(len(v) * TRAVERSAL) if isinstance(v, str | bytes) else 1 for v in value)
        return int(size(value) * TRAVERSAL)

    return cost


def pairs(args: tuple[Any, ...], _: Any) -> int:
    """Every item of one list against every item of another."""
    return 1 + size(args[0]) * size(args[1])


def fixed(units: int) -> Cost:
    return lambda _args, _result: units
