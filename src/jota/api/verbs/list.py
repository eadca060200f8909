"""GET of a collection: a page of objects at one revision, as joined bytes.

A continue token is opaque to clients: base64 of {"v","rv","start"}, the revision of page one and the last key given.
When history no longer reaches that revision the answer is 410 with a fresh token that goes on at the newest revision.
"""

from __future__ import annotations

import base64
from itertools import islice

import msgspec
import orjson

from jota.api import object as at_rest
from jota.api import respond, table
from jota.api.call import Call
from jota.api.items import Items
from jota.api.path import integer
from jota.api.resource import Engine
from jota.api.served import Selection
from jota.api.verbs import freshness
from jota.meta.errors import bad_request, expired
from jota.store.protocol import Compacted, Entry, FutureRevision
from jota.wire.message import Body, Part, Response

LATEST = -1
"""The revision in a token that was given out with a 410: "whatever is newest then"."""
CHUNK = 500


class Token(msgspec.Struct):
    v: str
    rv: int
    start: str


class Page:
    """What one list request found."""

    __slots__ = ("entries", "next", "remaining", "revision")

    def __init__(self, entries: list[Entry], revision: int, next_: str = "", remaining: int = 0) -> None:
        self.entries, self.revision, self.next, self.remaining = entries, revision, next_, remaining


def encode_token(revision: int, start: str) -> str:
    raw = msgspec.json.encode(Token("meta.k8s.io/v1", revision, start))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_token(text: str) -> Token:
    """Raises ApiError 400."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = msgspec.json.decode(raw, type=Token)
    except (ValueError, msgspec.DecodeError):
        raise bad_request("continue key is not valid: the token could not be decoded") from None
    if token.v != "meta.k8s.io/v1" or token.rv < LATEST or not token.start:
        raise bad_request("continue key is not valid: incorrect encoded version, revision or start")
    return token


async def list_(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 410, 422, 504."""
    selection = select(call)
    page = await find(engine, call, selection)
    metadata = {"resourceVersion": str(page.revision)}
    if page.next:
        metadata["continue"] = page.next
    head: dict[str, object] = dict(metadata)
    if page.remaining:
        head["remainingItemCount"] = page.remaining
    if call.accepted.form == "Table":
        rows = await table.of_entries(call, page.entries, head, engine.clock, table.include(call))
        return respond.encoded(call, rows)
    return respond.encoded(call, render(call, page.entries, head))


def select(call: Call) -> Selection:
    """The selection that a collection request asks for. Raises ApiError 400."""
    params = call.params
    return Selection(
        call.served, call.target.namespace, params.get("labelSelector", ""), params.get("fieldSelector", "")
    )


def render(call: Call, entries: list[Entry], metadata: dict[str, object]) -> Body:
    """The List object. It is never joined: that would copy (and page in) the whole list once more."""
    served, accepted = call.served, call.accepted
    if accepted.form == "Metadata":
        group = f"meta.k8s.io/{accepted.version}"
        opening, item = at_rest.head(group, "PartialObjectMetadataList"), respond.metadata_head(accepted.version)
        render_one = at_rest.render_metadata
    else:
        opening, item = served.list_head, served.head if served.custom else b"{"
        render_one = served.render if served.converted else at_rest.render
    start = opening + b'"metadata":' + orjson.dumps(metadata) + b',"items":['
    if entries and render_one is at_rest.render:
        return Items(start, entries, item, b"]}")
    parts: list[Part] = [start]
    if entries:
        first = entries[0]
        parts.append(render_one(first.value or b"", first.revision, item))
        item = b"," + item
        parts += [render_one(e.value or b"", e.revision, item) for e in entries[1:]]
    parts.append(b"]}")
    return parts


