"""NodeRestriction: what a node writes concerns itself and its own pods. The other half of filters/node.py.

The rules and their words are upstream's plugin of the same name. Next: node_pod_certificates.py has those that ask an authorizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.node import LEASE_NAMESPACE, PREFIX, node_of
from jota.api.filters.node_graph import MIRROR, references
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta.errors import ApiError, forbidden
from jota.meta.resource import CSRS, LEASES, NODES, PODS, SERVICEACCOUNTS, Resource

CSINODES = Resource("storage.k8s.io", "v1", "csinodes", "CSINode", False)
_SIGNERS = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving")
_DOMAINS = ("kubernetes.io", "k8s.io")
_RESTRICTED = "node-restriction.kubernetes.io"
_LABELS = {
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
}
_PROJECTIONS = {
    "serviceAccountToken": "serviceaccounts",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}
"""What else of the API a projected volume gives away."""
_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = ()
    apart: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rules: dict[Resource, Callable[[AdmissionAttributes, str], None]] = {
            PODS: _pod,
            NODES: _node,
            SERVICEACCOUNTS: _token,
            LEASES: _lease,
            CSINODES: _csi_node,
            CSRS: _request,
        }

    def handles(self, kind: Kind) -> bool:
        return kind.resource in self._rules

    def minds(self, attrs: AdmissionAttributes) -> bool:
        return node_of(attrs.user) is not None

    def validate(self, attrs: AdmissionAttributes) -> None:
        node = node_of(attrs.user)
        if node is None:
            return
        if not node:
            raise _refuse(attrs, f'could not determine node from user "{attrs.user.name}"')
        self._rules[attrs.kind.resource](attrs, node)


def _refuse(attrs: AdmissionAttributes, detail: str) -> ApiError:
    resource = attrs.kind.resource
    return forbidden(resource.plural, attrs.name, detail, resource.group)


def _pod(attrs: AdmissionAttributes, node: str) -> None:
    if attrs.operation == "CREATE" and not attrs.subresource:
        _mirror_pod(attrs, attrs.object or {}, node)
    elif text(part(attrs.old or {}, "spec"), "nodeName") != node:
        what = "only delete pods" if attrs.operation == "DELETE" else "only update pod status for pods"
        raise _refuse(attrs, f'node "{node}" can {what} with spec.nodeName set to itself')
    elif attrs.operation == "UPDATE":
        if attrs.subresource != "status":
            raise _refuse(attrs, f'unexpected pod subresource "{attrs.subresource}"')
        before, after = (part(part(o or {}, "metadata"), "labels") for o in (attrs.old, attrs.object))
        if before != after:
            raise _refuse(attrs, f'node "{node}" cannot update labels through pod status')
        claims = [part(o or {}, "status").get("resourceClaimStatuses") or [] for o in (attrs.old, attrs.object)]
        if claims[0] != claims[1]:
            raise _refuse(attrs, f'node "{node}" cannot update resource claim statuses')


def _mirror_pod(attrs: AdmissionAttributes, pod: Object, node: str) -> None:
    meta, spec = part(pod, "metadata"), part(pod, "spec")
    if MIRROR not in part(meta, "annotations"):
        raise _refuse(attrs, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods')
    if text(spec, "nodeName") != node:
        raise _refuse(attrs, f'node "{node}" can only create pods with spec.nodeName set to itself')
    _owned(attrs, parts(meta, "ownerReferences"), node)
    if text(spec, "serviceAccountName"):
        raise _refuse(attrs, f'node "{node}" can not create pods that reference a service account')
    bare = {**pod, "metadata": {**meta, "annotations": {}}}
    for plural, _, name in references(bare):
        if plural not in ("pods", "serviceaccounts") and name:
            raise _refuse(attrs, f'node "{node}" can not create pods that reference {plural}')
    for volume in parts(spec, "volumes"):
        for source in parts(part(volume, "projected"), "sources"):
            for projection, plural in _PROJECTIONS.items():
                if projection in source:
                    raise _refuse(attrs, f'node "{node}" can not create pods that reference {plural}')


def _owned(attrs: AdmissionAttributes, owners: list[Object], node: str) -> None:
    """A mirror pod goes with its node."""
    if len(owners) > 1:
        raise _refuse(attrs, f'node "{node}" can only create pods with a single owner reference set to itself')
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise _refuse(attrs, f'node "{node}" can only create pods with an owner reference set to itself')
    if owner.get("controller") is not True:
        raise _refuse(attrs, f'node "{node}" can only create pods with a controller owner reference set to itself')
    if owner.get("blockOwnerDeletion") is True:
        raise _refuse(attrs, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    found = attrs.registry.identity(NODES, "", node)
    if found is None or owner.get("uid") != found.uid:
        raise _refuse(attrs, f'node "{node}" UID mismatch: expected the uid of the stored node')


def _node(attrs: AdmissionAttributes, node: str) -> None:
    if attrs.name != node:
        raise _refuse(attrs, f'node "{node}" is not allowed to modify node "{attrs.name}"')
    new, old = attrs.object, attrs.old
    if new is None:
        return
    after, before = part(new, "metadata"), part(old or {}, "metadata")
    wrong = _forbidden_labels(part(after, "labels"), part(before, "labels"))
    if wrong:
        doing = "set the following labels" if old is None else "modify labels"
        raise _refuse(attrs, f'node "{node}" is not allowed to {doing}: {", ".join(wrong)}')
    if old is None:
        return
    if parts(part(new, "spec"), "taints") != parts(part(old, "spec"), "taints"):
        raise _refuse(attrs, f'node "{node}" is not allowed to modify taints')
    if parts(after, "ownerReferences") != parts(before, "ownerReferences"):
        raise _refuse(attrs, f'node "{node}" is not allowed to modify ownerReferences')


def _forbidden_labels(new: Object, old: Object) -> list[str]:
    changed = [key for key in {*new, *old} if new.get(key) != old.get(key)]
    return sorted(key for key in changed if not _node_may_label(key))


def _node_may_label(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if domain == _RESTRICTED or domain.endswith("." + _RESTRICTED):
        return False
    if not any(domain == d or domain.endswith("." + d) for d in _DOMAINS):
        return True
    return label in _LABELS or any(domain == d or domain.endswith("." + d) for d in _LABEL_DOMAINS)


def _token(attrs: AdmissionAttributes, node: str) -> None:
    """A token for a service account of one of the node's pods, bound to this very pod, for an audience that it asks for."""
    if attrs.subresource != "token" or attrs.object is None:
        raise _refuse(attrs, f'node "{node}" can only request tokens of service accounts')
    spec = part(attrs.object, "spec")
    ref = part(spec, "boundObjectRef")
    if not ref or ref.get("apiVersion") != "v1" or ref.get("kind") != "Pod" or not ref.get("name"):
        raise _refuse(attrs, "node requested token not bound to a pod")
    if not ref.get("uid"):
        raise _refuse(attrs, "node requested token with a pod binding without a uid")
    pod = attrs.registry.get(PODS, attrs.namespace, str(ref["name"]))
    if pod is None or pod["metadata"].get("uid") != ref["uid"]:
        raise _refuse(attrs, "node requested token bound to a pod that does not exist")
    pod_spec = part(pod, "spec")
    if text(pod_spec, "nodeName") != node:
        raise _refuse(attrs, "node requested token bound to a pod scheduled on a different node")
    if text(pod_spec, "serviceAccountName") != attrs.name:
        raise _refuse(attrs, "node requested token bound to a pod of another service account")
    asked = set(spec.get("audiences") or ())
    unknown = sorted(asked - _audiences(pod_spec))
    if unknown:
        detail = f'audience "{unknown[0]}" not found in pod spec volume, {PREFIX}{node} is not authorized to request'
        raise _refuse(attrs, detail + " tokens for this audience")


