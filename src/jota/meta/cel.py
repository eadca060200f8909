"""The one door to CEL: expression text in, a compiled `Program` out; values in, a plain value or CelError out.

Google's C++ evaluator (cel-expr-python) does the language; it is loaded on first use. What it has not is ours: Kubernetes'
functions (cel_functions.py) and the types of structural schemas (cel_types.py). Time is bounded by the evaluator's budget of
10,000 iterations per evaluation, by linear-time regular expressions, and by the length of expressions.

    program = compile("self.size > 1", {"self": schema})        # {"object": None}: a value of any shape
    program.evaluate({"self": {"size": 3}})                     -> True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MAX_LENGTH = 20_000
"""Characters of one expression."""
_CODE = re.compile(r"^[A-Z_]+: ")
_TAIL = re.compile(r" \[[A-Z_]+\]$")
_MESSAGES = (
    (re.compile(r"^Key not found in map : \"?(.*?)\"?$"), r"no such key: \1"),
    (re.compile(r"^No matching overloads found ?: .*$", re.DOTALL), "no such overload"),
    (re.compile(r"^divide by zero$"), "division by zero"),
    (re.compile(r"^Index error: index=(-?\d+) .*$"), r"index out of bounds: \1"),
)
BUDGET = "Iteration budget exceeded"


class CelCompileError(ValueError):
    """`compilation failed: ...`, or a result of the wrong type."""


class CelError(ValueError):
    """An evaluation that failed: no such key, overflow, ..."""

    @property
    def over_budget(self) -> bool:
        return BUDGET in str(self)


class Program:
    """A compiled expression; may be evaluated any number of times."""

    __slots__ = ("_expression", "source", "uses")

    def __init__(self, source: str, expression: Any, uses: frozenset[str]) -> None:
        self.source = source
        self._expression = expression
        self.uses = uses
        """Variables that occur in it."""

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The result as plain Python values (timedelta and datetime for durations and timestamps). Raises CelError."""
        try:
            result = self._expression.eval(data=dict(values))
            plain = result.plain_value()
            failed = _is_error(result)
        except (RuntimeError, OverflowError, UnicodeError) as e:
            raise CelError(_runtime(str(e))) from None
        if failed:
            raise CelError(_runtime(str(plain)))
        return plain


def _is_error(result: Any) -> bool:
    from cel_expr_python import cel

    return bool(result.type() == cel.Type.ERROR)


def compile(expression: str, variables: Mapping[str, dict[str, Any] | None], *, returns: str = "bool") -> Program:
    """`variables`: name -> structural schema, None for any shape. `returns`: bool | string | "" (anything).

    Raises CelCompileError in upstream's words."""
    from jota.meta import cel_types

    if not expression.strip():
        raise CelCompileError("compilation failed: ERROR: <input>:1:1: Syntax error: the expression is empty")
    if len(expression) > MAX_LENGTH:
        raise CelCompileError(f"compilation failed: the expression is longer than {MAX_LENGTH} characters")
    try:
        compiled = _environment(tuple(sorted(variables))).compile(expression)
    except RuntimeError as e:
        raise CelCompileError(f"compilation failed: {_clean(str(e))}") from None
    found = cel_types.examine(compiled.serialize(), expression, variables)
    if found.errors:
        raise CelCompileError("compilation failed: " + "\n".join(found.errors))
    declared = compiled.return_type().name()
    actual = found.result or (declared if declared in ("bool", "string", "int", "uint", "double", "bytes") else "")
    if returns and actual and actual != returns:
        raise CelCompileError(f"must evaluate to {returns}")
    return Program(expression, compiled, found.uses)


def matches(pattern: str, text: str) -> bool:
    """Whether RE2 finds the pattern in the text, in time linear in both. Raises CelError for a bad pattern."""
    return bool(_matcher().evaluate({"pattern": pattern, "text": text}))


@lru_cache(maxsize=1)
def _matcher() -> Program:
    return compile("text.matches(pattern)", {"pattern": {"type": "string"}, "text": {"type": "string"}})


@lru_cache(maxsize=64)
def _environment(names: tuple[str, ...]) -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

    from jota.meta import cel_functions

    extensions = [
        ext_optional.ExtOptional(),
        ext_strings.ExtStrings(),
        ext_bindings.ExtBindings(),
        ext_math.ExtMath(),
        ext_encoders.ExtEncoders(),
        cel.CelExtension("kubernetes", cel_functions.declarations()),
    ]
    return cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN), extensions=extensions)


def _clean(text: str) -> str:
    return _TAIL.sub("", _CODE.sub("", text))


def _runtime(text: str) -> str:
    text = _clean(text)
    for pattern, wording in _MESSAGES:
        if pattern.match(text):
            return pattern.sub(wording, text)
    return text


# --- names -----------------------------------------------------------------------------------------------------------

_RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
    ]
)
_RESERVED |= {"loop", "package", "namespace", "return", "var", "void", "while"}
_PIECES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def escape(name: str) -> str:
    """A property's name as rules write it (`my-key` -> `my__dash__key`); "" when it cannot be written."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = re.sub(r"__|[./-]", lambda found: _PIECES[found[0]], name)
    return escaped if _IDENTIFIER.fullmatch(escaped) else ""
