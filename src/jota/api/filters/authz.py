"""Authorization: members of system:masters may do everything, everybody else what RBAC grants."""

from __future__ import annotations

from jota.api.filters.attributes import MASTERS, Attributes, User
from jota.api.rbac.index import RbacIndex


class RbacAuthorizer:
    """An Authorizer (attributes.py) over the index of roles and bindings."""

    def __init__(self, index: RbacIndex) -> None:
        self.index = index

    def authorize(self, user: User, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, reason); a denial needs no reason: api/chain.py says who could not do what."""
        return MASTERS in user.groups or self.index.allows(user, attributes), ""
