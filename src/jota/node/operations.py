"""Do: carry out the planner's actions for one pod. Each is idempotent, or is undone when it fails half-way.

In: an Action. Out: the runtime, the network and the volumes changed, and the outcome noted in the worker's facts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

from jota.meta.errors import ApiError
from jota.meta.resource import PODS, SECRETS, Resource
from jota.net.protocol import HostPort
from jota.node import claims, env, hooks, resizing, start
from jota.node.env import ConfigError
from jota.node.fields import Place, UnknownField
from jota.node.images import Auth, PullFailed, credentials_from
from jota.node.model import ImageFact, Object, Part, parts
from jota.node.plan import (
    Action,
    AttachNetwork,
    EnsureImage,
    KillContainer,
    MakeSandbox,
    MountVolumes,
    RemoveContainer,
    RemovePod,
    Resize,
    RunPostStart,
    StartContainer,
    StopSandbox,
    TearDown,
)
from jota.node.volumes import keeper
from jota.node.volumes.persistent import VOLUMES
from jota.node.volumes.volume import Context, Mounted, VolumeFault
from jota.runtime.protocol import Image, RuntimeFault, Sandbox

if TYPE_CHECKING:
    from jota.node.worker import PodWorker

log = logging.getLogger(__name__)

FLUSH_DEADLINE = 5.0
"""Seconds that a pod's last status may take before the pod is removed without it."""


def keys_of(action: Action) -> str:
    """The name of the operation in `facts.busy`: what it works on, so that nothing else does meanwhile."""
    match action:
        case MountVolumes():
            return "volumes"
        case MakeSandbox() | AttachNetwork():
            return "sandbox"
        case StopSandbox():
            return f"box:{action.id}"
        case EnsureImage():
            return f"image:{action.name}"
        case StartContainer():
            return f"start:{action.name}"
        case RunPostStart():
            return f"hook:{action.name}"
        case KillContainer():
            return f"kill:{action.name}"
        case Resize():
            return "resize"
        case RemoveContainer():
            return f"gc:{action.name}"
        case TearDown():
            return "teardown"
        case RemovePod():
            return "remove"


