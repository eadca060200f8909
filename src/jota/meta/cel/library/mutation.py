"""What mutations need beside objects: keys inside the paths of a JSON patch."""

from __future__ import annotations

from jota.meta.cel.functions import Function, traversal


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


TABLE = [Function("jsonpatch.escapeKey", "(string) string", _escape, traversal(0, 0.2))]
