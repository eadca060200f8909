"""cel-go's string functions, version 2 (the one that Kubernetes enables), base64, and Kubernetes' find and findAll.

Positions count code points. `format` knows %s %d %f %e %b %o %x %X %%.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, items, of_result, regex, traversal
from jota.meta.cel.library.standard import double_text
from jota.meta.cel.values import Duration, Timestamp, TypeValue, Uint, duration_text, timestamp_text, work
from jota.meta.structural import patterns


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise CelError(f"index out of range: {index}")
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if part == "":
        return start
    if start < 0:
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, end: int | None = None) -> int:
    last = len(text) if end is None else end
    if part == "":
        return last
    if not 0 <= last <= len(text):
        raise CelError(f"index out of range: {last}")
    return text.rfind(part, 0, last + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= len(text) or not 0 <= stop <= len(text):
        raise CelError(f"index out of range: {start if not 0 <= start <= len(text) else stop}")
    if start > stop:
        raise CelError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


_PER_ITEM = 10
"""Characters of a result that count as one item of work."""


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(count, text.count(old))
    work.spend((len(text) + found * len(new)) // _PER_ITEM)
    return text.replace(old, new, count)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [text]
    if separator == "":
        return list(text) if limit < 0 or limit > len(text) else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _join(parts: list[Any], separator: str = "") -> str:
    if not all(isinstance(p, str) for p in parts):
        raise CelError("no such overload")
    work.spend((sum(map(len, parts)) + len(parts) * len(separator)) // _PER_ITEM)
    return separator.join(parts)


_UPPER = {c: chr(c - 32) for c in range(ord("a"), ord("z") + 1)}
_LOWER = {c: chr(c + 32) for c in range(ord("A"), ord("Z") + 1)}
_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_QUOTED |= {"\\": "\\\\", '"': '\\"'}
_WHITE = " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029"
_WHITE += "\u202f\u205f\u3000"


def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(c, c) for c in text) + '"'


# --- format ------------------------------------------------------------------------------------------------------------

_CLAUSE = re.compile(r"%(?:%|(?:\.(\d*))?(.))", re.DOTALL)


def _format(text: str, args: list[Any]) -> str:
    used = 0

    def clause(found: re.Match[str]) -> str:
        nonlocal used
        if found[0] == "%%":
            return "%"
        if used >= len(args):
            raise CelError(f"index {used} out of range")
        used += 1
        made = _clause(found[2], int(found[1]) if found[1] else None, args[used - 1])
        work.spend(len(made) // _PER_ITEM)
        return made

    return _CLAUSE.sub(clause, text)


def _clause(verb: str, precision: int | None, value: Any) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    real = isinstance(value, float)
    if precision is not None and precision > 100:
        raise CelError("error during formatting: precision is too large")
    match verb:
        case "s":
            return _shown(value)
        case "d" if whole:
            return str(int(value))
        case "d" if real and not math.isfinite(value):
            return _infinite(value)
        case "f" | "e" if whole or real:
            number = float(value)
            if not math.isfinite(number):
                return _infinite(number)
            made = f"{number:.{6 if precision is None else precision}{verb}}"
            return _scientific(made) if verb == "e" else made
        case "b" if isinstance(value, int):
            return f"{int(value):b}"
        case "o" if whole:
            return f"{value:o}"
        case "x" | "X" if whole:
            return f"{value:{verb}}"
        case "x" | "X" if isinstance(value, str | bytes):
            digits = (value.encode() if isinstance(value, str) else value).hex()
            return digits.upper() if verb == "X" else digits
        case "d" | "f" | "e" | "b" | "o" | "x" | "X":
            raise CelError(f"error during formatting: %{verb} clause does not take this type of argument")
    raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _scientific(text: str) -> str:
    """As cel-go's formatter of numbers writes it: 1.5×10⁰³."""
    mantissa, _, power = text.partition("e")
    return f"{mantissa}×10{power.removeprefix('+').translate(_RAISED)}"


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _inner(value: Any) -> str:
    """Inside lists and maps, texts are quoted."""
    return _quote(value) if isinstance(value, str) else _shown(value)


def _infinite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case float():
            return double_text(value) if math.isfinite(value) else _infinite(value)
        case Uint() | int():
            return str(int(value))
        case Timestamp():
            return timestamp_text(value)
        case Duration():
            return duration_text(value)
        case TypeValue():
            return value.name
        case list():
            work.spend(len(value))
            return "[" + ", ".join(map(_inner, value)) + "]"
        case dict():
            work.spend(len(value))
            pairs = sorted((_inner(k), _inner(v)) for k, v in value.items())
            return "{" + ", ".join(f"{k}:{v}" for k, v in pairs) + "}"
    raise CelError(
        "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, ..."
    )


# --- regular expressions -----------------------------------------------------------------------------------------------


def _pattern(text: str) -> Any:
    try:
        return patterns.compile(text)
    except patterns.PatternError as e:
        raise CelError(f"Illegal regex: {e}") from None


def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern).search(text)
    return found.group(0) if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    for match in _pattern(pattern).finditer(text):
        if 0 <= limit <= len(found):
            break
        found.append(match.group(0))
    return found


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise CelError("illegal base64 data") from None


TABLE = [
    Function("charAt", "string.(int) string", _char_at),
    Function("indexOf", "string.(string) int", _index_of, items(0)),
    Function("indexOf", "string.(string, int) int", _index_of, items(0)),
    Function("lastIndexOf", "string.(string) int", _last_index_of, items(0)),
    Function("lastIndexOf", "string.(string, int) int", _last_index_of, items(0)),
    Function("lowerAscii", "string.() string", lambda s: s.translate(_LOWER), traversal(0)),
    Function("upperAscii", "string.() string", lambda s: s.translate(_UPPER), traversal(0)),
    Function("replace", "string.(string, string) string", _replace, traversal(0, 0.2)),
    Function("replace", "string.(string, string, int) string", _replace, traversal(0, 0.2)),
    Function("split", "string.(string) list(string)", _split, traversal(0, 0.2)),
    Function("split", "string.(string, int) list(string)", _split, traversal(0, 0.2)),
    Function("substring", "string.(int) string", _substring, traversal(0)),
    Function("substring", "string.(int, int) string", _substring, traversal(0)),
    Function("trim", "string.() string", lambda s: s.strip(_WHITE), traversal(0)),
    Function("join", "list(string).() string", _join, of_result(0.2)),
    Function("join", "list(string).(string) string", _join, of_result(0.2)),
    Function("format", "string.(list(dyn)) string", _format, traversal(0)),
    Function("strings.quote", "(string) string", _quote, traversal(0)),
    Function("find", "string.(string) string", _find, regex),
    Function("findAll", "string.(string) list(string)", _find_all, regex),
    Function("findAll", "string.(string, int) list(string)", _find_all, regex),
    Function("base64.encode", "(bytes) string", lambda b: base64.b64encode(b).decode(), traversal(0)),
    Function("base64.decode", "(string) bytes", _decode, traversal(0)),
]
