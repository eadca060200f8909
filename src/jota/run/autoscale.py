"""The process of the cluster autoscaler. In: an instance and its autoscaler.yaml. Out: a running Autoscaler with its providers.

A process of its own: what is not switched on costs nothing, simulating never delays the server's loop, and the commands that
make machines run under no other process's feet. The settings are a file of the host and not an object of the API, because
they name programs that are run here as this user: whoever may write ConfigMaps must not thereby own the machine.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import yaml

from jota.aio.clock import SystemClock
from jota.autoscaler.autoscaler import Autoscaler
from jota.autoscaler.provider import Provider, ProviderFault
from jota.autoscaler.providers.exec import ExecProvider
from jota.autoscaler.providers.hollow import HollowProvider
from jota.autoscaler.settings import BadSettings, GroupSettings, Settings, parse
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import SECRETS
from jota.run import kubeconfig, tokens
from jota.run.hollow import connect
from jota.run.instance import Instance, Registry, host_address
from jota.run.localnodes import LocalProvider

log = logging.getLogger("jota.autoscaler")

TOKEN_LIFE = 3600.0
"""Seconds that a machine made by a command may take to join."""


async def serve(registry: Registry, instance: Instance, ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT, or until the settings are taken away."""
    clock = SystemClock()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = connect(instance, agent="jota-autoscaler")
    local = LocalProvider(registry, instance.name, client, clock.now)

    async def join() -> dict[str, str]:
        return await _join(instance, client, clock.now())

    def make(group: GroupSettings) -> Provider:
        if group.provider == "local":
            return local
        return HollowProvider(client) if group.provider == "hollow" else ExecProvider(group, join)

    autoscaler = Autoscaler(client, SettingsFile(instance.autoscaler_settings), make, clock=clock)
    work = asyncio.ensure_future(autoscaler.run())
    asked, started = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(autoscaler.started.wait())
    try:
        await asyncio.wait((work, asked, started), return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            gc.collect()
            gc.freeze()
            # Before the first pass: whoever waits for us holds the instance's lock, which making nodes needs.
            ready()
            log.info("at work")
        await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        local.stop()
        for task in (work, asked, started):
            task.cancel()
        await asyncio.gather(work, asked, started, return_exceptions=True)
        await local.close()
        await client.close()


class SettingsFile:
    """The settings as the file has them now; read only when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None
        self._settings = Settings()

    def __call__(self) -> Settings | None:
        """None when the file is gone. Raises BadSettings once per version of the file."""
        try:
            state = self._path.stat()
            stamp = state.st_mtime_ns, state.st_ino
            if stamp == self._known:
                return self._settings
            text = self._path.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{self._path}: {error}") from error
        self._known = stamp
        try:
            self._settings = parse(yaml.safe_load(text))
        except (yaml.YAMLError, RecursionError) as error:
            raise BadSettings(f"{self._path} is not YAML: {error}") from error
        return self._settings


async def _join(instance: Instance, client: Client, now: float) -> dict[str, str]:
    """What a machine elsewhere needs to become a node. Raises ProviderFault."""
    from jota.pki.ca import fingerprint

    token = tokens.create(fingerprint(kubeconfig.read(instance.admin_kubeconfig).ca))
    try:
        await client.create(SECRETS, tokens.secret(token, now=now, lifetime=TOKEN_LIFE), "kube-system")
    except (ApiError, ConnectionError, TimeoutError) as error:
        raise ProviderFault(f"no join token could be made: {error or 'timed out'}") from error
    return {"server": f"https://{host_address()}:{instance.api_port}", "token": str(token)}
