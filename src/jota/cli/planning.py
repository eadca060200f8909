"""For `jota plan`: read the cluster's state into a Rehearsal; claims that manifests would make are added to the copy.

Devices and pod groups are read when a pod of the manifests asks for them."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, NODES, PODS, Resource
from jota.scheduler.deviceview import Claim as DeviceClaim
from jota.scheduler.deviceview import DeviceClass, Slice, TaintRule
from jota.scheduler.feed import Namespace
from jota.scheduler.pod import ClaimName, Pod
from jota.scheduler.podgroups import COSCHEDULING, RESOURCES, PodGroup, policy_of
from jota.scheduler.preemption import Budget
from jota.scheduler.rehearsal import Rehearsal
from jota.scheduler.resources import (
    BUDGETS,
    CLAIMS,
    CLASSES,
    DEVICECLASSES,
    DEVICETAINTRULES,
    RESOURCECLAIMS,
    RESOURCESLICES,
    SELECTING,
    VOLUMES,
)
from jota.scheduler.snapshot import Node
from jota.scheduler.storage import Claim, Class, Volume
from jota.scheduler.workloads import Selecting

T = TypeVar("T")
Document = dict[str, Any]
TEMPLATES = Resource("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


async def gather(client: Client) -> Rehearsal:
    """The cluster as it is. Raises ApiError."""
    rehearsal = Rehearsal()
    nodes = rehearsal.nodes
    for namespace in await _all(client, NAMESPACES, Namespace):
        nodes.pods.set_namespace(namespace.metadata.name, namespace.metadata.labels or {})
    for claim in await _all(client, CLAIMS, Claim):
        nodes.storage.claims[claim.key] = claim
    for volume in await _all(client, VOLUMES, Volume):
        nodes.storage.volumes[volume.metadata.name] = volume
    for made in await _all(client, CLASSES, Class):
        nodes.storage.classes[made.metadata.name] = made
    for kind, resource in SELECTING.items():
        for obj in await _all(client, resource, Selecting):
            nodes.workloads.put(kind, obj)
    rehearsal.budgets = await _all(client, BUDGETS, Budget)
    rehearsal.load(await _all(client, NODES, Node), await _all(client, PODS, Pod))
    return rehearsal


def rehearse_claims(rehearsal: Rehearsal, namespace: str, documents: list[dict[str, Any]]) -> None:
    """PersistentVolumeClaims of the manifests themselves, and those that their StatefulSets would make."""
    for document in documents:
        meta, spec = document.get("metadata") or {}, document.get("spec") or {}
        where = meta.get("namespace") or namespace
        if document.get("kind") == "PersistentVolumeClaim":
            _claim(rehearsal, where, meta["name"], document)
        if document.get("kind") == "StatefulSet":
            for template in spec.get("volumeClaimTemplates") or ():
                for n in range(int(spec.get("replicas", 1))):
                    _claim(rehearsal, where, f"{template['metadata']['name']}-{meta['name']}-{n}", template)


def _claim(rehearsal: Rehearsal, namespace: str, name: str, claim: dict[str, Any]) -> None:
    made = msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": claim.get("spec") or {}}, Claim)
    rehearsal.nodes.storage.claims.setdefault(made.key, made)


# --- devices ---------------------------------------------------------------------------------------------------------


async def rehearse_devices(client: Client, rehearsal: Rehearsal, pod: Pod, documents: list[Document]) -> None:
    """Everything that the pod's resource claims need; claims are made from templates as the controller would."""
    devices, namespace = rehearsal.nodes.devices, pod.metadata.namespace
    if not devices.synced:
        devices.synced = True
        for rule in await _all(client, DEVICETAINTRULES, TaintRule):
            devices.put_rule(rule.metadata.name, rule)
        for piece in await _all(client, RESOURCESLICES, Slice):
            devices.put_slice(piece.metadata.name, piece)
        for found in await _all(client, DEVICECLASSES, DeviceClass):
            devices.put_class(found.metadata.name, found)
        for claim in await _all(client, RESOURCECLAIMS, DeviceClaim):
            devices.put_claim(claim)
    named = []
    for entry in pod.spec.resourceClaims or ():
        name = entry.resourceClaimName or f"{pod.metadata.name}-{entry.name}-"
        if (namespace, name) not in devices.claims:
            if entry.resourceClaimName:
                spec = (_document(documents, RESOURCECLAIMS, namespace, name) or {}).get("spec")
            else:
                spec = await _template(client, documents, namespace, entry.resourceClaimTemplateName or "")
            if spec is not None:
                meta = {"name": name, "namespace": namespace}
                text = msgspec.json.encode({"metadata": meta, "spec": spec})
                devices.put_claim(msgspec.json.decode(text, type=DeviceClaim))
        if not entry.resourceClaimName and (namespace, name) in devices.claims:
            named.append(ClaimName(entry.name, name))
    pod.status.resourceClaimStatuses = named


async def _template(client: Client, documents: list[Document], namespace: str, name: str) -> Any:
    """The spec of the claims that a template makes; None when there is no such template."""
    found = _document(documents, TEMPLATES, namespace, name) or await _get(client, TEMPLATES, namespace, name)
    return (found.get("spec") or {}).get("spec") if found is not None else None


# --- gangs -----------------------------------------------------------------------------------------------------------


async def least_of(client: Client, key: str, documents: list[Document]) -> int:
    """How many pods of the group (podgroups.group_of) must be placed together; -1 when it does not exist."""
    group, _, where = key.partition(":")
    namespace, _, name = where.partition("/")
    resource = RESOURCES[group]
    found = _document(documents, resource, namespace, name) or await _get(client, resource, namespace, name)
    if found is None:
        return 0 if resource is COSCHEDULING else -1  # a label alone means nothing
    found = {**found, "metadata": {"name": name, "namespace": namespace}}
    return policy_of(key, msgspec.convert(found, PodGroup)).least


def _document(documents: list[Document], resource: Resource, namespace: str, name: str) -> Document | None:
    for document in documents:
        meta = document.get("metadata") or {}
        kind = document.get("apiVersion"), document.get("kind")
        where = meta.get("namespace") or namespace, meta.get("name")
        if kind == (resource.api_version, resource.kind) and where == (namespace, name):
            return document
    return None


async def _get(client: Client, resource: Resource, namespace: str, name: str) -> Document | None:
    try:
        return dict(await client.get(resource, name, namespace))
    except ApiError as error:
        if error.code != 404:
            raise
        return None


async def _all(client: Client, resource: Resource, kind: type[T]) -> list[T]:
    listed = await client.list(resource, type=_Items)
    return [msgspec.json.decode(raw, type=kind) for raw in listed.items or ()]
