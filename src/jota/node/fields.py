"""The downward API as values: fieldRef and resourceFieldRef in, text out. Pure. Used by `env.py` and `volumes/downwardapi.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from jota.meta.quantity import parse
from jota.node.model import Object, parts

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


class UnknownField(ValueError):
    """A path that the downward API does not offer."""


@dataclass(slots=True, frozen=True)
class Place:
    """What a pod's fields may refer to beyond its own object: this node."""

    node: str = ""
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    """Stands in for limits that a container does not have."""


def field_value(pod: Object, path: str, place: Place) -> str:
    """The text of one field. Missing labels and annotations are "". Raises UnknownField."""
    meta, spec = pod["metadata"], pod["spec"]
    if match := _SUBSCRIPT.fullmatch(path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(meta.get(path.partition(".")[2]) or {})
    simple = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": spec.get("nodeName") or place.node,
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": place.host_ips[0] if place.host_ips else "",
        "status.hostIPs": ",".join(place.host_ips),
        "status.podIP": place.pod_ips[0] if place.pod_ips else "",
        "status.podIPs": ",".join(place.pod_ips),
    }
    if path not in simple:
        raise UnknownField(f"unsupported fieldPath: {path}")
    return str(simple[path])


def format_map(pairs: Mapping[str, str]) -> str:
    """Sorted lines of key="value", the value quoted as Go's %q does."""
    return "\n".join(f"{k}={quote(str(v))}" for k, v in sorted(pairs.items()))


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def quote(text: str) -> str:
    """A Go string literal: printable characters as they are, others escaped."""
    out = []
    for ch in text:
        if ch in '"\\':
            out.append("\\" + ch)
        elif ch in _ESCAPES:
            out.append(_ESCAPES[ch])
        elif ch.isprintable():
            out.append(ch)
        else:
            code = ord(ch)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def resource_value(pod: Object, ref: Object, place: Place, container: str = "") -> str:
    """resourceFieldRef: the container's limit or request divided by `divisor`, rounded up.

    A missing limit is the node's allocatable, a missing request is the limit, else 0 (as upstream). Raises UnknownField.
    """
    name = ref.get("containerName") or container
    spec = next((p.spec for p in parts(pod) if p.name == name), None)
    if spec is None:
        raise UnknownField(f"container {name} not found")
    section, _, resource = ref["resource"].partition(".")
    if section not in ("limits", "requests") or not resource:
        raise UnknownField(f"unsupported container resource : {ref['resource']}")
    resources = spec.get("resources") or {}
    amount = (resources.get(section) or {}).get(resource)
    if amount is None and section == "requests":
        amount = (resources.get("limits") or {}).get(resource, "0")
    if amount is None:
        amount = place.allocatable.get(resource, "0")
    divisor = parse(ref.get("divisor") or "1").nanos or 10**9
    return str(-(-parse(amount).nanos // divisor))
