"""Mutating and validating webhooks: AdmissionReview v1 out over HTTPS, verdicts and JSON patches back. Policies in CEL have
their turn before them.

Configurations go by name, their webhooks in order. Mutating ones are called one after the other, and once more when a later
one changed the object (reinvocationPolicy IfNeeded); validating ones all at once. A call that fails counts as a refusal, or
as nothing (failurePolicy Ignore). Next: webhook_match.py, ../webhook_client.py.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from jota.api.admission import mutating_policies, policies
from jota.api.admission import webhook_match as match
from jota.api.admission.plugin import AdmissionAttributes
from jota.api.admission.policy_set import PolicySet
from jota.api.filters.attributes import Authorizer
from jota.api.registry import Registry
from jota.api.served import Served
from jota.api.webhook_client import WebhookClient, WebhookFailed
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import number, part, parts, text, texts
from jota.meta import schema
from jota.meta.errors import ApiError, bad_request, internal
from jota.meta.patch import json as json_patch
from jota.meta.resource import NAMESPACES, Resource

if TYPE_CHECKING:
    from jota.meta.cel import Program

GROUP = "admissionregistration.k8s.io"
MUTATING = Resource(GROUP, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False)
VALIDATING = Resource(GROUP, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False)
EXEMPT = {
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
}
"""A webhook that blocks everything could not be removed otherwise."""
TIMEOUT = 10
Warn = Callable[[str], None]
Versions = dict[tuple[str, str, str], Served]


class Webhooks:
    def __init__(self, registry: Registry, served: Versions, new_id: Callable[[], str]) -> None:
        self._registry, self._served, self._new_id = registry, served, new_id
        self._client = WebhookClient(registry)
        self.authorizer: Callable[[], Authorizer | None] = lambda: None
        """Whom policies ask what a user may do."""
        self._policies: PolicySet[policies.Rules] = PolicySet(
            registry, policies.POLICIES, policies.BINDINGS, self.resource_of
        )
        self._mutations: PolicySet[mutating_policies.Mutations] = PolicySet(
            registry, mutating_policies.POLICIES, mutating_policies.BINDINGS, self.resource_of
        )
        self._conditions: dict[str, Program] = {}
        """Expressions of match conditions, compiled; forgotten with the configurations."""
        self._hooks: dict[Resource, list[Object] | None] = {MUTATING: None, VALIDATING: None}
        self._wanted: bool | None = None
        """Whether there is any of them; None: to be looked for."""
        for resource in self._hooks:
            registry.subscribe(resource, self._forget(resource))
        for module in (policies, mutating_policies):
            for resource in (module.POLICIES, module.BINDINGS):
                registry.subscribe(resource, self._look_again)

    def _look_again(self) -> None:
        self._wanted = None

    def _forget(self, resource: Resource) -> Callable[[], None]:
        def forget() -> None:
            self._hooks[resource] = None
            self._conditions.clear()
            self._look_again()

        return forget

    def concern(self, kind: Kind) -> bool:
        """Whether any webhook or policy at all might want writes of this kind: cheap, asked for each write."""
        if self._wanted is None:
            hooks = self._all(MUTATING) or self._all(VALIDATING)
            self._wanted = bool(hooks or self._policies.bound() or self._mutations.bound())
        return self._wanted and (kind.resource.group != GROUP or kind.resource.plural not in EXEMPT)

    def _all(self, resource: Resource) -> list[Object]:
        found = self._hooks[resource]
        if found is None:
            found = [h for config in self._registry.objects(resource) for h in parts(config, "webhooks")]
            self._hooks[resource] = found
        return found

    def resource_of(self, api_version: str, kind: str) -> Resource | None:
        found = (s.kind.stored for s in self._served.values())
        return next((r for r in found if (r.api_version, r.kind) == (api_version, kind)), None)

    async def mutate(self, attrs: AdmissionAttributes, warn: Warn) -> bool:
        """Change `attrs.object` in place. True: somebody did. Raises ApiError."""
        changed_at: dict[int, bytes] = {}
        changed = False
        policies_ = mutating_policies.Round(self._mutations, attrs, self._form(attrs))
        for again in (False, True):
            if self._mutations.bound():
                changed |= await policies_.run(lambda: self._equivalents(attrs.kind), again=again)
            for n, hook in enumerate(self._all(MUTATING)):
                if again and (text(hook, "reinvocationPolicy") != "IfNeeded" or n not in changed_at):
                    continue
                if again and changed_at[n] == _digest(attrs.object):
                    continue
                called = await self._mutate_by(hook, attrs, warn)
                if called is not None:
                    changed = changed or called
                    changed_at[n] = _digest(attrs.object)
            if not changed:
                break
        return changed

    def _form(self, attrs: AdmissionAttributes) -> mutating_policies.Form:
        own = attrs.kind.resource

        async def shown(seen: Resource) -> Object:
            assert attrs.object is not None
            form: Object = orjson.loads(orjson.dumps(await self._in_form(attrs.object, own, seen)))
            return form

        return mutating_policies.Form(
            lambda seen: self._values(attrs, seen),
            shown,
            lambda obj, seen: self._in_form(obj, seen, own),
            lambda seen: _spoken(attrs) or self._served[(seen.group, seen.version, seen.plural)].kind,
        )

    async def _values(self, attrs: AdmissionAttributes, seen: Resource) -> dict[str, Any]:
        """What the expressions of policies see."""
        from jota.api.admission import policy_scope

        review = await self._request(attrs, seen)
        namespace = None
        if attrs.namespace and attrs.kind.resource != NAMESPACES:
            namespace = self._registry.look(NAMESPACES, "", attrs.namespace)
        return {
            "object": review["object"],
            "oldObject": review["oldObject"],
            "request": policy_scope.request_value(review),
            "namespaceObject": policy_scope.namespace_object(namespace),
            **policy_scope.authorizer_values(self.authorizer(), attrs.user, review),
        }

    async def _mutate_by(self, hook: Object, attrs: AdmissionAttributes, warn: Warn) -> bool | None:
        """None: it was not asked, or its failure does not count. Raises ApiError."""
        response = await self._ask(hook, attrs, warn)
        if response is None:
            return None
        patch, seen = response.get("patch"), self._seen_as(hook, attrs)
        if not patch or attrs.object is None or seen is None:
            return False
        name = text(hook, "name")
        if response.get("patchType") != "JSONPatch":
            raise internal(f'admission webhook "{name}" gave a patch of the type {response.get("patchType")}')
        try:
            form = await self._in_form(attrs.object, attrs.kind.resource, seen)
            new = json_patch.apply(form, orjson.loads(base64.b64decode(patch)))
        except (binascii.Error, orjson.JSONDecodeError, ApiError) as error:
            raise internal(f'admission webhook "{name}" gave a patch that cannot be applied: {error}') from None
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise internal(f'admission webhook "{name}" left no object')
        new = await self._in_form(new, seen, attrs.kind.resource)
        changed = bool(new != attrs.object)
        attrs.object.clear()
        attrs.object.update(new)
        return changed

    async def validate(self, attrs: AdmissionAttributes, warn: Warn) -> None:
        """Policies first, then webhooks. Raises ApiError of the first, in order, that refuses."""
        if self._policies.bound():
            await policies.validate(
                self._policies,
                attrs,
                lambda: self._equivalents(attrs.kind),
                lambda seen: self._values(attrs, seen),
            )
        hooks = self._all(VALIDATING)
        if not hooks:
            return
        asked = [self._ask(hook, attrs, warn) for hook in hooks]
        for verdict in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(verdict, BaseException):
                raise verdict

    def _seen_as(self, hook: Object, attrs: AdmissionAttributes) -> Resource | None:
        return match.seen_as(hook, attrs, self._equivalents(attrs.kind))

    def _equivalents(self, own: Kind) -> list[Resource]:
        """The resources that show the same objects in other forms."""
        return [s.resource for s in self._served.values() if s.kind.stored == own.stored and s.kind is not own]

    async def _ask(self, hook: Object, attrs: AdmissionAttributes, warn: Warn) -> Object | None:
        """Its response; None when it is not concerned or its failure is ignored. Raises ApiError."""
        seen = self._seen_as(hook, attrs)
        if seen is None or not match.selected(hook, attrs):
            return None
        name, ignore = text(hook, "name"), text(hook, "failurePolicy") == "Ignore"
        try:
            request = await self._request(attrs, seen)
            if parts(hook, "matchConditions") and not await self._conditions_hold(hook, request, attrs):
                return None
            if attrs.dry_run and text(hook, "sideEffects") not in ("None", "NoneOnDryRun"):
                raise bad_request(f'admission webhook "{name}" does not support dry run')
            review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
            timeout = number(hook, "timeoutSeconds") or TIMEOUT
            answer = await self._client.post(part(hook, "clientConfig"), review, timeout, f"?timeout={timeout}s")
            response = _response(answer, request["uid"])
        except WebhookFailed as failure:
            if ignore:
                return None
            raise internal(f'failed calling webhook "{name}": {failure}') from None
        for said in texts(response, "warnings"):
            warn(said)
        if response.get("allowed") is not True:
            raise _denied(name, part(response, "status"))
        return response

    async def _conditions_hold(self, hook: Object, request: Object, attrs: AdmissionAttributes) -> bool:
        """matchConditions: all must be true; one that is false settles it; one that fails counts by failurePolicy.

        Raises WebhookFailed."""
        # the CEL engine costs some 20 ms to load: only who uses expressions pays
        from jota.api.admission import policy_scope

        values = {
            "object": request["object"],
            "oldObject": request["oldObject"],
            "request": policy_scope.request_value(request),
            **policy_scope.authorizer_values(self.authorizer(), attrs.user, request),
        }
        return await policy_scope.patiently(partial(self._evaluated, hook, values))

    def _evaluated(self, hook: Object, values: dict[str, Any]) -> bool:
        """Raises WebhookFailed, Waits."""
        from jota.api.admission import policy_scope
        from jota.meta import cel
        from jota.meta.cel.admission import Terms

        scope, failure = policy_scope.Scope(values, {}), ""
        for condition in parts(hook, "matchConditions"):
            expression = text(condition, "expression")
            try:
                program = self._conditions.get(expression)
                if program is None:
                    program = Terms(params=False, composed=False).compile(expression, returns="bool")
                    self._conditions[expression] = program
                if scope.run(program) is not True:
                    return False
            except (cel.CelCompileError, policy_scope.Failed) as error:
                failure = failure or f"matchCondition {text(condition, 'name')}: {error}"
        if failure:
            raise WebhookFailed(failure)
        return True

    async def _request(self, attrs: AdmissionAttributes, seen: Resource) -> Object:
        own, user = attrs.kind.resource, attrs.user
        objects = {
            "object": None if attrs.object is None else await self._in_form(attrs.object, own, seen),
            "oldObject": None if attrs.old is None else await self._in_form(attrs.old, own, seen),
        }
        info: Object = {"username": user.name, "groups": list(user.groups)}
        if user.uid:
            info["uid"] = user.uid
        if user.extra:
            info["extra"] = user.extra
        request: Object = {"uid": self._new_id(), **_names("", seen), **_names("request", own)}
        if (spoken := _spoken(attrs)) is not None:
            group, version, _, kind, _ = spoken.resource
            request["kind"] = request["requestKind"] = {"group": group, "version": version, "kind": kind}
        if attrs.subresource:
            request["subResource"] = request["requestSubResource"] = attrs.subresource
        request |= {"name": attrs.name, "operation": attrs.operation, "userInfo": info, "dryRun": attrs.dry_run}
        if attrs.namespace:
            request["namespace"] = attrs.namespace
        return {**request, **objects, "options": {"kind": _options(attrs), "apiVersion": "meta.k8s.io/v1"}}

    async def _in_form(self, obj: Object, own: Resource, wanted: Resource) -> Object:
        """The object as another version of its kind writes it. Raises ApiError 500."""
        if own == wanted:
            return obj
        here, there = (self._served[(r.group, r.version, r.plural)] for r in (own, wanted))
        return await there.take(obj, here)


def _spoken(attrs: AdmissionAttributes) -> Kind | None:
    """The kind of an object that is not the resource's, but one that a subresource speaks."""
    obj, own = attrs.object, attrs.kind.resource
    if obj is None or obj.get("kind", own.kind) == own.kind:
        return None
    group, _, version = obj["apiVersion"].rpartition("/")
    return Kind(Resource(group, version, own.plural, obj["kind"]), schema=schema.find(group, version, obj["kind"]))


