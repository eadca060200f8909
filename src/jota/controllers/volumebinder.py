"""Claims meet volumes. In: claims, volumes, classes, nodes. Out: bindings, volumes made and reclaimed, both statuses.

Also the provisioner of the default class `local`: a volume is a directory under a node's data directory. The node makes the
directory when a pod mounts it; when the volume is reclaimed the node is asked, through the API's node proxy, to remove it.
Keys are "volume/<name>" and "claim/<namespace>/<name>". Decisions: volumebinder_plan.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jota.client.informer import key_of
from jota.client.transport import error_from
from jota.controllers import volumebinder_plan as rules
from jota.controllers.controller import CATCH_UP_SECONDS, Context, Controller, own
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.volumeprotection import PVS
from jota.kinds.storage.storageclass import default_of
from jota.meta.errors import ApiError
from jota.meta.quantity import value
from jota.meta.resource import NODES, Resource

Object = dict[str, Any]

CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
CLAIM, VOLUME = "claim/", "volume/"
UNBOUND_AGAIN = 15.0


class VolumeBinder(Controller):
    name: ClassVar[str] = "persistentvolume-binder"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.watch(PVCS, self._keys_of_claim)
        self.volumes = self.watch(PVS, self._keys_of_volume)
        self.classes = self.watch(CLASSES, self._undecided)
        self.nodes = self.watch(NODES)
        self.events = context.recorder("persistentvolume-controller")

    def _keys_of_claim(self, claim: Object) -> Iterable[str]:
        keys = [CLAIM + own(claim)[0]]
        if claim["spec"].get("volumeName"):
            keys.append(VOLUME + claim["spec"]["volumeName"])
        return keys

    def _undecided(self, _: Object) -> Iterable[str]:
        """A class came, or is the default now: for whom it might be."""
        return [CLAIM + own(c)[0] for c in self.claims.list() if rules.undecided(c)]

    def _keys_of_volume(self, volume: Object) -> Iterable[str]:
        keys = [VOLUME + volume["metadata"]["name"]]
        if holder := volume["spec"].get("claimRef"):
            keys.append(CLAIM + key_of(holder["namespace"], holder["name"]))
        else:
            # A free volume may be what some claim waits for.
            keys += [
                CLAIM + own(c)[0]
                for c in self.claims.list()
                if not c["spec"].get("volumeName") and rules.class_of(c) == rules.class_of(volume)
            ]
        return keys

    def all_keys(self) -> Iterable[str]:
        return [*(CLAIM + own(c)[0] for c in self.claims.list()), *(VOLUME + own(v)[0] for v in self.volumes.list())]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(VOLUME):
            volume = self.volumes.get(key.removeprefix(VOLUME))
            if volume is not None:
                await self._volume(key, volume)
            return None
        claim = self.claims.get(key.removeprefix(CLAIM))
        if claim is None or "deletionTimestamp" in claim["metadata"]:
            return None
        if claim["spec"].get("volumeName"):
            return await self._named(key, claim)
        return await self._unbound(key, claim)

    # -- claims

    async def _unbound(self, key: str, claim: Object) -> float | None:
        choice = rules.choose(claim, self.volumes.list(), self.classes.get(rules.class_of(claim)))
        if choice.volume is not None:
            await self._bind(key, claim, choice.volume)
            return None
        if choice.provision:
            return await self._provision(key, claim)
        if rules.undecided(claim) and (name := default_of(self.classes.list())):
            # It came before there was a default class (upstream's retroactive default).
            spec = {**claim["spec"], "storageClassName": name}
            self.wrote(key, self.claims, await self.client.update(PVCS, {**claim, "spec": spec}))
            return None
        self.events.event(claim, choice.type, choice.reason, choice.message)
        found = self.classes.get(rules.class_of(claim))
        if choice.reason == "ExternalProvisioning" and found is not None:
            await self._note(key, claim, {rules.PROVISIONER: found["provisioner"]})
        return UNBOUND_AGAIN

    async def _named(self, key: str, claim: Object) -> float | None:
        """A claim that names its volume: bound before, or by hand."""
        volume = self.volumes.get(claim["spec"]["volumeName"])
        status = claim.get("status") or {}
        if volume is None:
            if status.get("phase") == "Bound" and await self._gone(claim["spec"]["volumeName"]):
                text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                self.events.event(claim, "Warning", "ClaimLost", text)
                await self._claim_status(key, claim, {**status, "phase": "Lost"})
            return UNBOUND_AGAIN
        bound = rules.notes(claim).get(rules.BIND_COMPLETED) == "yes"
        if volume["spec"].get("claimRef") and not rules.holds(volume, claim):
            if bound and status.get("phase") != "Lost":
                text = "Two claims are bound to the same volume, this one is bound incorrectly"
                self.events.event(claim, "Warning", "ClaimMisbound", text)
                await self._claim_status(key, claim, {**status, "phase": "Lost"})
            if bound:
                return UNBOUND_AGAIN
            text = f'volume "{volume["metadata"]["name"]}" already bound to a different claim.'
            self.events.event(claim, "Warning", "FailedBinding", text)
            return UNBOUND_AGAIN
        if not bound and not volume["spec"].get("claimRef") and (why := rules.mismatch(volume, claim)):
            text = f'Cannot bind to requested volume "{volume["metadata"]["name"]}": {why}'
            self.events.event(claim, "Warning", "VolumeMismatch", text)
            return UNBOUND_AGAIN
        await self._bind(key, claim, await self._grown(key, claim, volume))
        return None

    async def _grown(self, key: str, claim: Object, volume: Object) -> Object:
        """A directory has no size of its own: asking for more is granted."""
        wanted = rules.asked(claim)
        ours = rules.notes(volume).get(rules.PROVISIONED_BY) == rules.LOCAL
        found = self.classes.get(rules.class_of(claim)) or {}
        if rules.size(volume) >= value(wanted) or not found.get("allowVolumeExpansion"):
            return volume
        if not ours:
            text = "waiting for an external controller to expand this PVC"
            self.events.event(claim, "Normal", "ExternalExpanding", text)
            return volume
        spec = {**volume["spec"], "capacity": {"storage": wanted}}
        written = await self.client.update(PVS, {**volume, "spec": spec})
        self.wrote(key, self.volumes, written)
        self.events.event(claim, "Normal", "VolumeResizeSuccessful", f"Resize volume succeeded: {wanted}")
        return written

    async def _bind(self, key: str, claim: Object, volume: Object) -> None:
        """Both sides, in upstream's order: the volume is taken first, so that no two claims get it."""
        volume = await self._take(key, claim, volume)
        meta, by = claim["metadata"], rules.notes(claim)
        if not claim["spec"].get("volumeName") or by.get(rules.BIND_COMPLETED) != "yes":
            added = {rules.BIND_COMPLETED: "yes"}
            if not claim["spec"].get("volumeName"):
                added[rules.BOUND_BY] = "yes"
            changed = {**claim, "metadata": {**meta, "annotations": {**by, **added}}}
            changed["spec"] = {**claim["spec"], "volumeName": volume["metadata"]["name"]}
            claim = await self.client.update(PVCS, changed)
            self.wrote(key, self.claims, claim)
        await self._claim_status(key, claim, rules.bound_status(claim, volume))

    async def _take(self, key: str, claim: Object, volume: Object) -> Object:
        holder = volume["spec"].get("claimRef") or {}
        if holder.get("uid") != claim["metadata"]["uid"]:
            added = {} if holder else {rules.BOUND_BY: "yes"}
            meta = {**volume["metadata"], "annotations": {**rules.notes(volume), **added}}
            spec = {**volume["spec"], "claimRef": rules.reference(claim)}
            volume = await self.client.update(PVS, {**volume, "metadata": meta, "spec": spec})
            self.wrote(key, self.volumes, volume)
        return await self._volume_phase(key, volume, "Bound")

    async def _claim_status(self, key: str, claim: Object, status: Object) -> None:
        if status != claim.get("status"):
            self.wrote(key, self.claims, await self.client.update(PVCS, {**claim, "status": status}, "status"))

    async def _note(self, key: str, claim: Object, wanted: dict[str, str]) -> None:
        if all(rules.notes(claim).get(k) == v for k, v in wanted.items()):
            return
        meta = claim["metadata"]
        patch = {"metadata": {"uid": meta["uid"], "annotations": wanted}}
        self.wrote(key, self.claims, await self.client.patch(PVCS, meta["name"], meta["namespace"], patch))

    async def _gone(self, volume: str) -> bool:
        try:
            await self.client.get(PVS, volume)
        except ApiError as e:
            if e.code == 404:
                return True
            raise
        return False

    # -- making and reclaiming

    async def _provision(self, key: str, claim: Object) -> float | None:
        found = self.classes.get(rules.class_of(claim))
        assert found is not None
        name = rules.notes(claim).get(rules.SELECTED_NODE)
        able = [n for n in self.nodes.list() if rules.LOCAL_ROOT in rules.notes(n)]
        node = next((n for n in able if name in (None, n["metadata"]["name"])), None)
        if node is None and name is not None:
            return await self._choose_again(key, claim, name)
        if node is None or claim["spec"].get("volumeMode") == "Block":
            text = "local volumes have no block mode" if node else "no node keeps local volumes"
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
            return UNBOUND_AGAIN
        try:
            volume = await self.client.create(PVS, rules.local_volume(claim, found, node))
        except ApiError as e:
            if e.code != 409 or e.reason != "AlreadyExists":
                raise
            volume = await self.client.get(PVS, f"pvc-{claim['metadata']['uid']}")
        self.wrote(key, self.volumes, volume)
        text = f"Successfully provisioned volume {volume['metadata']['name']}"
        self.events.event(claim, "Normal", "ProvisioningSucceeded", text)
        await self._bind(key, claim, volume)
        return None

    async def _choose_again(self, key: str, claim: Object, node: str) -> float:
        """The node that the scheduler chose is gone, or can make no volume: the scheduler is asked for another one.

        Upstream's provisioners do the same; without it the claim, and its pod, would wait for that node for ever.
        """
        try:
            found = await self.client.get(NODES, node)
        except ApiError as e:
            if e.code != 404:
                raise
            found = None
        if found is not None and rules.LOCAL_ROOT in rules.notes(found):
            return CATCH_UP_SECONDS  # our cache does not show it yet
        text = f"node {node} keeps no local volumes" if found else f"node {node} is gone"
        self.events.event(claim, "Warning", "ProvisioningFailed", text)
        meta = claim["metadata"]
        notes = {"uid": meta["uid"], "annotations": {rules.SELECTED_NODE: None}}
        written = await self.client.patch(PVCS, meta["name"], meta["namespace"], {"metadata": notes})
        self.wrote(key, self.claims, written)
        return UNBOUND_AGAIN

    async def _volume(self, key: str, volume: Object) -> None:
        holder = volume["spec"].get("claimRef")
        if not holder or not holder.get("uid"):
            await self._volume_phase(key, volume, "Available")
            return
        claim = await self._holder(holder)
        if claim is not None:
            if claim["spec"].get("volumeName") == volume["metadata"]["name"]:
                await self._volume_phase(key, volume, "Bound")
            else:
                self.queue.add(CLAIM + own(claim)[0])
            return
        verdict = rules.reclaim(volume)
        if verdict.fault:
            if (volume.get("status") or {}).get("phase") != "Failed":
                self.events.event(volume, "Warning", verdict.reason, verdict.fault)
            await self._volume_phase(key, volume, "Failed", verdict.fault)
            return
        volume = await self._volume_phase(key, volume, "Released")
        if verdict.delete:
            await self._reclaim(volume)

    async def _holder(self, holder: Object) -> Object | None:
        """The claim that a volume is bound to; asked of the API itself before the volume is given up."""
        found = self.claims.get(key_of(holder["namespace"], holder["name"]))
        if found is None or found["metadata"]["uid"] != holder["uid"]:
            try:
                found = await self.client.get(PVCS, holder["name"], holder["namespace"])
            except ApiError as e:
                if e.code != 404:
                    raise
                return None
        return found if found["metadata"]["uid"] == holder["uid"] else None

    async def _volume_phase(self, key: str, volume: Object, phase: str, message: str = "") -> Object:
        status = volume.get("status") or {}
        if (status.get("phase"), status.get("message", "")) == (phase, message):
            return volume
        kept = {k: v for k, v in status.items() if k != "message"}
        changed = {**volume, "status": {**kept, "phase": phase, **({"message": message} if message else {})}}
        written = await self.client.update(PVS, changed, "status")
        self.wrote(key, self.volumes, written)
        return written

    async def _reclaim(self, volume: Object) -> None:
        """Remove the directory, then the object. Raises ApiError (look again)."""
        name, host = volume["metadata"]["name"], rules.node_of(volume)
        node = next(
            (
                n["metadata"]["name"]
                for n in self.nodes.list()
                if (n["metadata"].get("labels") or {}).get("kubernetes.io/hostname", n["metadata"]["name"]) == host
                and rules.HOLLOW not in (n["metadata"].get("labels") or {})  # simulated: there is no directory
            ),
            "",
        )
        if node:  # with its node gone, the directory is gone too
            response = await self.client.raw("DELETE", NODES.path(name=node) + f"/proxy/localVolumes/{name}")
            if response.status not in (200, 404):
                body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
                problem = error_from(response.status, body)
                self.events.event(volume, "Warning", "VolumeFailedDelete", str(problem))
                raise problem
        try:
            await self.client.delete(PVS, name, uid=volume["metadata"]["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise
