"""NodeRestriction of PodCertificateRequests: a node asks for certificates of its own pods, of signers that these mount.

The other half of what filters/node.py lets through; the rules and their words are upstream's NodeRestriction. Whoever may do
`request-serviceaccounts-podcertificate-signer` on "<domain>:<signer>" named like the service account asks for it without a
volume that says so (a CSI driver does, with its node's credential).
"""

from __future__ import annotations

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import Attributes, Authorizer
from jota.api.filters.authz import decide
from jota.api.filters.node import node_of
from jota.api.filters.node_graph import MIRROR
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import meta, part, parts, strings, text
from jota.meta.errors import ApiError, forbidden
from jota.meta.resource import NODES, POD_CERTIFICATE_REQUESTS, PODS, SERVICEACCOUNTS, Resource

VERB = "request-serviceaccounts-podcertificate-signer"


class NodePodCertificates(Plugin):
    asks = True

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, kind: Kind) -> bool:
        return kind.resource.group_resource == POD_CERTIFICATE_REQUESTS.group_resource

    def validate(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403."""
        node = node_of(attrs.user)
        if node == "":
            raise _refuse(attrs, f'could not determine node from user "{attrs.user.name}"')
        if node and attrs.operation != "CREATE":
            raise _refuse(attrs, f"unexpected operation {attrs.operation}")

    async def judge(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403."""
        node = node_of(attrs.user)
        if not node:
            return
        spec = part(attrs.object or {}, "spec")
        pod = _pod(attrs, spec, node)
        signer, account = text(spec, "signerName"), text(spec, "serviceAccountName")
        if _mounts(pod, signer):
            return
        asked = Attributes(
            attrs.user,
            VERB,
            POD_CERTIFICATE_REQUESTS.group,
            POD_CERTIFICATE_REQUESTS.version,
            signer.replace("/", ":"),
            namespace=attrs.namespace,
            name=account,
        )
        if not (await decide(self._authorizer, attrs.user, asked)).allowed:
            named = f"{attrs.namespace}/{text(spec, 'podName')}"
            detail = f'pod "{named}" does not mount a podCertificate projected volume for signer "{signer}"'
            raise _refuse(attrs, detail)


def _pod(attrs: AdmissionAttributes, spec: Object, node: str) -> Object:
    """The pod that the request names, if all else that it names is the pod's."""
    name = text(spec, "nodeName")
    if name != node:
        raise _refuse(attrs, f'PodCertificateRequest.Spec.NodeName="{name}", which is not the requesting node "{node}"')
    _same(attrs, NODES, "", name, text(spec, "nodeUID"))
    pod = _same(attrs, PODS, attrs.namespace, text(spec, "podName"), text(spec, "podUID"))
    named = f"{attrs.namespace}/{text(spec, 'podName')}"
    if text(part(pod, "spec"), "nodeName") != node:
        raise _refuse(attrs, f'pod "{named}" is not running on node "{node}" named in the PodCertificateRequest')
    if MIRROR in strings(meta(pod), "annotations"):
        raise _refuse(attrs, f'pod "{named}" is a mirror pod')
    account, has = text(spec, "serviceAccountName"), text(part(pod, "spec"), "serviceAccountName")
    if account != has:
        detail = f'contains serviceAccountName ("{account}") that differs from running pod ("{has}")'
        raise _refuse(attrs, f'PodCertificateRequest for pod "{named}" {detail}')
    _same(attrs, SERVICEACCOUNTS, attrs.namespace, account, text(spec, "serviceAccountUID"))
    return pod


def _same(attrs: AdmissionAttributes, resource: Resource, namespace: str, name: str, uid: str) -> Object:
    """The object, if it is still the one that is meant. (Upstream, which may look at an older state, has an error here that
    is no refusal.)"""
    found = attrs.registry.get(resource, namespace, name)
    if found is None:
        raise _refuse(attrs, f'{resource.kind.lower()} "{name}" named in the PodCertificateRequest not found')
    if text(meta(found), "uid") != uid:
        detail = (
            f'names {resource.kind.lower()} UID "{uid}", which differs from "{text(meta(found), "uid")}" of "{name}"'
        )
        raise _refuse(attrs, f"PodCertificateRequest {detail}")
    return found


def _mounts(pod: Object, signer: str) -> bool:
    return any(
        text(part(source, "podCertificate"), "signerName") == signer
        for volume in parts(part(pod, "spec"), "volumes")
        for source in parts(part(volume, "projected"), "sources")
    )


def _refuse(attrs: AdmissionAttributes, detail: str) -> ApiError:
    return forbidden(POD_CERTIFICATE_REQUESTS.plural, attrs.name, detail, POD_CERTIFICATE_REQUESTS.group)
