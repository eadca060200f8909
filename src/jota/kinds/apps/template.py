"""What the workloads of apps/ share: the selector must be there and match the template, whose pods always restart."""

from __future__ import annotations

from typing import TypedDict

from jota.kinds import labels
from jota.kinds.core.pod.validate import validate_template
from jota.kinds.core.pod.warnings import template_warnings
from jota.kinds.shape import Object, part, parts, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required


class _Spec(TypedDict, total=False):
    template: Object


class Templated(TypedDict, total=False):
    """What `warnings` looks at beside metadata."""

    spec: _Spec


def validate_selector_and_template(
    spec: Object, kind: str, *, deadline_kind: str = "ReplicaSet", claims_as_volumes: bool = False
) -> list[FieldError]:
    """Errors of spec.selector and spec.template.

    `kind` is the word in "empty selector is invalid for ..."; with `claims_as_volumes` the names of volumeClaimTemplates
    count as volumes of the template (StatefulSet)."""
    errors: list[FieldError] = []
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        errors.append(required("spec.selector"))
    else:
        errors += labels.validate_selector(selector, "spec.selector")
        if labels.is_empty(selector):
            errors.append(invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    template = spec.get("template")
    if not isinstance(template, dict):
        return [*errors, required("spec.template")]
    claims = parts(spec, "volumeClaimTemplates") if claims_as_volumes else []
    extra = tuple(text(part(claim, "metadata"), "name") for claim in claims)
    return errors + _validate_template(template, selector, deadline_kind, extra)


def _validate_template(
    template: Object, selector: object, deadline_kind: str, extra_volumes: tuple[str, ...]
) -> list[FieldError]:
    errors: list[FieldError] = []
    given = strings(part(template, "metadata"), "labels")
    if isinstance(selector, dict) and not labels.is_empty(selector) and not labels.matches(selector, given):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid("spec.template.metadata.labels", given, detail))
    errors += validate_template(template, "spec.template", extra_volumes)
    pod = part(template, "spec")
    restart = text(pod, "restartPolicy")
    if restart and restart != "Always":
        errors.append(not_supported("spec.template.spec.restartPolicy", restart, ["Always"]))
    if pod.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {deadline_kind} is not Supported"
        errors.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", detail))
    return errors


def warnings(workload: Object) -> list[str]:
    """Warnings about the template of any workload."""
    return template_warnings(part(part(workload, "spec"), "template"), "spec.template.")
