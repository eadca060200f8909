"""What expressions of policies and match conditions may name, with types (k8s.io/apiserver/pkg/admission/plugin/cel).

Out: types of object, oldObject, request, namespaceObject, params, variables and authorizer. `object` and `params` have any
shape, unless a type is given. `variables` grows with each variable that is compiled: later ones may use earlier ones.
"""

from __future__ import annotations

from jota.meta import cel
from jota.meta.cel.types import (
    AUTHORIZER,
    BOOL,
    DYN,
    INT,
    OPAQUE,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    struct,
)

_KIND = struct("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
_RESOURCE = struct("kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING))
_USER = struct(
    "kubernetes.UserInfo",
    {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))},
)
REQUEST = struct(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
)
_METADATA: dict[str, Type] = {
    **dict.fromkeys(("name", "generateName", "namespace", "uid", "resourceVersion"), STRING),
    **dict.fromkeys(("labels", "annotations"), map_of(STRING, STRING)),
    **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), TIMESTAMP),
    **dict.fromkeys(("generation", "deletionGracePeriodSeconds"), INT),
    "finalizers": list_of(STRING),
}
_CONDITION = dict.fromkeys(("type", "status", "reason", "message"), STRING) | {"lastTransitionTime": TIMESTAMP}
NAMESPACE = struct(
    "kubernetes.Namespace",
    {
        "metadata": struct("kubernetes.NamespaceMetadata", _METADATA),
        "spec": struct("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}),
        "status": struct(
            "kubernetes.NamespaceStatus",
            {"phase": STRING, "conditions": list_of(struct("kubernetes.NamespaceCondition", _CONDITION))},
        ),
    },
)
REQUEST_RESOURCE = "authorizer.requestResource"


class Terms:
    """The names that one policy's expressions share."""

    def __init__(
        self, *, params: bool, composed: bool = True, object_type: Type = DYN, params_type: Type = DYN
    ) -> None:
        """`params`: the policy has parameters; `composed`: it may have variables."""
        self._variables: dict[str, Type] = {}
        self._names: dict[str, Type] = {"object": object_type, "oldObject": object_type, "request": REQUEST}
        if params:
            self._names["params"] = params_type
        if composed:
            self._names["namespaceObject"] = NAMESPACE
        self._composed = composed

    def compile(self, expression: str, *, returns: str, authorizer: bool = True, objects: bool = False) -> cel.Program:
        """Raises CelCompileError."""
        names = dict(self._names)
        if self._composed:
            names["variables"] = struct("kubernetes.variables", self._variables)
        if authorizer:
            names |= {"authorizer": AUTHORIZER, REQUEST_RESOURCE: Type(OPAQUE["resourcecheck"])}
        return cel.compile(expression, names, returns=returns, objects=objects)

    def define(self, name: str, expression: str) -> cel.Program:
        """One more variable. A bad one can be named all the same: its own error is enough. Raises CelCompileError."""
        try:
            program = self.compile(expression, returns="")
        except cel.CelCompileError:
            self._variables[name] = DYN
            raise
        self._variables[name] = program.type
        return program
