"""CronJobs: jobs at given times. `cron_problem` judges the schedule; the controller computes the times."""

from __future__ import annotations

import re

from jota.kinds.batch.job import validate_job_spec
from jota.kinds.common import AGE, NAME, NONE, labels_text, path_cell, plain, selector_text, since, yes_no_cell
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.kind import Kind
from jota.kinds.numbers import not_negative
from jota.kinds.shape import Object, attach, deep, meta, part, parts, put_missing, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

POLICIES = ["Allow", "Forbid", "Replace"]
MAX_NAME = 52
"""A job's name is the cron job's and eleven characters more, and must fit a label."""

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("dom", 1, 31), ("month", 1, 12), ("dow", 0, 7))
MONTHS = {
    name: i
    for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
DAYS = {name: i for i, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every ([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+\Z")


def default(cron: Object) -> None:
    spec = attach(cron, "spec")
    put_missing(spec, "concurrencyPolicy", "Allow")
    put_missing(spec, "suspend", False)
    put_missing(spec, "successfulJobsHistoryLimit", 3)
    put_missing(spec, "failedJobsHistoryLimit", 1)
    job = attach(spec, "jobTemplate")
    attach(job, "metadata")
    default_template(attach(job, "spec"))


def validate(cron: Object) -> list[FieldError]:
    spec, name = part(cron, "spec"), text(meta(cron), "name")
    errors = validate_job_spec(deep(spec, "jobTemplate", "spec"), "spec.jobTemplate.spec")
    if len(name) > MAX_NAME:
        errors.append(invalid("metadata.name", name, f"must be no more than {MAX_NAME} characters"))
    schedule = text(spec, "schedule")
    if not schedule:
        errors.append(required("spec.schedule"))
    elif problem := cron_problem(schedule):
        errors.append(invalid("spec.schedule", schedule, problem))
    policy = text(spec, "concurrencyPolicy")
    if policy not in POLICIES:
        errors.append(not_supported("spec.concurrencyPolicy", policy, POLICIES))
    for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += not_negative(spec.get(field), f"spec.{field}")
    zone = spec.get("timeZone")
    if isinstance(zone, str) and not _zone_exists(zone):
        errors.append(invalid("spec.timeZone", zone, f"unknown time zone {zone}"))
    return errors


def _zone_exists(zone: str) -> bool:
    if not zone or zone.lower() == "local":
        return False
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(zone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def cron_problem(schedule: str) -> str:
    """Why a schedule does not parse; "" when it does. Five fields, @every <duration>, or a macro such as @daily."""
    if schedule.startswith("@"):
        known = schedule in MACROS or _EVERY.match(schedule)
        return "" if known else f"unrecognized descriptor: {schedule}"
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        return "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
    fields = schedule.split()
    if len(fields) != len(FIELDS):
        return f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
    for field, (name, low, high) in zip(fields, FIELDS, strict=True):
        names = MONTHS if name == "month" else DAYS if name == "dow" else {}
        for term in field.split(","):
            if problem := _term_problem(term, low, high, names):
                return problem
    return ""


def _term_problem(term: str, low: int, high: int, names: dict[str, int]) -> str:
    span, slash, step = term.partition("/")
    if slash and (not step.isdecimal() or int(step) == 0):
        return f"step of range should be a positive number: {term}"
    if span in ("*", "?"):
        return ""
    ends = span.split("-")
    values = [names.get(end.lower(), int(end) if end.isdecimal() else -1) for end in ends]
    if -1 in values or len(values) > 2:
        return f"failed to parse int from {term}"
    if values[0] < low:
        return f"beginning of range ({values[0]}) below minimum ({low}): {term}"
    if values[-1] > high:
        return f"end of range ({values[-1]}) above maximum ({high}): {term}"
    return (
        f"beginning of range ({values[0]}) beyond end of range ({values[-1]}): {term}" if values[0] > values[-1] else ""
    )


def _of_containers(field: str, cron: Object) -> str:
    pod = deep(cron, "spec", "jobTemplate", "spec", "template", "spec")
    return ",".join(text(c, field) for c in parts(pod, "containers"))


def _last(cron: Object, now: float) -> str:
    last = part(cron, "status").get("lastScheduleTime")
    return since(last, now) if last else NONE


def _selector(cron: Object, _now: float) -> str:
    selector = deep(cron, "spec", "jobTemplate", "spec").get("selector")
    return selector_text(selector) if selector else labels_text({})


KIND = Kind(
    Resource("batch", "v1", "cronjobs", "CronJob"),
    schema="io.k8s.api.batch.v1.CronJob",
    singular="cronjob",
    short_names=("cj",),
    categories=("all",),
    default=default,
    validate=validate,
    columns=(
        NAME,
        plain("Schedule", path_cell("spec", "schedule", missing="")),
        plain("Timezone", path_cell("spec", "timeZone")),
        plain("Suspend", yes_no_cell("spec", "suspend", capital=True)),
        plain("Active", lambda c, _now: len(parts(part(c, "status"), "active")), "integer"),
        plain("Last Schedule", _last),
        AGE,
        plain("Containers", lambda c, _now: _of_containers("name", c), wide=True),
        plain("Images", lambda c, _now: _of_containers("image", c), wide=True),
        plain("Selector", _selector, wide=True),
    ),
    status=True,
    generation=True,
)
