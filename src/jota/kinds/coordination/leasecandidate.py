"""LeaseCandidates: who would lead, and how old it is. Candidates renew theirs when they are pinged; the one who leads is chosen by
controllers/leaderelection.py."""

from __future__ import annotations

import re
from typing import Any

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.coordination.strategy import OLDEST, validate_strategy
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, part, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import LEASE_CANDIDATES

_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
Order = tuple[Any, ...]


def semver(value: str) -> Order | None:
    """What orders semantic versions (semver.org, 11); None for what is none.

    >>> semver("1.2.3-rc.1") < semver("1.2.3") < semver("1.10.0")
    True
    """
    found = _SEMVER.fullmatch(value) if len(value) <= 256 else None
    if found is None:
        return None
    before = found[4]
    parts = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in before.split(".")) if before else ()
    return (*(int(found[n]) for n in (1, 2, 3)), before is None, parts)


def validate(candidate: Object) -> list[FieldError]:
    spec = part(candidate, "spec")
    errors = [] if text(spec, "leaseName") else [required("spec.leaseName")]
    emulated, binary = text(spec, "emulationVersion"), text(spec, "binaryVersion")
    for name, value in (("emulationVersion", emulated), ("binaryVersion", binary)):
        if value and semver(value) is None:
            errors.append(invalid(f"spec.{name}", value, "must be a valid semantic version"))
    if not binary:
        errors.append(required("spec.binaryVersion"))
    mine, theirs = semver(binary), semver(emulated)
    if mine is not None and theirs is not None and mine < theirs:
        detail = "must be greater than or equal to `emulationVersion`"
        errors.append(invalid("spec.binaryVersion", binary, detail))
    if not text(spec, "strategy"):
        return [*errors, required("spec.strategy")]
    errors += validate_strategy(spec["strategy"], "spec.strategy")
    if spec["strategy"] == OLDEST and not emulated:
        detail = f"must be specified when `strategy` is '{OLDEST}'"
        errors.append(required("spec.emulationVersion", detail))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    name = text(part(new, "spec"), "leaseName")
    return [] if name == text(part(old, "spec"), "leaseName") else [invalid("spec.leaseName", name, IMMUTABLE)]


KIND = Kind(
    LEASE_CANDIDATES,
    schema="io.k8s.api.coordination.v1beta1.LeaseCandidate",
    singular="leasecandidate",
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("LeaseName", path_cell("spec", "leaseName", missing="")),
        plain("BinaryVersion", path_cell("spec", "binaryVersion", missing="")),
        plain("EmulationVersion", path_cell("spec", "emulationVersion", missing="")),
        AGE,
    ),
    selectable={"spec.leaseName": lambda c: text(part(c, "spec"), "leaseName")},
    create_on_update=True,
    unconditional_update=False,
    stability="beta",
)
