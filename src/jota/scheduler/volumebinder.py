"""Carry out what VolumeBinding found: give waiting claims a volume, or a node to make one on, and wait until they are bound.

reserve (at the decision, no I/O) -> bind (API writes, then waits) -> the pod is bound; or release, and the pod is tried anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.scheduler.nodeselector import term_fits
from jota.scheduler.plugins.volume_zone import ZONE_KEYS
from jota.scheduler.pod import Shape
from jota.scheduler.queue import Waiting
from jota.scheduler.resources import CLAIMS, VOLUMES
from jota.scheduler.snapshot import Snapshot
from jota.scheduler.storage import SELECTED_NODE, Claim, Volume

PATIENCE = 600.0
"""Seconds that volumes may take to be bound or made (upstream's bindTimeoutSeconds)."""
_CHECK = 0.1


class VolumesNotBound(Exception):
    """The pod's volumes did not become ready; it must be scheduled anew."""


class VolumeBinder:
    def __init__(self, client: Client, nodes: Snapshot, clock: Clock) -> None:
        self._client, self._nodes, self._clock = client, nodes, clock

    def bound(self, shape: Shape) -> bool:
        """Whether all claims have their volumes: then nothing is reserved, and nothing to be waited for."""
        storage, namespace = self._nodes.storage, shape.group.namespace
        claims = (storage.claims.get((namespace, name)) for name in shape.volumes.claims)
        return all(claim is not None and claim.bound for claim in claims)

    def alike(self, group: list[Waiting]) -> Iterator[list[Waiting]]:
        """Pods that differ in nothing but volumes, in order, in parts of which one decision serves each: those of one shape, and
        those of whose volumes nothing matters but how many they are of which driver."""
        first = group[0].shape
        if all(waiting.shape is first for waiting in group):
            yield group
            return
        claims = [name for waiting in group for name in set(waiting.shape.volumes.claims)]
        shared = len(set(claims)) < len(claims)
        for _, some in groupby(group, lambda waiting: waiting.shape if shared else self._counting(waiting.shape)):
            yield list(some)

    def _counting(self, shape: Shape) -> object:
        """The same for shapes of one kin of whose volumes no plugin asks more than this; else the shape."""
        storage, namespace, drivers = self._nodes.storage, shape.group.namespace, []
        if shape.volumes.exclusive or shape.devices:
            return shape
        for name in shape.volumes.claims:
            claim = storage.claims.get((namespace, name))
            if (
                claim is None
                or not claim.bound
                or claim.metadata.deletionTimestamp
                or (namespace, name) in self._nodes.claims
            ):
                return shape
            volume = storage.volumes.get(claim.spec.volumeName)
            if volume is None or volume.spec.nodeAffinity or "ReadWriteOncePod" in (claim.spec.accessModes or ()):
                return shape
            if any(key in ZONE_KEYS for key in volume.metadata.labels or ()):
                return shape
            drivers.append(volume.spec.driver)
        return tuple(sorted(drivers))

    def reserve(self, shape: Shape, slot: int) -> None:
        """Assume a volume, or the node, for each claim that waits."""
        storage, node = self._nodes.storage, self._nodes.names[slot]
        for claim in self._waiting(shape):
            if storage.selected_node(claim):
                continue
            volume = next((v for v in storage.candidates(claim) if _reaches(self._nodes, v, slot)), None)
            if volume is not None:
                storage.chosen_volumes[volume.metadata.name] = claim.key
            else:
                storage.chosen_nodes[claim.key] = node

    def release(self, shape: Shape) -> None:
        storage = self._nodes.storage
        for name in shape.volumes.claims:
            key = (shape.group.namespace, name)
            storage.chosen_nodes.pop(key, None)
            for volume in [v for v, holder in storage.chosen_volumes.items() if holder == key]:
                del storage.chosen_volumes[volume]

    async def bind(self, shape: Shape, node: str) -> None:
        """Raises VolumesNotBound, ApiError, ConnectionError, TimeoutError."""
        storage = self._nodes.storage
        for claim in self._waiting(shape):
            volume = next((v for v, holder in storage.chosen_volumes.items() if holder == claim.key), "")
            if volume:
                await self._give(volume, claim)
            elif (claim.metadata.annotations or {}).get(SELECTED_NODE) != node:
                patch = {"metadata": {"uid": claim.metadata.uid, "annotations": {SELECTED_NODE: node}}}
                await self._client.patch(CLAIMS, claim.metadata.name, claim.metadata.namespace, patch)
        await self._until(lambda: self._all_bound(shape), shape, node)

    async def _give(self, volume: str, claim: Claim) -> None:
        meta = claim.metadata
        holder = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        }
        patch = {
            "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"claimRef": holder},
        }
        await self._client.patch(VOLUMES, volume, "", patch)

    async def _until(self, done: Callable[[], bool], shape: Shape, node: str) -> None:
        begin = self._clock.monotonic()
        seen: set[tuple[str, str]] = set()
        while not done():
            if self._clock.monotonic() - begin > PATIENCE:
                raise VolumesNotBound(f"binding volumes took longer than {PATIENCE:.0f} s")
            if node not in self._nodes.slots:
                raise VolumesNotBound(f"node {node} is gone")
            for claim in self._waiting(shape):
                # A provisioner that cannot make the volume there takes the annotation away: choose another node.
                chosen = (claim.metadata.annotations or {}).get(SELECTED_NODE)
                if chosen == node:
                    seen.add(claim.key)
                elif claim.key in seen:
                    raise VolumesNotBound(f"provisioning of claim {claim.metadata.name} failed on node {node}")
            await self._clock.sleep(_CHECK)

    def _waiting(self, shape: Shape) -> list[Claim]:
        storage = self._nodes.storage
        claims = (storage.claims.get((shape.group.namespace, n)) for n in shape.volumes.claims)
        return [c for c in claims if c is not None and not c.spec.volumeName]

    def _all_bound(self, shape: Shape) -> bool:
        storage = self._nodes.storage
        claims = [storage.claims.get((shape.group.namespace, n)) for n in shape.volumes.claims]
        if any(c is None for c in claims):
            raise VolumesNotBound("a claim was deleted")
        return all(c is not None and c.bound for c in claims)


def _reaches(nodes: Snapshot, volume: Volume, slot: int) -> bool:
    """For one node what `reachable` says for all."""
    required, node = (volume.spec.nodeAffinity or {}).get("required"), nodes.facts[slot]
    if not required or node is None:
        return node is not None
    labels = node.metadata.labels or {}
    return any(term_fits(node.metadata.name, labels, t) for t in required.get("nodeSelectorTerms") or ())
