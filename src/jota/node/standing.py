"""Keep one thing of the kernel as it is wanted. In: word that something changed, the step that makes it so. Out: it stands.

Next: routes.py, serviceranges.py, which say what is wanted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jota.aio.clock import Clock
from jota.net.sys import NetworkFault
from jota.node.proxy import within

log = logging.getLogger(__name__)

CHECK = 30.0
"""Seconds between two looks at the kernel."""
RETRY = 2.0
_GAP = 0.05
"""Seconds that changes gather."""


async def keep(what: str, dirty: asyncio.Event, apply: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Call `apply` at once, when `dirty` is set and now and then, until cancelled. A NetworkFault is told (`what`) and tried
    again."""
    dirty.set()
    wait = CHECK
    while True:
        await within(dirty, wait)
        dirty.clear()
        try:
            await apply()
            wait = CHECK
        except NetworkFault as fault:
            log.warning("%s: %s; next attempt in %g s", what, fault, RETRY)
            wait = RETRY
        await clock.sleep(_GAP)
