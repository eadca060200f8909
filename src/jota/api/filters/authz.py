"""Authorization: members of system:masters may do everything, everybody else what RBAC grants."""

from __future__ import annotations

from jota.api.filters.attributes import MASTERS, Attributes, User
from jota.api.rbac.index import RbacIndex


class RbacAuthorizer:
    """An Authorizer (attributes.py) over the index of roles and bindings."""

    def __init__(self, index: RbacIndex) -> None:
        self.index = index

    def authorize(self, user: User, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, reason); the reason of a denial is worded as upstream's, for "... is forbidden: <reason>"."""
        if MASTERS in user.groups or self.index.allows(user, attributes):
            return True, ""
        return False, denial(user, attributes)


def denial(user: User, asked: Attributes) -> str:
    if not asked.resource:
        return f'User "{user.name}" cannot {asked.verb} path "{asked.path}"'
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    text = f'User "{user.name}" cannot {asked.verb} resource "{resource}" in API group "{asked.group}"'
    if asked.namespace:
        return f'{text} in the namespace "{asked.namespace}"'
    return text + " at the cluster scope"
