"""Authorization: members of system:masters may do everything; then the node authorizer and RBAC are asked, in this order."""

from __future__ import annotations

from jota.api.filters.attributes import MASTERS, Attributes, User
from jota.api.filters.node import NodeAuthorizer
from jota.api.rbac.index import RbacIndex


class ClusterAuthorizer:
    """An Authorizer (attributes.py): upstream's --authorization-mode=Node,RBAC."""

    def __init__(self, nodes: NodeAuthorizer, index: RbacIndex) -> None:
        self.nodes, self.index = nodes, index

    def authorize(self, user: User, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, reason); a denial needs no reason: api/chain.py says who could not do what."""
        if MASTERS in user.groups:
            return True, ""
        allowed, reason = self.nodes.authorize(user, attributes)
        if allowed or self.index.allows(user, attributes):
            return True, ""
        return False, reason
