"""Deletions that come together leave together: those of one turn of the loop are one request (`Client.delete_each`) as far as the
server can. To whoever asks, each is as if it had been sent alone.

In: what several workers of a controller want deleted, one by one. Out: requests. Used by the garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import Resource

_Kind = tuple[Resource, str, str]
"""What one request has in common: resource, namespace, propagation."""


class _Wish(NamedTuple):
    name: str
    uid: str
    resource_version: str
    done: asyncio.Future[bool]
    """False: nothing is done about it yet."""


class Deletions:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._gathered: dict[_Kind, list[_Wish]] = {}

    async def delete(
        self, resource: Resource, name: str, namespace: str, *, uid: str, resource_version: str, propagation: str
    ) -> None:
        """As `Client.delete`, which says what it raises."""
        wish = _Wish(name, uid, resource_version, asyncio.get_running_loop().create_future())
        kind = resource, namespace, propagation
        gathered = self._gathered.setdefault(kind, [])
        gathered.append(wish)
        if gathered[0] is wish:  # the first waits for those of this turn, and sends for all
            await self._send(kind, gathered)
        if not await wish.done:
            await self._client.delete(
                resource,
                name,
                namespace,
                uid=uid,
                resource_version=resource_version,
                propagation=propagation,
                answer=False,
            )

    async def _send(self, kind: _Kind, wishes: list[_Wish]) -> None:
        resource, namespace, propagation = kind
        answers: Sequence[bool] = ()
        try:
            try:
                await asyncio.sleep(0)
            finally:
                del self._gathered[kind]
            names, versions = [(w.name, w.uid) for w in wishes], [w.resource_version for w in wishes]
            answers = await self._client.delete_each(
                resource, names, namespace, propagation=propagation, resource_versions=versions
            )
        except (ApiError, ConnectionError, TimeoutError):
            pass  # each tries by itself, and is told by its own answer
        finally:  # also when the first is cancelled: that is no word to the others
            for wish, answer in zip(wishes, chain(answers, repeat(False)), strict=False):
                if not wish.done.done():
                    wish.done.set_result(answer)
