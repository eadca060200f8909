"""Admission: what a write must pass beside the kind's own rules. One file per plugin; `table.py` lists them in order.

`admit` may change the object in place (defaults from elsewhere in the cluster); `validate` only refuses. Both raise
ApiError, 403 as a rule, and see the cluster through the registry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal

from jota.api.filters.attributes import User
from jota.api.registry import Registry
from jota.kinds.kind import Kind, Object
from jota.meta.resource import Resource

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
    warnings: list[str] = field(default_factory=list)
    """Texts for Warning headers."""
    audit: dict[str, str] = field(default_factory=dict)
    """Annotations of the audit event."""


class Plugin:
    """The base of plugins: concerns nothing, does nothing."""

    looks_at: ClassVar[tuple[Resource, ...] | None] = None
    """Whose objects decide, beside the request and its user, what becomes of a new object; None: who knows. While they do
    not change, equal requests have equal outcomes (twins.py). What `allocate` looks at does not count."""

    apart: ClassVar[bool] = False
    """On an UPDATE it looks at no more of the objects than `Kind.apart` lets it see, at metadata only for whether it
    changed, and reserves nothing (api/apart.py). Asked of plugins that have a say in such a write."""

    def handles(self, kind: Kind) -> bool:
        """Whether writes of this kind concern the plugin at all. Asked once per kind."""
        return False

    def admit(self, attrs: AdmissionAttributes) -> None:
        """Change the object, before the kind's rules are applied to it. Raises ApiError."""

    def validate(self, attrs: AdmissionAttributes) -> None:
        """Refuse it. Raises ApiError."""

    def minds(self, attrs: AdmissionAttributes) -> bool:
        """Whether it may have something to say to, or note of, this UPDATE of an object itself, which changes metadata and
        nothing else: of the rest, both objects have what `Kind.relabelled_from` names (api/relabel.py). If so, it is asked
        in the usual way, with whole objects. Asked of plugins that have a say in such a write. Raises nothing."""
        return True

    asks: ClassVar[bool] = False
    """Whether `judge` has anything to say."""

    async def judge(self, attrs: AdmissionAttributes) -> None:
        """Refuse a create or an update, having asked an authorizer, which may wait; last of all, of the object as it will be
        stored. Raises ApiError."""

    def allocate(self, attrs: AdmissionAttributes) -> None:
        """Hand out what must be unique (addresses, ports), after everything was found valid. Raises ApiError."""

    def release(self, attrs: AdmissionAttributes) -> None:
        """A write that `allocate` let through was not made after all: give back what was handed out. Raises nothing."""

    def beside(self, attrs: AdmissionAttributes) -> dict[str, bytes | None]:
        """What is stored (None: removed) in the same commit as this write: objects at rest by storage key. Asked right
        before it, of removals too (DELETE, when nothing holds the object any more), never of dry runs. Raises nothing."""
        return {}


def never(self: Plugin, attrs: AdmissionAttributes) -> bool:
    """The `minds` of plugins that look at metadata only when an object is made, if at all."""
    return False
