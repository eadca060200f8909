"""Roles: what may be done in a namespace."""

from __future__ import annotations

from jota.kinds.common import CREATED, NAME
from jota.kinds.kind import Kind
from jota.kinds.rbac.rules import GROUP, validate_rules
from jota.meta.resource import Resource

KIND = Kind(
    Resource(GROUP, "v1", "roles", "Role"),
    schema="io.k8s.api.rbac.v1.Role",
    singular="role",
    validate=lambda role: validate_rules(role, namespaced=True),
    columns=(NAME, CREATED),
    name_rule="path-segment",
    create_on_update=True,
)
