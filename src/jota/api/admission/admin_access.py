"""AdminAccess: claims that see devices of others are made only in namespaces that are labelled for it.

In: ResourceClaims and templates that ask for adminAccess. Out: a refusal unless the namespace bears
resource.kubernetes.io/admin-access: "true" (upstream: the claims' own create rule, which knows the namespace).
"""

from __future__ import annotations

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import deep, part, parts, strings
from jota.meta.errors import forbidden_field, invalid_object
from jota.meta.resource import NAMESPACES

LABEL = "resource.kubernetes.io/admin-access"


class AdminAccess(Plugin):
    def handles(self, kind: Kind) -> bool:
        return kind.resource.group == "resource.k8s.io" and kind.resource.namespaced

    def validate(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation != "CREATE" or attrs.object is None or attrs.subresource:
            return
        template = attrs.kind.resource.kind == "ResourceClaimTemplate"
        spec = deep(attrs.object, "spec", "spec") if template else part(attrs.object, "spec")
        path = "spec.spec" if template else "spec"
        asking = list(_asking(spec, path))
        if not asking:
            return
        namespace = attrs.registry.look(NAMESPACES, "", attrs.namespace)
        if strings(part(namespace or {}, "metadata"), "labels").get(LABEL) == "true":
            return
        detail = f"admin access to devices requires the `{LABEL}: true` label on the containing namespace"
        errors = [forbidden_field(where, detail) for where in asking]
        raise invalid_object(attrs.kind.resource.kind, attrs.name, errors, attrs.kind.resource.group)


def _asking(spec: Object, path: str) -> list[str]:
    found = []
    for i, request in enumerate(parts(part(spec, "devices"), "requests")):
        where = f"{path}.devices.requests[{i}]"
        if part(request, "exactly").get("adminAccess") is True:
            found.append(f"{where}.exactly.adminAccess")
        found += [
            f"{where}.firstAvailable[{n}].adminAccess"
            for n, choice in enumerate(parts(request, "firstAvailable"))
            if choice.get("adminAccess") is True
        ]
    return found
