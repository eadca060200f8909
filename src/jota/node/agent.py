"""The node agent: registers the node and gives every pod that is bound to it a worker. In: the API's pods. Out: workers.

Runtime and network come started; `run/agent.py` owns them. Killing this process never touches a container: the next agent
finds the same runtime, adopts what belongs to pods of the API, and only then removes what belongs to none.
Next: worker.py, one pod; nodekeeper.py, the Node object.
"""

from __future__ import annotations

import asyncio
import logging
import os
from random import Random

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.client.informer import Informer
from jota.client.informers import Informers
from jota.meta.resource import PODS, SERVICES
from jota.net.protocol import PodNetwork
from jota.node import admission, eviction
from jota.node.allocation import held
from jota.node.config import NodeConfig
from jota.node.eviction import Pressure
from jota.node.images import ImageKeeper
from jota.node.itself import Itself
from jota.node.kit import Kit
from jota.node.localstorage import StorageLimits
from jota.node.machine import Machine
from jota.node.mirror import is_mirror
from jota.node.mirrorkeeper import MirrorKeeper
from jota.node.model import GRACE, Object, Observed, Verdict, key_of, uid_of
from jota.node.nodekeeper import NodeKeeper
from jota.node.operations import remove_traces
from jota.node.references import References
from jota.node.resizes import Resizes
from jota.node.snapshot import Snapshots
from jota.node.unsupported import complaints
from jota.node.volumes.keeper import unmount_all
from jota.node.volumes.podcertificates import PodCertificates
from jota.node.volumes.tokens import Tokens
from jota.node.volumes.trustbundles import TrustBundles
from jota.node.worker import PodWorker
from jota.runtime import sys
from jota.runtime.protocol import Runtime, RuntimeFault

log = logging.getLogger(__name__)

SERVICES_DEADLINE = 5.0
"""Seconds that the first pods wait for the Services that their environment shows."""
RESTART_DELAY = 1.0
FINISHED_KEPT = 4096


