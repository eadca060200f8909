"""pods/log: the output of a container, as plain text from the node agent."""

from __future__ import annotations

from urllib.parse import urlencode

from jota.aio.clock import parse_rfc3339
from jota.api.call import Call
from jota.api.path import flag, integer
from jota.api.resource import Engine
from jota.api.subresources import kubelet
from jota.kinds.shape import part, text
from jota.meta.errors import ApiError, FieldError, bad_request, invalid, invalid_object
from jota.wire.message import Response

FLAGS = ("follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend")
NUMBERS = ("sinceSeconds", "tailLines", "limitBytes")
STREAMS = ("All", "Stdout", "Stderr")
TEXT = ("Content-Type", "text/plain")


async def get(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 422, 500, 503."""
    pod = kubelet.stored_pod(engine, call)
    container = kubelet.container_of(pod, call.params.get("container", ""))
    query = options(call)
    node = text(part(pod, "spec"), "nodeName")
    if not node:
        return Response(200, [TEXT], b"")
    path = kubelet.pod_path("containerLogs", pod, container)
    return await kubelet.hand_over(engine, call.request, node, path, query)


def options(call: Call) -> str:
    """PodLogOptions of the query, judged and spelled for the node agent. Raises ApiError 400, 422."""
    params = call.params
    kept: list[tuple[str, str]] = [(name, "true") for name in FLAGS if flag(params, name)]
    errors: list[FieldError] = []
    for name in NUMBERS:
        value = integer(params, name)
        if value is not None:
            kept.append((name, str(value)))
            if value < (0 if name == "tailLines" else 1):
                least = "greater than or equal to 0" if name == "tailLines" else "greater than 0"
                errors.append(invalid(name, value, f"must be {least}"))
    if params.get("sinceTime"):
        kept.append(("sinceTime", _time(params["sinceTime"])))
        if "sinceSeconds" in params:
            errors.append(
                FieldError("FieldValueForbidden", "", "at most one of `sinceTime` or `sinceSeconds` may be specified")
            )
    if params.get("stream"):
        if params["stream"] not in STREAMS:
            raise ApiError(
                422, "Invalid", f'PodLogOptions "" is invalid: stream: Unsupported value: "{params["stream"][:32]}"'
            )
        kept.append(("stream", params["stream"]))
    if errors:
        raise invalid_object("PodLogOptions", call.target.name, errors)
    return urlencode(kept)


def _time(value: str) -> str:
    try:
        parse_rfc3339(value)
    except ValueError:
        raise bad_request(f'parsing time "{value[:64]}": not an RFC 3339 time') from None
    return value


VERBS = {"get": get}
