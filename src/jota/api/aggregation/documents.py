"""What an extension server says of itself: its resources for discovery, and where its OpenAPI v3 document is.

In: a `Fetch` (remote.py). Out: APIVersionDiscovery values; `refresh` brings them up to date. A server that does not know
aggregated discovery is read in the old form, as upstream does. Next: openapi.py, which merges the schemas.
"""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec
import orjson

from jota.kinds.kind import Object
from jota.kinds.shape import meta, parts, text, texts
from jota.wire.dial import BadGateway

_GROUPS = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
ACCEPT = ",".join((_GROUPS.format("v2"), _GROUPS.format("v2beta1"), "application/json"))
_JSON = "application/json"


class _Kind(msgspec.Struct):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Subresource(msgspec.Struct):
    subresource: str
    responseKind: _Kind | None = None
    acceptedTypes: list[_Kind] | None = None
    verbs: list[str] | None = None


class _Resource(msgspec.Struct):
    resource: str
    responseKind: _Kind | None = None
    scope: str = ""
    singularResource: str = ""
    verbs: list[str] | None = None
    shortNames: list[str] | None = None
    categories: list[str] | None = None
    subresources: list[_Subresource] | None = None


class _Version(msgspec.Struct):
    """APIVersionDiscovery. Clients decode the list as a whole: what is none, in it, would take all groups from them."""

    version: str
    resources: list[_Resource] | None = None


class Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> bytes: ...


class Fetch(Protocol):
    """The part of a Remote that is needed here."""

    @property
    def group_version(self) -> tuple[str, str]: ...
    @property
    def root(self) -> str: ...
    async def fetch(self, path: str, accept: str, etag: str = "") -> Answer: ...


class Documents:
    def __init__(self) -> None:
        self._version: Object | None = None
        """APIVersionDiscovery, once it was read."""
        self.openapi: str | None = None
        """The hash of the OpenAPI v3 document; None when the server has none."""

    def discovery(self, version: str, *, fresh: bool) -> Object:
        found = self._version or {"version": version, "resources": []}
        return {**found, "freshness": "Current" if fresh else "Stale"}

    async def refresh(self, server: Fetch) -> bool:
        """Read what the server says now; whether anything changed. Raises OSError, also for what makes no sense, TimeoutError."""
        version, openapi = await self._discover(server), await self._openapi(server)
        if (version, openapi) == (self._version, self.openapi):
            return False
        self._version, self.openapi = version, openapi
        return True

    async def _discover(self, server: Fetch) -> Object | None:
        """Raises OSError, TimeoutError."""
        group, name = server.group_version
        answer = await server.fetch("/apis" if group else "/api", ACCEPT)
        if answer.status == 200 and "as=APIGroupDiscoveryList" in answer.headers.get("content-type", ""):
            for item in parts(_decoded(answer.body), "items"):
                for version in parts(item, "versions"):
                    if (text(meta(item), "name"), text(version, "version")) == (group, name):
                        return _sensible(version)
        answer = await server.fetch(server.root, _JSON)
        if answer.status != 200:
            return self._version
        return from_legacy(group, name, parts(_decoded(answer.body), "resources"))

    async def _openapi(self, server: Fetch) -> str | None:
        """Raises OSError, TimeoutError."""
        answer = await server.fetch("/openapi/v3", _JSON)
        if answer.status != 200:
            return None
        paths = _decoded(answer.body).get("paths")
        entry = paths.get(server.root.lstrip("/")) if isinstance(paths, dict) else None
        if not isinstance(entry, dict):
            return None
        try:
            return parse_qs(urlsplit(text(entry, "serverRelativeURL")).query).get("hash", [""])[0]
        except ValueError:
            return ""  # a document that cannot be told from the next one


def _sensible(version: Object) -> Object:
    """Raises BadGateway."""
    try:
        msgspec.convert(version, _Version)
    except msgspec.ValidationError as problem:
        raise BadGateway(f"what it says of its resources is no APIVersionDiscovery: {problem}") from None
    return version


def from_legacy(group: str, version: str, resources: list[Object]) -> Object:
    """APIVersionDiscovery from the entries of an APIResourceList; sub-resources move below their resource."""
    found: dict[str, Object] = {}
    for entry in resources:
        name, _, sub = text(entry, "name").partition("/")
        kind = {
            "group": text(entry, "group") or group,
            "version": text(entry, "version") or version,
            "kind": text(entry, "kind"),
        }
        if sub:
            # a resource may be known by its sub-resources alone (upstream keeps these, too)
            below: Any = found.setdefault(name, _resource(name, entry)).setdefault("subresources", [])
            below.append({"subresource": sub, "responseKind": kind, "verbs": texts(entry, "verbs")})
            continue
        resource = {**_resource(name, entry), "responseKind": kind, "verbs": texts(entry, "verbs")}
        for key in ("shortNames", "categories"):
            if texts(entry, key):
                resource[key] = texts(entry, key)
        if "subresources" in found.get(name, {}):
            resource["subresources"] = found[name]["subresources"]
        found[name] = resource
    return {"version": version, "resources": list(found.values())}


def _resource(name: str, entry: Object) -> Object:
    scope = "Namespaced" if entry.get("namespaced") is True else "Cluster"
    return {"resource": name, "scope": scope, "singularResource": text(entry, "singularName"), "verbs": []}


def _decoded(body: bytes) -> Object:
    """A JSON object; empty when it is none: another server's mistake is not ours."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