class NodeAgent:
    """One node. `run` until cancelled; containers keep running afterwards."""

    def __init__(
        self,
        client: Client,
        runtime: Runtime,
        network: PodNetwork,
        *,
        config: NodeConfig,
        clock: Clock,
        random: Random,
        informers: Informers | None = None,
        machine: Machine | None = None,
        itself: Itself | None = None,
    ) -> None:
        """`itself`: what `mirror` shows, which the caller runs once the node is Ready; None: no pod of the agent's own."""
        self._client, self._runtime, self._network = client, runtime, network
        self.config, self._clock, self._random = config, clock, random
        self._machine = machine or Machine(config.data_dir)
        self._recorder = EventRecorder(client, clock, "kubelet", config.name)
        self._pressure = Pressure(config.eviction)
        self.keeper = NodeKeeper(client, runtime, self._machine, config, clock, self._recorder, self._pressure)
        self.pods: Informer[Object] = Informer(
            client, PODS, fields=f"spec.nodeName={config.name}", clock=clock, random=random
        )
        """This node's pods; the kubelet API reads them too."""
        self.mirror = MirrorKeeper(client, self.pods, config, clock, itself, lambda: self.keeper.ready)
        self._informers = informers
        self.workers: dict[str, PodWorker] = {}
        """By pod uid."""
        self._in_doubt: set[str] = set()
        """Pods that the labels last read do not let in; they hold nothing until it is known whether newer ones do."""
        self._finished: dict[str, None] = {}
        """Uids that are done, until the API has forgotten them too."""
        self.ready = asyncio.Event()
        """Set once the node is registered and its pods are known."""

    async def run(self) -> None:
        self._make_directories()
        async with asyncio.TaskGroup() as group:
            self._group = group
            services = self._services(group)
            self.kit = self._make_kit(group, services)
            for name, work in (
                ("events", self._recorder.run()),
                ("pods", self.pods.run()),
                ("runtime events", self._follow_runtime()),
                ("start", self._start(services)),
            ):
                group.create_task(work, name=f"node {name}")

    def _services(self, group: asyncio.TaskGroup) -> Informer[Object]:
        if self._informers is not None:
            return self._informers.of(SERVICES)
        services: Informer[Object] = Informer(self._client, SERVICES, clock=self._clock, random=self._random)
        group.create_task(services.run(), name="node services")
        return services

    def _make_kit(self, group: asyncio.TaskGroup, services: Informer[Object]) -> Kit:
        allocatable = self.keeper.allocatable
        return Kit(
            client=self._client,
            runtime=self._runtime,
            network=self._network,
            config=self.config,
            clock=self._clock,
            random=self._random,
            machine=self._machine,
            recorder=self._recorder,
            references=References(self._client, self._clock, self._random, group),
            tokens=Tokens(self._client, self._clock),
            bundles=TrustBundles(self._client, self._clock, self._random, group),
            certificates=PodCertificates(
                self._client, self._clock, self._random, group, self._recorder, self.config.name
            ),
            images=ImageKeeper(self._runtime.images, self._clock, group),
            snapshots=Snapshots(self._runtime, self._network, group),
            services=services.list,
            resizes=Resizes(self.config.name, self._beside, lambda: self.keeper.labels, allocatable, self._clock.now),
            starts=asyncio.Semaphore(self.config.concurrent_starts),
            allocatable=allocatable,
        )

    def _make_directories(self) -> None:
        os.makedirs(os.path.join(self.config.data_dir, "pods"), mode=0o750, exist_ok=True)
        os.makedirs(self.config.log_dir, mode=0o755, exist_ok=True)
        volatile = self.config.volatile_dir
        os.makedirs(volatile, mode=0o750, exist_ok=True)
        if not os.path.ismount(volatile):
            try:
                sys.mount("tmpfs", volatile, "tmpfs", 0, "mode=0750")
            except OSError as e:
                log.warning("secrets will be kept on disk under %s: %s", volatile, e)

    async def _start(self, services: Informer[Object]) -> None:
        """Everything that waits for the API."""
        group = self._group
        registering = group.create_task(self.keeper.register(), name="register node")
        await self.pods.synced()
        try:
            async with asyncio.timeout(SERVICES_DEADLINE):
                await services.synced()
        except TimeoutError:
            log.warning("services are not readable yet; environments of new pods lack them")
        await registering
        self.pods.add_handler(self._pod_changed)
        await self._clean_orphans()
        self.ready.set()
        for name, work in (
            ("lease", self.keeper.beat()),
            ("status", self.keeper.report()),
            ("resync", self._resync()),
            ("eviction", self._watch_pressure()),
            ("storage", self._watch_storage()),
        ):
            group.create_task(work, name=f"node {name}")

    # -- pods

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if (last := new or old) is not None and is_mirror(last) and uid_of(last) not in self.workers:
            self.mirror.look()  # nothing of it runs, stops or is cleaned up here
            return
        if new is None:
            if old is not None:
                self._pod_gone(old)
            return
        uid = uid_of(new)
        if (worker := self.workers.get(uid)) is not None:
            worker.update(new)
            if old is not None and _over(new) and not _over(old):
                self.kit.resizes.look()
        elif uid not in self._finished:
            self._adopt(new)

    def _pod_gone(self, last: Object) -> None:
        uid = uid_of(last)
        self._finished.pop(uid, None)
        if (worker := self.workers.get(uid)) is not None:
            worker.gone(last)
            self.kit.resizes.look()

    def _adopt(self, pod: Object) -> None:
        worker = PodWorker(self.kit, pod)
        if not pod.get("status", {}).get("startTime") and "deletionTimestamp" not in pod["metadata"]:
            verdict = self._judge(pod, self._holding())
            if verdict is not None and verdict.reason == admission.NODE_AFFINITY:
                self._in_doubt.add(worker.uid)
            elif verdict is not None:
                self._reject(worker, verdict)
            for text in complaints(pod):
                worker.events.warning("Unsupported", text)
        self.workers[uid_of(pod)] = worker
        self._group.create_task(self._tend(worker), name=f"pod {key_of(pod)}")

    def _judge(self, pod: Object, beside: list[Object]) -> Verdict | None:
        return admission.check(pod, beside, self.keeper.labels, self.kit.allocatable, self.config.name)

    @staticmethod
    def _reject(worker: PodWorker, verdict: Verdict) -> None:
        worker.events.warning(verdict.reason, verdict.message)
        worker.condemn(verdict)

    async def _judge_again(self, worker: PodWorker) -> None:
        """By the labels that the Node has now: the scheduler may know of some that it got since we last read it."""
        try:
            await self.keeper.look_again()
        finally:
            self._in_doubt.discard(worker.uid)
        verdict = self._judge(worker.pod, [p for p in self._holding() if uid_of(p) != worker.uid])
        if verdict is not None:
            self._reject(worker, verdict)

    def _holding(self) -> list[Object]:
        return self._beside(None)

    def _beside(self, worker: PodWorker | None) -> list[Object]:
        """Pods that occupy resources here, as allocated: admitted, not over, and not this one; a mirror pod is one of the node's
        pods too. Of one whose containers have ended, or still end, the API may know no more: the scheduler counts on its place,
        and so does the kubelet."""
        others = [
            w
            for w in self.workers.values()
            if w is not worker and w.facts.verdict is None and w.uid not in self._in_doubt
        ]
        running = [w for w in others if not w.writer.gone and not w.facts.torn_down and not _over(w.pod)]
        return [
            w.allocated if w.facts.progress is None else held(w.allocated, w.seen) for w in running
        ] + self.mirror.shown()

    async def _tend(self, worker: PodWorker) -> None:
        """Run a worker; one that breaks is made anew, because the runtime and the API hold all that matters."""
        uid = worker.uid
        try:
            if uid in self._in_doubt:
                await self._judge_again(worker)
            await worker.run()
        except Exception:
            log.exception("pod %s: its worker failed; it starts again", key_of(worker.pod))
            await self._clock.sleep(RESTART_DELAY)
            self.workers.pop(uid, None)
            self.kit.resizes.forget(uid)
            self._adopt(worker.pod)
            return
        self.workers.pop(uid, None)
        self.kit.resizes.forget(uid)
        if self.pods.get(key_of(worker.pod)) is not None:
            self._finished[uid] = None
            while len(self._finished) > FINISHED_KEPT:
                del self._finished[next(iter(self._finished))]

    async def _follow_runtime(self) -> None:
        """Wake the worker of every pod in which something happened."""
        while True:
            try:
                async for uid in self._runtime.events():
                    if (worker := self.workers.get(uid)) is not None:
                        worker.wake()
            except (RuntimeFault, OSError) as e:
                log.warning("runtime events broke off: %s", e)
            await self._clock.sleep(RESTART_DELAY)
            self._wake_all()

    async def _resync(self) -> None:
        """The slow timer beside the events: what was missed is seen at the next turn."""
        while True:
            await self._clock.sleep(self.config.resync_interval)
            self._wake_all()
            self.kit.resizes.look()

    def _wake_all(self) -> None:
        for worker in self.workers.values():
            worker.wake()

    # -- what belongs to nobody

    async def _clean_orphans(self) -> None:
        """Remove sandboxes, containers and directories of pods that the API does not have (any more)."""
        seen = await self._everything()
        left = {d.name for d in os.scandir(os.path.join(self.config.data_dir, "pods"))}
        left |= {d.name for d in os.scandir(self.config.volatile_dir)}
        for uid in {*seen, *left, *self._network.addresses()} - set(self.workers):
            self._group.create_task(self._remove_orphan(uid), name=f"orphan {uid}")

    async def _everything(self) -> dict[str, Observed]:
        while True:
            try:
                return await self.kit.snapshots.all()
            except (RuntimeFault, OSError) as e:
                log.warning("the runtime does not answer: %s", e)
            await self._clock.sleep(RESTART_DELAY)

    async def _remove_orphan(self, uid: str) -> None:
        try:
            seen = await self.kit.snapshots.of(uid)
            log.info("pod %s is not in the API: its %d containers are removed", uid, len(seen.containers))
            async with asyncio.TaskGroup() as group:
                for c in seen.alive():
                    grace = float(c.labels.get(GRACE, "30"))
                    group.create_task(self._runtime.stop_container(c.id, max(1.0, grace)))
            await remove_traces(self.kit, uid, seen.containers, seen.sandboxes)
        except* (RuntimeFault, OSError) as group_error:
            log.warning("orphaned pod %s could not be removed whole: %s", uid, group_error.exceptions[0])

    # -- pressure

    async def _watch_pressure(self) -> None:
        """Evict one pod at a time while the node is short of memory."""
        while self.config.eviction.enabled:
            await self._clock.sleep(self.config.status_interval)
            try:
                if self._pressure.now(self._machine)["MemoryPressure"]:
                    await self._evict_one()
            except (RuntimeFault, OSError) as e:
                log.warning("memory is short, but no pod could be chosen: %s", e)

    async def _watch_storage(self) -> None:
        """Evict pods that use more of the disk than they may."""
        limits = StorageLimits(self._runtime, self.config, self._clock)
        while True:
            await self._clock.sleep(self.config.status_interval)
            try:
                pods = [w.pod for w in self.workers.values() if not w.stopping]
                for pod, verdict in await limits.exceeded(pods):
                    if (worker := self.workers.get(uid_of(pod))) is not None:
                        self._evict(worker, verdict)
            except (RuntimeFault, OSError) as e:
                log.warning("the use of the disk could not be measured: %s", e)

    async def _evict_one(self) -> None:
        self.keeper.look.set()
        used: dict[str, dict[str, int]] = {}
        """Pod -> container -> bytes."""
        made = {c.id: c for c in await self._runtime.containers()}
        for s in await self._runtime.stats():
            if (c := made.get(s.container_id)) is not None:
                used.setdefault(c.pod_uid, {})[c.name] = s.memory_working_set
        use = {uid: sum(containers.values()) for uid, containers in used.items()}
        pod = eviction.first_to_go((w.allocated for w in self.workers.values() if w.facts.verdict is None), use)
        if pod is None:
            return
        available = self._machine.memory().available
        limit = self.config.eviction.memory_available
        verdict = eviction.evicted(pod, available, limit, used[uid_of(pod)])
        self._evict(self.workers[uid_of(pod)], verdict)

    def _evict(self, worker: PodWorker, verdict: Verdict) -> None:
        worker.events.warning("Evicted", verdict.message)
        worker.evict(verdict)

    async def shutdown(self) -> None:
        """Remove this node's own mounts and pod directories (jota down); containers must be gone."""
        await unmount_all([os.path.join(self.config.data_dir, "pods"), self.config.volatile_dir])


def _over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
