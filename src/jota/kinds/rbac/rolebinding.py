"""RoleBindings: who holds a role in a namespace."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.rbac.rules import GROUP, default_binding, role_cell, same_role, subjects_cell, validate_binding
from jota.meta.resource import Resource

KIND = Kind(
    Resource(GROUP, "v1", "rolebindings", "RoleBinding"),
    schema="io.k8s.api.rbac.v1.RoleBinding",
    singular="rolebinding",
    default=default_binding,
    validate=lambda binding: validate_binding(binding, ["ClusterRole", "Role"], namespaced=True),
    validate_update=same_role,
    columns=(
        NAME,
        plain("Role", role_cell, about="The role that is granted."),
        AGE,
        plain("Users", lambda b, _now: subjects_cell("User", b), wide=True),
        plain("Groups", lambda b, _now: subjects_cell("Group", b), wide=True),
        plain("ServiceAccounts", lambda b, _now: subjects_cell("ServiceAccount", b), wide=True),
    ),
    name_rule="path-segment",
    create_on_update=True,
)
