"""Kinds that are spoken but never stored: reviews, bindings, and the foreign kinds of subresources.

In: nothing. Out: `VIRTUAL`, resources of their own that discovery lists, and `SUBRESOURCES`, what a subresource speaks.
Who answers them: `api/subresources/` and `api/verbs/`.
"""

from __future__ import annotations

from typing import NamedTuple

from jota.meta.resource import Resource

AUTHENTICATION = "authentication.k8s.io"
AUTHORIZATION = "authorization.k8s.io"


class Virtual(NamedTuple):
    """A resource one can only create: the answer is the reply, nothing is kept."""

    resource: Resource
    singular: str
    schema: str = ""
    verbs: tuple[str, ...] = ("create",)


def _virtual(group: str, plural: str, kind: str, namespaced: bool = False) -> Virtual:
    package = group.partition(".")[0] or "core"
    schema = f"io.k8s.api.{package}.v1.{kind}"
    return Virtual(Resource(group, "v1", plural, kind, namespaced), kind.lower(), schema)


VIRTUAL: tuple[Virtual, ...] = (
    _virtual("", "bindings", "Binding", True),
    _virtual(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
    _virtual(AUTHENTICATION, "tokenreviews", "TokenReview"),
    _virtual(AUTHORIZATION, "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    _virtual(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _virtual(AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _virtual(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
)


class Subresource(NamedTuple):
    """What a subresource speaks: group, version and kind for discovery (empty group and version: the parent's own)."""

    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


_CONNECT = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")
_WRITE = ("get", "patch", "update")

SCALE = Subresource("Scale", _WRITE, "autoscaling", "v1")

SUBRESOURCES: dict[tuple[str, str, str], Subresource] = {
    ("", "namespaces", "finalize"): Subresource("Namespace", ("update",)),
    ("", "nodes", "proxy"): Subresource("NodeProxyOptions", _PROXY),
    ("", "pods", "attach"): Subresource("PodAttachOptions", _CONNECT),
    ("", "pods", "binding"): Subresource("Binding", ("create",)),
    ("", "pods", "ephemeralcontainers"): Subresource("Pod", _WRITE),
    ("", "pods", "eviction"): Subresource("Eviction", ("create",), "policy", "v1"),
    ("", "pods", "exec"): Subresource("PodExecOptions", _CONNECT),
    ("", "pods", "log"): Subresource("Pod", ("get",)),
    ("", "pods", "portforward"): Subresource("PodPortForwardOptions", _CONNECT),
    ("", "pods", "proxy"): Subresource("PodProxyOptions", _PROXY),
    ("", "pods", "resize"): Subresource("Pod", _WRITE),
    ("", "serviceaccounts", "token"): Subresource("TokenRequest", ("create",), AUTHENTICATION, "v1"),
    ("", "services", "proxy"): Subresource("ServiceProxyOptions", _PROXY),
    ("certificates.k8s.io", "certificatesigningrequests", "approval"): Subresource("CertificateSigningRequest", _WRITE),
}
"""(group, plural, subresource) -> what it speaks; /status speaks the parent's kind, /scale speaks SCALE."""
