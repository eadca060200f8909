"""Which webhooks a write concerns. Pure: rules, selectors, and the webhook's view of the resource."""

from __future__ import annotations

from jota.api.admission.plugin import AdmissionAttributes
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta.resource import NAMESPACES, Resource
from jota.meta.selectors import from_object


def rule_covers(rule: Object, resource: Resource, subresource: str, operation: str) -> bool:
    """RuleWithOperations: operation, group, version, resource and scope."""
    scope = text(rule, "scope") or "*"
    return (
        _one_of(rule, "operations", operation)
        and _one_of(rule, "apiGroups", resource.group)
        and _one_of(rule, "apiVersions", resource.version)
        and scope in ("*", "Namespaced" if resource.namespaced else "Cluster")
        and any(_resource_covers(r, resource.plural, subresource) for r in texts(rule, "resources"))
    )


def _one_of(rule: Object, field: str, value: str) -> bool:
    values = texts(rule, field)
    return "*" in values or value in values


def _resource_covers(pattern: str, plural: str, subresource: str) -> bool:
    """ "pods", "pods/status", "pods/*", "*", "*/scale", "*/*"."""
    wanted, _, sub = pattern.partition("/")
    if wanted not in ("*", plural):
        return False
    return sub == "*" or sub == subresource


def seen_as(hook: Object, attrs: AdmissionAttributes, equivalents: list[Resource]) -> Resource | None:
    """The resource in whose form the webhook gets the object; None when it does not concern the webhook."""
    rules, own = parts(hook, "rules"), attrs.kind.resource
    operation, sub = attrs.operation, attrs.subresource
    if any(rule_covers(r, own, sub, operation) for r in rules):
        return own
    if text(hook, "matchPolicy") == "Exact" or sub:
        return None
    return next((e for e in equivalents if any(rule_covers(r, e, sub, operation) for r in rules)), None)


def selected(hook: Object, attrs: AdmissionAttributes) -> bool:
    """namespaceSelector and objectSelector."""
    in_namespace = hook.get("namespaceSelector") or {}
    if in_namespace:
        labels = _namespace_labels(attrs)
        if labels is not None and not from_object(in_namespace).matches(labels):
            return False
    by_object = hook.get("objectSelector") or {}
    if by_object:
        selector = from_object(by_object)
        candidates = [o for o in (attrs.object, attrs.old) if o is not None]
        return any(selector.matches(part(part(o, "metadata"), "labels")) for o in candidates)
    return True


def _namespace_labels(attrs: AdmissionAttributes) -> dict[str, str] | None:
    """Labels of the write's namespace; of a Namespace its own; None for other cluster-wide objects."""
    if attrs.kind.resource == NAMESPACES:
        return part(part(attrs.object or attrs.old or {}, "metadata"), "labels")
    if not attrs.kind.resource.namespaced:
        return None
    found = attrs.registry.look(NAMESPACES, "", attrs.namespace)
    return part(part(found or {}, "metadata"), "labels")
