"""Admission: what a write must pass beside the kind's own rules. One file per plugin; `table.py` lists them in order.

`admit` may change the object in place (defaults from elsewhere in the cluster); `validate` only refuses. Both raise
ApiError, 403 as a rule, and see the cluster through the registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from jota.api.filters.attributes import User
from jota.api.registry import Registry
from jota.kinds.kind import Kind, Object

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(slots=True)
class AdmissionAttributes:
    """One write, as a plugin sees it."""

    operation: Operation
    kind: Kind
    user: User
    namespace: str
    name: str
    registry: Registry
    random: Random
    now: float
    """Epoch seconds."""
    object: Object | None = None
    """The object to be written; None on DELETE."""
    old: Object | None = None
    """What it replaces or what is deleted; None on CREATE."""
    subresource: str = ""
    dry_run: bool = False


class Plugin(Protocol):
    def handles(self, kind: Kind) -> bool:
        """Whether writes of this kind concern the plugin at all."""
        ...

    def admit(self, attrs: AdmissionAttributes) -> None: ...

    def validate(self, attrs: AdmissionAttributes) -> None: ...
