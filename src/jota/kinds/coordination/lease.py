"""Leases: who holds what, until when. Nodes and leaders renew them all the time, so a PUT may create one."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.coordination.strategy import validate_strategy
from jota.kinds.kind import Kind, Nothing
from jota.kinds.numbers import not_negative, positive
from jota.kinds.shape import Object, part
from jota.meta.errors import FieldError, forbidden_field
from jota.meta.resource import LEASES


def validate(lease: Object) -> list[FieldError]:
    spec = part(lease, "spec")
    errors = positive(spec.get("leaseDurationSeconds"), "spec.leaseDurationSeconds")
    errors += not_negative(spec.get("leaseTransitions"), "spec.leaseTransitions")
    if spec.get("preferredHolder") and not spec.get("strategy"):
        errors.append(forbidden_field("spec.preferredHolder", "may only be specified if `strategy` is defined"))
    return errors + validate_strategy(spec.get("strategy"), "spec.strategy")


KIND = Kind(
    LEASES,
    schema="io.k8s.api.coordination.v1.Lease",
    singular="lease",
    validate=validate,
    columns=(NAME, plain("Holder", path_cell("spec", "holderIdentity", missing=""), about="Who holds it."), AGE),
    create_on_update=True,
    apart={"spec": None},
    unconditional_update=False,
    relabelled_from=Nothing,
)
