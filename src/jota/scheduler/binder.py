"""Carry out what was decided: the pod's volumes and devices are made ready, then it is bound through the API.

In: pods that are assumed on a node, each with what it needs. Out: Bindings, those of one turn in one request where the server
can; `bound` for each pod that is, `take_back` for each that is not. Nothing is decided here, and no account is touched.
Next: volumebinder.py, devicebinder.py; consult.py for pods that an extender binds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import BINDINGS, PODS
from jota.scheduler.devicebinder import DeviceBinder, DevicesNotAllocated
from jota.scheduler.places import Places
from jota.scheduler.pod import Pod
from jota.scheduler.queue import Waiting
from jota.scheduler.volumebinder import VolumeBinder, VolumesNotBound

if TYPE_CHECKING:
    from jota.scheduler.consult import Consultations

UNBOUND = (ApiError, ConnectionError, TimeoutError)
"""What a binding may fail with."""
UNPREPARED = (*UNBOUND, VolumesNotBound, DevicesNotAllocated)
"""What preparing a pod's volumes and devices may fail with."""


class Binder:
    def __init__(
        self,
        client: Client,
        places: Places,
        volumes: VolumeBinder,
        devices: DeviceBinder,
        *,
        bound: Callable[[Pod, str], None],
        take_back: Callable[[Waiting, Exception], None],
    ) -> None:
        self._client, self._places, self._volumes, self._devices = client, places, volumes, devices
        self._bound, self._take_back = bound, take_back
        self.consultations: Consultations | None = None
        """Of extenders, which may bind by themselves."""

    def ready(self, waiting: Waiting) -> bool:
        """Whether nothing must be prepared first."""
        shape = waiting.shape
        return not shape.reserves or (not shape.devices and self._volumes.bound(shape))

    async def prepare(self, waiting: Waiting, node: str) -> None:
        """Volumes first; that may take long, so it holds none of the places for bindings. Raises what UNPREPARED names."""
        try:
            await self._volumes.bind(waiting.shape, node)
            if waiting.shape.devices:
                await self._devices.bind(waiting.shape, waiting.pod)
        finally:
            self._volumes.release(waiting.shape)
            self._devices.release(waiting.shape)

    async def bind_prepared(self, waiting: Waiting, node: str) -> None:
        try:
            await self.prepare(waiting, node)
        except UNPREPARED as error:
            self._take_back(waiting, error)
        else:
            await self.bind_when_free(waiting, node)

    async def bind_when_free(self, waiting: Waiting, node: str) -> None:
        await self._places.acquire()
        await self._bind(waiting, node)

    async def bind_together(self, namespace: str, placed: list[tuple[Waiting, str]], tasks: asyncio.TaskGroup) -> None:
        """In one request as far as the server can, the others each in its own. For each, a place is held."""
        answers: Sequence[bool] = [False] * len(placed)
        if self.consultations is None:
            try:
                bodies = [_binding(waiting.pod, node) for waiting, node in placed]
                answers = await self._client.create_each(BINDINGS, bodies, namespace)
            except UNBOUND as error:
                for waiting, _ in placed:
                    self._places.release()
                    self._take_back(waiting, error)
                return
        for (waiting, node), done in zip(placed, answers, strict=True):
            if not done:
                tasks.create_task(self._bind(waiting, node))
                continue
            self._places.release()
            self._bound(waiting.pod, node)

    async def _bind(self, waiting: Waiting, node: str) -> None:
        """A place for it is held."""
        pod, body = waiting.pod, _binding(waiting.pod, node)
        try:
            if self.consultations is None or not await self.consultations.bind(pod, waiting.shape, node):
                await self._client.create(
                    PODS, body, pod.metadata.namespace, subresource="binding", name=pod.metadata.name
                )
        except UNBOUND as error:
            self._take_back(waiting, error)
        else:
            self._bound(pod, node)
        finally:
            self._places.release()


def _binding(pod: Pod, node: str) -> dict[str, Any]:
    meta = pod.metadata
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
