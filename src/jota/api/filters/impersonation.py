"""Impersonate-User, -Group, -Uid and -Extra-*: act as somebody else, if the authorizers grant the verb `impersonate` for each."""

from __future__ import annotations

from urllib.parse import unquote

from jota.api.filters.attributes import Attributes, Authorizer, User
from jota.api.filters.authz import decide
from jota.api.filters.requestheader import values
from jota.meta.errors import bad_request, forbidden
from jota.wire.message import Request

_EXTRA = "impersonate-extra-"
_SERVICE_ACCOUNT = "system:serviceaccount:"


def asked(request: Request) -> bool:
    """Whether the request asks to act as somebody. Raises ApiError 400 for parts of a user without a name."""
    if "impersonate-user" in request.headers:
        return True
    for header in request.headers:
        if header.startswith("impersonate-"):
            raise bad_request(f"requested {header} without impersonating a user")
    return False


async def impersonate(authorizer: Authorizer | None, user: User, request: Request) -> User:
    """The user to go on as. Raises ApiError 403."""
    headers = request.headers
    name = values(headers["impersonate-user"])[0]
    asked = [_user_question(user, name)]
    groups = [g for g in values(headers.get("impersonate-group", "")) if g]
    asked += [Attributes(user, "impersonate", resource="groups", name=g, version="v1") for g in groups]
    uid = values(headers.get("impersonate-uid", ""))[0]
    if uid:
        asked.append(Attributes(user, "impersonate", "authentication.k8s.io", "v1", "uids", name=uid))
    extra: dict[str, list[str]] = {}
    for header, value in headers.items():
        if header.startswith(_EXTRA):
            key = unquote(header[len(_EXTRA) :])
            extra[key] = values(value)
            asked += [
                Attributes(user, "impersonate", "authentication.k8s.io", "v1", "userextras", key, name=v)
                for v in extra[key]
            ]
    for question in asked:
        await _require(authorizer, user, question)
    return User(name, uid, _groups(name, tuple(groups)), extra)


def _user_question(user: User, name: str) -> Attributes:
    if name.startswith(_SERVICE_ACCOUNT) and name.count(":") == 3:
        namespace, account = name.split(":")[2:]
        return Attributes(
            user, "impersonate", version="v1", resource="serviceaccounts", namespace=namespace, name=account
        )
    return Attributes(user, "impersonate", version="v1", resource="users", name=name)


def _groups(name: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Whoever is impersonated counts as authenticated, but for anonymous (upstream)."""
    if not asked:
        return _implied_groups(name)
    implied = "system:unauthenticated" if name == "system:anonymous" else "system:authenticated"
    return asked if implied in asked else (*asked, implied)


def _implied_groups(name: str) -> tuple[str, ...]:
    """Without groups in the request, those that the name itself implies."""
    if name == "system:anonymous":
        return ("system:unauthenticated",)
    if name.startswith(_SERVICE_ACCOUNT) and name.count(":") == 3:
        namespace = name.split(":")[2]
        return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return ("system:authenticated",)


async def _require(authorizer: Authorizer | None, user: User, question: Attributes) -> None:
    if authorizer is None:
        return
    decision = await decide(authorizer, user, question)
    if not decision.allowed:
        detail = f'User "{user.name}" cannot impersonate resource "{question.resource}" in API group "{question.group}"'
        raise forbidden(
            question.resource,
            question.name,
            detail + (f": {decision.reason}" if decision.reason else ""),
            question.group,
        )
