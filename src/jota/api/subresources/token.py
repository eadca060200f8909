"""serviceaccounts/token: a signed token for a ServiceAccount, bound to it and, where asked, to a pod, secret or node."""

from __future__ import annotations

from typing import Any

from jota.aio.clock import rfc3339
from jota.api import respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import body
from jota.api.tokens import LONGEST, SHORTEST, Bound
from jota.kinds.kind import Object
from jota.meta.errors import ApiError, FieldError, conflict, invalid, invalid_object, not_found, unavailable
from jota.meta.resource import NODES, PODS, SECRETS, SERVICEACCOUNTS
from jota.wire.message import Response

_GROUP = "authentication.k8s.io"
_DEFINITION = "io.k8s.api.authentication.v1.TokenRequest"
_DEFAULT_SECONDS = 3600
_BINDABLE = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}


async def create(engine: Engine, call: Call) -> Response:
    """Raises ApiError 404, 409 (the bound object was replaced), 422."""
    if engine.tokens is None:
        raise unavailable("this server has no key to sign tokens with")
    name, namespace = call.require_name(), call.target.namespace
    account = engine.registry.get(SERVICEACCOUNTS, namespace, name)
    if account is None:
        raise not_found("serviceaccounts", name)
    request = body.read(call, _DEFINITION, "TokenRequest")
    attrs = engine.attributes(call, "CREATE", request, None, "token")
    for plugin in engine.plugins(call.served):  # they see what was asked for, others what will be given
        plugin.validate(attrs)
    spec = {"expirationSeconds": _DEFAULT_SECONDS, **body.part(request, "spec")}
    spec["audiences"] = spec.get("audiences") or list(engine.tokens.audiences)
    request |= {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
    await body.admit(engine, call, request, _DEFINITION, f"{_GROUP}/v1", "TokenRequest")
    spec = body.part(request, "spec")
    seconds = _seconds(spec)
    bound = _bound(engine, spec, namespace, account)
    now = engine.clock.now()
    token, expires = engine.tokens.issue(account, list(spec.get("audiences") or ()), seconds, bound, now)
    spec = {**spec, "audiences": spec.get("audiences") or list(engine.tokens.audiences), "expirationSeconds": seconds}
    answer: Object = {
        "kind": "TokenRequest",
        "apiVersion": f"{_GROUP}/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": rfc3339(now)},
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
    }
    return respond.json(call, answer, 201)


def _seconds(spec: dict[str, Any]) -> int:
    seconds = spec.get("expirationSeconds")
    seconds = _DEFAULT_SECONDS if seconds is None else int(seconds)
    if seconds < SHORTEST:
        cause = invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        raise invalid_object("TokenRequest", "", [cause], _GROUP)
    if seconds > 1 << 32:
        cause = invalid("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        raise invalid_object("TokenRequest", "", [cause], _GROUP)
    return min(seconds, LONGEST)


def _bound(engine: Engine, spec: dict[str, Any], namespace: str, account: Object) -> Bound | None:
    ref = body.part(spec, "boundObjectRef")
    if not ref:
        return None
    kind, name, uid = ref.get("kind", ""), ref.get("name", ""), ref.get("uid", "")
    resource = _BINDABLE.get(kind)
    if resource is None:
        text = f"cannot bind token for serviceaccount to a {kind or 'nameless kind'}; supported: Pod, Secret, Node"
        raise ApiError(400, "BadRequest", text)
    found = engine.registry.get(resource, namespace if resource.namespaced else "", name)
    if found is None:
        raise not_found(resource.plural, name)
    if uid and uid != found["metadata"]["uid"]:
        detail = f"the UID in the bound object reference ({uid}) does not match the UID in record"
        raise conflict(resource.plural, name, detail)
    if kind == "Pod" and found["spec"].get("serviceAccountName", "default") != account["metadata"]["name"]:
        text = f'cannot bind token for serviceaccount "{account["metadata"]["name"]}" to a pod of another account'
        cause = FieldError("FieldValueInvalid", "spec.boundObjectRef", f"Invalid value: {text}")
        raise invalid_object("TokenRequest", name, [cause], _GROUP)
    return Bound(kind, name, found["metadata"]["uid"], _node(engine, found) if kind == "Pod" else None)


def _node(engine: Engine, pod: Object) -> dict[str, str] | None:
    """Where the pod runs, as far as it is known."""
    name = pod["spec"].get("nodeName")
    if not name:
        return None
    found = engine.registry.get(NODES, "", name)
    return {"name": name, **({"uid": found["metadata"]["uid"]} if found else {})}


VERBS = {"create": create}