class Operations:
    """The doing half of a PodWorker."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker, self.kit = worker, worker.kit
        self.images: dict[str, Image] = {}
        self._volume_images: dict[str, str] = {}
        """Image ids by volume name."""
        self.mounted: dict[str, Mounted] = {}
        self.refresh_at = 0.0
        self._changes = 0
        """How often something that the pod refers to has changed."""
        self._wanted: set[tuple[Resource, str]] = set()
        self._hosts_ip = ""

    @property
    def pod(self) -> Object:
        """With the resources that are allocated to it."""
        return self.worker.allocated

    async def perform(self, action: Action) -> None:
        match action:
            case MountVolumes():
                await self.mount_volumes()
            case MakeSandbox():
                await self.make_sandbox(action.attempt)
            case AttachNetwork():
                await self._attach(action.sandbox)
            case StopSandbox():
                await self._stop_sandbox(action)
            case EnsureImage():
                await self.ensure_image(self._part(action.name), action.attempt)
            case StartContainer():
                await self.start_container(self._part(action.name), action.attempt, action.step)
            case RunPostStart():
                await self.post_start(self._part(action.name), action.id)
            case KillContainer():
                await self.kill_container(action)
            case Resize():
                await resizing.resize(self.worker)
            case RemoveContainer():
                await self.kit.runtime.remove_container(action.id)
            case TearDown():
                await self.tear_down()
            case RemovePod():
                await self.remove_pod()

    def surprised(self, key: str, error: Exception) -> None:
        """An operation failed in a way that it did not foresee: note it where the planner looks, so that it waits."""
        facts, worker = self.worker.facts, self.worker
        verb, _, name = key.partition(":")
        text = f"{type(error).__name__}: {error}"
        if verb in ("start", "gc", "kill"):
            facts.starts[name] = worker.fail("CreateContainerError", text, facts.starts.get(name))
        elif verb == "resize":
            resizing.failed(worker, text)
        elif verb == "hook":
            facts.hooked.update({c.id: text for c in worker.seen.of(name)[:1]})
        elif verb == "image":
            old = facts.images.get(name)
            failure = worker.fail("ErrImagePull", text, old.failure if old else None)
            facts.images[name] = ImageFact(
                old.attempt if old else 0, self._part(name).spec.get("image", ""), "", failure
            )
        elif verb == "volumes":
            facts.volumes_failure = worker.fail("FailedMount", text, facts.volumes_failure)
        elif verb == "sandbox":
            facts.sandbox_failure = worker.fail("FailedCreatePodSandBox", text, facts.sandbox_failure)
            worker.events.warning("FailedCreatePodSandBox", text)
        else:
            worker.events.warning("FailedKillPod", text)

    def _part(self, name: str) -> Part:
        return next(p for p in parts(self.pod) if p.name == name)

    # -- references

    def want_references(self) -> None:
        """Watch exactly the objects that the pod refers to now (an ephemeral container may add some, and mount more)."""
        facts = self.worker.facts
        if facts.volumes_ready and any(v["name"] not in self.mounted for v in keeper.used(self.pod)):
            facts.volumes_ready = False
        wanted = env.references(self.pod) | keeper.references(self.pod)
        if self.pod["spec"].get("resourceClaims"):
            wanted |= claims.references(self.pod)
        wanted |= {(SECRETS, s.get("name", "")) for s in self.pod["spec"].get("imagePullSecrets") or []}
        if wanted != self._wanted and not self.worker.facts.torn_down:
            self._wanted = wanted
            namespace = self.pod["metadata"]["namespace"]
            needed = [(resource, namespace, name) for resource, name in wanted if name]
            self.kit.references.want(self.worker.uid, needed, self.references_changed)

    def references_changed(self) -> None:
        """Something that the pod refers to changed: volumes show it, and what waited for it is tried at once."""
        self._changes += 1
        facts = self.worker.facts
        for failure in (*facts.starts.values(), facts.volumes_failure):
            if failure is not None:
                failure.retry_at = 0.0
        self.stale_volumes()
        self.worker.wake()

    def stale_volumes(self) -> None:
        """Mounted volumes are written again; those that are not mounted yet will be anyway."""
        self.refresh_at = 0.0
        if self.worker.facts.volumes_ready and self.mounted and not self.worker.facts.torn_down:
            self.worker.refresh()

    def lookup(self, resource: Resource, name: str) -> Object | None:
        return self.kit.references.get(resource, self.pod["metadata"]["namespace"], name)

    # -- set-up

    def context(self) -> Context:
        config, pod = self.kit.config, self.pod
        fs_group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        return Context(
            pod=pod,
            lookup=self.lookup,
            place=self.place(),
            tokens=self.kit.tokens,
            clock=self.kit.clock,
            directory=os.path.join(config.pod_dir(self.worker.uid), "volumes"),
            volatile=os.path.join(config.volatile_dir, self.worker.uid),
            fs_group=int(fs_group) if fs_group is not None else None,
            fs_user=keeper.fs_user(pod),
            volume=self.read_volume,
            image=self.volume_image,
            anchors=lambda source: self.kit.bundles.anchors(self.worker.uid, source, self.references_changed),
            credential=lambda volume, index, source: self.kit.certificates.credential(
                pod, volume, index, source, self.references_changed
            ),
        )

    async def volume_image(self, name: str, source: Object) -> str:
        """Asked for once: a volume stays what it was when it is mounted again. Raises VolumeFault."""
        if name not in self._volume_images:
            wanted = {"image": source.get("reference", ""), "imagePullPolicy": source.get("pullPolicy")}
            try:
                image = await self.kit.images.ensure(wanted, await self._credentials(), self.worker.events.tell)
            except PullFailed as e:
                raise VolumeFault(f"{e.reason}: {e.message}") from e
            self._volume_images[name] = image.id
        return self._volume_images[name]

    async def read_volume(self, name: str) -> Object:
        return await self.kit.client.get(VOLUMES, name)

    def place(self) -> Place:
        config = self.kit.config
        ip = config.address if self.pod["spec"].get("hostNetwork") else self.worker.seen.ip
        return Place(config.name, (config.address,), (ip,) if ip else (), self.kit.allocatable)

    async def mount_volumes(self) -> None:
        """Mount or refresh the pod's volumes."""
        facts, worker, changes = self.worker.facts, self.worker, self._changes
        try:
            await self.kit.references.ready(worker.uid)
            if self.pod["spec"].get("resourceClaims") and (bad := claims.problem(self.pod, self.lookup)):
                self._unprepared(bad)
                return
            ctx = self.context()
            os.makedirs(ctx.directory, mode=0o750, exist_ok=True)
            mounted = await keeper.mount_all(keeper.used(self.pod), ctx)
            keeper.check_modes(self.pod, mounted)
            self.mounted = mounted
        except (VolumeFault, TimeoutError, OSError) as e:
            facts.volumes_failure = worker.fail("FailedMount", str(e), facts.volumes_failure)
            worker.events.warning("FailedMount", str(e))
            self.refresh_at = facts.volumes_failure.retry_at
        else:
            self.refresh_at = ctx.refresh_at
            facts.volumes_ready, facts.volumes_failure = True, None
        if changes != self._changes:
            self.references_changed()  # while it was read: what was missing may be there, what was read may be old

    def _unprepared(self, why: str) -> None:
        """The pod's devices are not ready: it waits and says so, as the kubelet without the driver does."""
        facts, worker = self.worker.facts, self.worker
        text = f"Failed to prepare dynamic resources: {why}"
        facts.volumes_failure = worker.fail("FailedPrepareDynamicResources", text, facts.volumes_failure)
        worker.events.warning("FailedPrepareDynamicResources", text)
        self.refresh_at = facts.volumes_failure.retry_at

    async def make_sandbox(self, attempt: int) -> None:
        facts, worker = self.worker.facts, self.worker
        async with self.kit.starts:
            try:
                box = await self.kit.runtime.run_sandbox(start.sandbox_spec(self.pod, attempt, self.kit.config))
            except (RuntimeFault, OSError) as e:
                self._sandbox_failed(str(e))
                return
            await self._attach(box)
        if facts.sandbox_failure is None:
            worker.wake()

    async def _attach(self, box: Sandbox) -> None:
        facts, pod = self.worker.facts, self.pod
        try:
            if not box.spec.host_network:
                await self.kit.network.attach(self.worker.uid, box.netns, host_ports(pod))
        except Exception as e:  # whatever a network says: it is told, the sandbox goes, and a new one is tried
            self._sandbox_failed(f"failed to set up the pod's network: {e}")
            await self.kit.runtime.stop_sandbox(box.id)
            return
        facts.sandbox_failure = None

    def _sandbox_failed(self, text: str) -> None:
        facts = self.worker.facts
        message = f"Failed to create pod sandbox: {text}"
        facts.sandbox_failure = self.worker.fail("FailedCreatePodSandBox", message, facts.sandbox_failure)
        self.worker.events.warning("FailedCreatePodSandBox", message)

    async def _stop_sandbox(self, action: StopSandbox) -> None:
        await self.kit.runtime.stop_sandbox(action.id)
        if action.remove:
            for c in self.worker.seen.containers:
                if c.sandbox_id == action.id:
                    await self.kit.runtime.remove_container(c.id)
            await self.kit.runtime.remove_sandbox(action.id)

    async def ensure_image(self, p: Part, attempt: int) -> None:
        facts, reference = self.worker.facts, p.spec.get("image", "")
        before = facts.images.get(p.name)
        try:
            tell = self.worker.events.tell
            image = await self.kit.images.ensure(
                p.spec, await self._credentials(), lambda kind, reason, text: tell(kind, reason, text, p.name)
            )
        except PullFailed as e:
            previous = before.failure if before and before.reference == reference else None
            failure = self.worker.fail(e.reason, e.message, previous)
            facts.images[p.name] = ImageFact(attempt, reference, "", failure)
            return
        self.images[p.name] = image
        facts.images[p.name] = ImageFact(attempt, reference, image.id)

    async def _credentials(self) -> list[tuple[str, Auth]]:
        """Of the pod's pull secrets."""
        names = self.pod["spec"].get("imagePullSecrets") or []
        return credentials_from([s for ref in names if (s := await self._secret(ref))])

    async def _secret(self, ref: Object) -> Object | None:
        await self.kit.references.ready(self.worker.uid)
        return self.lookup(SECRETS, ref.get("name", ""))

    # -- containers

    async def start_container(self, p: Part, attempt: int, step: int) -> None:
        facts, events, runtime = self.worker.facts, self.worker.events, self.kit.runtime
        async with self.kit.starts:
            try:
                spec = await self._specify(p, attempt, step)
            except (ConfigError, UnknownField, TimeoutError) as e:
                self._start_failed(p, "CreateContainerConfigError", str(e), f"Error: {e}")
                return
            except (VolumeFault, OSError) as e:
                self._start_failed(p, "CreateContainerConfigError", str(e), f"Error: {e}")
                return
            box = self.worker.seen.sandbox()
            if box is None or self.worker.stopping:
                return  # it went away meanwhile; the next look decides anew
            try:
                await resizing.make_room(self.worker, box)
                cid = await runtime.create_container(box.id, spec)
                events.normal("Created", "Container created", p.name)
            except (RuntimeFault, OSError) as e:
                self._start_failed(p, "CreateContainerError", str(e), f"Error: {e}")
                return
            if self.worker.stopping:  # deleted while it was made: its process would only have to be waited for
                await runtime.remove_container(cid)
                return
            try:
                await runtime.start_container(cid)
            except (RuntimeFault, OSError) as e:
                self._start_failed(p, "RunContainerError", str(e), f"Error: {e}")
                return
            if (
                self.worker.stopping
            ):  # as when the kubelet cancels a start: what has barely begun has nothing to end in peace
                await runtime.stop_container(cid, 0)
        facts.starts.pop(p.name, None)
        events.normal("Started", "Container started", p.name)

    async def _specify(self, p: Part, attempt: int, step: int) -> Any:
        """The ContainerSpec, with every reference resolved."""
        await self.kit.references.ready(self.worker.uid)
        pod, place = self.pod, self.place()
        variables, skipped = env.environment(pod, p.spec, self.lookup, self.kit.services(), place)
        if skipped:
            text = f"Keys [{', '.join(skipped)}] were skipped since they are considered invalid environment variable names."
            self.worker.events.warning("InvalidEnvironmentVariableNames", text, p.name)
        start.write_pod_files(pod, list(place.pod_ips), self.kit.config)
        target = p.spec.get("targetContainerName", "")
        joined = next((c.id for c in self.worker.seen.of(target) if c.state == "running"), "") if target else ""
        given = start.Given(self.images[p.name], self.mounted, variables, self.kit.machine.memory_total, joined)
        return start.container_spec(pod, p, attempt, step, given, self.kit.config)

    def _start_failed(self, p: Part, reason: str, message: str, event: str) -> None:
        facts = self.worker.facts
        facts.starts[p.name] = self.worker.fail(reason, message, facts.starts.get(p.name))
        self.worker.events.warning("Failed", event, p.name)

    async def post_start(self, p: Part, container_id: str) -> None:
        text = await self._hook(p, "postStart", container_id, hooks.FOREVER)
        if text:
            self.worker.events.warning("FailedPostStartHook", f"PostStartHook failed: {text}", p.name)
        self.worker.facts.hooked[container_id] = text

    async def _hook(self, p: Part, which: str, container_id: str, limit: float) -> str:
        handler = p.spec["lifecycle"][which]
        ip = (self.place().pod_ips or ("127.0.0.1",))[0]
        return await hooks.run(handler, p.spec, container_id, ip, self.kit.runtime, self.kit.clock, limit)

    async def kill_container(self, action: KillContainer) -> None:
        """preStop, then the stop signal, then SIGKILL; all within the deadline."""
        clock, events = self.kit.clock, self.worker.events
        key = f"{action.id}:killing"
        if key not in self.worker.said:
            self.worker.said.add(key)
            events.normal("Killing", action.event, action.name)
        p = next((p for p in parts(self.pod) if p.name == action.name), None)
        hook = ((p.spec.get("lifecycle") or {}).get("preStop") if p else None) or None
        if p is not None and hook and action.hook:
            limit = max(0.1, action.deadline - clock.now())
            if text := await self._hook(p, "preStop", action.id, limit):
                events.warning("FailedPreStopHook", f"PreStopHook failed: {text}", action.name)
        # A hook that used up the time leaves two seconds for the process itself (as upstream).
        floor = 2.0 if hook and action.hook else 0.0
        await self.kit.runtime.stop_container(action.id, max(floor, action.deadline - clock.now()))

    # -- tear-down

    async def tear_down(self) -> None:
        """Nothing runs any more: give back sandbox, address and volumes. Dead containers stay for logs and status."""
        worker, uid = self.worker, self.worker.uid
        worker.prober.close()
        for box in worker.seen.sandboxes:
            await self.kit.runtime.stop_sandbox(box.id)
        await self.kit.network.detach(uid)
        config = self.kit.config
        pod_dir, volatile = config.pod_dir(uid), os.path.join(config.volatile_dir, uid)
        await keeper.unmount_all([os.path.join(pod_dir, "volume-subpaths"), os.path.join(pod_dir, "volumes"), volatile])
        self.kit.forget(uid)
        worker.facts.torn_down = True
        self.kit.resizes.look()

    async def remove_pod(self) -> None:
        """The last status, then the API object, then the last traces."""
        worker, uid, meta = self.worker, self.worker.uid, self.pod["metadata"]
        try:
            async with asyncio.timeout(FLUSH_DEADLINE):
                await worker.writer.flushed()
        except TimeoutError:
            log.warning("%s/%s: removed before its last status was written", meta["namespace"], meta["name"])
        if not worker.writer.gone and not await self._delete(meta["name"], meta["namespace"], uid):
            return
        await remove_traces(self.kit, uid, worker.seen.containers, worker.seen.sandboxes)
        config = self.kit.config
        logs = config.log_directory(meta["namespace"], meta["name"], uid)
        await asyncio.to_thread(shutil.rmtree, logs, True)
        worker.facts.removed = True

    async def _delete(self, name: str, namespace: str, uid: str) -> bool:
        """Remove the API object. False: not possible now; the wake-up is set."""
        try:
            await self.kit.client.delete(PODS, name, namespace, grace=0, uid=uid)
        except ApiError as e:
            if e.code in (404, 409):
                return True  # gone, or the name belongs to another pod
            self.worker.events.warning("FailedKillPod", f"error deleting the pod from the API: {e}")
        except (OSError, TimeoutError) as e:
            log.info("%s/%s: not deleted yet: %s", namespace, name, e)
        else:
            return True
        self.worker.hold("remove", 1.0)
        return False


async def remove_traces(kit: Any, uid: str, containers: list[Any], sandboxes: list[Any]) -> None:
    """Remove what a pod left in the runtime, the network and the directories. Idempotent."""
    for c in containers:
        await kit.runtime.remove_container(c.id)
    for box in sandboxes:
        await kit.runtime.stop_sandbox(box.id)
        await kit.runtime.remove_sandbox(box.id)
    await kit.network.detach(uid)
    await keeper.unmount_all([os.path.join(kit.config.volatile_dir, uid), kit.config.pod_dir(uid)])


def host_ports(pod: Object) -> list[HostPort]:
    """The ports of the node that lead into the pod."""
    out = []
    for p in parts(pod):
        for port in p.spec.get("ports") or []:
            if port.get("hostPort") and not pod["spec"].get("hostNetwork"):
                protocol, host_ip = port.get("protocol", "TCP"), port.get("hostIP", "")
                out.append(HostPort(protocol, host_ip, int(port["hostPort"]), int(port["containerPort"])))
    return out
