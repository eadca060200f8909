"""Discovery documents, legacy and aggregated."""

from __future__ import annotations

from typing import Any

from jota.api import discovery
from jota.kinds.kind import Kind, Scale
from jota.meta.resource import CSRS, DEPLOYMENTS, NAMESPACES, NODES, PODS, SERVICEACCOUNTS, Resource

POD_SUBRESOURCES = (
    "binding",
    "eviction",
    "exec",
    "log",
    "ephemeralcontainers",
    "portforward",
    "attach",
    "proxy",
    "resize",
)
KINDS = (
    Kind(Resource("example.com", "v1alpha1", "foos", "Foo")),
    Kind(Resource("example.com", "v1", "foos", "Foo"), status=True),
    Kind(Resource("batch", "v1", "jobs", "Job")),
    Kind(DEPLOYMENTS, short_names=("deploy",), categories=("all",), status=True, scale=Scale()),
    Kind(PODS, short_names=("po",), status=True, subresources=POD_SUBRESOURCES),
    Kind(SERVICEACCOUNTS, subresources=("token",)),
    Kind(NAMESPACES, singular="namespace", status=True, subresources=("finalize",)),
    Kind(NODES, subresources=("proxy",)),
    Kind(CSRS, subresources=("approval",)),
    Kind(
        Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False), verbs=("create",)
    ),
)


def _entry(document: Any, name: str) -> Any:
    return next(r for r in document["resources"] if r["name"] == name)


def test_the_legacy_api_and_group_list() -> None:
    assert discovery.legacy_api(KINDS, "10.0.0.1:6443") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443"}],
    }
    groups = discovery.legacy_group_list(KINDS)["groups"]
    names = [g["name"] for g in groups]
    assert names == ["apps", "authorization.k8s.io", "batch", "certificates.k8s.io", "example.com"]
    assert groups[-1] == {
        "name": "example.com",
        "versions": [
            {"groupVersion": "example.com/v1", "version": "v1"},
            {"groupVersion": "example.com/v1alpha1", "version": "v1alpha1"},
        ],
        "preferredVersion": {"groupVersion": "example.com/v1", "version": "v1"},
    }


def test_one_group_and_groups_that_are_not() -> None:
    group = discovery.legacy_group(KINDS, "apps")
    assert group is not None
    assert (group["kind"], group["apiVersion"], group["name"]) == ("APIGroup", "v1", "apps")
    assert discovery.legacy_group(KINDS, "nope") is None
    assert discovery.legacy_group(KINDS, "") is None
    assert discovery.legacy_resources(KINDS, "apps", "v2") is None


def test_versions_are_ordered_by_stability_and_number() -> None:
    versions = ["v1beta1", "v10", "v2", "v1alpha2", "foo", "v1", "v2beta1", "v1beta2"]
    kinds = [Kind(Resource("g", v, "foos", "Foo")) for v in versions]
    group = discovery.legacy_group(kinds, "g")
    assert group is not None
    found = [v["version"] for v in group["versions"]]
    assert found == ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1beta1", "v1alpha2", "foo"]


def test_legacy_resources_of_the_core_group() -> None:
    document = discovery.legacy_resources(KINDS, "", "v1")
    assert document is not None
    assert document["groupVersion"] == "v1"
    pods = _entry(document, "pods")
    assert pods.pop("storageVersionHash")
    assert pods == {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["po"],
    }
    assert _entry(document, "pods/eviction") == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "kind": "Eviction",
        "verbs": ["create"],
        "group": "policy",
        "version": "v1",
    }
    assert _entry(document, "pods/binding")["kind"] == "Binding"
    assert _entry(document, "pods/exec")["kind"] == "PodExecOptions"
    assert _entry(document, "pods/proxy")["kind"] == "PodProxyOptions"
    assert _entry(document, "nodes/proxy")["kind"] == "NodeProxyOptions"
    assert _entry(document, "pods/ephemeralcontainers")["kind"] == "Pod"
    assert _entry(document, "pods/log")["verbs"] == ["get"]
    assert _entry(document, "namespaces/finalize")["verbs"] == ["update"]
    token = _entry(document, "serviceaccounts/token")
    assert (token["group"], token["version"], token["kind"]) == ("authentication.k8s.io", "v1", "TokenRequest")


def test_scale_and_reviews() -> None:
    document = discovery.legacy_resources(KINDS, "apps", "v1")
    assert document is not None
    scale = _entry(document, "deployments/scale")
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    reviews = discovery.legacy_resources(KINDS, "authorization.k8s.io", "v1")
    assert reviews is not None
    assert reviews["resources"][0]["verbs"] == ["create"]
    assert "storageVersionHash" not in reviews["resources"][0]


def test_aggregated_discovery_says_the_same() -> None:
    core = discovery.aggregated(KINDS, core=True)
    assert core["apiVersion"] == "apidiscovery.k8s.io/v2"
    (group,) = core["items"]
    assert "name" not in group["metadata"]
    pods = next(r for r in group["versions"][0]["resources"] if r["resource"] == "pods")
    assert pods["scope"] == "Namespaced"
    assert pods["responseKind"] == {"group": "", "version": "v1", "kind": "Pod"}
    eviction = next(s for s in pods["subresources"] if s["subresource"] == "eviction")
    assert eviction == {
        "subresource": "eviction",
        "responseKind": {"group": "policy", "version": "v1", "kind": "Eviction"},
        "verbs": ["create"],
    }
    others = discovery.aggregated(KINDS, core=False, version="v2beta1")
    assert others["apiVersion"] == "apidiscovery.k8s.io/v2beta1"
    legacy = [g["name"] for g in discovery.legacy_group_list(KINDS)["groups"]]
    assert [i["metadata"]["name"] for i in others["items"]] == legacy
    assert [v["version"] for v in others["items"][-1]["versions"]] == ["v1", "v1alpha1"]


def test_the_content_type_echoes_what_was_negotiated() -> None:
    assert discovery.content_type() == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert ";v=v2beta1;" in discovery.content_type("v2beta1")
