"""PriorityLevelConfigurations: how many requests of a level run at once, and how the rest queue."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, NONE, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, put_missing, text
from jota.meta.errors import FieldError, not_supported
from jota.meta.resource import Resource

TYPES = ["Exempt", "Limited"]
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
    kind = text(part(level, "spec"), "type")
    return [] if kind in TYPES else [not_supported("spec.type", kind, TYPES)]


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
    name_rule="path-segment",
)
