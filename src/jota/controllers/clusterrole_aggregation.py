"""ClusterRoles with an aggregationRule -> their `rules`: those of every ClusterRole that their selectors match.

Authorization already counts aggregated rules the moment they exist (api/rbac/index.py); this writes them down for whoever
reads the role. Upstream's order: roles by name, each rule once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from jota.controllers.controller import Context, Controller, Object
from jota.meta.resource import Resource
from jota.meta.selectors import from_object

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)


def plan(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules that an aggregated role should have."""
    selectors = [from_object(s) for s in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()]
    rules: list[Object] = []
    for other in sorted(roles, key=lambda r: str(r["metadata"]["name"])):
        if other["metadata"]["name"] == role["metadata"]["name"]:
            continue
        if any(s.matches(other["metadata"].get("labels")) for s in selectors):
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregationController(Controller):
    name: ClassVar[str] = "clusterrole-aggregation-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.roles = self.watch(CLUSTER_ROLES)
        self.roles.add_handler(lambda old, new: self._look())

    def _look(self) -> None:
        for role in self.roles.list():
            if role.get("aggregationRule"):
                self.queue.add(role["metadata"]["name"])

    def all_keys(self) -> Iterable[str]:
        return [r["metadata"]["name"] for r in self.roles.list() if r.get("aggregationRule")]

    async def reconcile(self, key: str) -> float | None:
        role = self.roles.get(key)
        if role is None or not role.get("aggregationRule") or role["metadata"].get("deletionTimestamp"):
            return None
        rules = plan(role, self.roles.list())
        if rules != (role.get("rules") or []):
            self.wrote(key, self.roles, await self.client.update(CLUSTER_ROLES, {**role, "rules": rules}))
        return None
