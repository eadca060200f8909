"""Paths, parameters and media types: tables."""

from __future__ import annotations

import pytest

from jota.api import negotiate, path
from jota.meta.errors import ApiError


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        # verb, group, version, namespace, resource, name, subresource, rest
        ("GET", "/api/v1/pods", ("list", "", "v1", "", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces", ("list", "", "v1", "", "namespaces", "", "", "")),
        ("GET", "/api/v1/namespaces/a", ("get", "", "v1", "a", "namespaces", "a", "", "")),
        ("PUT", "/api/v1/namespaces/a/finalize", ("update", "", "v1", "a", "namespaces", "a", "finalize", "")),
        ("PATCH", "/api/v1/namespaces/a/status", ("patch", "", "v1", "a", "namespaces", "a", "status", "")),
        ("POST", "/api/v1/namespaces/a/pods", ("create", "", "v1", "a", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/a/pods/p/", ("get", "", "v1", "a", "pods", "p", "", "")),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments", ("deletecollection", "apps", "v1", "a", "deployments", "", "", "")),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", ("delete", "apps", "v1", "a", "deployments", "d", "", "")),
        ("POST", "/api/v1/namespaces/a/pods/p/exec", ("create", "", "v1", "a", "pods", "p", "exec", "")),
        ("GET", "/api/v1/namespaces/a/pods/p/proxy/x/%2Fy", ("get", "", "v1", "a", "pods", "p", "proxy", "/x/%2Fy")),
        ("GET", "/api/v1/namespaces/a/pods/p/proxy/", ("get", "", "v1", "a", "pods", "p", "proxy", "/")),
        ("GET", "/api/v1/namespaces/a/pods/p/proxy/x//", ("get", "", "v1", "a", "pods", "p", "proxy", "/x//")),
        ("GET", "/api/v1/nodes/n/proxy/x/", ("get", "", "v1", "", "nodes", "n", "proxy", "/x/")),
        ("GET", "/api/v1/namespaces/a/pods/proxy/", ("get", "", "v1", "a", "pods", "proxy", "", "")),
        ("GET", "/api/v1/namespaces/proxy/pods/", ("list", "", "v1", "proxy", "pods", "", "", "")),
        ("OPTIONS", "/api/v1/nodes/n/proxy/x", ("get", "", "v1", "", "nodes", "n", "proxy", "/x")),
        ("HEAD", "/api/v1/nodes/n", ("get", "", "v1", "", "nodes", "n", "", "")),
        ("GET", "/api/v1/watch/namespaces/a/pods", ("watch", "", "v1", "a", "pods", "", "", "")),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
         ("get", "rbac.authorization.k8s.io", "v1", "", "clusterroles", "system:node", "", "")),
    ],
)  # fmt: skip
def test_targets(method: str, url: str, expected: tuple[str, ...]) -> None:
    t = path.parse(method, url, {})
    assert (t.verb, t.group, t.version, t.namespace, t.resource, t.name, t.subresource, t.rest) == expected


@pytest.mark.parametrize("method", ["MKCOL", "PROPPATCH", "LOCK", "MOVE", "PURGE", "TRACE", "CONNECT", "X"])
@pytest.mark.parametrize("url", ["/api/v1/namespaces/a/pods/p/proxy/x", "/api/v1/nodes/n/proxy/x", "/api/v1/nodes"])
def test_methods_that_no_verb_stands_for(method: str, url: str) -> None:
    """No verb is asked for, least of all one that only reads: `find_verb` refuses them."""
    assert path.parse(method, url, {}).verb == ""


@pytest.mark.parametrize(
    "url", ["/", "/api", "/api/v1", "/api/v1/", "/apis", "/apis/apps", "/apis/apps/v1", "/version", "//x"]
)
def test_paths_that_are_no_resources(url: str) -> None:
    target = path.parse("GET", url, {})
    assert (target.resource, target.verb, target.path) == ("", "get", url)


@pytest.mark.parametrize(
    ("query", "verb"), [("1", "watch"), ("true", "watch"), ("0", "list"), ("false", "list"), ("", "list")]
)
def test_watch_is_a_parameter(query: str, verb: str) -> None:
    assert path.parse("GET", "/api/v1/pods", {"watch": query}).verb == verb


def test_parameters() -> None:
    assert path.parameters("a=1&a=2&b=%3D&c") == {"a": "1", "b": "=", "c": ""}
    assert path.integer({"n": "-5"}, "n") == -5
    assert path.integer({}, "n") is None
    for bad in ("x", "1.0", "9" * 30, "١"):
        with pytest.raises(ApiError):
            path.integer({"n": bad}, "n")


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ("", "v1", False)),
        ("*/*", ("", "v1", False)),
        ("application/json, */*", ("", "v1", False)),
        ("application/vnd.kubernetes.protobuf, application/json", ("", "v1", False)),
        ("application/vnd.kubernetes.protobuf, */*", ("", "v1", False)),
        (f"{TABLE},application/json", ("Table", "v1", False)),
        (f"{TABLE.replace('v1', 'v1beta1')},application/json", ("Table", "v1beta1", False)),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", ("", "v1", False)),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", ("Metadata", "v1", False)),
        ("application/yaml", ("", "v1", True)),
        ("application/yaml;q=0.5,application/json", ("", "v1", False)),
    ],
)
def test_accept(header: str, expected: tuple[str, str, bool]) -> None:
    assert negotiate.accept(header)[:3] == expected


@pytest.mark.parametrize("header", ["text/html", "application/cbor", f"{TABLE.replace('v1', 'v7')}"])
def test_not_acceptable(header: str) -> None:
    with pytest.raises(ApiError) as refused:
        negotiate.accept(header)
    assert refused.value.code == 406
