"""OpenAPI documents on request: built once per set of kinds, kept as compressed bytes, known by a hash of their inputs.

In: the kinds that are served (and the schemas of custom resources); out: `Document` values for the HTTP layer. Building
the largest takes tens of milliseconds: call `v2`, `v2_protobuf` and `v3` in a thread when the loop must not wait.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from jota.api.openapi import gnostic, v2, v3
from jota.api.openapi.definitions import Custom
from jota.kinds.kind import Kind
from jota.meta import schema

PROTOBUF_ACCEPTED = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
"""In an Accept header: both ask for `v2_protobuf`."""
PROTOBUF = PROTOBUF_ACCEPTED[1]
"""As Content-Type: Go's parser of media types refuses the "@" that old clients ask with."""
_FORMAT = 2
"""Raise it when the documents change for the same kinds."""


@dataclass(slots=True, frozen=True)
class Document:
    """A finished document."""

    content_type: str
    etag: str
    """With its quotes, as the header has it."""
    gzip: bytes

    def identity(self) -> bytes:
        """The body for clients that do not accept gzip."""
        return zlib.decompress(self.gzip, 31)


@dataclass(slots=True)
class Documents:
    """All documents for one set of kinds; make a new one when a CRD comes or goes."""

    kinds: tuple[Kind, ...]
    custom: Custom = field(default_factory=dict)
    _built: dict[str, Document] = field(default_factory=dict)

    def group_versions(self) -> dict[str, list[Kind]]:
        """ "api/v1", "apis/apps/v1", ... -> its kinds."""
        found: dict[str, list[Kind]] = {}
        for kind in self.kinds:
            root = "apis" if kind.resource.group else "api"
            found.setdefault(f"{root}/{kind.resource.api_version}", []).append(kind)
        return found

    def v3_index(self) -> Document:
        """GET /openapi/v3."""
        hashes = {path: _digest(members, self.custom) for path, members in self.group_versions().items()}
        body = orjson.dumps(v3.index(hashes))
        return self._document("v3", "application/json", hashlib.sha256(body).hexdigest().upper(), lambda: iter((body,)))

    def v3(self, path: str) -> Document | None:
        """GET /openapi/v3/<path>, e.g. "apis/apps/v1"; None when that is not served.

        With `?hash=` equal to `etag` without its quotes the response may be cached for ever; with another hash,
        redirect to the right one."""
        members = self.group_versions().get(path)
        if members is None:
            return None
        digest = _digest(members, self.custom)
        return self._document(path, "application/json", digest, lambda: v3.document(members, self.custom))

    def v2(self) -> Document:
        """GET /openapi/v2 as JSON."""
        return self._document("v2", "application/json", self._hash("v2"), lambda: v2.document(self.kinds, self.custom))

    def v2_protobuf(self) -> Document:
        """GET /openapi/v2 when one of PROTOBUF_ACCEPTED is accepted; kubectl 1.20 reads nothing else."""
        digest = self._hash("gnostic")
        return self._document("gnostic", PROTOBUF, digest, lambda: gnostic.document(self.kinds, self.custom))

    def _hash(self, form: str) -> str:
        return hashlib.sha256((form + _digest(self.kinds, self.custom)).encode()).hexdigest().upper()

    def _document(self, key: str, content_type: str, digest: str, build: Callable[[], Iterator[bytes]]) -> Document:
        found = self._built.get(key)
        if found is None:
            found = self._built[key] = Document(content_type, f'"{digest}"', _compressed(build()))
        return found


def _compressed(pieces: Iterable[bytes]) -> bytes:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    return b"".join([*(squeeze.compress(piece) for piece in pieces), squeeze.flush()])


def _digest(kinds: Iterable[Kind], custom: Mapping[tuple[str, str, str], object]) -> str:
    """Of everything that goes into a document, without building it."""
    parts: list[object] = [_FORMAT, schema.VERSION]
    for kind in kinds:
        resource = kind.resource
        body = custom.get((resource.group, resource.version, resource.kind))
        parts.append([*resource, kind.schema, kind.verbs, kind.status, kind.scale is not None, kind.subresources, body])
    return hashlib.sha256(orjson.dumps(parts)).hexdigest().upper()
