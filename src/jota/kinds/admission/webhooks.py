"""Validating- and MutatingWebhookConfigurations: defaults and rules that both share (upstream's admissionregistration/v1)."""

from __future__ import annotations

from jota.kinds.clientconfig import client_config
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Column
from jota.kinds.shape import Object, attach, number, part, parts, put_missing, text, texts
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required

OPERATIONS = ["*", "CREATE", "UPDATE", "DELETE", "CONNECT"]
SIDE_EFFECTS = ["None", "NoneOnDryRun"]
VERSIONS = ("v1", "v1beta1")
"""Of AdmissionReview, that this server speaks: v1 alone; one of them must be accepted."""


def default(config: Object) -> None:
    for hook in parts(config, "webhooks"):
        put_missing(hook, "failurePolicy", "Fail")
        put_missing(hook, "matchPolicy", "Equivalent")
        put_missing(hook, "namespaceSelector", {})
        put_missing(hook, "objectSelector", {})
        put_missing(hook, "timeoutSeconds", 10)
        for rule in parts(hook, "rules"):
            put_missing(rule, "scope", "*")
        service = part(part(hook, "clientConfig"), "service")
        if service:
            put_missing(attach(attach(hook, "clientConfig"), "service"), "port", 443)


def validate(config: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, hook in enumerate(parts(config, "webhooks")):
        path, name = f"webhooks[{i}]", text(hook, "name")
        if name.count(".") < 2:
            errors.append(
                invalid(f"{path}.name", name, "should be a domain with at least three segments separated by dots")
            )
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        _hook(hook, path, errors)
    return errors


def _hook(hook: Object, path: str, errors: list[FieldError]) -> None:
    versions = texts(hook, "admissionReviewVersions")
    if not versions:
        errors.append(required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1"))
    elif not set(versions) & set(VERSIONS):
        detail = "must include at least one of v1, v1beta1"
        errors.append(invalid(f"{path}.admissionReviewVersions", versions, detail))
    effects = text(hook, "sideEffects")
    if not effects:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    for field, value, allowed in (
        ("sideEffects", effects, SIDE_EFFECTS),
        ("failurePolicy", text(hook, "failurePolicy"), ["Fail", "Ignore"]),
        ("matchPolicy", text(hook, "matchPolicy"), ["Equivalent", "Exact"]),
        ("reinvocationPolicy", text(hook, "reinvocationPolicy"), ["IfNeeded", "Never"]),
    ):
        if value and value not in allowed:
            errors.append(not_supported(f"{path}.{field}", value, allowed))
    if not 1 <= number(hook, "timeoutSeconds", 10) <= 30:
        errors.append(
            invalid(
                f"{path}.timeoutSeconds", hook["timeoutSeconds"], "the timeout value must be between 1 and 30 seconds"
            )
        )
    for i, rule in enumerate(parts(hook, "rules")):
        _rule(rule, f"{path}.rules[{i}]", errors)
    errors += client_config(part(hook, "clientConfig"), f"{path}.clientConfig")


def _rule(rule: Object, path: str, errors: list[FieldError]) -> None:
    for field in ("operations", "apiGroups", "apiVersions", "resources"):
        values = texts(rule, field)
        if not values:
            errors.append(required(f"{path}.{field}"))
        elif "*" in values and len(values) > 1 and field != "resources":
            detail = f"if '*' is present, must not specify other {field}"
            errors.append(invalid(f"{path}.{field}", values, detail))
    for i, operation in enumerate(texts(rule, "operations")):
        if operation not in OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{i}]", operation, OPERATIONS))
    if text(rule, "scope") not in ("*", "Cluster", "Namespaced"):
        errors.append(not_supported(f"{path}.scope", text(rule, "scope"), ["*", "Cluster", "Namespaced"]))


COLUMNS: tuple[Column, ...] = (
    NAME,
    plain("Webhooks", lambda config, _now: len(parts(config, "webhooks")), type="integer"),
    AGE,
)
