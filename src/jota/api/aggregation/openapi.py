"""The OpenAPI documents of extension servers beside our own. In: our documents and the remotes. Out: merged documents.

v3: the index names their group versions; the documents themselves are passed through. v2: their paths and definitions are
added to ours; a definition of the same name and another content gets a name of its own. Their JSON is the source of both
forms of v2: the protobuf form, which only kubectl up to 1.2x reads, is made of it (openapi/gnostic.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from jota.aio.clock import Clock
from jota.aio.told import told
from jota.api.aggregation.remote import Remote
from jota.api.openapi import gnostic
from jota.api.openapi.documents import PROTOBUF, Document
from jota.kinds.kind import Object

log = logging.getLogger("jota.api.aggregation")
PERIOD = 60.0
"""Seconds for which what a server said is not asked again (upstream's)."""
_JSON = "application/json"
_DEFINITION, _PARAMETER = "#/definitions/", "#/parameters/"


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
        self._made: dict[str, tuple[tuple[str, ...], Document]] = {}
        """Content type -> (what it was made of, the document)."""
        self._lock = asyncio.Lock()

    async def v2(self, own: Document, remotes: list[Remote], protobuf: Document | None = None) -> Document:
        """GET /openapi/v2 as JSON, or like `protobuf`, our own in that form. A server that does not answer is left out, or
        remembered."""
        async with self._lock:
            self._said = {r.name: s for r in remotes if (s := self._said.get(r.name)) is not None}
            await asyncio.gather(*(self._ask(r) for r in remotes))
            key = (own.etag, *(f"{r.name} {self._said[r.name].etag}" for r in remotes))
            form = _JSON if protobuf is None else PROTOBUF
            made = self._made.get(form)
            if made is None or made[0] != key:
                found = [(r.root, self._said[r.name].body) for r in remotes]
                if protobuf is None:
                    document = await asyncio.to_thread(merge, own, found)
                else:
                    document = await asyncio.to_thread(merge_protobuf, own, protobuf, found)
                made = self._made[form] = key, document
            return made[1]

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
            log.info("APIService %s: /openapi/v2 cannot be read: %s", remote.name, told(problem))
            return
        if answer.status == 200:
            digest = hashlib.sha256(answer.body).hexdigest()
            said.etag, said.body = answer.headers.get("etag") or digest, answer.body


def merge(own: Document, found: list[tuple[str, bytes]]) -> Document:
    """`found`: (root of a group version, Swagger as JSON). Of each server only what is below the root counts."""
    return _document(orjson.dumps(_merged(own, found)[0]))


def merge_protobuf(own: Document, protobuf: Document, found: list[tuple[str, bytes]]) -> Document:
    """The same in the form of `protobuf`, which says what `own` says."""
    _, added = _merged(own, found)
    paths: Object = {}
    definitions: Object = {}
    for one in added:
        paths |= one.paths
        definitions |= one.definitions
    known = orjson.loads(own.identity())["definitions"]
    definitions = {name: value for name, value in definitions.items() if name not in known}
    roots = tuple(one.root for one in added)
    return _document(gnostic.extended(protobuf.identity(), roots, paths, definitions), PROTOBUF)


class _Added(NamedTuple):
    """What one server brought."""

    root: str
    paths: Object
    definitions: Object


def _merged(own: Document, found: list[tuple[str, bytes]]) -> tuple[Object, list[_Added]]:
    whole = orjson.loads(own.identity())
    added = []
    for root, body in found:
        try:
            theirs = orjson.loads(body) if body else {}
            one = _add(whole, theirs, root) if isinstance(theirs, dict) else None
        except (orjson.JSONDecodeError, RecursionError) as problem:
            log.info("the OpenAPI document of the server of %s is left out: %s", root, problem)
            continue
        if one is not None:
            added.append(one)
    return whole, added


def _add(whole: Object, theirs: Object, root: str) -> _Added | None:
    paths, definitions, shared = theirs.get("paths"), theirs.get("definitions"), theirs.get("parameters")
    if not isinstance(paths, dict) or not isinstance(definitions, dict):
        return None
    chosen = {
        path: _inlined(item, shared if isinstance(shared, dict) else {})
        for path, item in paths.items()
        if f"{path}/".startswith(f"{root}/")
    }
    names = {name: _free(name, definitions[name], whole["definitions"]) for name in _closure(chosen, definitions)}
    added = {new: _renamed(definitions[name], names) for name, new in names.items()}
    items = {path: _renamed(item, names) for path, item in chosen.items()}
    if not all(isinstance(one, dict) for one in (*added.values(), *items.values())):
        return None  # clients decode the whole document: one entry that is none would take ours from them, too
    # what this server itself would say of the group version is hidden behind the other's
    kept = {path: item for path, item in whole["paths"].items() if not f"{path}/".startswith(f"{root}/")}
    whole["definitions"] |= added
    whole["paths"] = kept | items
    return _Added(root, items, added)


def _inlined(value: Any, shared: Object) -> Any:
    """With the parameters that it refers to: another server's table of them does not come along."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PARAMETER):
            return shared.get(reference[len(_PARAMETER) :], value)
        return {key: _inlined(child, shared) for key, child in value.items()}
    return [_inlined(child, shared) for child in value] if isinstance(value, list) else value


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


def _document(body: bytes, content_type: str = _JSON) -> Document:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    digest = hashlib.sha256(body).hexdigest().upper()
    return Document(content_type, f'"{digest}"', squeeze.compress(body) + squeeze.flush())
