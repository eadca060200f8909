"""Events of the core group: what happened to an object. events.k8s.io shows the same objects under newer field names."""

from __future__ import annotations

from collections.abc import Callable

from jota.kinds.common import NAME, UNKNOWN, path_cell, plain, since
from jota.kinds.kind import Column, Kind
from jota.kinds.shape import Object, attach, meta, number, part, put_missing, text
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import EVENTS

SUBJECT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def default(event: Object) -> None:
    attach(event, "source")
    for field in ("reportingComponent", "reportingInstance"):
        put_missing(event, field, "")


def validate(event: Object) -> list[FieldError]:
    """An event lives in the namespace of what it is about, or in "default" when that has none."""
    about, namespace = text(part(event, "involvedObject"), "namespace"), text(meta(event), "namespace")
    if (about and about != namespace) or (not about and namespace not in ("", "default", "kube-system")):
        return [invalid("involvedObject.namespace", about, "does not match event.namespace")]
    return []


def first_seen(event: Object, now: float) -> str:
    return since(event.get("firstTimestamp") or event.get("eventTime"), now)


def last_seen(event: Object, now: float) -> str:
    series = event.get("series")
    if isinstance(series, dict):
        return since(series.get("lastObservedTime"), now)
    shown = since(event.get("lastTimestamp"), now)
    return first_seen(event, now) if shown == UNKNOWN else shown


def _object(event: Object, _now: float) -> str:
    about = part(event, "involvedObject")
    kind = text(about, "kind").lower()
    return f"{kind}/{text(about, 'name')}" if text(about, "name") else kind


def source(event: Object) -> str:
    """The component that speaks."""
    return text(part(event, "source"), "component") or text(event, "reportingComponent")


def _source(event: Object, _now: float) -> str:
    given = part(event, "source")
    if text(given, "component"):
        pair = (text(given, "component"), text(given, "host"))
    else:
        pair = (text(event, "reportingComponent"), text(event, "reportingInstance"))
    return ", ".join(word for word in pair if word)


def _count(event: Object, _now: float) -> int:
    series = event.get("series")
    return number(series, "count") if isinstance(series, dict) else number(event, "count") or 1


def _about(field: str) -> Callable[[Object], str]:
    return lambda event: text(part(event, "involvedObject"), field)


COLUMNS = (
    plain("Last Seen", last_seen, about="When it was last seen."),
    plain("Type", path_cell("type", missing=""), about="Normal or Warning."),
    plain("Reason", path_cell("reason", missing=""), about="Why, in one word."),
    plain("Object", _object, about="What it is about."),
    plain("Subobject", path_cell("involvedObject", "fieldPath", missing=""), wide=True),
    plain("Source", _source, wide=True),
    plain("Message", lambda e, _now: text(e, "message").strip(), about="What happened, for people."),
    plain("First Seen", first_seen, wide=True),
    plain("Count", _count, wide=True),
    Column("Name", NAME.cell, format="name", priority=1),
)

KIND = Kind(
    EVENTS,
    schema="io.k8s.api.core.v1.Event",
    singular="event",
    short_names=("ev",),
    default=default,
    validate=validate,
    columns=COLUMNS,
    selectable={
        **{f"involvedObject.{field}": _about(field) for field in SUBJECT_FIELDS},
        "reason": lambda event: text(event, "reason"),
        "reportingComponent": lambda event: text(event, "reportingComponent"),
        "source": source,
        "type": lambda event: text(event, "type"),
    },
    create_on_update=True,
)
