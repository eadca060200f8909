"""The operations of a document: kinds in, one `Operation` per path and method out. Pure; v2.py and v3.py render them.

Clients look for few things here: that a kind can be patched, with which media types, and whether the query parameters
fieldValidation, dryRun, fieldManager and force are known (else kubectl refuses or falls back).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jota.api.openapi.definitions import COMMON, name_of
from jota.kinds.kind import Kind

DELETE_OPTIONS, STATUS, PATCH = COMMON[0], COMMON[1], COMMON[2]
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
PRODUCES = ("application/json", "application/yaml")
LIST_PRODUCES = (*PRODUCES, "application/json;stream=watch")


class Parameter(NamedTuple):
    name: str
    type: str
    """string | integer | boolean"""
    description: str
    place: str = "query"
    """query | path"""


_CODES = {"post": ("200", "201", "202"), "put": ("200", "201"), "patch": ("200", "201"), "delete": ("200", "202")}
"""What an action may succeed with, by upstream's documents; all others with 200."""
_MEANINGS = {"200": "OK", "201": "Created", "202": "Accepted", "401": "Unauthorized"}


class Operation(NamedTuple):
    path: str
    method: str
    action: str
    """x-kubernetes-action: get | list | post | put | patch | delete | deletecollection."""
    id: str
    description: str
    tag: str
    gvk: dict[str, str]
    response: str
    """Definition's name."""
    body: str = ""
    consumes: tuple[str, ...] = ("*/*",)
    produces: tuple[str, ...] = PRODUCES
    parameters: tuple[Parameter, ...] = ()

    def responses(self, success: dict[str, Any]) -> dict[str, Any]:
        """`success`: what is answered when it is done, in the dialect of the document."""
        answered = {code: {"description": _MEANINGS[code], **success} for code in _CODES.get(self.action, ("200",))}
        return {**answered, "401": {"description": _MEANINGS["401"]}}


