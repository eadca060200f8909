"""How rules write a property's name that CEL's grammar does not take: `my-key` is `my__dash__key`."""

from __future__ import annotations

import re
from functools import lru_cache

from jota.meta.cel.syntax import RESERVED

_WORDS = RESERVED | {"true", "false", "null", "in"}
_PIECES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@lru_cache(maxsize=4096)
def escape(name: str) -> str:
    """A property's name as rules write it; "" when it cannot be written."""
    if name in _WORDS:
        return f"__{name}__"
    escaped = re.sub(r"__|[./-]", lambda found: _PIECES[found[0]], name)
    return escaped if _IDENTIFIER.fullmatch(escaped) else ""
