"""Go's text of durations ("1m30s", "500ms"), as flags, configuration files and query parameters of Kubernetes carry it."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST = 64


def parse(text: str) -> float:
    """Seconds; may be negative. Raises ValueError in the words of Go's time.ParseDuration.

    >>> parse("1m30s"), parse("-.5s"), parse("0")
    (90.0, -0.5, 0.0)
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0.0
    total, at = 0.0, 0
    if not body or len(body) > _LONGEST:
        raise ValueError(f'time: invalid duration "{text[:_LONGEST]}"')
    while at < len(body):
        piece = _PIECE.match(body, at)
        if piece is None:
            raise ValueError(f'time: invalid duration "{text}"')
        total += float(piece[1]) * _UNITS[piece[2]]
        at = piece.end()
    return -total if text.startswith("-") else total
