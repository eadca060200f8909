"""For `jota plan`: read the cluster's state into a Rehearsal; claims that manifests would make are added to the copy."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from jota.client.client import Client
from jota.meta.resource import NAMESPACES, NODES, PODS, Resource
from jota.scheduler.feed import Namespace
from jota.scheduler.pod import Pod
from jota.scheduler.preemption import Budget
from jota.scheduler.rehearsal import Rehearsal
from jota.scheduler.resources import BUDGETS, CLAIMS, CLASSES, SELECTING, VOLUMES
from jota.scheduler.snapshot import Node
from jota.scheduler.storage import Claim, Class, Volume
from jota.scheduler.workloads import Selecting

T = TypeVar("T")


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


async def _all(client: Client, resource: Resource, kind: type[T]) -> list[T]:
    listed = await client.list(resource, type=_Items)
    return [msgspec.json.decode(raw, type=kind) for raw in listed.items or ()]
