"""The contract of who makes and removes machines for one group of nodes. Next: providers/, and jota/run/localnodes.py.

The autoscaler chooses the name of a machine before it is made, so that every call can be repeated: `create` of a name that
is there already and `delete` of one that is gone are successes. A machine's node registers under `Machine.node`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

STATES = ("creating", "running", "deleting", "failed")


class ProviderFault(Exception):
    """A machine could not be made, removed or listed. The message is for people; it is told in events and in the status."""

    def __init__(self, message: str, code: str = "cloudProviderError") -> None:
        super().__init__(message)
        self.code = code
        """One word for status.backoffInfo.errorCode, e.g. "QUOTA_EXCEEDED"."""


@dataclass(slots=True, frozen=True)
class Machine:
    name: str
    state: str = "running"
    """One of STATES."""
    node: str = ""
    """Name of its Node object, when that is not the machine's own."""
    created: float = 0.0
    """Epoch seconds; 0 when the provider does not know."""
    message: str = ""
    """Why it failed."""

    @property
    def node_name(self) -> str:
        return self.node or self.name


@dataclass(slots=True, frozen=True)
class Template:
    """What a new node of the group will be like, as long as the group has none to look at."""

    allocatable: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[dict[str, Any], ...] = ()


class Provider(Protocol):
    """Machines of one group. Every method raises ProviderFault, and nothing else that is expected."""

    prefix: str
    """Names of new machines are this and a number."""

    async def first(self) -> int:
        """The lowest number that a new machine may have."""
        ...

    async def template(self) -> Template: ...

    async def machines(self) -> list[Machine]:
        """All of the group, also half-made ones: what is not listed does not exist."""
        ...

    async def create(self, name: str) -> None:
        """Returns when the machine is ordered; its node may come much later. A repeated order changes nothing."""
        ...

    async def delete(self, name: str) -> None:
        """Returns when the machine is gone or sure to go. The Node object is the autoscaler's to delete."""
        ...
