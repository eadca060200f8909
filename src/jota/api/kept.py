"""Keeps there what pods find the API by, as upstream does: the Service `kubernetes` with its endpoints, and the ServiceCIDR of
that name; and the ConfigMap that says since when uses of tokens in Secrets are noted. Who deletes one of them (with `--all`,
say) gets it back.

In: changes of ServiceCIDRs, and a timer. Out: bootstrap.py, which makes what is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from jota.aio.waiting import wait_event
from jota.api import bootstrap, legacyuses
from jota.meta.resource import SERVICE_CIDRS

if TYPE_CHECKING:
    from jota.api.server import Api

log = logging.getLogger("jota.api")
EVERY = 10.0
"""Seconds between two looks (upstream's EndpointReconcilerInterval). Services change too often to look at each change."""
WHAT: dict[str, Callable[[Api], Awaitable[None]]] = {
    "ServiceCIDR kubernetes": bootstrap.default_service_cidr,
    "Service kubernetes": bootstrap.kubernetes_service,
    "ConfigMap about uses of tokens": legacyuses.tracked,
}


async def keep(api: Api) -> None:
    """Until cancelled."""
    changed = asyncio.Event()
    if (SERVICE_CIDRS.group, SERVICE_CIDRS.version, SERVICE_CIDRS.plural) in api.served:
        api.registry.subscribe(SERVICE_CIDRS, changed.set)
    while True:
        await wait_event(changed, api.clock, EVERY)
        changed.clear()
        for name, make in WHAT.items():
            try:
                await make(api)
            except RuntimeError as error:
                log.warning("the %s could not be kept up: %s", name, error)