_DRY_RUN = Parameter(
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. Valid values are: All.",
)
_MANAGER = Parameter("fieldManager", "string", "The name of the actor or entity that is making these changes.")
_VALIDATION = Parameter(
    "fieldValidation",
    "string",
    "How the server treats unknown or duplicate fields. Valid values are: Ignore, Warn, Strict.",
)
_FORCE = Parameter("force", "boolean", "Re-acquire conflicting fields owned by other people (apply patches only).")
_PRETTY = Parameter("pretty", "string", "If 'true', the output is pretty printed.")
_WRITE = (_DRY_RUN, _MANAGER, _VALIDATION, _PRETTY)
_LIST = (
    Parameter(
        "labelSelector",
        "string",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
    Parameter(
        "fieldSelector",
        "string",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
    ),
    Parameter("limit", "integer", "The maximum number of items in one response."),
    Parameter("continue", "string", "The token of the next page, from the last response."),
    Parameter("resourceVersion", "string", "Constrains which versions a request may be served from."),
    Parameter("resourceVersionMatch", "string", "How resourceVersion is applied to list calls."),
    Parameter(
        "watch", "boolean", "Watch for changes to the described resources and return them as a stream of notifications."
    ),
    Parameter("allowWatchBookmarks", "boolean", "Ask for events of type BOOKMARK."),
    Parameter("sendInitialEvents", "boolean", "Begin a watch with events for the existing objects."),
    Parameter("timeoutSeconds", "integer", "Limits the duration of the call."),
    _PRETTY,
)
_DELETE = (
    _DRY_RUN,
    Parameter("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    Parameter("propagationPolicy", "string", "How garbage collection is done: Orphan, Background or Foreground."),
    Parameter("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    _PRETTY,
)
_NAMESPACE = Parameter("namespace", "string", "object name and auth scope, such as for teams and projects", "path")


def operations(kinds: Iterable[Kind]) -> Iterator[Operation]:
    """All operations, grouped by path, in the kinds' order."""
    for kind in kinds:
        yield from _collection(kind)
        yield from _item(kind)
        for name in _patchable(kind):
            yield from _edit(kind, name)


def path_parameters(path: str) -> tuple[Parameter, ...]:
    """The parameters in a path's braces."""
    found = [_NAMESPACE] if "{namespace}" in path else []
    return (*found, Parameter("name", "string", "name of the object", "path")) if "{name}" in path else tuple(found)


def _patchable(kind: Kind) -> list[str]:
    names = [name for name in kind.subresources if name in ("approval", "ephemeralcontainers", "resize")]
    return sorted([*names, *(["status"] if kind.status else []), *(["scale"] if kind.scale is not None else [])])


def _common(kind: Kind, action: str, suffix: str = "", gvk: dict[str, str] | None = None) -> dict[str, Any]:
    resource = kind.resource
    group = (resource.group or "core").partition(".")[0]
    verb = {"get": "read", "post": "create", "put": "replace", "deletecollection": "deleteCollection"}.get(
        action, action
    )
    scope = "Namespaced" if resource.namespaced else ""
    version = resource.version[:1].upper() + resource.version[1:]
    return {
        "action": action,
        "id": f"{verb}{group[:1].upper()}{group[1:]}{version}{scope}{resource.kind}{suffix}",
        "tag": f"{group}_{resource.version}",
        "gvk": gvk or {"group": resource.group, "kind": resource.kind, "version": resource.version},
    }


def _path(kind: Kind, name: str = "", subresource: str = "") -> str:
    return kind.resource.path("{namespace}", name, subresource)


def _collection(kind: Kind) -> Iterator[Operation]:
    path, definition, plural = _path(kind), name_of(kind), kind.resource.plural
    if "list" in kind.verbs:
        yield Operation(
            path,
            "get",
            **_common(kind, "list"),
            description=f"list or watch objects of kind {kind.resource.kind}",
            response=definition + "List",
            produces=LIST_PRODUCES,
            parameters=_LIST,
        )
    if "create" in kind.verbs:
        yield Operation(
            path,
            "post",
            **_common(kind, "post"),
            description=f"create a {kind.resource.kind}",
            response=definition,
            body=definition,
            parameters=_WRITE,
        )
    if "deletecollection" in kind.verbs:
        yield Operation(
            path,
            "delete",
            **_common(kind, "deletecollection"),
            description=f"delete collection of {plural}",
            response=STATUS,
            body=DELETE_OPTIONS,
            parameters=(*_LIST[:4], *_DELETE),
        )


def _item(kind: Kind) -> Iterator[Operation]:
    path, definition = _path(kind, "{name}"), name_of(kind)
    if "get" in kind.verbs:
        yield Operation(
            path,
            "get",
            **_common(kind, "get"),
            description=f"read the specified {kind.resource.kind}",
            response=definition,
            parameters=(_PRETTY,),
        )
    yield from _edit(kind, "")
    if "delete" in kind.verbs:
        yield Operation(
            path,
            "delete",
            **_common(kind, "delete"),
            description=f"delete a {kind.resource.kind}",
            response=definition if kind.returns_deleted else STATUS,
            body=DELETE_OPTIONS,
            parameters=_DELETE,
        )


def _edit(kind: Kind, subresource: str) -> Iterator[Operation]:
    """PUT and PATCH of the object or of a sub-resource (with GET for those)."""
    path, definition, gvk = _path(kind, "{name}", subresource), name_of(kind), None
    if subresource == "scale":
        definition, gvk = "io.k8s.api.autoscaling.v1.Scale", {"group": "autoscaling", "kind": "Scale", "version": "v1"}
    suffix = subresource[:1].upper() + subresource[1:]
    what = (
        f"{subresource} of the specified {kind.resource.kind}" if subresource else f"the specified {kind.resource.kind}"
    )
    if subresource:
        common = _common(kind, "get", suffix, gvk)
        yield Operation(path, "get", **common, description=f"read {what}", response=definition, parameters=(_PRETTY,))
    if "update" in kind.verbs:
        yield Operation(
            path,
            "put",
            **_common(kind, "put", suffix, gvk),
            description=f"replace {what}",
            response=definition,
            body=definition,
            parameters=_WRITE,
        )
    if "patch" in kind.verbs:
        yield Operation(
            path,
            "patch",
            **_common(kind, "patch", suffix, gvk),
            description=f"partially update {what}",
            response=definition,
            body=PATCH,
            consumes=PATCH_TYPES if kind.schema else tuple(t for t in PATCH_TYPES if "strategic" not in t),
            parameters=(*_WRITE, _FORCE),
        )
