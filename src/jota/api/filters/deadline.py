"""How long a request may take: the `timeout` parameter, at most the server's own limit (upstream's WithRequestDeadline)."""

from __future__ import annotations

from jota.api import respond
from jota.meta.duration import parse
from jota.meta.errors import ApiError, bad_request
from jota.wire.message import Response


def allowed(params: dict[str, str], most: float) -> float:
    """Seconds. Raises ApiError 400 for a `timeout` that is no duration."""
    text = params.get("timeout", "")
    if not text:
        return most
    try:
        seconds = parse(text)
    except ValueError as error:
        raise bad_request(f"invalid timeout specified in the request URL - {error}") from None
    return min(seconds, most) if seconds > 0 else most


def gone() -> Response:
    """What would be said to a client who closed the connection: what was begun for him goes on, and is in the audit log."""
    return respond.error(ApiError(504, "Timeout", "the client closed the connection before the request was completed"))


def exceeded() -> ApiError:
    return ApiError(504, "Timeout", "Timeout: request did not complete within the allotted timeout", retry_after=1)
