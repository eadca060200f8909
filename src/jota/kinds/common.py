"""Cells and texts that many kinds share: durations as Kubernetes prints them, selectors as text, the Name and Age columns.

In: objects as plain JSON and the time. Out: what `kubectl get` shows (apimachinery `duration.HumanDuration`,
`metav1.FormatLabelSelector`). Next: table.py, where the kinds that use this are listed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jota.aio.clock import parse_rfc3339
from jota.kinds.kind import Column
from jota.kinds.shape import Object, meta, number, part, parts, strings, text, texts

NONE = "<none>"
UNKNOWN = "<unknown>"


def human_duration(seconds: float) -> str:
    """At most two units, coarser as it grows: 5m3s, 3h, 2d4h (apimachinery `HumanDuration`)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes = whole // 60
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return _pair(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def moment(value: Any) -> float | None:
    """Epoch seconds of a timestamp field; None when there is no readable one."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return parse_rfc3339(value)
    except (ValueError, OverflowError):
        return None


def since(value: Any, now: float) -> str:
    """How long ago a timestamp was."""
    then = moment(value)
    return UNKNOWN if then is None else human_duration(now - then)


def name_cell(obj: Object, _now: float) -> str:
    return text(meta(obj), "name")


def age_cell(obj: Object, now: float) -> str:
    return since(meta(obj).get("creationTimestamp"), now)


def path_cell(*path: str, missing: Any = NONE) -> Callable[[Object, float], Any]:
    """A cell that shows the value at a path."""
    *parents, last = path

    def cell(obj: Object, _now: float) -> Any:
        for key in parents:
            obj = part(obj, key)
        value = obj.get(last)
        if isinstance(value, bool):
            return "true" if value else "false"
        return value if isinstance(value, int | str) and value != "" else missing

    return cell


def plain(
    name: str, cell: Callable[[Object, float], Any], type: str = "string", *, wide: bool = False, about: str = ""
) -> Column:
    """A column in one line."""
    return Column(name, cell, type, description=about, priority=1 if wide else 0)


NAME = Column("Name", name_cell, format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", age_cell, description="Time since the object was created.")


def labels_text(labels: dict[str, str]) -> str:
    """A map of labels as kubectl prints it: a=1,b=2 by key, or <none>."""
    return ",".join(f"{k}={labels[k]}" for k in sorted(labels)) if labels else NONE


def selector_text(selector: Any) -> str:
    """A LabelSelector as text: a=b,c in (d,e),!f by key; <none> when it selects everything."""
    if not isinstance(selector, dict):
        return NONE
    wanted: list[tuple[str, str]] = [(k, f"{k}={v}") for k, v in strings(selector, "matchLabels").items()]
    for rule in parts(selector, "matchExpressions"):
        key, operator = text(rule, "key"), text(rule, "operator")
        values = ",".join(sorted(texts(rule, "values")))
        shown = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        wanted.append((key, shown.get(operator, f"!{key}")))
    return ",".join(shown for _, shown in sorted(wanted, key=lambda w: w[0])) or NONE


def _containers_of(field: str, *path: str) -> Callable[[Object, float], str]:
    def cell(obj: Object, _now: float) -> str:
        for key in path:
            obj = part(obj, key)
        return ",".join(text(c, field) for c in parts(obj, "containers"))

    return cell


CONTAINERS = plain("Containers", _containers_of("name", "spec", "template", "spec"), wide=True)
IMAGES = plain("Images", _containers_of("image", "spec", "template", "spec"), wide=True)


def selector_column(*path: str) -> Column:
    """The wide column Selector for a LabelSelector under `path`."""

    def cell(obj: Object, _now: float) -> str:
        for key in path[:-1]:
            obj = part(obj, key)
        return selector_text(obj.get(path[-1]))

    return plain("Selector", cell, wide=True)


def created_cell(obj: Object, _now: float) -> str:
    """The moment itself, for kinds whose age nobody asks about."""
    return text(meta(obj), "creationTimestamp")


CREATED = plain("Created At", created_cell, about="When the object was created.")


def count_cell(*path: str) -> Callable[[Object, float], int]:
    """A cell that shows the number at a path, zero when it is not set."""
    *parents, last = path

    def cell(obj: Object, _now: float) -> int:
        for key in parents:
            obj = part(obj, key)
        return number(obj, last)

    return cell


def yes_no_cell(*path: str, missing: str = "<unset>", capital: bool = False) -> Callable[[Object, float], str]:
    """true or false at a path; `capital`: True or False, as CronJobs show it."""
    shown = path_cell(*path, missing=missing)

    def cell(obj: Object, now: float) -> str:
        value = str(shown(obj, now))
        return value.capitalize() if capital and value != missing else value

    return cell


def some(values: list[str], limit: int = 3, empty: str = NONE, total: int | None = None) -> str:
    """The first few of a list: a,b,c + 2 more..."""
    count = len(values) if total is None else total
    if not values:
        return empty
    shown = ",".join(values[:limit])
    return f"{shown} + {count - limit} more..." if count > limit else shown
