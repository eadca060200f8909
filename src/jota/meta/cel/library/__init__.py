"""The functions that expressions may call: one table per file, put together on first use."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jota.meta.cel.functions import Function


@cache
def functions() -> dict[str, list[Function]]:
    """By name, in the order in which overloads are tried."""
    from jota.meta.cel.library import (
        amounts,
        authorization,
        collections,
        mutation,
        named_formats,
        network,
        operators,
        standard,
        strings,
    )

    found: dict[str, list[Function]] = {}
    tables = (
        operators,
        standard,
        strings,
        collections,
        network,
        amounts,
        named_formats,
        authorization,
        mutation,
    )
    for module in tables:
        for function in module.TABLE:
            found.setdefault(function.name, []).append(function)
    return found
