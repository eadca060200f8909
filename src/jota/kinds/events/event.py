"""Events of events.k8s.io: the core group's objects under newer names; stored as core events."""

from __future__ import annotations

from collections.abc import Callable

from jota.kinds.core import event as core
from jota.kinds.kind import Column, Kind
from jota.kinds.shape import Object, part, put_missing, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import EVENTS, Resource

NAMES = (
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
)
"""(here, in the core group)"""


def to_storage(event: Object) -> None:
    for new, old in NAMES:
        if new in event:
            event[old] = event.pop(new)
    event["apiVersion"] = EVENTS.api_version


def from_storage(event: Object) -> None:
    for new, old in NAMES:
        if old in event:
            event[new] = event.pop(old)
    event["apiVersion"] = "events.k8s.io/v1"


def default(event: Object) -> None:
    for field in ("reportingController", "reportingInstance"):
        put_missing(event, field, "")


def validate(event: Object) -> list[FieldError]:
    """Stricter than the core group: who reports, and what, must be said. Events without eventTime are old ones."""
    as_core = {"metadata": event.get("metadata"), "involvedObject": event.get("regarding")}
    errors = core.validate(as_core)
    if event.get("eventTime") is None:
        return [*errors, required("eventTime")] if event.get("deprecatedFirstTimestamp") is None else errors
    for field in ("reportingController", "reportingInstance", "action", "reason"):
        if not text(event, field):
            errors.append(required(field))
    if text(event, "type") not in ("Normal", "Warning"):
        errors.append(invalid("type", text(event, "type"), "has invalid value: " + text(event, "type")))
    if len(text(event, "note").encode()) > 1024:
        errors.append(invalid("note", "", "can have at most 1024 characters"))
    return errors


def _as_core(column: Column) -> Column:
    def cell(event: Object, now: float) -> object:
        shown = dict(event)
        to_storage(shown)
        return column.cell(shown, now)

    return Column(column.name, cell, column.type, column.format, column.description, column.priority)


def _regarding(field: str) -> Callable[[Object], str]:
    return lambda event: text(part(event, "regarding"), field)


KIND = Kind(
    Resource("events.k8s.io", "v1", "events", "Event"),
    schema="io.k8s.api.events.v1.Event",
    singular="event",
    short_names=("ev",),
    default=default,
    validate=validate,
    columns=tuple(_as_core(column) for column in core.COLUMNS),
    selectable={
        **{f"regarding.{field}": _regarding(field) for field in core.SUBJECT_FIELDS},
        "reason": lambda event: text(event, "reason"),
        "reportingController": lambda event: text(event, "reportingController"),
        "type": lambda event: text(event, "type"),
    },
    create_on_update=True,
    storage=EVENTS,
    to_storage=to_storage,
    from_storage=from_storage,
)
