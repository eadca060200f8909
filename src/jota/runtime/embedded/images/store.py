"""The Images contract over the blocking library: each call runs on one of the engine's worker threads."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable
from typing import Any

from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.images.library import Library
from jota.runtime.protocol import Image

Blocking = Callable[[Callable[[], Any]], Awaitable[Any]]


class EmbeddedImages:
    """See `jota.runtime.protocol.Images`."""

    def __init__(self, library: Library, blocking: Blocking, slow: Blocking | None = None) -> None:
        """`slow` runs what waits for a network or a disk: pulls must not hold the threads that start containers."""
        self._library, self._blocking, self._slow = library, blocking, slow or blocking

    async def pull(self, reference: str, *, auth: tuple[str, str] | None = None) -> Image:
        from jota.runtime.embedded.images import registry

        image: Image = await self._slow(lambda: registry.pull(self._library, reference, auth))
        return image

    async def load(self, path: str) -> builtins.list[Image]:
        images: builtins.list[Image] = await self._slow(lambda: self._library.load(path))
        return images

    async def get(self, reference: str) -> Image | None:
        image: Image | None = await self._blocking(lambda: self._library.get(reference))
        return image

    async def list(self) -> builtins.list[Image]:
        images: builtins.list[Image] = await self._blocking(self._library.list)
        return images

    async def remove(self, reference: str) -> None:
        await self._slow(lambda: self._library.remove(reference))


def open_images(root: str) -> EmbeddedImages:
    """The store at `root` without a runtime: for command lines. Other processes may use it at the same moment."""
    return EmbeddedImages(Library(Content(root)), lambda work: asyncio.get_running_loop().run_in_executor(None, work))
