"""Events of events.k8s.io: the core group's objects under newer names; stored as core events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jota.aio.clock import parse_rfc3339
from jota.kinds.core import event as core
from jota.kinds.kind import Column, Kind
from jota.kinds.numbers import IMMUTABLE
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
FIXED = (
    *(new for new, _ in NAMES),
    *("reason", "type", "eventTime", "action", "related", "reportingInstance"),
)
_CORE_NAMES = dict(NAMES[:-1])
"""As upstream names them in errors, whatever they are called in the version that is sent."""


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


def validate_series(event: Object) -> list[FieldError]:
    series, errors = event.get("series"), list[FieldError]()
    if isinstance(series, dict):
        if not isinstance(series.get("count"), int) or series["count"] < 2:
            errors.append(invalid("series.count", "", "should be at least 2"))
        if not text(series, "lastObservedTime"):
            errors.append(required("series.lastObservedTime"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """What happened does not change; that it happens again is told in its series (upstream's ValidateEventUpdate)."""
    errors = [] if new.get("series") == old.get("series") else validate_series(new)
    for field in FIXED:
        same = _moment(new) == _moment(old) if field == "eventTime" else _said(new.get(field)) == _said(old.get(field))
        if not same:
            errors.append(invalid(_CORE_NAMES.get(field, field), new.get(field), IMMUTABLE))
    return errors


def _said(value: Any) -> Any:
    """The same for what Go cannot tell apart: what is empty and what is not there."""
    if isinstance(value, dict):
        return {key: child for key, child in value.items() if child} or None
    return value or None


def _moment(event: Object) -> float | None:
    """Seconds; two spellings are one moment."""
    try:
        return parse_rfc3339(text(event, "eventTime"))
    except ValueError:
        return None


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
    validate_create=validate_series,
    validate_update=validate_update,
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
