"""What is told to whom authorization does not let in: 403 in upstream's words. In: the question and the decision."""

from __future__ import annotations

from jota.api.filters.attributes import Attributes, Decision
from jota.meta.errors import ApiError, forbidden, internal


def refused(asked: Attributes, decision: Decision) -> ApiError:
    """500 when an authorizer failed and no other allowed it."""
    if decision.error:
        return internal(decision.error)
    reason, who = decision.reason, asked.user.name
    if not asked.resource:
        text = f'forbidden: User "{who}" cannot {asked.verb} path "{asked.path}"'
        return ApiError(403, "Forbidden", text + (f": {reason}" if reason else ""))
    what = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    where = f' in the namespace "{asked.namespace}"' if asked.namespace else " at the cluster scope"
    detail = f'User "{who}" cannot {asked.verb} resource "{what}" in API group "{asked.group}"{where}'
    return forbidden(asked.resource, asked.name, detail + (f": {reason}" if reason else ""), asked.group)
