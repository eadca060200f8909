"""The values that a policy's expressions see for one write, and their evaluation within a budget of cost.

`variables` are evaluated when they are first named, once. `authorizer` asks the cluster's authorizer about whoever writes; when
that must wait, the evaluation is given up and begun again with the answer (`patiently`).
Texts are upstream's (k8s.io/apiserver/pkg/admission/plugin/cel).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jota.aio import slices
from jota.api.filters.attributes import Attributes, Authorizer, Decision, Undecided, User
from jota.kinds.kind import Object
from jota.meta import cel
from jota.meta.cel.admission import REQUEST_RESOURCE
from jota.meta.cel.values import AuthorizerValue, ResourceCheck, timestamp

T = TypeVar("T")


class Failed(Exception):
    """An expression has no result; the text says why."""


class OutOfBudget(Failed):
    """Nothing more may be evaluated for this policy."""


class Scope:
    def __init__(self, values: dict[str, Any], variables: dict[str, cel.Program], budget: int = cel.BUDGET) -> None:
        self.left = budget
        self._values = {**values, "variables": _Variables(self, variables)}

    def run(self, program: cel.Program) -> Any:
        """Raises Failed, OutOfBudget."""
        try:
            return self.measure(program)
        except cel.CelError as error:
            raise Failed(f"expression '{program.source.strip()}' resulted in error: {error}") from None

    def measure(self, program: cel.Program) -> Any:
        """Raises CelError, OutOfBudget."""
        try:
            result, spent = program.measure(self._values, cel.CALL_LIMIT)
        except cel.CelError as problem:
            self._spend(problem.spent)
            raise
        self._spend(spent)
        return result

    def _spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise OutOfBudget(cel.OUT_OF_BUDGET)


class Waits(Exception):
    """An evaluation cannot go on before an authorizer outside has answered."""

    def __init__(self, question: Undecided, known: dict[str, Decision], asked: str) -> None:
        super().__init__(str(question))
        self._question, self._known, self._asked = question, known, asked

    async def settle(self) -> None:
        self._known[self._asked] = await self._question.answer()


async def patiently(evaluate: Callable[[], T]) -> T:
    """`evaluate()`, again after each answer that it had to wait for; it must begin anew each time (its Scope, too).

    It comes to an end: each time one more answer is known, and checks are dear (library/authorization.py)."""
    while True:
        try:
            return await slices.run(evaluate)
        except Waits as waits:
            await waits.settle()


_NOT_YET: Any = object()


class _Variables(dict[str, Any]):
    """A map that is filled while it is read; what failed once fails again in the same words."""

    def __init__(self, scope: Scope, programs: dict[str, cel.Program]) -> None:
        super().__init__(dict.fromkeys(programs, _NOT_YET))
        self._scope, self._programs = scope, programs

    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name, default)
        if found is _NOT_YET:
            try:
                found = self._scope.measure(self._programs[name])
            except cel.CelError as error:
                found = cel.CelError(f'composited variable "{name}" fails to evaluate: {error}')
            self[name] = found
        if isinstance(found, cel.CelError):
            raise found
        return found


def namespace_object(namespace: Object | None) -> Object | None:
    """A Namespace as expressions see it: times are times, managedFields are not there."""
    if namespace is None:
        return None
    hidden = ("managedFields", "ownerReferences")
    metadata = {key: value for key, value in namespace["metadata"].items() if key not in hidden}
    for key in ("creationTimestamp", "deletionTimestamp"):
        if key in metadata:
            metadata[key] = timestamp(metadata[key])
    return {"metadata": metadata, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}


def request_value(review: Object) -> Object:
    """An AdmissionReview's request without the objects; what is empty is not there."""
    return {k: v for k, v in review.items() if k not in ("uid", "object", "oldObject") and v != ""}


def authorizer_values(authorizer: Authorizer | None, user: User, review: Object) -> dict[str, Any]:
    """`authorizer` and `authorizer.requestResource`."""
    known: dict[str, Decision] = {}

    def decide(who: Any, asked: dict[str, Any]) -> tuple[bool, str, str]:
        if authorizer is None:
            return True, "", ""
        attributes = _attributes(who, asked)
        question = repr(attributes)
        if question not in known:
            try:
                known[question] = authorizer.authorize(attributes.user, attributes)
            except Undecided as undecided:
                raise Waits(undecided, known, question) from None
        found = known[question]
        return found.allowed, found.reason, found.error

    value, resource = AuthorizerValue(user, decide), review["resource"]
    own = ResourceCheck(
        value,
        resource["group"],
        resource["resource"],
        review.get("subResource", ""),
        review.get("namespace", ""),
        review.get("name", ""),
    )
    return {"authorizer": value, REQUEST_RESOURCE: own}


def _attributes(who: Any, asked: dict[str, Any]) -> Attributes:
    user = who if isinstance(who, User) else _service_account(*who[1:])
    if "path" in asked:
        return Attributes(user, asked["verb"].lower(), path=asked["path"])
    many = asked["verb"] in ("list", "watch", "deletecollection")
    return Attributes(
        user,
        asked["verb"],
        asked["group"],
        "*",
        asked["resource"],
        asked["subresource"],
        asked["namespace"],
        asked["name"],
        "",
        asked["fields"] if many else "",
        asked["labels"] if many else "",
    )


def _service_account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups=groups)
