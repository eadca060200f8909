"""A request's path and method -> Target: which resource, which verb. Next: chain.py.

Kubernetes' RequestInfo rules: `/api/v1/...` and `/apis/<group>/<version>/...` are resources; everything else is a plain
path that authorization sees as such. The old `/watch/` prefix still works.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from msgspec import Struct
from msgspec.structs import replace

from jota.meta.errors import bad_request

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_TRUE = ("1", "true", "True", "TRUE", "t", "T")
_FALSE = ("0", "false", "False", "FALSE", "f", "F", "")
_Key = TypeVar("_Key", bound=tuple[str, ...])
_MOST_KNOWN = 4096
_collections: dict[tuple[str, str], Target] = {}
"""(method, path) -> the kin of requests about a whole collection."""
_objects: dict[tuple[str, str], Target] = {}
"""(method, path without its last segment) -> the kin of requests about one object there."""
_subresources: dict[tuple[str, str, str], Target] = {}
"""(method, path without its last two segments, the last) -> the kin of requests about a subresource of one object there."""
_kin: dict[tuple[str, ...], Target] = {}


class Target(Struct, eq=False):
    """What a request is about. `resource` is "" for a path that is no resource."""

    path: str
    verb: str
    """"" of a method that no resource has."""
    group: str = ""
    version: str = ""
    namespace: str = ""
    inside: bool = False
    """The path leads through the namespace; that of a Namespace leads to it, and it is its own."""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    rest: str = ""
    """What follows the subresource ("/x/y" of .../proxy/x/y), still percent-encoded; "" when nothing follows."""
    kin: Target | None = None
    """One for all that differ in what their name is, or their rest, but not in having one; nobody changes it. None: no resource."""

    def named(self, path: str, name: str) -> Target:
        """The target of this kin; it has no rest."""
        return replace(self, path=path, name=name, kin=self)


def parameters(query: str) -> dict[str, str]:
    """Query parameters; the first of repeated ones counts. Raises ApiError 400 on a hostile number of them."""
    if not query:
        return {}
    # callers ask with the same few queries over and over; what is read is small and bounded
    return dict(_parameters(query)) if len(query) <= 256 else dict(_read(query))


@lru_cache(maxsize=1024)
def _parameters(query: str) -> dict[str, str]:
    return _read(query)


def _read(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=1000)
    except ValueError as e:
        raise bad_request(f"invalid query: {e}") from None
    out: dict[str, str] = {}
    for key, value in pairs:
        out.setdefault(key, value)
    return out


def flag(params: dict[str, str], name: str) -> bool:
    """A boolean parameter as upstream reads it (strconv.ParseBool). Raises ApiError 400."""
    text = params.get(name, "")
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise bad_request(f'invalid value "{text}" for the boolean parameter {name}')


def integer(params: dict[str, str], name: str) -> int | None:
    """An integer parameter, as Go reads it: an empty one is none. None when absent. Raises ApiError 400."""
    if (text := params.get(name)) is None:
        return None
    value = int(text) if _INTEGER.fullmatch(text) else 1 << 64
    if not -(1 << 63) <= value < (1 << 63):
        raise bad_request(f'unable to parse parameter {name}: strconv.ParseInt: parsing "{text[:64]}": invalid syntax')
    return value


def parse(method: str, path: str, params: dict[str, str]) -> Target:
    """Read the target off a path. Raises ApiError 400."""
    if "watch" in params:
        return _with_kin(_parse(method, path, params))
    place, _, name = path.rpartition("/")
    known = _objects.get((method, place))
    if known is not None and name and "%" not in name:
        return known.named(path, name)
    known = _collections.get((method, path))
    if known is not None:
        return known.named(path, "")
    where, _, owner = place.rpartition("/")
    known = _subresources.get((method, where, name))
    if known is not None and owner and "%" not in owner:
        return known.named(path, owner)
    target = _with_kin(_parse(method, path, params))
    # "/pods/a//a" has a rest, of no subresource
    plain = method in VERBS and not target.rest and "%" not in path and target.verb != "watch"
    if target.kin is not None and plain:
        if not target.name:
            _remember(_collections, (method, path), target.kin)
        elif target.resource == "namespaces":
            pass  # their name is also their namespace
        elif not target.subresource and name == target.name:
            _remember(_objects, (method, place), target.kin)
        elif target.subresource and (owner, name) == (target.name, target.subresource):
            _remember(_subresources, (method, where, name), target.kin)
    return target


def kin_of_collection(method: str, path: str) -> Target | None:
    """What requests about this whole collection have in common. None: not known, or it is no collection."""
    return _collections.get((method, path))


def kin_of_objects(method: str, place: str) -> Target | None:
    """What requests have in common whose paths are `place` and a name: their kin. None: not known, or more than that decides."""
    return _objects.get((method, place))


def kin_of_subresources(method: str, place: str, subresource: str) -> Target | None:
    """The same of requests whose paths are `place`, a name and the subresource."""
    return _subresources.get((method, place, subresource))


def _remember(known: dict[_Key, Target], key: _Key, kin: Target) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[key] = kin


def _with_kin(target: Target) -> Target:
    if target.resource:
        form = ("named" if target.name else "") + ("rest" if target.rest else "") + ("inside" if target.inside else "")
        what = (target.resource, target.subresource, target.group, target.version)
        key = (target.verb, target.namespace, form, *what)
        target.kin = _kin.get(key)
        if target.kin is None:
            target.kin = replace(target, path="", name="", rest="")
            _remember(_kin, key, target.kin)
    return target


def _parse(method: str, path: str, params: dict[str, str]) -> Target:
    parts = path.split("/")
    # "", "api", "v1", ... or "", "apis", group, version, ...
    if len(parts) > 3 and parts[1] == "api":
        at = 3
    elif len(parts) > 4 and parts[1] == "apis":
        at = 4
    else:
        return Target(path, method.lower())
    rest = parts[at:]
    proxied = "proxy" in (
        rest[4:5] if rest[0] == "namespaces" else rest[2:3]
    )  # there, all of the path is the backend's
    while rest and not rest[-1] and not proxied:
        rest.pop()
    if not rest:
        return Target(path, method.lower())
    # OPTIONS alone goes through a proxy, too: another method might write there, and would be judged as if it read
    target = Target(path, VERBS.get(method) or ("get" if method == "OPTIONS" and "proxy" in rest else ""))
    target.version = parts[at - 1]
    target.group = parts[2] if at == 4 else ""
    if "%" in path:
        _names(target, [unquote(p) for p in rest], rest)
    else:
        _names(target, rest, rest)
    _refine(target, params)
    return target


def _names(target: Target, parts: list[str], raw: list[str]) -> None:
    """Fill in namespace, resource, name, subresource from what follows the version."""
    if parts[0] == "watch" and len(parts) > 1:
        parts, raw = parts[1:], raw[1:]
        target.verb = "watch"
    if parts[0] == "namespaces" and len(parts) > 1:
        target.namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts, raw, target.inside = parts[2:], raw[2:], True
    target.resource = parts[0]
    if len(parts) > 1:
        target.name = parts[1]
    if len(parts) > 2:
        target.subresource = parts[2]
    if len(parts) > 3:
        target.rest = "/" + "/".join(raw[3:])


def _refine(target: Target, params: dict[str, str]) -> None:
    """list, watch and deletecollection are `get` and `delete` without a name."""
    if target.verb == "watch":
        if target.name and "fieldSelector" not in params:
            params["fieldSelector"] = f"metadata.name={target.name}"
        target.name = ""
    elif target.verb == "get" and not target.subresource:
        if not target.name:
            target.verb = "watch" if "watch" in params and flag(params, "watch") else "list"
        elif "watch" in params and flag(params, "watch"):
            params["fieldSelector"] = f"metadata.name={target.name}"
            target.verb, target.name = "watch", ""
    elif target.verb == "delete" and not target.name:
        target.verb = "deletecollection"
