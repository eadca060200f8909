"""The agent's own log file as entries of logs.py: plain lines, most of which begin with a local time.

`2026-01-02 03:04:05,678 jota.node INFO text` is what `cli/agent.py` sets up. A line without a time (a traceback) belongs to
the entry before it and has its time; at the very beginning of what is read there may be none, and such lines have no time
at all. Everything counts as stderr, which is where the agent writes it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from jota.node.logs import Entry

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ")


class Lines:
    """Reads one line after the other; remembers the time for those that follow."""

    def __init__(self) -> None:
        self._time = b""

    def __call__(self, line: bytes) -> Entry:
        self._time = _time(line) or self._time
        return Entry(self._time, b"stderr", False, line)


def _time(line: bytes) -> bytes:
    """In the form of container logs: UTC, nine digits."""
    found = _STAMP.match(line)
    if found is None:
        return b""
    try:
        local = datetime.fromisoformat(found[1].decode())
        moment = datetime.fromtimestamp(local.timestamp(), UTC)
    except (ValueError, OverflowError, OSError):
        return b""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{found[2].decode()}000000Z".encode()
