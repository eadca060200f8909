"""Discovery documents: what is served, told in the two forms that clients know. Kinds in, JSON values out; pure.

Legacy: /api, /apis, /apis/<group>, /api/v1 and /apis/<group>/<version>. Aggregated (apidiscovery.k8s.io): everything
below /api or /apis in one document. Next: the verbs that serve these, by the Accept header.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from jota.api.aggregation.priorities import KING, kube_order
from jota.api.aggregation.services import NOTHING_FOREIGN, Foreign
from jota.kinds.kind import Kind
from jota.kinds.virtual import SCALE, SUBRESOURCES


class _Sub(NamedTuple):
    """A subresource with the group and version that it speaks."""

    verbs: tuple[str, ...]
    group: str
    version: str
    kind: str


_EDIT = ("get", "patch", "update")


def _subresource(kind: Kind, name: str) -> _Sub:
    """Without group and version here, `kubectl drain` would delete pods instead of evicting them."""
    parent = kind.resource
    found = SUBRESOURCES.get((parent.group, parent.plural, name)) or (SCALE if name == "scale" else None)
    if found is None:
        return _Sub(_EDIT, parent.group, parent.version, parent.kind)
    return _Sub(found.verbs, found.group or parent.group, found.version or parent.version, found.kind)


def _subresources(kind: Kind) -> list[tuple[str, _Sub]]:
    names = set(kind.subresources)
    if kind.status:
        names.add("status")
    if kind.scale is not None:
        names.add("scale")
    return [(name, _subresource(kind, name)) for name in sorted(names)]


def _served(kinds: Iterable[Kind], foreign: Foreign = NOTHING_FOREIGN) -> dict[str, dict[str, list[Kind]]]:
    """group -> version -> kinds, in the order of discovery; the core group is "". No kinds: another server's version."""
    found: dict[str, dict[str, list[Kind]]] = {}
    for kind in kinds:
        if kind.resource[:2] not in foreign.versions:
            found.setdefault(kind.resource.group, {}).setdefault(kind.resource.version, []).append(kind)
    for group, version in foreign.versions:
        found.setdefault(group, {})[version] = []

    def rank(group: str) -> tuple[bool, bool, int, str]:
        # this server's own group that the others register in is always first (upstream)
        highest = max(foreign.priority(group, version).group for version in found[group])
        return group != "", group != KING, -highest, group

    def place(group: str, version: str) -> tuple[int, tuple[int, int, int, str]]:
        return -foreign.priority(group, version).version, kube_order(version)

    return {
        group: {
            version: sorted(found[group][version], key=lambda k: k.resource.plural)
            for version in sorted(found[group], key=lambda v: place(group, v))
        }
        for group in sorted(found, key=rank)
    }


def _singular(kind: Kind) -> str:
    return kind.singular or kind.resource.kind.lower()


# --- legacy ----------------------------------------------------------------------------------------------------------


def legacy_api(kinds: Iterable[Kind], address: str = "") -> dict[str, Any]:
    """GET /api: APIVersions. `address` is host:port of this server, as clients reach it."""
    versions = list(_served(kinds).get("", {})) or ["v1"]
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": addresses}


def legacy_group_list(kinds: Iterable[Kind], foreign: Foreign = NOTHING_FOREIGN) -> dict[str, Any]:
    """GET /apis: APIGroupList."""
    groups = [_group(group, list(versions)) for group, versions in _served(kinds, foreign).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def legacy_group(kinds: Iterable[Kind], group: str, foreign: Foreign = NOTHING_FOREIGN) -> dict[str, Any] | None:
    """GET /apis/<group>: APIGroup; None when the group is not served."""
    versions = _served(kinds, foreign).get(group)
    if not group or not versions:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, list(versions))}


def _group(group: str, versions: list[str]) -> dict[str, Any]:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def legacy_resources(kinds: Iterable[Kind], group: str, version: str) -> dict[str, Any] | None:
    """GET /api/v1 or /apis/<group>/<version>: APIResourceList; None when it is not served."""
    served = _served(kinds).get(group, {}).get(version)
    if served is None:
        return None
    resources: list[dict[str, Any]] = []
    for kind in served:
        resources.append(_legacy_resource(kind))
        resources += [_legacy_subresource(kind, name, sub) for name, sub in _subresources(kind)]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _legacy_resource(kind: Kind) -> dict[str, Any]:
    resource = kind.resource
    out: dict[str, Any] = {
        "name": resource.plural,
        "singularName": _singular(kind),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        out["shortNames"] = list(kind.short_names)
    if kind.categories:
        out["categories"] = list(kind.categories)
    if "list" in kind.verbs:
        out["storageVersionHash"] = _storage_hash(kind)
    return out


def _storage_hash(kind: Kind) -> str:
    """Tells clients whether the stored encoding changed; opaque to them."""
    stored = kind.stored
    digest = hashlib.sha256(f"{stored.group}/{stored.version}/{stored.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _legacy_subresource(kind: Kind, name: str, sub: _Sub) -> dict[str, Any]:
    resource = kind.resource
    out: dict[str, Any] = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }
    if (sub.group, sub.version) != (resource.group, resource.version):
        out |= {"group": sub.group, "version": sub.version} if sub.group else {"version": sub.version}
    return out


# --- aggregated ------------------------------------------------------------------------------------------------------


def aggregated(
    kinds: Iterable[Kind], core: bool, version: str = "v2", foreign: Foreign = NOTHING_FOREIGN
) -> dict[str, Any]:
    """GET /api (core=True) or /apis as APIGroupDiscoveryList; `version` is v2 or v2beta1.

    The response's Content-Type must be `content_type(version)`, or clients take the body for a legacy one."""
    groups = [(g, v) for g, v in _served(kinds, foreign).items() if (g == "") == core]
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
            "versions": [
                foreign.versions.get((group, name))
                or {"version": name, "freshness": "Current", "resources": [_aggregated_resource(k) for k in members]}
                for name, members in versions.items()
            ],
        }
        for group, versions in groups
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def content_type(version: str = "v2") -> str:
    """Of an aggregated document: echoes what was negotiated."""
    return f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"


def _gvk(group: str | None, version: str, kind: str) -> dict[str, str]:
    return {"group": group or "", "version": version, "kind": kind}


def _aggregated_resource(kind: Kind) -> dict[str, Any]:
    resource = kind.resource
    out: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": _gvk(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": _singular(kind),
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        out["shortNames"] = list(kind.short_names)
    if kind.categories:
        out["categories"] = list(kind.categories)
    subresources = [
        {"subresource": name, "responseKind": _gvk(sub.group, sub.version, sub.kind), "verbs": list(sub.verbs)}
        for name, sub in _subresources(kind)
    ]
    if subresources:
        out["subresources"] = subresources
    return out
