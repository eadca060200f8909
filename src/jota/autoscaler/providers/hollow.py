"""Simulated machines: the fleet's ConfigMap lists the numbers of those that the autoscaler has made. Comes after `jota hollow`.

Nodes below the fleet's own number are the operator's and not of the group. Writes are compare-and-swap, so an operator who
changes the fleet's settings at the same time is not overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jota.autoscaler.provider import Machine, ProviderFault, Template
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS
from jota.node.hollow.addresses import Addresses, number
from jota.node.hollow.nodeset import node_object
from jota.node.hollow.settings import CONFIG_NAME, CONFIG_NAMESPACE, MOST_NODES, Settings, parse, to_data

_ATTEMPTS = 5


class HollowProvider:
    prefix = "hollow-"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._writing = asyncio.Lock()
        """Many machines are made at once; only others' writes shall be conflicts."""

    async def first(self) -> int:
        settings, _ = await self._read()
        self.prefix = f"{settings.prefix}-"
        return settings.nodes

    async def template(self) -> Template:
        settings, _ = await self._read()
        node = node_object(f"{settings.prefix}-{settings.nodes}", settings, Addresses(), 0.0)
        labels = {k: v for k, v in node["metadata"]["labels"].items() if not k.startswith("topology.")}
        return Template(dict(node["status"]["allocatable"]), labels)

    async def machines(self) -> list[Machine]:
        settings, _ = await self._read()
        return [Machine(f"{settings.prefix}-{n}") for n in _extra(settings)]

    async def create(self, name: str) -> None:
        if number(name) >= MOST_NODES:
            raise ProviderFault(f"there can be {MOST_NODES} simulated nodes", "QUOTA_EXCEEDED")
        await self._change(lambda numbers: numbers | {number(name)})

    async def delete(self, name: str) -> None:
        await self._change(lambda numbers: numbers - {number(name)})

    async def _read(self) -> tuple[Settings, dict[str, object]]:
        try:
            found = await self._client.get(CONFIGMAPS, CONFIG_NAME, CONFIG_NAMESPACE)
            return parse(found.get("data") or {}), found
        except ApiError as error:
            if error.code == 404:
                raise ProviderFault("there are no simulated nodes yet; start them: jota hollow scale 0") from error
            raise ProviderFault(f"the fleet's settings cannot be read: {error}") from error
        except (ConnectionError, TimeoutError) as error:
            raise ProviderFault(f"the fleet's settings cannot be read: {error or 'timed out'}") from error
        except ValueError as error:
            raise ProviderFault(f"ConfigMap {CONFIG_NAMESPACE}/{CONFIG_NAME}: {error}") from error

    async def _change(self, change: Callable[[set[int]], set[int]]) -> None:
        async with self._writing:
            for _ in range(_ATTEMPTS):
                if await self._try(change):
                    return
        raise ProviderFault("the fleet's settings are changed by somebody else all the time")

    async def _try(self, change: Callable[[set[int]], set[int]]) -> bool:
        """False: somebody else wrote in between."""
        settings, found = await self._read()
        numbers = set(_extra(settings))
        wanted = change(set(numbers))
        if wanted == numbers:
            return True
        found["data"] = {**to_data(settings), "extra": ",".join(str(n) for n in sorted(wanted))}
        try:
            await self._client.update(CONFIGMAPS, found)
        except ApiError as error:
            if error.code != 409:
                raise ProviderFault(f"the fleet's settings are not taken: {error}") from error
            return False
        except (ConnectionError, TimeoutError) as error:
            raise ProviderFault(f"the fleet's settings are not taken: {error or 'timed out'}") from error
        return True


def _extra(settings: Settings) -> list[int]:
    return [n for n in settings.numbers() if n >= settings.nodes]
