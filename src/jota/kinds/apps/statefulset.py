"""StatefulSets: pods with stable names and their own claims."""

from __future__ import annotations

from jota.kinds.apps.template import Templated, validate_selector_and_template, warnings
from jota.kinds.common import AGE, CONTAINERS, IMAGES, NAME, plain
from jota.kinds.core.persistentvolumeclaim import default_claim_spec
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.kind import Kind, Scale
from jota.kinds.numbers import at_most_100_percent, int_or_percent, not_negative
from jota.kinds.shape import Object, attach, number, part, parts, put_missing, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported
from jota.meta.resource import Resource

CHANGEABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
FROZEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
RETENTION = ["Delete", "Retain"]


def default(stateful: Object) -> None:
    spec = attach(stateful, "spec")
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = attach(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        put_missing(attach(strategy, "rollingUpdate"), "partition", 0)
    retention = attach(spec, "persistentVolumeClaimRetentionPolicy")
    put_missing(retention, "whenDeleted", "Retain")
    put_missing(retention, "whenScaled", "Retain")
    put_missing(spec, "replicas", 1)
    put_missing(spec, "revisionHistoryLimit", 10)
    default_template(spec)
    for claim in parts(spec, "volumeClaimTemplates"):
        put_missing(claim, "apiVersion", "v1")
        put_missing(claim, "kind", "PersistentVolumeClaim")
        default_claim_spec(attach(claim, "spec"))
        put_missing(attach(claim, "status"), "phase", "Pending")


def validate(stateful: Object) -> list[FieldError]:
    spec = part(stateful, "spec")
    errors = _validate_strategy(part(spec, "updateStrategy"))
    policy = text(spec, "podManagementPolicy")
    if policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    retention = part(spec, "persistentVolumeClaimRetentionPolicy")
    for field in ("whenDeleted", "whenScaled"):
        value = text(retention, field)
        if value not in RETENTION:
            errors.append(not_supported(f"spec.persistentVolumeClaimRetentionPolicy.{field}", value, RETENTION))
    errors += not_negative(spec.get("replicas"), "spec.replicas")
    errors += not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    errors += not_negative(part(spec, "ordinals").get("start"), "spec.ordinals.start")
    errors += not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    return errors + validate_selector_and_template(spec, "statefulset", claims_as_volumes=True)


def _validate_strategy(strategy: Object) -> list[FieldError]:
    kind, rolling, path = text(strategy, "type"), part(strategy, "rollingUpdate"), "spec.updateStrategy"
    if kind == "OnDelete":
        if rolling:
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            return [invalid(f"{path}.rollingUpdate", rolling, detail)]
        return []
    if kind != "RollingUpdate":
        return [invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    errors = not_negative(rolling.get("partition"), f"{path}.rollingUpdate.partition")
    unavailable = rolling.get("maxUnavailable")
    if unavailable is not None:
        where = f"{path}.rollingUpdate.maxUnavailable"
        errors += int_or_percent(unavailable, where) + at_most_100_percent(unavailable, where)
        if unavailable in (0, "0%"):
            errors.append(invalid(where, unavailable, "cannot be 0"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    after, before = part(new, "spec"), part(old, "spec")
    changed = any(after.get(f) != before.get(f) for f in (after.keys() | before.keys()) - set(CHANGEABLE))
    return [forbidden_field("spec", FROZEN)] if changed else []


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    status = part(new, "status")
    errors = not_negative(status.get("replicas"), "status.replicas")
    for field in ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"):
        errors += not_negative(status.get(field), f"status.{field}")
        if number(status, field) > number(status, "replicas"):
            errors.append(invalid(f"status.{field}", number(status, field), "cannot be greater than status.replicas"))
    return errors


def _ready(stateful: Object, _now: float) -> str:
    return f"{number(part(stateful, 'status'), 'readyReplicas')}/{number(part(stateful, 'spec'), 'replicas')}"


KIND = Kind(
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    schema="io.k8s.api.apps.v1.StatefulSet",
    singular="statefulset",
    short_names=("sts",),
    categories=("all",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    columns=(NAME, plain("Ready", _ready, about="Pods that are ready, of those wanted."), AGE, CONTAINERS, IMAGES),
    status=True,
    apart={"status": None},
    scale=Scale(),
    generation=True,
    relabelled_from=Templated,
)
