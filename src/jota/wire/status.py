"""The few `v1 Status` bodies that the edge itself must speak, as bytes. Everything else is said by `meta/errors.py`.

The edge answers before any handler is reached (malformed, too large, too slow), and ends exec sessions with a Status on
their error channel; clients expect Kubernetes' own shape there too. This package may not import `meta`.
"""

from __future__ import annotations

from typing import Any

import orjson

from jota.wire.message import Response

JSON = ("Content-Type", "application/json")


def status_bytes(code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> bytes:
    """A Failure Status; `reason` is one of apimachinery's StatusReason words."""
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details:
        body["details"] = details
    body["code"] = code
    return orjson.dumps(body)


def refusal(code: int, reason: str, message: str, *headers: tuple[str, str]) -> Response:
    """A whole answer with a Status as its body."""
    return Response(code, [JSON, *headers], status_bytes(code, reason, message))


SUCCESS = orjson.dumps({"metadata": {}, "status": "Success"})
"""What ends an exec whose command returned 0."""
