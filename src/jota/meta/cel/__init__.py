"""The one door to CEL: expression text in, a compiled `Program` out; values in, a value or CelError out.

The language, Kubernetes' functions (library/), types of structural schemas and costs are those of Kubernetes' API server.
syntax.py parses, macros.py expands, checker.py finds types, cost.py estimates, interpreter.py runs and counts.

    program = compile("self.size > 1", {"self": schema})        # {"object": None}: a value of any shape
    program.evaluate({"self": {"size": 3}})                     -> True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jota.aio import slices
from jota.meta.cel.errors import CelCompileError, CelCostError, CelError
from jota.meta.cel.names import escape

if TYPE_CHECKING:
    from jota.meta.cel.frame import Run
    from jota.meta.cel.types import Type

__all__ = ["CALL_LIMIT", "CelCompileError", "CelCostError", "CelError", "Program", "compile", "escape"]

MAX_LENGTH = 20_000
"""Characters of one expression."""
CALL_LIMIT = 1_000_000
"""Units of cost of one evaluation (upstream's PerCallLimit)."""
BUDGET = 10_000_000
"""Units of all evaluations for one object or one policy (upstream's RuntimeCELCostBudget)."""
EVALUATION = 5
"""What each evaluation takes beside its cost, in units of the loop's time (aio/slices.py)."""
OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class Program:
    """A compiled expression; may be evaluated any number of times."""

    __slots__ = ("_run", "most_cost", "source", "type", "uses")

    def __init__(self, source: str, run: Run, type_: Type, uses: frozenset[str], most_cost: int) -> None:
        self.source = source
        self._run = run
        self.type = type_
        self.uses = uses
        """Variables that occur in it."""
        self.most_cost = most_cost
        """Units that it costs at most, by the sizes that its variables' types allow."""

    def evaluate(self, values: Mapping[str, Any], limit: int = CALL_LIMIT) -> Any:
        """The result (values.py says what there is beside Python's own). Raises CelError."""
        return self.measure(values, limit)[0]

    def measure(self, values: Mapping[str, Any], limit: int = CALL_LIMIT) -> tuple[Any, int]:
        """(result, units that it cost). Raises CelError (whose `spent` tells the cost), CelCostError beyond `limit`."""
        from jota.meta.cel.frame import Frame
        from jota.meta.cel.values import work

        outer, left = work.frame, work.left
        if outer is not None:  # a variable of a policy, at its first use
            slices.spend(outer.tell())
        frame = work.frame = Frame(dict(values), limit)
        work.left = work.LIMIT
        try:
            result = self._run(frame)
            if frame.cost > limit:
                raise CelCostError
        except RecursionError:
            raise CelError("the expression is nested too deep") from None
        except CelError as problem:
            problem.spent = frame.cost
            raise
        finally:
            slices.pace.left -= frame.tell() + EVALUATION
            work.frame, work.left = outer, left
        return result, frame.cost


def compile(
    expression: str,
    variables: Mapping[str, dict[str, Any] | Type | None],
    *,
    returns: str = "bool",
    objects: bool = False,
) -> Program:
    """`variables`: name -> structural schema or Type, None for any shape. `returns`: a type's name ("bool", "string",
    "Object", "list(JSONPatch)", "string|null_type"), "" for anything. `objects`: Object{} and JSONPatch{} may be made.

    Raises CelCompileError in upstream's words."""
    from jota.meta.cel import checker, cost, interpreter, macros, syntax
    from jota.meta.cel.errors import Issue, shown

    if len(expression) > MAX_LENGTH:
        raise CelCompileError(f"compilation failed: the expression is longer than {MAX_LENGTH} characters")
    try:
        tree = macros.expand(syntax.parse(expression))
        types = {name: _type(given) for name, given in variables.items()}
        check = checker.Checker(types, objects=objects)
        found = check.check(tree)
    except Issue as issue:
        raise CelCompileError("compilation failed: " + shown(expression, [issue])) from None
    if check.issues:
        raise CelCompileError("compilation failed: " + shown(expression, check.issues))
    if returns and found.kind not in ("dyn", "param") and not _fits(found, returns):
        choices = returns.split("|")
        wanted = choices[0] if len(choices) == 1 else f"one of [{' '.join(choices)}]"
        raise CelCompileError(f"must evaluate to {wanted} but got {_shown(found)}")
    return Program(expression, interpreter.build(tree), found, frozenset(check.used), cost.estimate(tree, types).most)


def _shown(found: Type) -> str:
    return "null_type" if found.kind == "null" else str(found)


def _fits(found: Type, returns: str) -> bool:
    shown = _shown(found)
    if returns == "list(JSONPatch)" and shown in ("list(_)", "list(dyn)"):
        return True
    return shown in returns.split("|")


def _type(given: dict[str, Any] | Type | None) -> Type:
    from jota.meta.cel import types

    if given is None:
        return types.DYN
    if isinstance(given, types.Type):
        return given
    return types.of_schema(given, root=bool(given.get("x-jota-root"))) or types.DYN
