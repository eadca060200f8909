"""Evictions: one attempt to let a pod go, by one responder after the other. Written by controllers/evictionrequest.py and, in
`status.responders`, by the responders themselves."""

from __future__ import annotations

from typing import Any

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.lifecycle.participants import validate_intent, validate_name, validate_target
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, deep, part, parts, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, too_many
from jota.meta.resource import EVICTIONS

STATES = ["Active", "Canceled", "Completed", "Inactive", "Interrupted"]
MOST_REQUESTERS, MOST_RESPONDERS, LONGEST_MESSAGE = 100, 11, 4000


def validate(eviction: Object) -> list[FieldError]:
    return validate_target(part(part(eviction, "spec"), "target"), "spec.target")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    target = part(new, "spec").get("target")
    return [] if target == part(old, "spec").get("target") else [invalid("spec.target", target, IMMUTABLE)]


def validate_status(new: Object, old: Object) -> list[FieldError]:
    """Who responds is settled once; only the one who is active reports, and its beginning and end stay as they are."""
    status, was = part(new, "status"), part(old, "status")
    requesters, responders = parts(status, "requesters"), parts(status, "targetResponders")
    errors = _bounded(status, "requesters", MOST_REQUESTERS) + _bounded(status, "targetResponders", MOST_RESPONDERS)
    for i, requester in enumerate(requesters):
        errors += validate_name(requester.get("name"), f"status.requesters[{i}].name", foreign=False)
        errors += validate_intent(requester.get("intent"), f"status.requesters[{i}].intent")
    for i, responder in enumerate(responders):
        errors += validate_name(responder.get("name"), f"status.targetResponders[{i}].name", foreign=False)
        if responder.get("state") not in STATES:
            errors.append(not_supported(f"status.targetResponders[{i}].state", responder.get("state"), STATES))
    if sum(r.get("state") == "Active" for r in responders) > 1:
        errors.append(invalid("status.targetResponders", len(responders), "at most one responder may be Active"))
    before = parts(was, "targetResponders")
    if before and _priorities(before) != _priorities(responders):
        errors.append(invalid("status.targetResponders", sorted(_named(responders)), IMMUTABLE))
    return errors + _reports(parts(status, "responders"), parts(was, "responders"), responders)


def _reports(new: list[Object], old: list[Object], targets: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    known, active = _named(old), {text(t, "name") for t in targets if t.get("state") == "Active"}
    for i, report in enumerate(new):
        path, name = f"status.responders[{i}]", text(report, "name")
        if name not in _named(targets):
            errors.append(invalid(f"{path}.name", name, "must be one of status.targetResponders"))
        if len(text(report, "message")) > LONGEST_MESSAGE:
            errors.append(invalid(f"{path}.message", "", f"may not be longer than {LONGEST_MESSAGE}"))
        was = known.get(name)
        if was is None:
            continue
        if was != report and name not in active and not ("startTime" in report and "startTime" not in was):
            errors.append(forbidden_field(path, "only the active responder may be updated"))
        errors += [
            invalid(f"{path}.{field}", report.get(field), IMMUTABLE)
            for field in ("startTime", "completionTime")
            if was.get(field) and was[field] != report.get(field)
        ]
    return errors


def _bounded(status: Object, field: str, most: int) -> list[FieldError]:
    count = len(parts(status, field))
    return [too_many(f"status.{field}", count, most)] if count > most else []


def _priorities(responders: list[Object]) -> dict[str, Any]:
    return {text(r, "name"): r.get("priority") for r in responders}


def _named(items: list[Object]) -> dict[str, Object]:
    return {text(item, "name"): item for item in items}


def _responder(eviction: Object, _now: float) -> Any:
    listed = parts(part(eviction, "status"), "targetResponders")
    return next((text(r, "name") for r in listed if r.get("state") == "Active"), "<none>")


def _state(eviction: Object, _now: float) -> Any:
    for condition in parts(part(eviction, "status"), "conditions"):
        if condition.get("status") == "True":
            return text(condition, "type")
    return "Active"


KIND = Kind(
    EVICTIONS,
    schema="io.k8s.api.lifecycle.v1alpha1.Eviction",
    singular="eviction",
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    columns=(
        NAME,
        plain("Pod", lambda e, _now: text(deep(e, "spec", "target", "pod"), "name")),
        plain("Responder", _responder),
        plain("State", _state),
        AGE,
    ),
    status=True,
    generation=True,
    stability="alpha",
)
