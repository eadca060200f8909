"""Jobs: pods that run to completion. The selector is generated from the job's uid unless `manualSelector` is set.

`default_job_spec` and `validate_job_spec` are shared with cronjob.py.
"""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.apps.template import warnings
from jota.kinds.common import AGE, CONTAINERS, IMAGES, NAME, human_duration, moment, plain, selector_column
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.core.pod.validate import validate_template
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE, not_negative
from jota.kinds.shape import Object, attach, deep, meta, number, part, parts, put_missing, strings, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"
MAX_INT32 = 2**31 - 1
COMPLETION_MODES = ["Indexed", "NonIndexed"]
RESTARTS = ["OnFailure", "Never"]
REPLACEMENTS = ["Failed", "TerminatingOrFailed"]


def default(job: Object) -> None:
    spec = attach(job, "spec")
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    put_missing(spec, "parallelism", 1)
    put_missing(spec, "backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else MAX_INT32)
    put_missing(spec, "completionMode", "NonIndexed")
    put_missing(spec, "suspend", False)
    put_missing(spec, "podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in parts(part(spec, "podFailurePolicy"), "rules"):
        for condition in parts(rule, "onPodConditions"):
            put_missing(condition, "status", "True")
    default_template(spec)
    given = strings(deep(spec, "template", "metadata"), "labels")
    if given and not meta(job).get("labels"):
        attach(job, "metadata")["labels"] = dict(given)


def prepare_create(job: Object) -> None:
    """Needs metadata.uid. Its own label on every pod keeps two jobs from ever sharing one."""
    spec = attach(job, "spec")
    uid, name = text(meta(job), "uid"), text(meta(job), "name")
    if spec.get("manualSelector") is True or not uid:
        return
    put_missing(attach(attach(spec, "selector"), "matchLabels"), UID_LABEL, uid)
    given = attach(attach(attach(spec, "template"), "metadata"), "labels")
    for label in (OLD_NAME_LABEL, NAME_LABEL):
        if len(name) <= 63:
            given.setdefault(label, name)
    for label in (OLD_UID_LABEL, UID_LABEL):
        given.setdefault(label, uid)


def validate(job: Object) -> list[FieldError]:
    spec = part(job, "spec")
    errors = validate_job_spec(spec, "spec")
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        return [*errors, required("spec.selector")]
    errors += labels.validate_selector(selector, "spec.selector")
    given = strings(deep(spec, "template", "metadata"), "labels")
    if not labels.matches(selector, given):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid("spec.template.metadata.labels", given, detail))
    if spec.get("manualSelector") is not True:
        errors += _validate_generated(job, given)
    return errors


def _validate_generated(job: Object, given: dict[str, str]) -> list[FieldError]:
    errors: list[FieldError] = []
    uid = text(meta(job), "uid")
    if given.get(UID_LABEL, given.get(OLD_UID_LABEL)) != uid:
        errors.append(invalid("spec.template.metadata.labels", given, f"must be '{uid}'"))
    if strings(deep(job, "spec", "selector"), "matchLabels").get(UID_LABEL, uid) != uid:
        errors.append(invalid("spec.selector", deep(job, "spec", "selector"), "`selector` not auto-generated"))
    return errors


_NOT_NEGATIVE = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)


def validate_job_spec(spec: Object, path: str) -> list[FieldError]:
    """All of a job's spec but its selector."""
    errors: list[FieldError] = []
    for field in _NOT_NEGATIVE:
        errors += not_negative(spec.get(field), f"{path}.{field}")
    mode = text(spec, "completionMode")
    if mode and mode not in COMPLETION_MODES:
        errors.append(not_supported(f"{path}.completionMode", mode, COMPLETION_MODES))
    if mode == "Indexed":
        errors += _validate_indexed(spec, path)
    elif spec.get("backoffLimitPerIndex") is not None:
        detail = "requires indexed completion mode"
        errors.append(invalid(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], detail))
    replacement = text(spec, "podReplacementPolicy")
    if replacement and replacement not in REPLACEMENTS:
        errors.append(not_supported(f"{path}.podReplacementPolicy", replacement, REPLACEMENTS))
    errors += validate_template(part(spec, "template"), f"{path}.template")
    return errors + _validate_restart(text(deep(spec, "template", "spec"), "restartPolicy"), spec, path)


