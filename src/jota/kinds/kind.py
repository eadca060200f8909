"""What a kind is: one value that drives the whole API engine.

A fact sheet (`kinds/<group>/<kind>.py`) ends in `KIND = Kind(...)`.

All functions are pure and work on plain JSON values (dicts as decoded from the wire). `default` and the `prepare_*`
functions change their first argument in place; the others only look. A CRD builds the same value at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from jota.meta.errors import FieldError
from jota.meta.resource import Resource

if TYPE_CHECKING:
    from jota.meta.schema import Type

Object = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Column:
    """A printer column of the server-side Table (kubectl get)."""

    name: str
    cell: Callable[[Object, float], Any]
    """(object, now in epoch seconds) -> str | int | bool; must accept any stored object, however incomplete."""
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    """0: always shown; 1: only with -o wide."""


@dataclass(slots=True, frozen=True)
class Scale:
    """Where /scale finds its parts: dotted JSON paths into the object."""

    spec_replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = "spec.selector"
    """A LabelSelector object, a map (ReplicationController), or, for a CRD, a string."""


def nothing(*_: Any) -> None:
    """The default for hooks that a kind does not need."""


class Nothing(TypedDict):
    """No field beside metadata."""


def no_errors(*_: Any) -> list[FieldError]:
    return []


@dataclass(slots=True, frozen=True)
class Kind:
    resource: Resource
    schema: str = ""
    """Definition name in the Kubernetes schema, e.g. "io.k8s.api.apps.v1.ReplicaSet"; "" for a custom resource."""
    structure: Type | None = None
    """The type of a custom resource."""
    published: Object | None = None
    """The openAPIV3Schema that OpenAPI shows for a custom resource."""
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    default: Callable[[Object], None] = nothing
    """Fill in upstream's defaults. Idempotent. Runs on every write after decoding and patching."""
    prepare_create: Callable[[Object], None] = nothing
    """Reset what a client may not set on create (status, generation is the engine's)."""
    prepare_update: Callable[[Object, Object], None] = nothing
    """(new, old): restore what a client may not change through this endpoint, silently (status is the engine's)."""
    validate: Callable[[Object], list[FieldError]] = no_errors
    """Errors of a new object's kind-specific parts (metadata is the engine's). Also runs on update."""
    validate_create: Callable[[Object], list[FieldError]] = no_errors
    """What only a new object may not have, beyond `validate`."""
    validate_update: Callable[[Object, Object], list[FieldError]] = no_errors
    """(new, old): immutability and transitions, beyond `validate(new)`."""
    validate_status: Callable[[Object, Object], list[FieldError]] = no_errors
    """(new, old) for writes through /status."""
    judge: Callable[[Object, Object | None, list[FieldError]], list[FieldError]] | None = None
    """(new, old, what the others found; old None: it is new): more errors, which may take long to find (CEL). Asked after
    `validate` and its like on every write; runs in slices (aio/slices.py)."""
    prepare_status: Callable[[Object, Object], None] = nothing
    """(new, old) for writes through /status: restore what a client may not change there."""
    prepare_delete: Callable[[Object, float], None] = nothing
    """(object, now in epoch seconds) when its deletion begins: add what it must wait for."""
    deprecated: str = ""
    """The warning with which every request about it is answered."""
    columns: tuple[Column, ...] = ()
    """Name and Age are added by the engine when this is empty."""
    cells: Callable[[Object, float], list[Any]] | None = None
    """What the columns' `cell` give, of kinds where they share their work."""
    selectable: dict[str, Callable[[Object], str]] = field(default_factory=dict)
    """Field selectors beyond metadata.name and metadata.namespace: label -> value as text ("" when absent).
    The object that the functions get may lack all metadata but name and namespace."""
    selected_from: Any = None
    """A TypedDict of all that the functions of `selectable` read, for kinds whose events are many: only this is decoded."""
    apart: dict[str, Any] = field(default_factory=dict)
    """Top-level fields that are written apart from all others (api/apart.py): field -> a TypedDict of what the rules of such
    a write (`default`, `prepare_*`, `validate*`, admission) look at in other fields, metadata left out; None: nothing.
    A field that `generation` counts, or about which `warnings` has something to say, cannot be one."""
    relabelled_from: Any = None
    """For kinds whose `default`, `prepare_update` and `validate` neither change nor look at what an update can change in
    metadata: a TypedDict of what `validate_update`, `warnings` and Plugin.minds look at in other fields when nothing but
    metadata changes, for writes that do that (api/relabel.py). None: these rules want to see the whole."""
    own_names: dict[str, str] | None = None
    """Keys within spec whose texts set an object apart from its like, and the form of those texts that are so: "label" (of DNS,
    beginning with a letter) or "text"; no rule, default or plugin tells one of that form from another. Not None: what becomes of
    a new object follows from its bytes without its name and these, and from what admission looks at (api/twins.py)."""
    status: bool = False
    """Has a /status subresource: the main endpoint ignores `.status`, /status ignores all else."""
    scale: Scale | None = None
    subresources: tuple[str, ...] = ()
    """Others, by name, served by `api/subresources/<name>.py`: binding, eviction, log, exec, token, approval, ..."""
    generation: bool = False
    """metadata.generation counts changes of what is neither metadata nor status."""
    unconditional_update: bool = True
    """PUT without resourceVersion is allowed."""
    create_on_update: bool = False
    """PUT to a missing name creates (Lease, Endpoints, Event)."""
    name_rule: str = "dns-subdomain"
    """dns-subdomain | dns-label | dns-1035-label | path-segment; how metadata.name is validated."""
    storage: Resource | None = None
    """Where objects are kept when another version or group owns them (events.k8s.io -> core events)."""
    to_storage: Callable[[Object], None] = nothing
    from_storage: Callable[[Object], None] = nothing
    """Convert in place between this version and the storage version, when `storage` is set."""
    grace: Callable[[Object, int | None], int] | None = None
    """(object, asked-for seconds or None) -> grace period of a delete; None: kind is removed at once (all but pods)."""
    graced_from: Any = None
    """A TypedDict of all beside metadata that `grace` and admission plugins look at in an object that is deleted, for kinds
    that go by the thousand: only this is decoded, unless a webhook or policy wants to see the whole."""
    policy: str = ""
    """What a delete without a propagation policy means: "Orphan" for kinds older than the garbage collector; "" is Background."""
    policy_warning: str = ""
    """Text for the Warning header of such a delete."""
    returns_deleted: bool = False
    """A completed delete answers with the object as it was, not with a Status (upstream's ReturnDeletedObject)."""
    stability: str = "stable"
    """stable | beta | alpha: the latter two are served only when asked for (--runtime-config)."""
    warnings: Callable[[Object], list[str]] = no_errors  # type: ignore[assignment]
    """Texts for Warning headers on create and update (deprecations, doubtful specs)."""

    @property
    def definition(self) -> str | Type | None:
        """What objects are checked, merged and owned by: a name in the Kubernetes schema, or a custom resource's type."""
        return self.schema or self.structure

    @property
    def stored(self) -> Resource:
        return self.storage or self.resource
