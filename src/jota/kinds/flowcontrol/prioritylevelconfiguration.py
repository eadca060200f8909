"""PriorityLevelConfigurations: how many requests of a level run at once, and how the rest queue."""

from __future__ import annotations

import math

from jota.kinds.common import AGE, NAME, NONE, path_cell, plain
from jota.kinds.flowcontrol.flowschema import validate_status
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, meta, number, part, put_missing, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.resource import Resource

TYPES = ["Exempt", "Limited"]
MOST_QUEUES = 10_000_000
ENTROPY = 60
"""Bits of a flow's hash that dealing a hand may use up (upstream's shufflesharding)."""
QUEUES = ("spec", "limited", "limitResponse", "queuing")


def default(level: Object) -> None:
    spec = attach(level, "spec")
    if text(spec, "type") == "Exempt":
        exempt = attach(spec, "exempt")
        put_missing(exempt, "nominalConcurrencyShares", 0)
        put_missing(exempt, "lendablePercent", 0)
    elif text(spec, "type") == "Limited" and isinstance(spec.get("limited"), dict):
        limited = spec["limited"]
        put_missing(limited, "nominalConcurrencyShares", 30)
        put_missing(limited, "lendablePercent", 0)
        response = part(limited, "limitResponse")
        if isinstance(response.get("queuing"), dict):
            for field, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                put_missing(response["queuing"], field, value)


def validate(level: Object) -> list[FieldError]:
    """Upstream's ValidatePriorityLevelConfigurationSpec."""
    spec, name = part(level, "spec"), text(meta(level), "name")
    kind = text(spec, "type")
    if kind not in TYPES:
        return [not_supported("spec.type", kind, TYPES)]
    errors: list[FieldError] = []
    if (name == "exempt") != (kind == "Exempt"):
        wanted = "type must be 'Exempt' if and only if name is 'exempt'"
        errors.append(invalid("spec.type", kind, wanted))
    own, other = ("exempt", "limited") if kind == "Exempt" else ("limited", "exempt")
    if spec.get(other) is not None:
        errors.append(forbidden_field(f"spec.{other}", f"must be nil if the type is not {other.capitalize()}"))
    if kind == "Limited" and not isinstance(spec.get("limited"), dict):
        errors.append(required("spec.limited", "must not be empty when type is Limited"))
        return errors
    settings, path = part(spec, own), f"spec.{own}"
    errors += _in_range(settings, "nominalConcurrencyShares", path, 0, None)
    errors += _in_range(settings, "lendablePercent", path, 0, 100)
    errors += _in_range(settings, "borrowingLimitPercent", path, 0, None)
    return errors + (_response(settings) if kind == "Limited" else [])


def _in_range(settings: Object, field: str, path: str, least: int, most: int | None) -> list[FieldError]:
    value = settings.get(field)
    if type(value) is int and (value < least or (most is not None and value > most)):
        detail = "must be a non-negative integer" if most is None else f"must be between {least} and {most}, inclusive"
        return [invalid(f"{path}.{field}", value, detail)]
    return []


def _response(settings: Object) -> list[FieldError]:
    response, path = part(settings, "limitResponse"), "spec.limited.limitResponse"
    kind, queuing = text(response, "type"), response.get("queuing")
    if kind == "Reject":
        detail = "must be nil if limited.limitResponse.type is not Limited"
        return [] if queuing is None else [forbidden_field(f"{path}.queuing", detail)]
    if kind != "Queue":
        return [not_supported(f"{path}.type", kind, ["Queue", "Reject"])]
    if not isinstance(queuing, dict):
        return [required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")]
    errors, where = [], f"{path}.queuing"
    for field in ("queueLengthLimit", "queues", "handSize"):
        if number(queuing, field) <= 0:
            errors.append(invalid(f"{where}.{field}", queuing.get(field), "must be positive"))
    queues, hand = number(queuing, "queues"), number(queuing, "handSize")
    if queues > MOST_QUEUES:
        errors.append(invalid(f"{where}.queues", queues, f"must not be greater than {MOST_QUEUES}"))
    if hand > queues > 0:
        errors.append(invalid(f"{where}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif hand > 0 and math.perm(queues, hand).bit_length() > ENTROPY:
        bits = math.perm(queues, hand).bit_length()
        detail = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {ENTROPY}"
        errors.append(invalid(f"{where}.handSize", hand, f"{detail} ({bits} used)"))
    return errors


def _shares(level: Object, now: float) -> str:
    for side in ("limited", "exempt"):
        shown = path_cell("spec", side, "nominalConcurrencyShares", missing="")(level, now)
        if shown != "":
            return str(shown)
    return NONE


KIND = Kind(
    Resource("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", False),
    schema="io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
    singular="prioritylevelconfiguration",
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        plain("Type", path_cell("spec", "type", missing="")),
        plain("NominalConcurrencyShares", _shares),
        plain("Queues", path_cell(*QUEUES, "queues")),
        plain("HandSize", path_cell(*QUEUES, "handSize")),
        plain("QueueLengthLimit", path_cell(*QUEUES, "queueLengthLimit")),
        AGE,
    ),
    status=True,
    generation=True,
)
