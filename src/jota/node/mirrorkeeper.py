"""Keep the agent's mirror pod in the API, and no other mirror pod of this node. In: the node's pods. Out: one pod, its status.

`mirror.plan` decides; this is the thin part. It looks whenever a mirror pod of the node changes, and on a timer. It is run
once the node is Ready and never on the way there. What is refused (a quota, a policy) is told in the log and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from jota.aio.backoff import Backoff
from jota.aio.clock import Clock
from jota.aio.waiting import wait_event
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS
from jota.node import mirror
from jota.node.config import NodeConfig
from jota.node.itself import Itself
from jota.node.model import Object, key_of, uid_of
from jota.node.status import difference

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two looks without an event: the Node may have become known, a refusal's cause may be gone."""
AGAIN_AFTER = 1.0
"""Seconds between the end of a pod of ours and its successor. kubectl, waiting for a deletion, takes a namesake that comes
within milliseconds for the pod that it waits for, and waits for ever; kubelets are no faster."""
SEEN_WITHIN = 5.0
"""Seconds that our own cache may take to show what we wrote."""


class MirrorKeeper:
    """`run` until cancelled. `itself` None: no pod of our own, but mirror pods that others made are removed all the same."""

    def __init__(
        self,
        client: Client,
        pods: Informer[Object],
        config: NodeConfig,
        clock: Clock,
        itself: Itself | None,
        ready: Callable[[], bool],
    ) -> None:
        """`ready`: whether the API last showed the node Ready."""
        self._client, self._pods, self._config, self._clock = client, pods, config, clock
        self._itself, self._ready = itself, ready
        self._wanted = mirror.wanted(itself, config.name) if itself is not None else None
        self._restarts = 0
        self._had = False
        self._look = asyncio.Event()

    def look(self) -> None:
        """A mirror pod of this node came, changed or went."""
        self._look.set()

    def shown(self) -> list[Object]:
        """The node's mirror pods, as the API shows them."""
        return [p for p in self._pods.list() if mirror.is_mirror(p)]

    async def run(self) -> None:
        retry = Backoff(0.5, PERIOD)
        await self._pods.synced()
        while True:
            self._look.clear()
            try:
                await self._step()
                retry.forget("")
            except (ApiError, OSError, TimeoutError) as e:
                log.warning("the agent's own pod cannot be shown: %s", e or "timed out")
                await self._clock.sleep(retry.next(""))
            else:
                await wait_event(self._look, self._clock, PERIOD)

    async def _step(self) -> None:
        """Raises ApiError, OSError, TimeoutError."""
        decided = mirror.plan(self.shown(), self._wanted)
        for pod in decided.remove:
            log.info("mirror pod %s is not what this node runs: it is removed", key_of(pod))
            await self._remove(pod)
        if decided.create and self._had:
            await self._clock.sleep(AGAIN_AFTER)
        shown = await self._create() if decided.create else decided.own
        self._had = shown is not None
        if shown is not None and self._itself is not None:
            await self._write(shown, self._itself)

    async def _create(self) -> Object | None:
        """None while the Node itself is not there: it owns the pod."""
        assert self._wanted is not None
        try:
            node = await self._client.get(NODES, self._config.name)
        except ApiError as e:
            if e.code == 404:
                return None
            raise
        return await self._client.create(PODS, mirror.owned(self._wanted, node), mirror.NAMESPACE)

    async def _remove(self, pod: Object) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(PODS, meta["name"], meta["namespace"], grace=0, uid=uid_of(pod))
        except ApiError as e:
            if e.code not in (404, 409):  # gone, or another pod has its name by now
                raise

    async def _write(self, pod: Object, itself: Itself) -> None:
        self._restarts = mirror.restarts(pod, itself, self._restarts)
        ready, address, now = self._ready(), self._config.address, self._clock.now()
        status = mirror.status_of(pod, itself, self._restarts, ready=ready, host_ip=address, now=now)
        patch = difference(pod.get("status") or {}, status)
        if patch is not None:
            meta = pod["metadata"]
            body = {"metadata": {"uid": meta["uid"]}, "status": patch}
            pod = await self._client.patch(
                PODS, meta["name"], meta["namespace"], body, type="strategic", subresource="status"
            )
            async with asyncio.timeout(SEEN_WITHIN):  # else the next look would take the old state for the present one
                await self._pods.caught_up(pod["metadata"]["resourceVersion"])
