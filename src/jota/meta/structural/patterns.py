"""Regular expressions in Go's dialect (RE2) for Python's engine. Text in, compiled pattern or PatternError out.

The dialects differ in few places: `$` and `\\z` are the end of the text, `(?P<n>...)` is the same, POSIX classes and
`\\pL` do not exist in Python, and what RE2 has not (look-around, back references) is refused as RE2 refuses it.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_UNICODE = {"L": r"^\W\d_", "N": r"\d", "Lu": "A-ZÀ-ÖØ-Þ", "Ll": "a-zß-öø-ÿ"}
_FOREIGN = re.compile(r"\(\?(=|!|<=|<!|>|\()|\(\?P[=>]")


class PatternError(ValueError):
    """Not a regular expression, or one that needs more than RE2 has."""


_NESTED = re.compile(r"\)[*+?{]|[*+}].*[*+}]")
"""A pattern that backtracking may take long for."""


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text; a bad pattern never is. RE2 itself is asked when Python might not end."""
    try:
        compiled = compile(pattern)
    except PatternError:
        return False
    if len(text) <= 16 or _NESTED.search(pattern) is None:
        return compiled.search(text) is not None
    from jota.meta import cel

    try:
        return cel.matches(pattern, text)
    except cel.CelError:
        return False


@lru_cache(maxsize=1024)
def compile(pattern: str) -> re.Pattern[str]:
    """Raises PatternError."""
    if len(pattern) > 10_000:
        raise PatternError("error parsing regexp: expression is too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(_translate(pattern), re.ASCII)
    except (re.error, OverflowError, RecursionError) as e:
        raise PatternError(f"error parsing regexp: {e}: `{pattern}`") from None


def _translate(pattern: str) -> str:
    if _FOREIGN.search(pattern):
        raise PatternError(f"error parsing regexp: invalid or unsupported Perl syntax: `{pattern}`")
    out: list[str] = []
    at, inside, size = 0, False, len(pattern)
    while at < size:
        char = pattern[at]
        if char == "\\" and at + 1 < size:
            piece, at = _escape(pattern, at, inside)
            out.append(piece)
            continue
        posix = re.match(r"\[:(\^?)([a-z]+):\]", pattern[at:]) if inside else None
        if posix is not None:
            if posix[2] not in _POSIX or posix[1]:
                raise PatternError(f"error parsing regexp: invalid character class range: `{posix[0]}`")
            out.append(_POSIX[posix[2]])
            at += posix.end()
            continue
        if char == "[" and not inside:
            inside = True
            opening = re.match(r"\[\^?\]?", pattern[at:])
            text = opening[0] if opening else "["
            out.append(text.replace("]", r"\]"))
            at += len(text)
            continue
        if char == "[":
            char = r"\["
        elif char == "]":
            inside = False
        elif char == "$" and not inside:
            char = r"\Z" if "(?m" not in pattern else "$"
        out.append(char)
        at += 1
    return "".join(out)


def _escape(pattern: str, at: int, inside: bool) -> tuple[str, int]:
    """One escape at `at`: (translation, where it ends)."""
    char = pattern[at + 1]
    if char == "z" and not inside:
        return r"\Z", at + 2
    if char == "Q":
        end = pattern.find(r"\E", at)
        literal = pattern[at + 2 : end if end >= 0 else None]
        return re.escape(literal), end + 2 if end >= 0 else len(pattern)
    if char in "pP":
        found = re.match(r"\{\^?([A-Za-z]+)\}|([A-Z])", pattern[at + 2 :])
        name = (found[1] or found[2]) if found else ""
        if found is None or name not in _UNICODE or inside or char == "P":
            raise PatternError(f"error parsing regexp: invalid character class range: `{pattern[at : at + 6]}`")
        return f"(?u:[{_UNICODE[name]}])", at + 2 + found.end()
    if char.isdigit() and char != "0":
        raise PatternError(f"error parsing regexp: invalid escape sequence: `\\{char}`")
    if char == "x" and pattern[at + 2 : at + 3] == "{":
        end = pattern.find("}", at)
        try:
            return re.escape(chr(int(pattern[at + 3 : end], 16))), end + 1
        except ValueError:
            raise PatternError(f"error parsing regexp: invalid escape sequence: `{pattern[at : at + 8]}`") from None
    return pattern[at : at + 2], at + 2
