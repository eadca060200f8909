"""The OpenAPI documents of extension servers beside our own. In: our documents and the remotes. Out: merged documents.

v3: the index names their group versions; the documents themselves are passed through. v2: their paths and definitions are
added to ours as JSON; a definition of the same name and another content gets a name of its own. The protobuf form of v2,
which only kubectl up to 1.2x reads, stays ours alone: such clients then do not check what they send.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from jota.aio.clock import Clock
from jota.api.aggregation.remote import Remote
from jota.api.openapi.documents import Document
from jota.kinds.kind import Object

log = logging.getLogger("jota.api.aggregation")
PERIOD = 60.0
"""Seconds for which what a server said is not asked again (upstream's)."""
_JSON = "application/json"
_DEFINITION = "#/definitions/"


def v3_index(own: Document, remotes: Iterable[Remote]) -> Document:
    """GET /openapi/v3 with the group versions of servers that have a v3 document."""
    paths = orjson.loads(own.identity())["paths"]
    for remote in remotes:
        path = remote.root.lstrip("/")
        paths.pop(path, None)
        if remote.documents.openapi is not None:
            query = f"?hash={remote.documents.openapi}" if remote.documents.openapi else ""
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}{query}"}
    return _document(orjson.dumps({"paths": dict(sorted(paths.items()))}))


@dataclass(slots=True)
class _Said:
    """What a server answered last."""

    at: float
    etag: str = ""
    body: bytes = b""


class Merged:
    """Keeps the last merged document, and what it was made of."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[str, _Said] = {}
        self._made: tuple[tuple[str, ...], Document] | None = None
        self._lock = asyncio.Lock()

    async def v2(self, own: Document, remotes: list[Remote]) -> Document:
        """GET /openapi/v2 as JSON. A server that does not answer is left out, or remembered."""
        async with self._lock:
            self._said = {r.name: s for r in remotes if (s := self._said.get(r.name)) is not None}
            await asyncio.gather(*(self._ask(r) for r in remotes))
            key = (own.etag, *(f"{r.name} {self._said[r.name].etag}" for r in remotes))
            if self._made is None or self._made[0] != key:
                found = [(r.root, self._said[r.name].body) for r in remotes]
                self._made = key, await asyncio.to_thread(merge, own, found)
            return self._made[1]

    async def _ask(self, remote: Remote) -> None:
        said, now = self._said.get(remote.name), self._clock.monotonic()
        if said is not None and now - said.at < PERIOD:
            return
        said = self._said[remote.name] = _Said(now, said.etag, said.body) if said is not None else _Said(now)
        if not remote.available:
            return
        try:
            answer = await remote.fetch("/openapi/v2", _JSON, said.etag if said.etag.startswith('"') else "")
        except (OSError, TimeoutError) as problem:
            log.info("APIService %s: /openapi/v2 cannot be read: %s", remote.name, problem or type(problem).__name__)
            return
        if answer.status == 200:
            digest = hashlib.sha256(answer.body).hexdigest()
            said.etag, said.body = answer.headers.get("etag") or digest, answer.body


def merge(own: Document, found: list[tuple[str, bytes]]) -> Document:
    """`found`: (root of a group version, Swagger as JSON). Of each server only what is below the root counts."""
    whole = orjson.loads(own.identity())
    for root, body in found:
        try:
            theirs = orjson.loads(body) if body else {}
            if isinstance(theirs, dict):
                _add(whole, theirs, root)
        except (orjson.JSONDecodeError, RecursionError) as problem:
            log.info("the OpenAPI document of the server of %s is left out: %s", root, problem)
    return _document(orjson.dumps(whole))


def _add(whole: Object, theirs: Object, root: str) -> None:
    paths, definitions = theirs.get("paths"), theirs.get("definitions")
    if not isinstance(paths, dict) or not isinstance(definitions, dict):
        return
    chosen = {path: item for path, item in paths.items() if f"{path}/".startswith(f"{root}/")}
    names = {name: _free(name, definitions[name], whole["definitions"]) for name in _closure(chosen, definitions)}
    added = {new: _renamed(definitions[name], names) for name, new in names.items()}
    items = {path: _renamed(item, names) for path, item in chosen.items()}
    # what this server itself would say of the group version is hidden behind the other's
    kept = {path: item for path, item in whole["paths"].items() if not f"{path}/".startswith(f"{root}/")}
    whole["definitions"] |= added
    whole["paths"] = kept | items


def _closure(paths: Object, definitions: Object) -> list[str]:
    """The definitions that the paths need."""
    seen: dict[str, None] = {}
    waiting: list[Any] = [paths]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in seen and name in definitions:
                seen[name] = None
                waiting.append(definitions[name])
    return list(seen)


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINITION):
            yield reference[len(_DEFINITION) :]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def _free(name: str, definition: Any, taken: Object) -> str:
    """The name, or upstream's name_v2, name_v3, ... where another definition has it."""
    candidate, number = name, 2
    while candidate in taken and taken[candidate] != definition:
        candidate, number = f"{name}_v{number}", number + 1
    return candidate


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        out = {key: _renamed(child, names) for key, child in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINITION):
            name = reference[len(_DEFINITION) :]
            out["$ref"] = _DEFINITION + names.get(name, name)
        return out
    return [_renamed(child, names) for child in value] if isinstance(value, list) else value


def _document(body: bytes) -> Document:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    digest = hashlib.sha256(body).hexdigest().upper()
    return Document(_JSON, f'"{digest}"', squeeze.compress(body) + squeeze.flush())
