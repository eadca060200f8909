"""authorization.k8s.io: SubjectAccessReview, LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview."""

from __future__ import annotations

from typing import Any

from jota.api import respond
from jota.api.authz import selectors
from jota.api.call import Call
from jota.api.filters.attributes import Attributes, Authorizer, User
from jota.api.filters.authz import ClusterAuthorizer, decide
from jota.api.rbac.rules import Rule
from jota.api.resource import Engine
from jota.api.served import Verb
from jota.api.subresources import body
from jota.kinds.kind import Object
from jota.meta.errors import FieldError, bad_request, invalid_object, required
from jota.wire.message import Response

_PACKAGE = "io.k8s.api.authorization.v1."


def subject(authorizer: Authorizer) -> Verb:
    async def create(engine: Engine, call: Call) -> Response:
        review = body.read(call, _PACKAGE + "SubjectAccessReview", "SubjectAccessReview")
        return await _answer(call, review, authorizer, _user_in(review, "SubjectAccessReview"))

    return create


def local(authorizer: Authorizer) -> Verb:
    async def create(engine: Engine, call: Call) -> Response:
        review = body.read(call, _PACKAGE + "LocalSubjectAccessReview", "LocalSubjectAccessReview")
        asked = body.part(body.part(review, "spec"), "resourceAttributes")
        if asked.get("namespace") != call.target.namespace:
            text = f"must match the namespace of the request: {call.target.namespace}"
            cause = FieldError("FieldValueInvalid", "spec.resourceAttributes.namespace", f"Invalid value: {text}")
            raise invalid_object("LocalSubjectAccessReview", "", [cause], "authorization.k8s.io")
        return await _answer(call, review, authorizer, _user_in(review, "LocalSubjectAccessReview"))

    return create


def self_(authorizer: Authorizer) -> Verb:
    async def create(engine: Engine, call: Call) -> Response:
        review = body.read(call, _PACKAGE + "SelfSubjectAccessReview", "SelfSubjectAccessReview")
        return await _answer(call, review, authorizer, call.user)

    return create


def rules(authorizer: ClusterAuthorizer) -> Verb:
    async def create(engine: Engine, call: Call) -> Response:
        review = body.read(call, _PACKAGE + "SelfSubjectRulesReview", "SelfSubjectRulesReview")
        namespace = body.part(review, "spec").get("namespace")
        if not namespace:
            raise bad_request("no namespace on request")
        held, unknown = authorizer.rules(call.user, namespace)
        review["status"] = {
            "resourceRules": [_resource_rule(r) for r in held if r.resources],
            "nonResourceRules": [{"verbs": sorted(r.verbs), "nonResourceURLs": list(r.urls)} for r in held if r.urls],
            "incomplete": bool(unknown),
            **({"evaluationError": unknown} if unknown else {}),
        }
        return respond.json(call, _typed(review, "SelfSubjectRulesReview"), 201)

    return create


def _resource_rule(rule: Rule) -> dict[str, Any]:
    out = {"verbs": sorted(rule.verbs), "apiGroups": sorted(rule.groups), "resources": sorted(rule.resources)}
    if rule.names:
        out["resourceNames"] = sorted(rule.names)
    return out


def _user_in(review: Object, kind: str) -> User:
    spec = body.part(review, "spec")
    if not spec.get("user") and not spec.get("groups"):
        cause = required("spec.user", "at least one of user or group must be specified")
        raise invalid_object(kind, "", [cause], "authorization.k8s.io")
    return User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), spec.get("extra") or {})


async def _answer(call: Call, review: Object, authorizer: Authorizer, user: User) -> Response:
    kind = str(call.served.resource.kind)
    question, ignored = _question(review, user, kind)
    decision = await decide(authorizer, user, question)
    told = {
        "denied": decision.denied,
        "reason": decision.reason,
        "evaluationError": "; ".join(e for e in (ignored, decision.error) if e),
    }
    review["status"] = {"allowed": decision.allowed, **{name: value for name, value in told.items() if value}}
    return respond.json(call, _typed(review, kind), 201)


def _question(review: Object, user: User, kind: str) -> tuple[Attributes, str]:
    """(the question, what of it was left out). Raises ApiError 422."""
    spec = body.part(review, "spec")
    resource, other = body.part(spec, "resourceAttributes"), body.part(spec, "nonResourceAttributes")
    if bool(resource) == bool(other):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        cause = FieldError("FieldValueInvalid", "spec.resourceAttributes", f"Invalid value: {text}")
        raise invalid_object(kind, "", [cause], "authorization.k8s.io")
    if other:
        return Attributes(user, other.get("verb", ""), path=other.get("path", "")), ""
    if causes := selectors.validate(resource, "spec.resourceAttributes"):
        raise invalid_object(kind, "", causes, "authorization.k8s.io")
    fields, no_fields = selectors.field_text(resource)
    labels, no_labels = selectors.label_text(resource)
    asked = Attributes(
        user,
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("version", ""),
        resource.get("resource", ""),
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
        "",
        fields,
        labels,
    )
    return asked, "; ".join(e for e in (no_fields, no_labels) if e)


def _typed(review: Object, kind: str) -> Object:
    review.setdefault("metadata", {})
    return {**review, "kind": kind, "apiVersion": "authorization.k8s.io/v1"}
