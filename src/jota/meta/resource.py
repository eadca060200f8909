"""Names of resources on the wire: what a client needs to build a path. The facts about each kind stand in `kinds/`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

_NO_SEGMENT = ("/", "%", "?", "#")
"""What would end a segment of a path, or be read as something else in it."""


class Resource(NamedTuple):
    """One REST resource, e.g. Resource("apps", "v1", "deployments", "Deployment", True)."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """As errors spell it: "deployments.apps", "pods"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path, e.g. /apis/apps/v1/namespaces/default/deployments/web/scale. A name is one segment of it, whatever is in it:
        some come out of objects that users write. Raises nothing."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe="") if any(mark in name for mark in _NO_SEGMENT) else name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


PODS = Resource("", "v1", "pods", "Pod")
BINDINGS = Resource("", "v1", "bindings", "Binding")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = Resource("", "v1", "events", "Event")
NODES = Resource("", "v1", "nodes", "Node", False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
SERVICE_CIDRS = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False)
IP_ADDRESSES = Resource("networking.k8s.io", "v1", "ipaddresses", "IPAddress", False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVICTION_REQUESTS = Resource("lifecycle.k8s.io", "v1alpha1", "evictionrequests", "EvictionRequest")
EVICTIONS = Resource("lifecycle.k8s.io", "v1alpha1", "evictions", "Eviction")
LEASE_CANDIDATES = Resource("coordination.k8s.io", "v1beta1", "leasecandidates", "LeaseCandidate")
CSRS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False)
POD_CERTIFICATE_REQUESTS = Resource("certificates.k8s.io", "v1", "podcertificaterequests", "PodCertificateRequest")
CLUSTER_TRUST_BUNDLES = Resource("certificates.k8s.io", "v1", "clustertrustbundles", "ClusterTrustBundle", False)
PODGROUPS = Resource("scheduling.k8s.io", "v1beta1", "podgroups", "PodGroup")
