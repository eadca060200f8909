"""authentication.k8s.io: TokenReview (whose token is this?) and SelfSubjectReview (who am I?)."""

from __future__ import annotations

from typing import Any

from jota.aio.clock import rfc3339
from jota.api import respond
from jota.api.call import Call
from jota.api.filters.attributes import User
from jota.api.filters.authn import Authentication
from jota.api.resource import Engine
from jota.api.served import Verb
from jota.api.subresources import body
from jota.meta.errors import ApiError
from jota.wire.message import Response

_PACKAGE = "io.k8s.api.authentication.v1."
_GROUP = "authentication.k8s.io/v1"


def token(authentication: Authentication) -> Verb:
    async def create(engine: Engine, call: Call) -> Response:
        review = body.read(call, _PACKAGE + "TokenReview", "TokenReview")
        spec = body.part(review, "spec")
        try:
            user, audiences = await authentication.by_token(spec.get("token", ""), tuple(spec.get("audiences") or ()))
        except ApiError as refusal:
            status: dict[str, Any] = {"authenticated": False, "error": refusal.message}
        else:
            status = {"authenticated": True, "user": user_info(user), "audiences": audiences}
        answer = {"kind": "TokenReview", "apiVersion": _GROUP, "metadata": {}, "spec": spec, "status": status}
        return respond.json(call, answer, 201)

    return create


async def self_(engine: Engine, call: Call) -> Response:
    answer = {
        "kind": "SelfSubjectReview",
        "apiVersion": _GROUP,
        "metadata": {"creationTimestamp": rfc3339(engine.clock.now())},
        "status": {"userInfo": user_info(call.user)},
    }
    return respond.json(call, answer, 201)


def user_info(user: User) -> dict[str, Any]:
    """authentication.k8s.io UserInfo."""
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = user.extra
    return info
