"""Attach and detach: VolumeAttachments for CSI volumes. In: pods, claims, volumes, nodes. Out: VolumeAttachments, which the
drivers' sidecars act on, node.status.volumesAttached, and events of pods that wait.

One key is one volume; attachdetach_plan.py decides. Only attachments of the name that follows from volume, driver and node
are this controller's; those that others made by hand are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jota.client.informer import key_of
from jota.client.pods import FINISHED, PLACED, TEMPLATE
from jota.controllers.attachdetach_plan import Plan, Volume, fact_of, multi_attach, plan, volume_of
from jota.controllers.controller import Context, Controller, own
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.views import Pod
from jota.controllers.volumeprotection import PVS
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS, Resource

Object = dict[str, Any]

ATTACHMENTS = Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", False)
DRIVERS = Resource("storage.k8s.io", "v1", "csidrivers", "CSIDriver", False)


class AttachDetachController(Controller):
    name: ClassVar[str] = "attach-detach"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.volumes = self.watch(PVS, own)
        self.claims = self.watch(PVCS, _volume_of_claim)
        self.attachments = self.watch(ATTACHMENTS, _volume_of_attachment)
        self.drivers = self.watch(DRIVERS, lambda _: self.all_keys())
        self.nodes = self.watch(NODES, self._on_node, when=_node_moved)
        self.pods = self.watch(PODS, self._volumes_of_pod, on=PLACED | FINISHED, of=lambda pod: pod.claims, type=Pod)
        self.pods.add_index("claim", lambda pod: pod.claims, on=TEMPLATE)
        self.attachments.add_index("node", lambda a: [a["spec"]["nodeName"]])
        self.attachments.add_index("volume", _volume_of_attachment)
        self.events = context.recorder("attachdetach-controller")
        self._unwanted: dict[str, dict[str, float]] = {}
        """Volume -> node -> since when no pod there needs it (monotonic)."""
        self._leaving: set[tuple[str, str]] = set()
        """(volume, node) that are about to be detached: no longer reported as attached."""
        self._told: dict[tuple[str, str], dict[str, str]] = {}
        """(volume, node) -> pod uid -> the last event's text."""

    # -- keys

    def all_keys(self) -> Iterable[str]:
        named = {name for a in self.attachments.list() for name in _volume_of_attachment(a)}
        return named | {v["metadata"]["name"] for v in self.volumes.list() if v["spec"].get("csi")}

    def _volumes_of_pod(self, pod: Pod) -> Iterable[str]:
        claims = (self.claims.get(key) for key in pod.claims)
        return [name for claim in claims if claim is not None for name in _volume_of_claim(claim)]

    def _on_node(self, node: Object) -> Iterable[str]:
        here = self.attachments.by_index("node", node["metadata"]["name"])
        return [name for a in here for name in _volume_of_attachment(a)]

    # -- one volume

    async def reconcile(self, key: str) -> float | None:
        pv = self.volumes.get(key)
        volume = volume_of(pv) if pv is not None else None
        if pv is None or volume is None or not self._attaches(volume):
            await self._abandoned(key)
            return None
        mine = {
            a["spec"]["nodeName"]: a
            for a in self.attachments.by_index("volume", key)
            if a["metadata"]["name"] == volume.attachment(a["spec"]["nodeName"])
        }
        users = self._users(pv)
        attached = {node: "deletionTimestamp" in a["metadata"] for node, a in mine.items()}
        facts = {n: fact_of(self.nodes.get(n), volume) for n in {*attached, *users}}
        decided = plan(volume, list(users), attached, facts, self._waited(key, attached, users), self.clock.monotonic())
        for node in decided.attach:
            await self._attach(key, volume, node)
        for node in decided.detach:
            await self._detach(key, volume, mine[node])
        for node, found in mine.items():
            await self._observe(volume, found, users.get(node, []))
        self._tell_blocked(volume, decided, users)
        for gone in {n for v, n in self._leaving if v == key} - set(mine):
            self._leaving.discard((key, gone))
        return decided.again

    def _attaches(self, volume: Volume) -> bool:
        """Whether the driver wants attachments; one that is not described does (upstream)."""
        driver = self.drivers.get(volume.driver)
        return driver is None or driver["spec"].get("attachRequired") is not False

    def _users(self, pv: Object) -> dict[str, list[Pod]]:
        """Node -> the pods there that need the volume, the oldest node first."""
        holder = pv["spec"].get("claimRef") or {}
        claim = self.claims.get(key_of(holder.get("namespace", ""), holder.get("name", "")))
        if claim is None or claim["spec"].get("volumeName") != pv["metadata"]["name"]:
            return {}
        pods = self.pods.by_index("claim", key_of(holder["namespace"], holder["name"]))
        out: dict[str, list[Pod]] = {}
        for pod in sorted(pods, key=lambda p: (p.status.startTime or "~", p.created, p.key)):
            if pod.spec.nodeName and not pod.finished:
                out.setdefault(pod.spec.nodeName, []).append(pod)
        return out

    def _waited(self, key: str, attached: Iterable[str], users: dict[str, list[Pod]]) -> dict[str, float]:
        before, now = self._unwanted.get(key, {}), self.clock.monotonic()
        self._unwanted[key] = {n: before.get(n, now) for n in attached if n not in users}
        if not self._unwanted[key]:
            del self._unwanted[key]
        return self._unwanted.get(key, {})

    async def _abandoned(self, key: str) -> None:
        """The volume is gone or needs no attaching any more: what the controller attached for it goes too."""
        self._unwanted.pop(key, None)
        for found in list(self.attachments.by_index("volume", key)):
            meta = found["metadata"]
            ours = meta["name"].startswith("csi-") and len(meta["name"]) == 68
            if ours and "deletionTimestamp" not in meta:
                await self._delete(key, found)

    # -- acting

    async def _attach(self, key: str, volume: Volume, node: str) -> None:
        self._leaving.discard((key, node))
        wanted = {
            "apiVersion": ATTACHMENTS.api_version,
            "kind": ATTACHMENTS.kind,
            "metadata": {"name": volume.attachment(node)},
            "spec": {
                "attacher": volume.driver,
                "nodeName": node,
                "source": {"persistentVolumeName": volume.name},
            },
        }
        try:
            self.wrote(key, self.attachments, await self.client.create(ATTACHMENTS, wanted))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _detach(self, key: str, volume: Volume, found: Object) -> None:
        """First the node learns that it no longer has the volume, then the driver is told to take it."""
        node = found["spec"]["nodeName"]
        self._leaving.add((key, node))
        await self._report(key, node)
        await self._delete(key, found)

    async def _delete(self, key: str, found: Object) -> None:
        meta = found["metadata"]
        try:
            await self.client.delete(ATTACHMENTS, meta["name"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        self._told.pop((key, found["spec"]["nodeName"]), None)

    async def _observe(self, volume: Volume, found: Object, pods: list[Pod]) -> None:
        """What the driver says of an attachment: in the node's status, and in events of the pods."""
        node, status = found["spec"]["nodeName"], found.get("status") or {}
        await self._report(volume.name, node)
        if status.get("attached"):
            text = f'AttachVolume.Attach succeeded for volume "{volume.name}" '
            self._event(volume.name, node, pods, "Normal", "SuccessfulAttachVolume", text)
        elif error := (status.get("attachError") or {}).get("message"):
            text = f'AttachVolume.Attach failed for volume "{volume.name}" : {error}'
            self._event(volume.name, node, pods, "Warning", "FailedAttachVolume", text)

    async def _report(self, key: str, name: str) -> None:
        """Bring the node's volumesAttached up to date."""
        node = self.nodes.get(name)
        if node is None:
            return
        wanted = sorted(self._attached_to(name))
        have = [v["name"] for v in (node.get("status") or {}).get("volumesAttached") or ()]
        if wanted == have:
            return
        listed = [{"name": v, "devicePath": ""} for v in wanted]
        patch = {"metadata": {"uid": node["metadata"]["uid"]}, "status": {"volumesAttached": listed or None}}
        self.wrote(key, self.nodes, await self.client.patch(NODES, name, "", patch, subresource="status"))

    def _attached_to(self, node: str) -> Iterable[str]:
        for found in self.attachments.by_index("node", node):
            for name in _volume_of_attachment(found):
                pv = self.volumes.get(name)
                volume = volume_of(pv) if pv is not None else None
                attached = (found.get("status") or {}).get("attached") and "deletionTimestamp" not in found["metadata"]
                if volume is not None and attached and (name, node) not in self._leaving:
                    yield volume.unique

    # -- telling

    def _tell_blocked(self, volume: Volume, decided: Plan, users: dict[str, list[Pod]]) -> None:
        for node, holders in decided.blocked.items():
            there = [(p.metadata.namespace, p.metadata.name) for h in holders for p in users.get(h, [])]
            # The pods of one claim are of one namespace.
            pods = users[node]
            text = multi_attach(volume, pods[0].metadata.namespace, there)
            self._event(volume.name, node, pods, "Warning", "FailedAttachVolume", text)

    def _event(self, key: str, node: str, pods: list[Pod], kind: str, reason: str, text: str) -> None:
        before = self._told.get((key, node), {})
        uids = {pod.metadata.uid for pod in pods}
        self._told[key, node] = {uid: said for uid, said in before.items() if uid in uids} | dict.fromkeys(uids, text)
        for pod in pods:
            if before.get(pod.metadata.uid) != text:
                self.events.event(pod.reference(), kind, reason, text)


def _volume_of_claim(claim: Object) -> Iterable[str]:
    name = claim["spec"].get("volumeName")
    return [name] if name else []


def _volume_of_attachment(found: Object) -> list[str]:
    name = (found["spec"].get("source") or {}).get("persistentVolumeName")
    return [name] if name else []


def _node_moved(old: Object | None, new: Object | None) -> bool:
    """Heartbeats do not count."""
    return old is None or new is None or _told_of(old) != _told_of(new)


def _told_of(node: Object) -> tuple[Any, ...]:
    status = node.get("status") or {}
    ready = [c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"]
    return status.get("volumesInUse"), status.get("volumesAttached"), ready, (node.get("spec") or {}).get("taints")
