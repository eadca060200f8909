"""An issuer's claims -> a User: validation rules, mappings, user validation. Pure; the CEL programs are compiled once.

Semantics are those of apiserver.config.k8s.io/v1 AuthenticationConfiguration; the --oidc-* flags make the same `Mapping`.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jota.api.filters.attributes import User
from jota.pki.jwt import BadToken

if TYPE_CHECKING:
    from jota.meta.cel import Program

AUTHENTICATED = "system:authenticated"
_SETTLED = {AUTHENTICATED, "system:unauthenticated"}


def with_authenticated(name: str, groups: list[str]) -> tuple[str, ...]:
    """The groups of somebody who was vouched for: authenticated, unless that is said already, or the contrary is
    (upstream's group adder)."""
    settled = name == "system:anonymous" or not _SETTLED.isdisjoint(groups)
    return tuple(dict.fromkeys(groups if settled else (*groups, AUTHENTICATED)))


@dataclass(slots=True, frozen=True)
class Source:
    """Where a value comes from: a claim with a prefix, or an expression over `claims`."""

    claim: str = ""
    prefix: str = ""
    expression: Program | None = None

    @property
    def given(self) -> bool:
        return bool(self.claim) or self.expression is not None


@dataclass(slots=True, frozen=True)
class Rule:
    """A claim that must have a value, or an expression that must be true."""

    claim: str = ""
    value: str = ""
    expression: Program | None = None
    message: str = ""


@dataclass(slots=True, frozen=True)
class Mapping:
    username: Source
    groups: Source = Source()
    uid: Source = Source()
    extra: tuple[tuple[str, Program], ...] = ()
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = field(default=())


def user_of(claims: dict[str, Any], mapping: Mapping) -> User:
    """Raises BadToken with what is wrong with the claims."""
    for rule in mapping.claim_rules:
        _check_claims(claims, rule)
    name = _username(claims, mapping.username)
    groups = _groups(claims, mapping.groups)
    uid = _uid(claims, mapping.uid)
    extra = {}
    for key, program in mapping.extra:
        values = _texts(_evaluate(program, {"claims": claims}), f"extra {key}")
        if values:
            extra[key] = values
    user = User(name, uid, with_authenticated(name, groups), extra)
    shown = {"username": name, "uid": uid, "groups": groups, "extra": extra}
    for rule in mapping.user_rules:
        if rule.expression is not None and _evaluate(rule.expression, {"user": shown}) is not True:
            raise BadToken(rule.message or f"the user does not meet {rule.expression.source!r}")
    return user


def _check_claims(claims: dict[str, Any], rule: Rule) -> None:
    if rule.expression is not None:
        if _evaluate(rule.expression, {"claims": claims}) is not True:
            raise BadToken(rule.message or f"the claims do not meet {rule.expression.source!r}")
    elif claims.get(rule.claim) != rule.value:
        raise BadToken(f"the claim {rule.claim!r} does not have the required value")


def _username(claims: dict[str, Any], source: Source) -> str:
    if source.expression is not None:
        name = _evaluate(source.expression, {"claims": claims})
    else:
        name = claims.get(source.claim)
        if source.claim == "email" and claims.get("email_verified", True) is not True:
            raise BadToken("the email is not verified")
        if isinstance(name, str) and name:
            name = source.prefix + name
    if not isinstance(name, str) or not name:
        raise BadToken("the token gives no username")
    return name


def _groups(claims: dict[str, Any], source: Source) -> list[str]:
    if source.expression is not None:
        return _texts(_evaluate(source.expression, {"claims": claims}), "groups")
    if not source.claim or source.claim not in claims:
        return []
    return [source.prefix + group for group in _texts(claims[source.claim], "groups")]


def _uid(claims: dict[str, Any], source: Source) -> str:
    if not source.given:
        return ""
    found = claims.get(source.claim) if source.expression is None else _evaluate(source.expression, {"claims": claims})
    if not isinstance(found, str):
        raise BadToken("the uid is no text")
    return found


def _texts(value: Any, what: str) -> list[str]:
    """A text or a list of texts; "", null and [] are none."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return [v for v in value if v]
    raise BadToken(f"{what}: neither a text nor a list of texts")


def _evaluate(program: Program, values: Map[str, Any]) -> Any:
    from jota.meta.cel import CelError

    try:
        return program.evaluate(values)
    except CelError as error:
        raise BadToken(f"{program.source!r}: {error}") from None
