"""What can go wrong with an expression: before it runs, while it runs, or because it runs for too long."""

from __future__ import annotations

from jota.aio import slices


class CelCompileError(ValueError):
    """`compilation failed: ...`, or a result of the wrong type."""


class CelError(ValueError):
    """An evaluation that failed: no such key, overflow, ... `&&`, `||` and the macros may absorb it."""

    over_budget = False
    spent = 0
    """Units that the evaluation had cost when it failed."""


class CelCostError(CelError):
    """The evaluation cost more than it may. Nothing absorbs it."""

    over_budget = True

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Issue(Exception):
    """One error of an expression and where it is: `at` is an offset into the text."""

    def __init__(self, at: int, text: str) -> None:
        super().__init__(text)
        self.at, self.text = at, text


def shown(source: str, issues: list[Issue]) -> str:
    """As cel-go prints them, each with its line and a pointer."""
    return "\n".join(_one(source, issue) for issue in issues)


def _one(source: str, issue: Issue) -> str:
    slices.spend(1 + len(source) // 100)
    before = source[: issue.at]
    line, column = before.count("\n"), issue.at - (before.rfind("\n") + 1)
    text = source.split("\n")[line]
    return f"ERROR: <input>:{line + 1}:{column + 1}: {issue.text}\n | {text}\n | {'.' * column}^"
