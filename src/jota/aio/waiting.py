"""Wait for an event, but not for ever, on a clock that is handed in (asyncio's own timeouts know only real time)."""

from __future__ import annotations

import asyncio

from jota.aio.clock import Clock


async def wait_event(event: asyncio.Event, clock: Clock, seconds: float | None) -> bool:
    """True when the event is set, False when `seconds` passed first (None: no limit)."""
    if seconds is None:
        await event.wait()
        return True
    waiter = asyncio.ensure_future(event.wait())
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((waiter, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        timer.cancel()
    return event.is_set()
