"""Names that belong to one instance on a host that may run several: links, tables, namespaces, route priorities.

All are derived from the instance's name alone, so that `cleanup` finds everything after a kill -9 without any state.
Pure. Next: ipam.py.
"""

from __future__ import annotations

import base64
import hashlib
import re

_INSTANCE = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?")
_NODE_PIN = re.compile(r"[0-9]+")


def check_instance(instance: str) -> str:
    """The name itself. Raises ValueError if it cannot be part of an nftables identifier and a file name."""
    if not _INSTANCE.fullmatch(instance):
        raise ValueError(f"instance name {instance!r}: use 1-63 letters, digits and dashes, beginning and ending alike")
    return instance


def _short(text: str, length: int) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:length]


def link_prefix(instance: str) -> str:
    """Seven characters that begin the name of every link of the instance: "j" and 30 bits of its hash."""
    return "j" + _short(check_instance(instance), 6)


def pod_link(instance: str, pod_uid: str, namespace_id: int) -> str:
    """Host side of a pod's veth (15 characters). A new sandbox of the same pod gets a new name, because the kernel
    may still be tearing the old namespace, and its link, down."""
    return f"{link_prefix(instance)}p{_short(f'{pod_uid}/{namespace_id}', 7)}"


def service_link(instance: str) -> str:
    """The link that carries the node's service addresses and the route to the service CIDR."""
    return link_prefix(instance) + "svc"


def bridge(instance: str) -> str:
    """The host's bridge between simulated nodes."""
    return link_prefix(instance) + "br"


def uplink(instance: str, index: int) -> str:
    """Host side of a simulated node's veth."""
    return f"{link_prefix(instance)}n{index}"


def table(instance: str, part: str = "") -> str:
    """nftables table: "jota-<instance>" or "jota-<instance>.<part>" (a dot cannot be in an instance's name)."""
    return f"jota-{check_instance(instance)}" + (f".{part}" if part else "")


def owns_table(instance: str, name: str) -> bool:
    return name == table(instance) or name.startswith(table(instance) + ".")


def node_pin(instance: str, index: int) -> str:
    """File name of a simulated node's namespace under /run/netns."""
    return f"jota-{check_instance(instance)}-{index}"


def owns_pin(instance: str, name: str) -> bool:
    prefix = f"jota-{check_instance(instance)}-"
    return name.startswith(prefix) and _NODE_PIN.fullmatch(name[len(prefix) :]) is not None


def link_group(instance: str) -> int:
    """Link group (`ip link show group N`) of every link of the instance, so that they can be deleted in one go."""
    digest = hashlib.sha256(check_instance(instance).encode()).digest()
    return 0x4A000000 | int.from_bytes(digest[3:6], "big")


def route_priority(instance: str) -> int:
    """Metric that marks routes over links that are not ours (host-gw over the machine's own uplink) as this instance's."""
    digest = hashlib.sha256(check_instance(instance).encode()).digest()
    return 0x4A000000 | int.from_bytes(digest[:3], "big")


def range_priority(instance: str) -> int:
    """Metric of routes to added ranges of service addresses: higher than any of the machine's own, which win."""
    return 0x4B000000 | (route_priority(instance) & 0xFFFFFF)


def alias(instance: str, what: str) -> str:
    """Text on a link for people, and for recovery: "jota <instance> pod <uid>"."""
    return f"jota {instance} {what}"
