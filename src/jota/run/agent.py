"""`jota agent`: node agent, kubelet API, service proxy and DNS of one node. It knows its server by URL and identity alone.

Start: identity (join, if new) -> runtime (supervisor, adopt what runs) -> register the node and learn its pod CIDR ->
network -> services, DNS, routes -> pods -> kubelet API -> "ready" once the API shows the node Ready. A stopped agent leaves
its containers running; the next one finds them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from dataclasses import dataclass
from pathlib import Path

from jota.aio.clock import SystemClock
from jota.client.client import Client
from jota.run.join import join
from jota.run.tokens import JoinToken
from jota.runtime.embedded.runtime import EmbeddedRuntime

log = logging.getLogger("jota.agent")

_MASTERS = "system:masters"
_GRACE = 1.0


@dataclass(slots=True, frozen=True)
class AgentPlan:
    """What a machine must be told to be a node."""

    instance: str
    server: str
    """URL of the API."""
    node: str
    address: str
    """The node's own IPv4 address, as other nodes reach it."""
    directory: Path
    images: Path
    kubelet_port: int = 10250
    token: JoinToken | None = None


async def run(plan: AgentPlan, ready: int | None) -> None:
    """Run until SIGTERM or SIGINT; containers keep running. Raises Refused when the node cannot join."""
    clock = SystemClock()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    identity = await join(plan.server, plan.token, plan.node, [plan.address], plan.directory / "pki", clock)
    client = Client(identity.transport(plan.server))
    runtime = EmbeddedRuntime(
        str(plan.directory / "runtime"),
        str(plan.images),
        name=f"{plan.instance}-{plan.node}",
        cgroup_parent=f"jota-{plan.instance}",
        clock=clock,
    )
    await runtime.start()
    gc.collect()
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        main = tasks.create_task(_node(plan, identity, client, runtime, clock, ready))
        await stop.wait()
        main.cancel()
    await runtime.close()
    await client.close()
