"""Kept inputs: corpus/TARGET.json is a list of strings whose characters are bytes, smallest first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
TARGETS = sorted(p.stem for p in (HERE / "targets").glob("*.py") if p.stem not in ("__init__", "kit"))


def read(name: str) -> list[bytes]:
    file = HERE / "corpus" / f"{name}.json"
    return [text.encode("latin-1") for text in json.loads(file.read_text())] if file.exists() else []


def write(name: str, inputs: list[bytes]) -> None:
    lines = ",\n".join(json.dumps(data.decode("latin-1")) for data in inputs)
    (HERE / "corpus" / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def minimised(check: Callable[[bytes], None], inputs: list[bytes], limit: int) -> list[bytes]:
    """Small inputs that together pass every step from line to line of our code that all of them pass, up to `limit`
    bytes as they are written."""
    kept: list[bytes] = []
    seen: set[tuple[Any, int, int]] = set()
    size = 0
    for data in sorted(set(inputs), key=lambda one: (len(one), one)):
        steps = covered(check, data)
        cost = len(json.dumps(data.decode("latin-1"))) + 2
        if not steps <= seen and size + cost <= limit:
            kept.append(data)
            seen |= steps
            size += cost
    return kept


def covered(check: Callable[[bytes], None], data: bytes) -> set[tuple[Any, int, int]]:
    steps: set[tuple[Any, int, int]] = set()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if "/jota/" not in frame.f_code.co_filename:
            return None
        last, code = 0, frame.f_code

        def lines(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            if event == "line":
                steps.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return lines

        return lines

    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return steps
