"""What one client may cost an HTTP server. Used by reading.py, connection.py and http.py."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("inf")
"""A deadline that does not come."""


@dataclass(slots=True, frozen=True)
class Limits:
    """What a client may cost. Bytes and seconds."""

    header: int = 64 * 1024
    """Request line and headers. Go's servers take 1 MiB; nothing a Kubernetes client sends comes near this."""
    headers: int = 200
    body: int = 3 * 1024 * 1024
    """As the API server's own limit (3 MiB)."""
    connections: int = 10_000
    header_time: float = 15.0
    body_time: float = 60.0
    idle: float = 180.0
    write_time: float = 60.0
    """How long a peer may take nothing of an answer that waits for it."""
    pipelined: int = 8
    """Waiting requests above which the socket is not read."""
    handshake: float = 15.0
