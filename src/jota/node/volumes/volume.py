"""What a volume type is: the functions its file offers, and what they are given. Next: table.py lists the types.

A type mounts itself at a host directory and is asked again whenever something it refers to may have changed; mounting is
idempotent, so first mount, refresh and recovery are one path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from jota.aio.clock import Clock
from jota.meta.resource import Resource
from jota.node.env import Lookup
from jota.node.fields import Place
from jota.node.model import Object


class VolumeFault(Exception):
    """A volume cannot be had (yet). The text goes into the FailedMount event and the waiting message."""


class TokenSource(Protocol):
    """ServiceAccount tokens, fresh enough to hand out."""

    async def token(self, pod: Object, audience: str, seconds: int) -> tuple[str, float]:
        """(token, epoch seconds at which to ask again). Raises VolumeFault."""
        ...


@dataclass(slots=True, frozen=True)
class Credential:
    """A pod's own key and the certificate for it."""

    key: bytes
    chain: bytes
    """PEM, the leaf first."""
    refresh_at: float
    not_after: float
    """Epoch seconds."""


@dataclass(slots=True)
class Context:
    """The pod and the node, as a volume sees them."""

    pod: Object
    lookup: Lookup
    place: Place
    tokens: TokenSource
    clock: Clock
    directory: str
    """<pod dir>/volumes"""
    volatile: str
    """<memory-backed directory>/<pod uid>: secrets never touch the disk."""
    fs_group: int | None = None
    fs_user: int | None = None
    """The uid that all containers share, when they do: owns projected tokens, trust anchors and credentials."""
    refresh_at: float = 0.0
    """Epoch seconds of the earliest moment at which a mounted volume must be written again (tokens, certificates); 0: never."""
    warnings: list[str] = field(default_factory=list)
    volume: Callable[[str], Awaitable[Object]] | None = None
    """Reads a PersistentVolume by name. Raises ApiError."""
    anchors: Callable[[Object], Awaitable[bytes]] | None = None
    """The PEM of a clusterTrustBundle source. Raises VolumeFault, TimeoutError."""
    credential: Callable[[str, int, Object], Awaitable[tuple[Credential, float]]] | None = None
    """Of a podCertificate source, by its volume and place in it: with the epoch seconds at which to ask again (0: never).
    Raises VolumeFault, TimeoutError."""

    image: Callable[[str, Object], Awaitable[str]] | None = None
    """(volume name, source) -> id of the image, present on the node. Raises VolumeFault."""

    def again(self, when: float) -> None:
        self.refresh_at = min(self.refresh_at, when) if self.refresh_at else when


class File(NamedTuple):
    """One file of a payload volume."""

    data: bytes
    mode: int
    uid: int = -1
    """-1: the agent's own."""


Payload = dict[str, File]
"""Relative path -> file."""


class Mounted(NamedTuple):
    path: str
    """Host path to bind into containers."""
    read_only: bool = False
    """Containers may never write, whatever the mount says."""
    image: str = ""
    """Id of the image that is the volume; the runtime mounts it, and `path` is empty."""
    device: bool = False
    """`path` is a block device for volumeDevices, and nothing to mount."""


class Driver(NamedTuple):
    """One volume type."""

    mount: Callable[[str, Object, Context], Awaitable[Mounted]]
    """(volume name, its source object, context). Idempotent. Raises VolumeFault."""
    references: Callable[[Object], list[tuple[Resource, str]]] = lambda _: []
    """ConfigMaps and Secrets (of the pod's namespace) that the source names."""


def mode_of(value: object, default: int) -> int:
    """A file mode: JSON has only decimal numbers."""
    return default if value is None else int(str(value)) & 0o777
