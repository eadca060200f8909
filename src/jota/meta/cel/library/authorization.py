"""`authorizer` in policies: `authorizer.group("").resource("pods").namespace("x").check("create").allowed()`.

Checks are built up step by step; `check` asks the cluster's authorizer, once for each question (k8s.io/apiserver/pkg/cel/
library/authz.go). The authorizer itself comes with the value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jota.meta import names
from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, fixed
from jota.meta.cel.values import AuthorizerValue, Decision, GroupCheck, PathCheck, ResourceCheck

CHECK_COST = 350_000
"""Two checks fit into one expression."""


def _path(authorizer: AuthorizerValue, path: str) -> PathCheck:
    if not path.strip():
        raise CelError("path must not be empty")
    return PathCheck(authorizer, path)


def _resource(check: GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise CelError("resource must not be empty")
    return ResourceCheck(check.authorizer, check.group, resource)


def _service_account(authorizer: AuthorizerValue, namespace: str, name: str) -> AuthorizerValue:
    if names.dns_subdomain(name):
        raise CelError("Invalid service account name")
    if names.dns_label(namespace):
        raise CelError("Invalid service account namespace")
    return AuthorizerValue(("serviceaccount", namespace, name), authorizer.decide)


def _check(check: PathCheck | ResourceCheck, verb: str) -> Decision:
    asked: dict[str, Any] = {"verb": verb}
    if isinstance(check, PathCheck):
        asked["path"] = check.path
    else:
        parts = ("group", "resource", "subresource", "namespace", "name", "fields", "labels")
        asked |= {part: getattr(check, part) for part in parts}
    return Decision(*check.authorizer.decide(check.authorizer.user, asked))


def _with(part: str) -> Any:
    return lambda check, value: replace(check, **{part: value})


TABLE = [
    Function("path", "authorizer.(string) pathcheck", _path),
    Function("group", "authorizer.(string) groupcheck", GroupCheck),
    Function("serviceAccount", "authorizer.(string, string) authorizer", _service_account),
    Function("resource", "groupcheck.(string) resourcecheck", _resource),
    Function("subresource", "resourcecheck.(string) resourcecheck", _with("subresource")),
    Function("namespace", "resourcecheck.(string) resourcecheck", _with("namespace")),
    Function("name", "resourcecheck.(string) resourcecheck", _with("name")),
    Function("fieldSelector", "resourcecheck.(string) resourcecheck", _with("fields")),
    Function("labelSelector", "resourcecheck.(string) resourcecheck", _with("labels")),
    Function("check", "pathcheck.(string) decision", _check, fixed(CHECK_COST)),
    Function("check", "resourcecheck.(string) decision", _check, fixed(CHECK_COST)),
    Function("allowed", "decision.() bool", lambda d: d.allowed),
    Function("reason", "decision.() string", lambda d: d.reason),
    Function("errored", "decision.() bool", lambda d: bool(d.error)),
    Function("error", "decision.() string", lambda d: d.error),
]
