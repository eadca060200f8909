"""Target -> the coroutine that serves it: verbs of a resource, or one of its subresources."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

from msgspec.structs import replace

from jota.api.call import Call
from jota.api.path import VERBS as METHODS
from jota.api.path import Target
from jota.api.resource import Engine
from jota.api.served import Served, Verb
from jota.api.verbs.create import create
from jota.api.verbs.delete import delete
from jota.api.verbs.deletecollection import deletecollection
from jota.api.verbs.get import get, get_at_once
from jota.api.verbs.list import list_
from jota.api.verbs.patch import patch
from jota.api.verbs.update import update
from jota.api.verbs.watch import watch
from jota.meta.errors import ApiError, bad_request, method_not_allowed, path_not_found
from jota.wire.message import Response

VERBS: dict[str, Verb] = {
    "create": create,
    "delete": delete,
    "deletecollection": deletecollection,
    "get": get,
    "list": list_,
    "patch": patch,
    "update": update,
    "watch": watch,
}
STATUS = {"get": get, "patch": patch, "update": update}
AtOnce = Callable[[Engine, Call], Response | None]
AT_ONCE: dict[Verb, AtOnce] = {get: get_at_once}
"""Verbs that can answer without waiting, most often: the function that does, or gives None. For requests without parameters."""


def find_verb(served: Served, target: Target) -> Verb:
    """The same for every name. Raises ApiError 400, 404, 405."""
    try:
        verb = _find(served, target)
    except ApiError as refusal:
        if refusal.code == 405:
            refusal.allow = _allowed(served, target)
        raise
    return _with_warning(verb, served.kind.deprecated) if served.kind.deprecated else verb


def _allowed(served: Served, target: Target) -> tuple[str, ...]:
    """The methods of what is at the target's path."""
    found = []
    for method, verb in METHODS.items():
        if not target.name:
            verb = {"get": "list", "delete": "deletecollection"}.get(verb, verb)
        try:
            _find(served, replace(target, verb=verb))
        except ApiError:
            continue
        found.append(method)
    return tuple(found)


def _with_warning(verb: Verb, text: str) -> Verb:
    async def warned(engine: Engine, call: Call) -> Response:
        call.warn(text)
        return await verb(engine, call)

    return warned


def _find(served: Served, target: Target) -> Verb:
    kind = served.kind
    if not kind.resource.namespaced and target.namespace and (target.inside or target.group):
        raise path_not_found()  # who may do so in that namespace must not reach what is in none
    if target.subresource:
        return _subresource(served, target)
    verb = VERBS.get(target.verb)
    if served.answer is not None and target.verb == "create":
        verb = served.answer
    if served.reads is not None:
        verb = served.reads.get(target.verb)
    if verb is None or target.verb not in kind.verbs:
        raise method_not_allowed(target.resource, target.verb, target.group)
    if target.name:
        if target.verb == "create":
            raise method_not_allowed(target.resource, "create", target.group)
        if kind.resource.namespaced and not target.namespace:
            raise path_not_found()
    elif target.verb in ("update", "patch"):
        raise method_not_allowed(target.resource, target.verb, target.group)
    elif kind.resource.namespaced and not target.namespace and target.verb in ("create", "deletecollection"):
        if target.verb == "create":
            raise bad_request("an empty namespace may not be set during creation")
        raise method_not_allowed(target.resource, target.verb, target.group)
    return verb


def _subresource(served: Served, target: Target) -> Verb:
    kind = served.kind
    if target.subresource == "status" and kind.status and not target.rest:
        verb = STATUS.get(target.verb)
        if verb is None:
            raise method_not_allowed(target.resource, target.verb, target.group)
        return verb
    known = (kind.scale is not None and target.subresource == "scale") or target.subresource in kind.subresources
    if not known or (target.rest and target.subresource != "proxy"):
        raise path_not_found()
    found = _verbs(target.subresource).get(target.verb)
    if found is None:
        raise method_not_allowed(target.resource, target.verb, target.group)
    return found


@cache
def _verbs(subresource: str) -> dict[str, Verb]:
    """Imported when first asked for: most servers never serve most of them."""
    verbs: dict[str, Verb] = import_module(f"jota.api.subresources.{subresource}").VERBS
    return verbs
