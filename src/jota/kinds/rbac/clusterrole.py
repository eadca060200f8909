"""ClusterRoles: what may be done anywhere; with `aggregationRule`, the sum of other ClusterRoles."""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.common import CREATED, NAME
from jota.kinds.kind import Kind
from jota.kinds.rbac.rules import GROUP, validate_rules
from jota.kinds.shape import Object, part, parts
from jota.meta.errors import FieldError, required
from jota.meta.resource import Resource


def validate(role: Object) -> list[FieldError]:
    errors = validate_rules(role, namespaced=False)
    if isinstance(role.get("aggregationRule"), dict):
        selectors, path = (
            parts(part(role, "aggregationRule"), "clusterRoleSelectors"),
            "aggregationRule.clusterRoleSelectors",
        )
        if not selectors:
            errors.append(required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
        for i, selector in enumerate(selectors):
            errors += labels.validate_selector(selector, f"{path}[{i}]")
    return errors


KIND = Kind(
    Resource(GROUP, "v1", "clusterroles", "ClusterRole", False),
    schema="io.k8s.api.rbac.v1.ClusterRole",
    singular="clusterrole",
    validate=validate,
    columns=(NAME, CREATED),
    name_rule="path-segment",
    create_on_update=True,
)
