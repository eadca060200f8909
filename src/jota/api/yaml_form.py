"""Answers in YAML, for the few who ask for it: JSON answers are translated on their way out, as with protobuf (protobuf_form.py).

In a thread, for it takes a millisecond for each thousand bytes. In: what the verbs answered. Who asks is found by respond.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import yaml

from jota.api import lazily
from jota.wire.message import Response, joined

CONTENT_TYPE = "application/yaml"


async def answer(response: Response) -> Response:
    body = joined(response.body)
    text = await asyncio.to_thread(_translated, body)
    headers = [(n, CONTENT_TYPE if n == "Content-Type" else value) for n, value in response.headers]
    return Response(response.status, headers, text)


def _translated(body: bytes) -> bytes:
    """An object; lists in it (items, rows) one by one: the emitter is C, and nobody else has a turn while it is at work."""
    parts: list[str] = []
    for name, value in sorted(lazily.fields(body).items()):
        begun = _dump({name: []}).removesuffix(" []\n") if isinstance(value, Iterator) else ""
        items = [_dump([item]) for item in value] if begun and "\n" not in begun else []
        if items:
            parts += [begun, "\n", *items]
        else:
            parts.append(_dump({name: list(value) if isinstance(value, Iterator) else value}))
    return "".join(parts).encode()


def _dump(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=True)
    return text
