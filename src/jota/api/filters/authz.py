"""Authorization: members of system:masters may do everything; then the configured authorizers are asked, in their order.

The first that allows or denies settles it (upstream's union). Node and RBAC answer from memory; only when the question gets as
far as a webhook does anybody wait. Next: node.py, ../rbac/index.py, ../authz/webhook.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from jota.api.filters.attributes import (
    ALLOWED,
    MASTERS,
    NO_OPINION,
    Attributes,
    Authorizer,
    Decision,
    Undecided,
    User,
)
from jota.api.rbac.index import RbacIndex
from jota.api.rbac.rules import Rule

Texts = tuple[str, ...]
_NONE: Texts = ()
_STAR = frozenset("*")
EVERYTHING = [Rule(_STAR, _STAR, _STAR), Rule(_STAR, urls=("*",))]
Rules = tuple[list[Rule], str]
"""(the rules that are known, why there may be more or "")."""


async def decide(authorizer: Authorizer, user: User, attributes: Attributes) -> Decision:
    """`authorize`, waiting where it must. An answer that does not come is no permission."""
    try:
        return authorizer.authorize(user, attributes)
    except Undecided as question:
        return await question.answer()


class Rbac:
    """An Authorizer (attributes.py)."""

    def __init__(self, index: RbacIndex) -> None:
        self._index = index

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        return ALLOWED if self._index.allows(user, attributes) else NO_OPINION

    def always(self, user: User, asked: Attributes) -> bool | None:
        return self._index.always(user, asked) or None

    def rules(self, user: User, namespace: str) -> Rules:
        return self._index.rules(user, namespace), ""


class AlwaysAllow:
    """An Authorizer (attributes.py)."""

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        return ALLOWED

    def always(self, user: User, asked: Attributes) -> bool | None:
        return True

    def rules(self, user: User, namespace: str) -> Rules:
        return EVERYTHING, ""


class AlwaysDeny:
    """An Authorizer (attributes.py). As upstream's it has no opinion: who comes later may still allow."""

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        return Decision(False, "Everything is forbidden.")


class ClusterAuthorizer:
    """An Authorizer (attributes.py): the chain. `chain` may be replaced at any moment; questions at work keep the old one."""

    def __init__(self, chain: Sequence[Authorizer]) -> None:
        self.chain = tuple(chain)

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """A denial needs no reason: api/chain.py says who could not do what. Raises Undecided."""
        if MASTERS in user.groups:
            return ALLOWED
        return _ask(self.chain, user, attributes, _NONE, _NONE)

    def always(self, user: User, asked: Attributes) -> bool | None:
        """True: the user may, whatever the name, until a role, a binding or the order of authorizers changes. None: nobody here
        denies it, whatever the name. False: each request must be asked about. `asked` has no name."""
        if MASTERS in user.groups:
            return True
        for part in self.chain:
            always: Callable[[User, Attributes], bool | None] | None = getattr(part, "always", None)
            found = False if always is None else always(user, asked)
            if found is not None:
                return found
        return None

    def rules(self, user: User, namespace: str) -> Rules:
        """What the user may do in a namespace, as far as authorizers can tell."""
        held, unknown = list(EVERYTHING if MASTERS in user.groups else ()), ""
        for part in self.chain:
            told: Callable[[User, str], Rules] | None = getattr(part, "rules", None)
            if told is not None:
                more, why = told(user, namespace)
                held, unknown = [*held, *(rule for rule in more if rule not in held)], unknown or why
        return held, unknown


def _ask(chain: tuple[Authorizer, ...], user: User, asked: Attributes, reasons: Texts, errors: Texts) -> Decision:
    """`reasons`, `errors`: of those that were asked before. Raises Undecided, whose answer goes on from there."""
    for n, part in enumerate(chain):
        try:
            found = part.authorize(user, asked)
        except Undecided as question:
            raise Undecided(partial(_wait, question, chain[n + 1 :], user, asked, reasons, errors)) from None
        if found.allowed:
            return found
        if found is not NO_OPINION:
            return _after(found, chain[n + 1 :], user, asked, reasons, errors)
    if not reasons and not errors:
        return NO_OPINION
    return Decision(False, "\n".join(reasons), False, "; ".join(errors))


def _after(
    found: Decision, rest: tuple[Authorizer, ...], user: User, asked: Attributes, reasons: Texts, errors: Texts
) -> Decision:
    """What comes of an answer that does not allow. Raises Undecided."""
    reasons = (*reasons, found.reason) if found.reason else reasons
    errors = (*errors, found.error) if found.error else errors
    if found.denied:
        return Decision(False, "\n".join(reasons), True, "; ".join(errors))
    return _ask(rest, user, asked, reasons, errors)


async def _wait(
    question: Undecided, rest: tuple[Authorizer, ...], user: User, asked: Attributes, reasons: Texts, errors: Texts
) -> Decision:
    found = await question.answer()
    if found.allowed:
        return found
    try:
        return _after(found, rest, user, asked, reasons, errors)
    except Undecided as next_:
        return await next_.answer()
