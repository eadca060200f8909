"""Requests by other verbs that make something: who may not create may not do so that way, either.

A PUT or an apply of what is not there makes it (upstream's withAuthorization); a WebSocket opens a stream. In: the Call. Next:
verbs/update.py, verbs/apply.py, admission/connect.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jota.api.filters.attributes import Attributes
from jota.api.filters.authz import decide
from jota.api.filters.refusal import refused

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine


async def require(engine: Engine, call: Call) -> None:
    """Raises ApiError 403, 500."""
    authorizer, target = engine.webhooks.authorizer(), call.target
    if authorizer is None:
        return
    asked = Attributes(
        call.user,
        "create",
        target.group,
        target.version,
        target.resource,
        target.subresource,
        target.namespace,
        target.name,
        target.path,
    )
    decision = await decide(authorizer, call.user, asked)
    if not decision.allowed:
        raise refused(asked, decision)
