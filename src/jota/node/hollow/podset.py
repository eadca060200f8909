"""All pods of all simulated nodes: one shared watch in, status writes and deletes out, many at once (group commit).

Level-triggered: a queue of keys, each reconciled from the cache; delays are remembered per (pod, step) and start anew with
the process. Next: fleet.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random

from jota.aio.backoff import Backoff
from jota.aio.clock import Clock, rfc3339
from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.workqueue import WorkQueue
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.node.hollow.addresses import Addresses
from jota.node.hollow.lifecycle import Pod, Step, plan
from jota.node.hollow.settings import Settings
from jota.node.hollow.status import patch_for

log = logging.getLogger(__name__)


class PodSet:
    """`mine(node)`: whether a node is ours and not silent; `slots`: of requests in flight."""

    def __init__(
        self,
        client: Client,
        settings: Callable[[], Settings],
        mine: Callable[[str], bool],
        addresses: Addresses,
        *,
        clock: Clock,
        random: Random,
        slots: asyncio.Semaphore,
    ) -> None:
        self._client, self._settings, self._mine, self._clock = client, settings, mine, clock
        self._addresses = addresses
        # Pods without a node are nobody's here; the server leaves them out of the stream.
        self._pods = Informer(client, PODS, fields="spec.nodeName!=", type=Pod, clock=clock, random=random)
        self._queue = WorkQueue(clock, Backoff(0.1, 10.0))
        self._due: dict[str, tuple[str, float]] = {}
        """uid -> (step, monotonic time) of steps that wait."""
        self._done: dict[str, str] = {}
        """uid -> the step that was written and that the cache may not show yet."""
        self._slots = slots
        self.written = 0

    async def run(self) -> None:
        self._pods.add_handler(self._changed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run())
            await self._pods.synced()
            while True:
                key = await self._queue.get()
                await self._slots.acquire()
                tasks.create_task(self._reconcile(key))

    def look_again(self) -> None:
        """The settings or the nodes have changed."""
        for key, _ in self._pods.items():
            self._queue.add(key)

    def look_at(self, node: str) -> None:
        for key, pod in self._pods.items():
            if pod.spec.nodeName == node:
                self._queue.add(key)

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            assert old is not None
            self._forget(old)
            return
        if new.status.podIP and not new.spec.hostNetwork:
            self._addresses.keep(new.spec.nodeName, new.metadata.uid, new.status.podIP)
        if old is not None and old.status is not new.status:
            self._done.pop(new.metadata.uid, None)
        if self._mine(new.spec.nodeName):
            step = plan(new, self._settings(), self._clock.now())
            if step is not None:
                self._queue.add(new.key)

    def _forget(self, pod: Pod) -> None:
        self._due.pop(pod.metadata.uid, None)
        self._done.pop(pod.metadata.uid, None)
        self._addresses.free(pod.spec.nodeName, pod.metadata.uid)

    async def _reconcile(self, key: str) -> None:
        try:
            pod = self._pods.get(key)
            if pod is not None and self._mine(pod.spec.nodeName):
                await self._advance(pod)
            self._queue.forget(key)
        except ApiError as error:
            if error.code not in (404, 409):  # gone, or changed since: its next event brings it back
                log.warning("pod %s: %s", key, error)
            if error.code != 404:
                self._queue.add_backoff(key)
        except (ConnectionError, TimeoutError, OSError) as error:
            log.info("pod %s: %s", key, error)
            self._queue.add_backoff(key)
        finally:
            self._slots.release()
            self._queue.done(key)

    async def _advance(self, pod: Pod) -> None:
        step = plan(pod, self._settings(), self._clock.now())
        uid = pod.metadata.uid
        if step is None or self._done.get(uid) == step.verb:
            return
        wait = self._wait(uid, step)
        if wait > 0:
            self._queue.add_after(pod.key, wait)
            return
        self._due.pop(uid, None)
        await self._do(pod, step)

    def _wait(self, uid: str, step: Step) -> float:
        """Seconds until the step is due."""
        if not step.after:
            return 0.0
        now = self._clock.monotonic()
        known = self._due.get(uid)
        if known is None or known[0] != step.verb:
            known = self._due[uid] = (step.verb, now + step.after)
        return known[1] - now

    async def _do(self, pod: Pod, step: Step) -> None:
        meta = pod.metadata
        if step.verb == "remove":
            # Who holds a finalizer (the Job controller) wants to read how the pod ended.
            if meta.finalizers and pod.status.phase not in ("Succeeded", "Failed"):
                await self._write(pod, Step("remove", code=137 if pod.status.phase == "Running" else 0))
            self._done[meta.uid] = step.verb
            await self._client.delete(PODS, meta.name, meta.namespace, grace=0, uid=meta.uid, answer=False)
        else:
            await self._write(pod, step)

    async def _write(self, pod: Pod, step: Step) -> None:
        meta, node = pod.metadata, pod.spec.nodeName
        host = self._addresses.host(node)
        address = host if pod.spec.hostNetwork else pod.status.podIP or self._addresses.take(node, meta.uid)
        patch = patch_for(pod, step, host_ip=host, pod_ip=address, stamp=rfc3339(self._clock.now()))
        self._done[meta.uid] = step.verb
        try:
            await self._client.patch(
                PODS, meta.name, meta.namespace, patch, type="strategic", subresource="status", answer=False
            )
        except BaseException:
            self._done.pop(meta.uid, None)
            raise
        self.written += 1
