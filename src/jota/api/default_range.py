"""Keeps the ServiceCIDR `kubernetes` there: who deletes it (which other ranges must cover) gets it back, as upstream.

In: changes of ServiceCIDRs, and a slow timer. Out: `bootstrap.default_service_cidr`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jota.api import bootstrap
from jota.meta.resource import SERVICE_CIDRS

if TYPE_CHECKING:
    from jota.api.server import Api

log = logging.getLogger("jota.api")
EVERY = 60.0
"""Seconds between two looks without a reason."""


async def keep(api: Api) -> None:
    """Until cancelled."""
    if (SERVICE_CIDRS.group, SERVICE_CIDRS.version, SERVICE_CIDRS.plural) not in api.served:
        return
    changed = asyncio.Event()
    api.registry.subscribe(SERVICE_CIDRS, changed.set)
    while True:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(changed.wait()), group.create_task(api.clock.sleep(EVERY))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        changed.clear()
        try:
            await bootstrap.default_service_cidr(api)
        except RuntimeError as error:
            log.warning("the default ServiceCIDR could not be kept up: %s", error)