def _audiences(spec: Object) -> set[str]:
    return {
        text(part(source, "serviceAccountToken"), "audience")
        for volume in parts(spec, "volumes")
        for source in parts(part(volume, "projected"), "sources")
    }


def _lease(attrs: AdmissionAttributes, node: str) -> None:
    if attrs.namespace != LEASE_NAMESPACE:
        raise _refuse(attrs, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
    if attrs.name != node:
        raise _refuse(attrs, "can only access node lease with the same name as the requesting node")


def _csi_node(attrs: AdmissionAttributes, node: str) -> None:
    if attrs.name != node:
        raise _refuse(attrs, "can only access CSINode with the same name as the requesting node")


def _request(attrs: AdmissionAttributes, node: str) -> None:
    """Certificates of the kubelet signers are for the node itself."""
    spec = part(attrs.object or {}, "spec")
    if attrs.operation != "CREATE" or spec.get("signerName") not in _SIGNERS:
        return
    from jota.pki.ca import BadRequest, read_csr

    try:
        subject = read_csr(_pem(spec.get("request")))
    except (BadRequest, ValueError) as problem:
        raise _refuse(attrs, f"unable to parse csr: {problem}") from None
    if subject.common_name != PREFIX + node:
        raise _refuse(attrs, f"can only create a node CSR with CN={PREFIX}{node}")


def _pem(encoded: object) -> bytes:
    import base64

    return base64.b64decode(encoded) if isinstance(encoded, str) else b""
