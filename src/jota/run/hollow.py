"""The process of the simulated nodes, and changes of its settings from outside. In: an instance. Out: a running Fleet.

One process for all of them, apart from the server: on two cores their work is done beside the server's, not in its loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from random import Random

from jota.aio.clock import SystemClock
from jota.client.client import Client
from jota.client.https import Https
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NODES
from jota.node.hollow.fleet import CONCURRENT, Fleet, configure
from jota.node.hollow.settings import CONFIG_NAME, CONFIG_NAMESPACE, LABEL, Settings, parse
from jota.run import kubeconfig
from jota.run.garbage import run_collector, settle
from jota.run.instance import Instance, Refused

log = logging.getLogger("jota.hollow")


async def serve(instance: Instance, count: int | None, ready: int | None) -> None:
    """Run until SIGTERM or SIGINT; the nodes then fall silent. Raises Refused."""
    clock = SystemClock()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = connect(instance, idle=CONCURRENT)
    if count is not None:
        await _configured(instance, client, {"nodes": str(count)})
    fleet = Fleet(client, clock=clock, random=Random())
    async with asyncio.TaskGroup() as tasks:
        main = tasks.create_task(fleet.run())
        await fleet.complete()
        settle()
        collector = tasks.create_task(run_collector(clock, lambda: 0))
        if ready is not None:
            os.write(ready, b"ready\n")
            os.close(ready)
        log.info("%d nodes are ready", fleet.settings.nodes)
        await stop.wait()
        main.cancel()
        collector.cancel()
    await client.close()


def connect(instance: Instance, *, idle: int = 8, agent: str = "jota-hollow") -> Client:
    """A client with the instance's own administrator's credentials. Raises Refused."""
    who = kubeconfig.read(instance.admin_kubeconfig)
    certificate, key = instance.pki / "admin.crt", instance.pki / "admin.key"
    return Client(Https(who.server, ca=who.ca, certificate=certificate, key=key, idle=idle), user_agent=agent)


def change(instance: Instance, changes: dict[str, str], *, patience: float) -> Settings:
    """Change the fleet's settings; waits up to `patience` seconds until the nodes match. Raises Refused."""
    return asyncio.run(_change(instance, changes, patience))


def show(instance: Instance) -> Settings:
    """The settings as they are. Raises Refused."""
    return asyncio.run(settings_of(instance))


async def settings_of(instance: Instance) -> Settings:
    """Raises Refused."""
    client = connect(instance)
    try:
        found = await client.get(CONFIGMAPS, CONFIG_NAME, CONFIG_NAMESPACE)
        return parse(found.get("data") or {})
    except (ApiError, OSError, TimeoutError, ValueError) as error:
        if isinstance(error, ApiError) and error.code == 404:
            raise Refused(f"there are no simulated nodes yet: jota hollow scale N --name {instance.name}") from None
        raise Refused(f"the settings of the hollow nodes cannot be read: {error}") from error
    finally:
        await client.close()


async def _change(instance: Instance, changes: dict[str, str], patience: float) -> Settings:
    client, clock = connect(instance), SystemClock()
    try:
        settings = await _configured(instance, client, changes)
        if "nodes" in changes:
            async with asyncio.timeout(patience):
                while await _count(client) != len(settings.numbers()):
                    await clock.sleep(min(1.0, 0.05 + settings.nodes / 5000))
        return settings
    except TimeoutError:
        raise Refused(
            f"the nodes do not match yet after {patience:.0f} s; is the process alive? (jota status)"
        ) from None
    finally:
        await client.close()


async def _count(client: Client) -> int:
    listed = await client.list(NODES, "", f"{LABEL}=true", metadata=True)
    return len(listed["items"])


async def _configured(instance: Instance, client: Client, changes: dict[str, str]) -> Settings:
    try:
        return await configure(client, changes)
    except ValueError as error:
        raise Refused(str(error)) from error
    except (ApiError, OSError) as error:
        raise Refused(
            f"the server does not take it ({error or 'timed out'}); is it running? jota status --name {instance.name}"
        ) from error
