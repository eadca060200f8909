"""What the API serves, asked from its own discovery documents: for controllers that care for every resource.

In: a client. Out: Resources in their preferred versions, with verbs. Used by namespace.py and garbagecollector.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from jota.client.client import Client
from jota.client.transport import error_from
from jota.meta.errors import ApiError
from jota.meta.resource import Resource

T = TypeVar("T")


class _Version(msgspec.Struct):
    groupVersion: str = ""
    version: str = ""


class _Group(msgspec.Struct):
    name: str
    versions: list[_Version]
    preferredVersion: _Version | None = None


class _Groups(msgspec.Struct):
    groups: list[_Group] = []


class _Served(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool
    verbs: list[str] = []


class _Resources(msgspec.Struct):
    resources: list[_Served] = []


@dataclass(slots=True)
class Discovery:
    """Every resource in its preferred version, and the group versions that could not be read."""

    resources: dict[Resource, frozenset[str]] = field(default_factory=dict)
    """Resource -> verbs; sub-resources are left out."""
    failed: dict[str, str] = field(default_factory=dict)
    """groupVersion -> why."""
    kinds: dict[tuple[str, str], Resource] = field(default_factory=dict)
    """(apiVersion, kind) of every served version -> the preferred Resource of that kind."""

    def with_verbs(self, *verbs: str) -> list[Resource]:
        return [r for r, have in self.resources.items() if have.issuperset(verbs)]


async def discover(client: Client) -> Discovery:
    """Ask. Raises ApiError or ConnectionError when not even the list of groups can be read."""
    groups = (await _get(client, "/apis", _Groups)).groups
    found = Discovery()
    await _read(client, found, "", "v1", True)
    for group in groups:
        preferred = group.preferredVersion.version if group.preferredVersion else group.versions[0].version
        for version in sorted((v.version for v in group.versions), key=lambda v: v != preferred):
            await _read(client, found, group.name, version, version == preferred)
    return found


async def _read(client: Client, found: Discovery, group: str, version: str, preferred: bool) -> None:
    name = f"{group}/{version}" if group else version
    try:
        served = (await _get(client, f"/apis/{name}" if group else f"/api/{name}", _Resources)).resources
    except (ApiError, ConnectionError, TimeoutError, msgspec.DecodeError) as e:
        found.failed[name] = str(e)
        return
    known = {(r.group, r.plural): r for r in found.resources}
    for one in served:
        if "/" in one.name:
            continue
        # A resource that only another version has is listed under that version.
        resource = known.get((group, one.name)) or Resource(group, version, one.name, one.kind, one.namespaced)
        found.kinds[(name, one.kind)] = resource
        if preferred or resource.version == version:
            found.resources[resource] = frozenset(one.verbs)


async def _get(client: Client, path: str, type_: type[T]) -> T:
    response = await client.raw("GET", path)
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    if response.status != 200:
        raise error_from(response.status, body)
    return msgspec.json.decode(body, type=type_)