async def find(engine: Engine, call: Call, selection: Selection) -> Page:
    """The page that the parameters ask for. Raises ApiError 400, 410, 422, 504."""
    params, store = call.params, engine.store
    freshness.check_match(params, watch=False)
    integer(params, "timeoutSeconds")  # a list never waits; what cannot be read is refused all the same, as upstream's
    limit = integer(params, "limit") or 0
    if limit < 0:
        raise bad_request("limit: Invalid value: must be non-negative")
    version, token = params.get("resourceVersion", ""), params.get("continue", "")
    if token:
        return await _continued(engine, selection, decode_token(token), limit, version)
    asked = freshness.parse(version)
    match = params.get("resourceVersionMatch", "")
    if match == "Exact" or (limit and asked and not match):  # a page at a version is of that version: upstream's legacy
        await freshness.not_older_than(engine, asked)
        return await _page(engine, selection, "", limit, asked)
    if not version:
        await store.sync()
    elif asked:
        await freshness.not_older_than(engine, asked)
    return await _page(engine, selection, "", limit, 0)


async def _continued(engine: Engine, selection: Selection, token: Token, limit: int, version: str) -> Page:
    if version not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    if token.rv == LATEST:
        await engine.store.sync()
    return await _page(engine, selection, token.start, limit, max(token.rv, 0))


async def _page(engine: Engine, selection: Selection, start: str, limit: int, revision: int) -> Page:
    """`start`: the key after which to go on, relative to the selection's prefix."""
    prefix = selection.prefix
    after = prefix + start if start else ""
    at = revision or engine.store.revision
    try:
        if selection.served.foreign:
            found = await _converted(engine, selection, after, limit, at)
        else:
            found = _matching(engine, selection, after, limit, revision)
        if not limit or len(found) <= limit:
            return Page(found, at)
        last = found[limit - 1].key
        remaining = engine.store.count(prefix, after=last, revision=revision) if selection.all else 0
        return Page(found[:limit], at, encode_token(at, last[len(prefix) :]), remaining)
    except Compacted:
        if start:
            text = "The provided continue parameter is too old to display a consistent list result. You can start a new list"
            text += (
                " without the continue parameter, or use the continue token in this response to retrieve the remainder"
            )
            text += " of the results. Continuing with the provided token results in an inconsistent list - objects that"
            text += (
                " were created, modified, or deleted between the time the first chunk was returned and now may show up"
            )
            raise expired(text + " in the list.", encode_token(LATEST, start)) from None
        raise expired(f"The resourceVersion for the provided list is too old: {revision}") from None
    except FutureRevision as e:
        raise bad_request(f"continue key is not valid: revision {e.revision} does not exist") from None


def _matching(engine: Engine, selection: Selection, after: str, limit: int, revision: int) -> list[Entry]:
    """Selected entries, at most limit + 1 of them (one more than a page, to know whether there is a next)."""
    store, prefix = engine.store, selection.prefix
    point = selection.point
    if point is not None:
        entry = store.get(point, revision) if point > after else None
        return [entry] if entry is not None and selection.matches(entry) else []
    if selection.all:
        return store.range(prefix, after=after, limit=limit + 1 if limit else 0, revision=revision)
    if not limit:
        return list(filter(selection.matches, store.range(prefix, after=after, revision=revision)))
    found: list[Entry] = []
    while True:
        chunk = store.range(prefix, after=after, limit=CHUNK, revision=revision)
        found += islice(filter(selection.matches, chunk), limit + 1 - len(found))
        if len(found) > limit or len(chunk) < CHUNK:
            return found
        after = chunk[-1].key


async def _converted(engine: Engine, selection: Selection, after: str, limit: int, revision: int) -> list[Entry]:
    """As `_matching`, where a webhook converts: entries are judged in the form of the version that is asked for.

    One review for all that are of other versions, or for each chunk when a page is selected from many. Raises ApiError 500.
    """
    store, served, point = engine.store, selection.served, selection.point
    if point is not None:
        entry = store.get(point, revision) if point > after else None
        live = [entry] if entry is not None else []
        return list(filter(selection.matches, await served.readable(live)))
    size = limit if not limit else limit + 1 if selection.all else CHUNK
    found: list[Entry] = []
    while True:
        # at one revision: others write while the webhook is asked
        chunk = store.range(selection.prefix, after=after, limit=size, revision=revision)
        found += filter(selection.matches, await served.readable(chunk))
        if not size or len(chunk) < size or len(found) > limit:
            return found
        after = chunk[-1].key
