"""What a dead container leaves to tell: its termination message and the last lines of its log. In: paths. Out: short texts."""

from __future__ import annotations

import os

from jota.node.model import Part
from jota.node.start import termination_file
from jota.runtime.protocol import Container

MESSAGE_LIMIT = 4096
FALLBACK_BYTES, FALLBACK_LINES = 2048, 80
LAST_LINE_LIMIT = 200


def termination_message(pod_dir: str, p: Part, c: Container) -> str:
    """The message file's content; with FallbackToLogsOnError the end of the log of a failed container without one."""
    text = _tail(termination_file(pod_dir, c.name, c.attempt), MESSAGE_LIMIT, head=True)
    if not text and c.exit_code != 0 and p.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        text = "".join(log_lines(c.log_path, FALLBACK_LINES))[-FALLBACK_BYTES:]
    return text


def last_line(c: Container) -> str:
    """The last non-empty line of the log, for people who look at a crash loop; "" without one."""
    for line in reversed(log_lines(c.log_path, 20)):
        if line.strip():
            return line.strip()[:LAST_LINE_LIMIT]
    return ""


def log_lines(path: str, count: int) -> list[str]:
    """The last `count` messages of a log in the CRI format ("<time> stdout F message")."""
    out: list[str] = []
    partial = ""
    for line in _tail(path, 64 << 10).splitlines():
        fields = line.split(" ", 3)
        if len(fields) < 4:
            continue
        partial += fields[3]
        if fields[2] == "F":
            out.append(partial + "\n")
            partial = ""
    if partial:
        out.append(partial)
    return out[-count:]


def _tail(path: str, limit: int, head: bool = False) -> str:
    try:
        with open(path, "rb") as f:
            if not head:
                size = f.seek(0, os.SEEK_END)
                f.seek(max(0, size - limit))
            return f.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""  # no file, no message: the container never wrote one
