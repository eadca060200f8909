"""Which group and which version of it comes first in discovery. In: names. Out: numbers; the table is upstream's.

Clients take the first group that knows a short name, and the first version of a group. Other groups stand where their
APIServices say; definitions and what nobody ranked come after the built-in ones.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Priority(NamedTuple):
    """groupPriorityMinimum and versionPriority of an APIService: the higher, the earlier."""

    group: int
    version: int


CUSTOM = Priority(1000, 100)
"""Of custom resources (upstream's crdregistration controller)."""
METRICS = "metrics.k8s.io"
"""Served here until somebody registers a server of theirs."""
KING = "apiregistration.k8s.io"
"""Always this server's own, and first of the named groups (upstream's kube-aggregator)."""
_GROUPS = {
    "": 18000,
    KING: 17900,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
    "internal.apiserver.k8s.io": 16000,
    "resource.k8s.io": 15900,
    "storagemigration.k8s.io": 15800,
    METRICS: 100,
}
_VERSIONS = {
    ("", "v1"): 1,
    ("autoscaling", "v2"): 30,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    (METRICS, "v1beta1"): 100,
}
_STABLE, _OTHER = 15, 9


def built_in(group: str, version: str) -> Priority | None:
    """None for groups that are not Kubernetes' own."""
    rank = _GROUPS.get(group)
    if rank is None:
        return None
    stable = _STABLE if re.fullmatch("v[0-9]+", version) else _OTHER
    return Priority(rank, _VERSIONS.get((group, version), stable))


def kube_order(version: str) -> tuple[int, int, int, str]:
    """Sort key: v2, v1, v2beta1, v1beta2, v1beta1, v1alpha1, and then whatever else by name."""
    form = re.fullmatch(r"v([0-9]+)(?:(alpha|beta)([0-9]+))?", version)
    if form is None:
        return 3, 0, 0, version
    stage = {"": 0, None: 0, "beta": 1, "alpha": 2}[form[2]]
    return stage, -int(form[1]), -int(form[3] or 0), ""
