"""DynamicResources: a pod goes where its resource claims are allocated, or can be.

An allocated claim ties the pod to the nodes of its allocation; the others need free devices there, all claims of the pod
together. What was found is carried out before the pod is bound (devicebinder.py).
"""

from __future__ import annotations

import numpy as np

from jota.scheduler.devices import Devices, Key
from jota.scheduler.deviceview import MOST_CONSUMERS, Claim, demand_of
from jota.scheduler.nodeselector import selector_mask
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot

_ELSEWHERE = "resourceclaim not available on the node"


class DynamicResources:
    name = "DynamicResources"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        if not shape.devices:
            return None
        if fault(nodes.devices, shape):
            return np.zeros(nodes.size, np.bool_)
        passed = self._at_hand(nodes, shape)
        if open_ := unallocated(nodes.devices, shape):
            verdicts = nodes.devices.verdicts(nodes, open_)
            passed &= np.fromiter((not v for v in verdicts), np.bool_, nodes.size)
        return passed

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        return bool(shape.devices)

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """Upstream's words, and behind a colon what is short."""
        if why := fault(nodes.devices, shape):
            return {why: int(refused.sum())}
        found: dict[str, int] = {}
        here = self._at_hand(nodes, shape)
        if count := int((refused & ~here).sum()):
            found[_ELSEWHERE] = count
        open_ = unallocated(nodes.devices, shape)
        verdicts = nodes.devices.verdicts(nodes, open_) if open_ else []
        for slot in np.flatnonzero(refused & here):
            reason = f"cannot allocate all claims: {verdicts[slot]}"
            found[reason] = found.get(reason, 0) + 1
        return found

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """Devices stay with their claims when pods go: preemption frees none."""
        mask = self.mask(nodes, shape)
        return None if mask is None else ~mask

    def _at_hand(self, nodes: Snapshot, shape: Shape) -> Mask:
        """Where every claim that is allocated can be used."""
        passed = np.ones(nodes.size, np.bool_)
        for key in claims_of(shape):
            allocation = nodes.devices.allocation_of(key)
            if allocation is not None and allocation.nodeSelector is not None:
                passed &= selector_mask(nodes, allocation.nodeSelector)
        return passed


def claims_of(shape: Shape) -> list[Key]:
    return [(shape.group.namespace, name) for _, name in shape.devices if name]


def unallocated(devices: Devices, shape: Shape) -> tuple[Key, ...]:
    return tuple(key for key in claims_of(shape) if devices.allocation_of(key) is None)


def fault(devices: Devices, shape: Shape) -> str:
    """Why the pod can be placed nowhere, whatever the nodes have; "" if nothing speaks against it."""
    for entry, name in shape.devices:
        if not name:
            return f'resourceclaim of the pod\'s entry "{entry}" is not created yet'
        claim = devices.claims.get((shape.group.namespace, name))
        if claim is None:
            return f'resourceclaim "{name}" not found'
        if why := _claim_fault(devices, claim):
            return f'resourceclaim "{name}" {why}'
    return ""


def _claim_fault(devices: Devices, claim: Claim) -> str:
    if claim.metadata.deletionTimestamp is not None:
        return "is being deleted"
    if len(claim.status.reservedFor or ()) >= MOST_CONSUMERS:
        return f"is in use by {MOST_CONSUMERS} pods, and no more can share it"
    if (allocation := devices.allocation_of(claim.key)) is not None:
        bad = devices.condemned(allocation)
        return f"holds device {bad}, which has a NoExecute taint that it does not tolerate" if bad else ""
    demand = demand_of(bytes(claim.spec))
    if demand.fault:
        return demand.fault
    for ways in demand.requests:
        missing = [w.device_class for w in ways if w.device_class not in devices.classes]
        if missing:
            return f'asks for device class "{missing[0]}", which does not exist'
    return ""
