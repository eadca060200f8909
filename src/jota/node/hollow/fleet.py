"""A fleet of simulated nodes: reads its ConfigMap, keeps nodes and pods. In: a client. Out: nodes that seem to run pods.

    fleet = Fleet(client, clock=clock, random=random)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fleet.run())
        await fleet.complete()

Everything goes through the API that real nodes use; the control plane cannot tell the difference but by a label.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import Any

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS
from jota.node.hollow.addresses import Addresses
from jota.node.hollow.nodeset import NodeSet
from jota.node.hollow.podset import PodSet
from jota.node.hollow.settings import CONFIG_NAME, CONFIG_NAMESPACE, Settings, parse, to_data

log = logging.getLogger(__name__)

CONCURRENT = 64
"""Requests in flight, of nodes and pods together: enough to fill a commit of the store while the next one gathers, few enough
to keep their connections open."""


class Fleet:
    def __init__(self, client: Client, *, clock: Clock, random: Random) -> None:
        self._client, self._clock = client, clock
        self.settings = Settings()
        addresses, slots = Addresses(), asyncio.Semaphore(CONCURRENT)
        self.nodes = NodeSet(
            client,
            self._settings,
            addresses,
            clock=clock,
            random=random,
            slots=slots,
            changed=lambda n: self.pods.look_at(n),
        )
        self.pods = PodSet(
            client, self._settings, self.nodes.is_mine, addresses, clock=clock, random=random, slots=slots
        )
        self._config: Informer[dict[str, Any]] = Informer(
            client,
            CONFIGMAPS,
            namespace=CONFIG_NAMESPACE,
            fields=f"metadata.name={CONFIG_NAME}",
            clock=clock,
            random=random,
        )
        self._configured = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        self._config.add_handler(self._reconfigure)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._config.run())
            await self._config.synced()
            self._configured.set()
            tasks.create_task(self.nodes.run())
            tasks.create_task(self.pods.run())

    async def complete(self) -> None:
        """Until every wanted node is there and Ready. The caller sets a deadline."""
        await self._configured.wait()
        while not self.nodes.complete():
            await self._clock.sleep(0.02)

    def _settings(self) -> Settings:
        return self.settings

    def _reconfigure(self, old: Any, new: dict[str, Any] | None) -> None:
        """A ConfigMap that cannot be read changes nothing: the fleet goes on as it was."""
        try:
            settings = parse((new or {}).get("data") or {})
        except ValueError as error:
            log.warning("ConfigMap %s/%s is ignored: %s", CONFIG_NAMESPACE, CONFIG_NAME, error)
            return
        if settings != self.settings:
            log.info("now: %s", settings)
            self.settings = settings
            self.nodes.look()
            self.pods.look_again()


async def configure(client: Client, changes: dict[str, str]) -> Settings:
    """Write settings into the fleet's ConfigMap, made if it is missing. Raises ValueError, ApiError."""
    try:
        found = await client.get(CONFIGMAPS, CONFIG_NAME, CONFIG_NAMESPACE)
        data = found.get("data") or {}
    except ApiError as error:
        if error.code != 404:
            raise
        found, data = {}, {}
    settings = parse({**data, **changes})
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_NAME, "namespace": CONFIG_NAMESPACE},
        "data": to_data(settings),
    }
    if found:
        await client.update(CONFIGMAPS, {**found, "data": wanted["data"]})
    else:
        await client.create(CONFIGMAPS, wanted)
    return settings
