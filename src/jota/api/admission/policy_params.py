"""Who puts a policy in force may read its parameters: expressions and their messages would tell what is in them.

Upstream's checks on writes of ValidatingAdmissionPolicies, MutatingAdmissionPolicies and their bindings: `get` on all objects of
the paramKind for the policy, `get` or `list` on what the paramRef names for the binding. Next: policy_set.py reads them.
"""

from __future__ import annotations

from collections.abc import Callable

from jota.api.admission import mutating_policies, policies
from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import MASTERS, Attributes, Authorizer
from jota.api.filters.authz import decide
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, text
from jota.meta.errors import ApiError, forbidden_field, invalid_object
from jota.meta.resource import Resource

_POLICY_OF = {module.BINDINGS.plural: module.POLICIES for module in (policies, mutating_policies)}
_OURS = {
    resource.group_resource
    for module in (policies, mutating_policies)
    for resource in (module.POLICIES, module.BINDINGS)
}
Resolve = Callable[[str, str], Resource | None]
"""(apiVersion, kind) -> the resource."""


class PolicyParameters(Plugin):
    asks = True

    def __init__(self, authorizer: Authorizer, resolve: Resolve) -> None:
        self._authorizer, self._resolve = authorizer, resolve

    def handles(self, kind: Kind) -> bool:
        return kind.resource.group_resource in _OURS

    async def judge(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 422."""
        if attrs.object is None or attrs.subresource or MASTERS in attrs.user.groups:
            return
        spec, old = part(attrs.object, "spec"), part(attrs.old or {}, "spec")
        policy = _POLICY_OF.get(attrs.kind.resource.plural)
        if policy is None:
            await self._policy(attrs, part(spec, "paramKind"), part(old, "paramKind"))
        elif part(spec, "paramRef") and (spec.get("paramRef"), spec.get("policyName")) != (
            old.get("paramRef"),
            old.get("policyName"),
        ):
            found = attrs.registry.get(policy, "", text(spec, "policyName"))
            await self._binding(attrs, part(spec, "paramRef"), part(part(found or {}, "spec"), "paramKind"))

    async def _policy(self, attrs: AdmissionAttributes, kind: Object, before: Object) -> None:
        if not kind or kind == before:
            return
        asked = self._question(attrs, kind, "get", "*", "*")
        if not (await decide(self._authorizer, attrs.user, asked)).allowed:
            detail = f'user {attrs.user.name} must have "get" permission on all objects of the referenced paramKind'
            detail += f" (kind={text(kind, 'kind')}, apiVersion={text(kind, 'apiVersion')})"
            raise _refused(attrs, "spec.paramKind", detail)

    async def _binding(self, attrs: AdmissionAttributes, ref: Object, kind: Object) -> None:
        name = text(ref, "name")
        verb = "get" if name else "list"
        asked = self._question(attrs, kind, verb, text(ref, "namespace"), name)
        if not (await decide(self._authorizer, attrs.user, asked)).allowed:
            detail = f'user {attrs.user.name} does not have "{verb}" permission on the object referenced by paramRef'
            raise _refused(attrs, "spec.paramRef", detail)

    def _question(self, attrs: AdmissionAttributes, kind: Object, verb: str, namespace: str, name: str) -> Attributes:
        """What cannot be resolved is asked of everything that it may be."""
        group = version = resource = "*"
        if kind:
            group, _, version = text(kind, "apiVersion").rpartition("/")
            found = self._resolve(text(kind, "apiVersion"), text(kind, "kind"))
            resource = "*" if found is None else found.plural
        return Attributes(attrs.user, verb, group, version, resource, "", namespace, name)


def _refused(attrs: AdmissionAttributes, field: str, detail: str) -> ApiError:
    resource = attrs.kind.resource
    return invalid_object(resource.kind, attrs.name, [forbidden_field(field, detail)], resource.group)