def _digest(obj: Object | None) -> bytes:
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


def _names(prefix: str, resource: Resource) -> Object:
    kind, plural = (f"{prefix}Kind", f"{prefix}Resource") if prefix else ("kind", "resource")
    where = {"group": resource.group, "version": resource.version}
    return {kind: {**where, "kind": resource.kind}, plural: {**where, "resource": resource.plural}}


def _options(attrs: AdmissionAttributes) -> str:
    return {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}.get(attrs.operation, "")


def _response(answer: Any, uid: str) -> Object:
    """The response part of an AdmissionReview. Raises WebhookFailed."""
    if not isinstance(answer, dict) or answer.get("kind") != "AdmissionReview":
        raise WebhookFailed("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview")
    if answer.get("apiVersion") != "admission.k8s.io/v1":
        raise WebhookFailed(f"expected webhook response of admission.k8s.io/v1, got {answer.get('apiVersion')}")
    response = part(answer, "response")
    if not response:
        raise WebhookFailed("webhook response was absent")
    if response.get("uid") != uid:
        raise WebhookFailed(f'expected response.uid="{uid}", got "{response.get("uid")}"')
    return response


def _denied(name: str, status: Object) -> ApiError:
    who = f'admission webhook "{name}" denied the request'
    said = text(status, "message") or text(status, "reason")
    code = number(status, "code")
    return ApiError(
        code if code >= 400 else 400,
        text(status, "reason") or ("Forbidden" if code == 403 else ""),
        f"{who}: {said}" if said else f"{who} without explanation",
    )
