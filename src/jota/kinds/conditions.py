"""Rules of `metav1.Condition` lists, for kinds whose status others write (apimachinery `ValidateConditions`)."""

from __future__ import annotations

import re

from jota.kinds import names
from jota.kinds.shape import Object, number, parts, text
from jota.meta.errors import FieldError, invalid, not_supported, required, too_long

STATUSES = ["False", "True", "Unknown"]
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_RE = re.compile(_REASON)
_LONGEST_REASON, _LONGEST_MESSAGE = 1024, 32 * 1024


def validate(status: Object, path: str = "status.conditions") -> list[FieldError]:
    """Errors of the list `conditions` of a status."""
    errors: list[FieldError] = []
    first: dict[str, int] = {}
    for i, condition in enumerate(parts(status, "conditions")):
        at, type_ = f"{path}[{i}]", text(condition, "type")
        if type_ and type_ in first:
            detail = f'Duplicate value: "{type_}"'
            errors.append(FieldError("FieldValueDuplicate", f"{at}.type", detail))
        first.setdefault(type_, i)
        errors += _one(condition, at)
    return errors


def _one(condition: Object, at: str) -> list[FieldError]:
    errors: list[FieldError] = []
    type_, reason, message = text(condition, "type"), text(condition, "reason"), text(condition, "message")
    if not type_:
        errors.append(required(f"{at}.type"))
    errors += [invalid(f"{at}.type", type_, problem) for problem in (names.qualified_name(type_) if type_ else ())]
    if text(condition, "status") not in STATUSES:
        errors.append(not_supported(f"{at}.status", text(condition, "status"), STATUSES))
    if number(condition, "observedGeneration") < 0:
        value, detail = number(condition, "observedGeneration"), "must be greater than or equal to zero"
        errors.append(invalid(f"{at}.observedGeneration", value, detail))
    if not text(condition, "lastTransitionTime"):
        errors.append(required(f"{at}.lastTransitionTime", "must be set"))
    if not reason:
        errors.append(required(f"{at}.reason"))
    elif len(reason) > _LONGEST_REASON:
        errors.append(too_long(f"{at}.reason", _LONGEST_REASON))
    elif not _REASON_RE.fullmatch(reason):
        detail = "a condition reason must start with alphabetic character, optionally followed by a string of "
        detail += (
            "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name', "
        )
        detail += "or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation "
        errors.append(invalid(f"{at}.reason", reason, f"{detail}is '{_REASON}')"))
    if len(message.encode()) > _LONGEST_MESSAGE:
        errors.append(too_long(f"{at}.message", _LONGEST_MESSAGE))
    return errors
