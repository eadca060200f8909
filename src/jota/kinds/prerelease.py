"""Beta and alpha versions of kinds that differ in nothing but their name: the same objects under one more apiVersion.

In: the kinds as they are kept. Out: `of(kinds)`, the same with another version. They are served only when
asked for (--runtime-config). A version whose kinds have another shape is not here: `ABSENT` names what upstream has besides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from jota.kinds.kind import Kind

_MUTATING = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
_DEVICES = ("deviceclasses", "devicetaintrules", "resourceclaims", "resourceclaimtemplates", "resourceslices")
VERSIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("admissionregistration.k8s.io", "v1beta1", _MUTATING),
    ("admissionregistration.k8s.io", "v1alpha1", _MUTATING),
    ("certificates.k8s.io", "v1beta1", ("clustertrustbundles",)),
    ("coordination.k8s.io", "v1alpha2", ("leasecandidates",)),
    ("resource.k8s.io", "v1beta2", _DEVICES),
    ("resource.k8s.io", "v1beta1", ("deviceclasses",)),
    ("resource.k8s.io", "v1alpha3", ("devicetaintrules",)),
    ("storagemigration.k8s.io", "v1beta1", ("storageversionmigrations",)),
)
"""(group, version, plurals). Their definitions in the schema have the fields of the kept version, and a test compares them."""
ABSENT = (
    "certificates.k8s.io/v1beta1/podcertificaterequests",
    "internal.apiserver.k8s.io/v1alpha1/storageversions",
    "resource.k8s.io/v1alpha3/resourcepoolstatusrequests",
    "scheduling.k8s.io/v1alpha3/compositepodgroups",
    "scheduling.k8s.io/v1alpha3/podgroups",
    "scheduling.k8s.io/v1alpha3/workloads",
)
"""What this release of Kubernetes has besides: kinds without a stable version, or of another shape than it."""


def of(kept: Iterable[Kind]) -> tuple[Kind, ...]:
    """The kinds of `VERSIONS`. Raises KeyError for one that is not among them."""
    known = {(k.resource.group, k.resource.plural): k for k in kept if k.storage is None}
    return tuple(
        _as(known[(group, plural)], version, "alpha" if "alpha" in version else "beta")
        for group, version, plurals in VERSIONS
        for plural in plurals
    )


def _as(kind: Kind, version: str, stability: str) -> Kind:
    return replace(
        kind,
        resource=kind.resource._replace(version=version),
        schema=kind.schema.replace(f".{kind.resource.version}.", f".{version}."),
        storage=kind.resource,
        stability=stability,
    )
