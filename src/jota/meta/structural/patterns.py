"""Regular expressions in Go's dialect, by RE2 itself: time and memory are linear in the text. Pattern in, compiled pattern
or PatternError (in Go's words) out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

MOST = 10_000
"""Characters of one pattern."""
_GO = {
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "missing argument to repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "missing closing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "trailing \\": "trailing backslash at end of expression",
    "invalid named capture group": "invalid named capture",
}


class PatternError(ValueError):
    """Not a regular expression, or one that needs more than RE2 has."""


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text; a bad pattern never is."""
    try:
        return compile(pattern).search(text) is not None
    except PatternError:
        return False


@lru_cache(maxsize=1024)
def compile(pattern: str) -> Any:
    """`search` and `finditer` like those of Python's re. Raises PatternError."""
    # 10 ms to load: only who has patterns pays
    import re2

    if len(pattern) > MOST:
        raise PatternError("error parsing regexp: expression is too long")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError) as e:
        raise PatternError(f"error parsing regexp: {_words(e, pattern)}") from None


def _words(error: Exception, pattern: str) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    what, _, where = text.partition(": ")
    return f"{_GO.get(what, what)}: `{where or pattern}`"
