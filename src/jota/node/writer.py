"""Send a pod's status to the API: latest wins, nothing when nothing changed, again after failures. Next: the API.

One writer per pod, owned by its worker. The comparison is with what was written last, or with what the informer shows.
"""

from __future__ import annotations

import asyncio
import logging

from jota.aio.backoff import Backoff
from jota.aio.clock import Clock
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.node.model import Object
from jota.node.status import difference

log = logging.getLogger(__name__)


class StatusWriter:
    """`offer` a status at any time; `run` writes. `gone` is True once the API no longer has this pod."""

    def __init__(self, client: Client, clock: Clock, namespace: str, name: str, uid: str, base: Object) -> None:
        self._client, self._clock = client, clock
        self._namespace, self._name, self._uid = namespace, name, uid
        self._written = base
        self._wanted: Object | None = None
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._gone = False

    @property
    def gone(self) -> bool:
        return self._gone

    def stop(self) -> None:
        """The API has no such pod any more: nothing is left to write."""
        self._gone = True
        self._idle.set()

    def offer(self, status: Object) -> None:
        """The status that the API should show from now on."""
        if self._gone or (self._wanted is None and difference(self._written, status) is None):
            return
        self._wanted = status
        self._idle.clear()
        self._changed.set()

    def observed(self, status: Object) -> None:
        """What the API shows now, from the informer: the base of the next comparison when no write is under way."""
        if self._idle.is_set():
            self._written = status

    async def flushed(self) -> None:
        """Wait until the last offer was written (or the pod is gone). The caller sets the deadline."""
        await self._idle.wait()

    async def run(self) -> None:
        retry = Backoff(0.1, 10.0)
        while not self._gone:
            await self._changed.wait()
            self._changed.clear()
            status = self._wanted
            if status is None:
                continue
            if await self._send(status):
                retry.forget("")
                if self._wanted is status:
                    self._wanted = None
                    self._idle.set()
                else:
                    self._changed.set()
            else:
                await self._clock.sleep(retry.next(""))
                self._changed.set()
        self._idle.set()

    async def _send(self, status: Object) -> bool:
        """True when the API has it, or never will."""
        patch = difference(self._written, status)
        if patch is None:
            return True
        body = {"metadata": {"uid": self._uid}, "status": patch}
        try:
            shown = await self._client.patch(
                PODS, self._name, self._namespace, body, type="strategic", subresource="status"
            )
        except ApiError as e:
            if e.code in (404, 409):
                # 409: another pod took the name (the uid is a precondition), or a concurrent write: look who is there.
                if e.code == 404 or await self._replaced():
                    self.stop()
                return self._gone
            log.warning("%s/%s: status refused: %s", self._namespace, self._name, e)
            return e.code in (400, 403, 422)
        except (OSError, TimeoutError) as e:
            log.info("%s/%s: status not written yet: %s", self._namespace, self._name, e)
            return False
        self._written = shown.get("status") or {}
        return True

    async def _replaced(self) -> bool:
        try:
            found = await self._client.get(PODS, self._name, self._namespace)
        except ApiError as e:
            return e.code == 404
        except (OSError, TimeoutError):
            return False
        self._written = found.get("status") or {}
        return bool(found["metadata"].get("uid") != self._uid)