def _validate_indexed(spec: Object, path: str) -> list[FieldError]:
    if spec.get("completions") is None:
        return [required(f"{path}.completions", "when completion mode is Indexed")]
    if number(spec, "parallelism") > 100000:
        detail = "must be less than or equal to 100000 when completion mode is Indexed"
        return [invalid(f"{path}.parallelism", spec["parallelism"], detail)]
    return []


def _validate_restart(restart: str, spec: Object, path: str) -> list[FieldError]:
    path = f"{path}.template.spec.restartPolicy"
    if restart == "Always":
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if restart == "OnFailure" and spec.get("podFailurePolicy"):
        return [invalid(path, restart, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def validate_update(new: Object, old: Object) -> list[FieldError]:
    after, before = part(new, "spec"), part(old, "spec")
    errors = []
    frozen = ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy", "selector"]
    for field in frozen:
        if after.get(field) != before.get(field):
            errors.append(invalid(f"spec.{field}", after.get(field), IMMUTABLE))
    if after.get("completions") != before.get("completions") and not _elastic(after, before):
        errors.append(invalid("spec.completions", after.get("completions"), IMMUTABLE))
    if _template(after, before, new) != _template(before, before, old):
        errors.append(invalid("spec.template", after.get("template"), IMMUTABLE))
    return errors


def _elastic(after: Object, before: Object) -> bool:
    """An indexed job may be resized when completions and parallelism move together."""
    return text(before, "completionMode") == "Indexed" and after.get("completions") == after.get("parallelism")


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def _template(spec: Object, before: Object, job: Object) -> Object:
    """The template; without its scheduling part while the job is suspended and has never started."""
    template = part(spec, "template")
    if before.get("suspend") is not True or part(job, "status").get("startTime") is not None:
        return template
    shown = {k: v for k, v in template.items() if k not in ("metadata", "spec")}
    shown["spec"] = {k: v for k, v in part(template, "spec").items() if k not in _SCHEDULING}
    return shown


_WORDS = ("Complete", "Failed")
_LATER_WORDS = ("Suspended", "FailureTarget", "SuccessCriteriaMet")


def _status(job: Object, _now: float) -> str:
    true = {text(c, "type") for c in parts(part(job, "status"), "conditions") if c.get("status") == "True"}
    for word in _WORDS:
        if word in true:
            return word
    if meta(job).get("deletionTimestamp"):
        return "Terminating"
    return next((word for word in _LATER_WORDS if word in true), "Running")


def _completions(job: Object, _now: float) -> str:
    spec, done = part(job, "spec"), number(part(job, "status"), "succeeded")
    if type(spec.get("completions")) is int:
        return f"{done}/{spec['completions']}"
    parallel = number(spec, "parallelism")
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def _duration(job: Object, now: float) -> str:
    status = part(job, "status")
    start, end = moment(status.get("startTime")), moment(status.get("completionTime"))
    return "" if start is None else human_duration((now if end is None else end) - start)


KIND = Kind(
    Resource("batch", "v1", "jobs", "Job"),
    schema="io.k8s.api.batch.v1.Job",
    singular="job",
    categories=("all",),
    default=default,
    prepare_create=prepare_create,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
    policy="Orphan",
    policy_warning="child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
    "them or set propagationPolicy=Orphan to suppress this warning",
    columns=(
        NAME,
        plain("Status", _status),
        plain("Completions", _completions),
        plain("Duration", _duration, about="Time needed to complete."),
        AGE,
        CONTAINERS,
        IMAGES,
        selector_column("spec", "selector"),
    ),
    selectable={"status.successful": lambda job: str(number(part(job, "status"), "succeeded"))},
    status=True,
    generation=True,
)
