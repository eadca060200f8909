"""The node authorizer: a node's credential reaches what its own pods need, and no more.

In: questions of users "system:node:<name>" in the group "system:nodes". Out: yes, or no with a reason; RBAC is asked
next. The decisions are upstream's (node authorizer, with its selector rules); writes that it lets through are narrowed
down by admission/node_restriction.py.
"""

from __future__ import annotations

from jota.api.filters.attributes import NO_OPINION, Attributes, Decision, User
from jota.api.filters.node_graph import NodeGraph, Ref
from jota.api.rbac.rules import Rule
from jota.api.registry import Registry
from jota.meta.errors import ApiError
from jota.meta.resource import POD_CERTIFICATE_REQUESTS, Resource
from jota.meta.selectors import parse_fields

GROUP = "system:nodes"
PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
READ = ("get", "list", "watch")
_ATTACHMENTS = Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", False)
_BY_REFERENCE = {
    ("", "secrets"),
    ("", "configmaps"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("resource.k8s.io", "resourceclaims"),
}
_OWN = {
    ("coordination.k8s.io", "leases"): ("get", "create", "update", "patch", "delete"),
    ("storage.k8s.io", "csinodes"): ("get", "create", "update", "patch", "delete"),
}


def node_of(user: User) -> str | None:
    """The node that a user is; "" for a member of system:nodes without a name; None for anybody else."""
    if GROUP not in user.groups:
        return None
    return user.name[len(PREFIX) :] if user.name.startswith(PREFIX) else ""


class NodeAuthorizer:
    """An Authorizer (attributes.py) for nodes. `rules`: what every node may do, whatever runs on it."""

    def __init__(self, registry: Registry, rules: list[Rule]) -> None:
        self._registry, self._rules = registry, rules
        self.graph = NodeGraph(registry)

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        node = node_of(user)
        if node is None:
            return NO_OPINION
        if not node:
            return Decision(False, f'unknown node for user "{user.name}"')
        return Decision(*self._decide(node, attributes))

    def always(self, user: User, asked: Attributes) -> bool | None:
        """Nobody but nodes is judged here, and they by the objects that are theirs."""
        return None if node_of(user) is None else False

    def _decide(self, node: str, asked: Attributes) -> tuple[bool, str]:
        what = (asked.group, asked.resource)
        if what in _BY_REFERENCE:
            return self._by_reference(node, asked)
        if what in _OWN:
            return _own_object(node, asked, _OWN[what])
        if what == ("", "pods"):
            return self._pods(node, asked)
        if what == ("", "nodes") and asked.verb in READ:
            own = not asked.subresource and asked.name == node
            return own, "" if own else f"node '{node}' cannot read all nodes, only its own Node object"
        if what == ("", "serviceaccounts"):
            return self._service_accounts(node, asked)
        if what == ("storage.k8s.io", "volumeattachments"):
            return self._attachments(node, asked)
        if what == (POD_CERTIFICATE_REQUESTS.group, POD_CERTIFICATE_REQUESTS.plural):
            return self._pod_certificate_requests(node, asked)
        return any(rule.allows(asked) for rule in self._rules), ""

    def _by_reference(self, node: str, asked: Attributes) -> tuple[bool, str]:
        if asked.verb not in READ or asked.subresource:
            return False, "can only read resources of this type"
        if not asked.name:
            return False, "No Object name found"
        if not asked.namespace and asked.resource != "persistentvolumes":
            return False, "can only read namespaced object of this type"
        return self._related(node, (asked.resource, asked.namespace, asked.name))

    def _related(self, node: str, ref: Ref) -> tuple[bool, str]:
        if self.graph.uses(node, ref):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _pods(self, node: str, asked: Attributes) -> tuple[bool, str]:
        if asked.subresource == "":
            if asked.verb == "get":
                return self._related(node, ("pods", asked.namespace, asked.name))
            if asked.verb in ("list", "watch"):
                own = _selected(asked.fields, "spec.nodeName") == node
                return own, "" if own else "can only list/watch pods with spec.nodeName field selector"
            return asked.verb in ("create", "delete"), ""
        if asked.subresource == "status":
            if asked.verb == "get":
                return self._related(node, ("pods", asked.namespace, asked.name))
            return asked.verb in ("update", "patch"), ""
        return asked.subresource == "eviction" and asked.verb == "create", ""

    def _service_accounts(self, node: str, asked: Attributes) -> tuple[bool, str]:
        token = asked.subresource == "token" and asked.verb == "create"
        if not token and (asked.subresource or asked.verb != "get"):
            return False, "can only create tokens for individual service accounts and get individual service accounts"
        return self._related(node, ("serviceaccounts", asked.namespace, asked.name))

    def _attachments(self, node: str, asked: Attributes) -> tuple[bool, str]:
        if asked.verb != "get" or asked.subresource or not asked.name:
            return False, "can only get individual resources of this type"
        found = self._registry.get(_ATTACHMENTS, "", asked.name)
        if found is not None and found["spec"].get("nodeName") == node:
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _pod_certificate_requests(self, node: str, asked: Attributes) -> tuple[bool, str]:
        """Those for its own pods; whom it may make them for, admission/node_pod_certificates.py says."""
        if asked.subresource:
            return False, "nodes may not access the status subresource of PodCertificateRequests"
        if asked.verb == "create":
            return True, ""
        if asked.verb == "get":
            found = self._registry.get(POD_CERTIFICATE_REQUESTS, asked.namespace, asked.name) if asked.name else None
            own = found is not None and found["spec"].get("nodeName") == node
            return own, "" if own else f"no relationship found between node '{node}' and this object"
        if asked.verb in ("list", "watch"):
            own = _selected(asked.fields, "spec.nodeName") == node
            return own, "" if own else "can only list/watch podcertificaterequests with nodeName field selector"
        return False, f"nodes may not {asked.verb} podcertificaterequests"


def _own_object(node: str, asked: Attributes, verbs: tuple[str, ...]) -> tuple[bool, str]:
    """Objects that bear the node's name: its Lease and its CSINode."""
    if asked.verb not in verbs or asked.subresource:
        return False, f"can only get, create, update, patch, or delete a {asked.resource.removesuffix('s')}"
    if asked.resource == "leases" and asked.namespace != LEASE_NAMESPACE:
        return False, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
    if asked.verb != "create" and asked.name != node:
        return False, "can only access the object with the same name as the requesting node"
    return True, ""


def _selected(fields: str, field: str) -> str | None:
    try:
        return parse_fields(fields).exact(field) if fields else None
    except ApiError:
        return None
