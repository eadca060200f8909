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
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from jota import __version__
from jota.aio.clock import Clock, SystemClock
from jota.client.client import Client
from jota.client.https import Https
from jota.client.informers import Informers
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NODES
from jota.net.links import RoutedPodNetwork
from jota.net.nft_proxy import NftServiceProxy
from jota.node.access import Access
from jota.node.agent import NodeAgent
from jota.node.config import Curve, NodeConfig
from jota.node.configz import configuration
from jota.node.dns import run_dns
from jota.node.itself import Itself
from jota.node.proxy import run_proxy
from jota.node.proxyhealth import ProxyHealth
from jota.node.routes import run_routes
from jota.node.server import KubeletServer
from jota.node.serviceranges import run_service_ranges
from jota.node.volumes.persistent import LOCAL_ROOT
from jota.run.instance import Refused, write_file
from jota.run.join import Identity, join
from jota.run.tokens import JoinToken
from jota.run.upkeep import bound_log
from jota.runtime.embedded.portforward import connect
from jota.runtime.embedded.runtime import LOG_FILES, LOG_SIZE, EmbeddedRuntime
from jota.wire.http import HttpServer

log = logging.getLogger("jota.agent")

_GRACE = 1.0
_RENEWAL = 6 * 3600.0
"""Seconds between two looks at the age of our certificates."""


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


@dataclass(slots=True, frozen=True)
class _Cluster:
    """What every node must know of the cluster's addresses (ConfigMap kube-public/cluster-info)."""

    pod_cidr: str
    service_cidr: str
    dns: str
    domain: str


async def run(plan: AgentPlan, ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT; containers keep running. `ready` is called once the API shows the node Ready.

    Raises Refused when the node cannot join.
    """
    clock = SystemClock()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runtime = EmbeddedRuntime(
        str(plan.directory / "runtime"),
        str(plan.images),
        name=f"{plan.instance}-{plan.node}",
        cgroup_parent=f"jota-{plan.instance}",
        clock=clock,
    )
    starting = asyncio.ensure_future(runtime.start())
    identity = await _join(plan, runtime, starting, clock)
    client = Client(identity.transport(plan.server), user_agent="jota-agent")
    async with asyncio.TaskGroup() as tasks:
        main = tasks.create_task(_node(plan, identity, client, runtime, clock, ready))
        await stop.wait()
        main.cancel()
    await runtime.close()
    await client.close()


async def _join(plan: AgentPlan, runtime: EmbeddedRuntime, starting: asyncio.Future[None], clock: Clock) -> Identity:
    """While the runtime starts. A machine that was refused, and never was a node, is left as it was. Raises Refused."""
    pki = plan.directory / "pki"
    was_node = Identity(pki).complete
    try:
        identity = await join(plan.server, plan.token, plan.node, [plan.address], pki, clock)
    except BaseException:
        await asyncio.gather(starting, return_exceptions=True)
        await (runtime.close() if was_node else runtime.shutdown())
        raise
    await starting
    return identity


async def _node(
    plan: AgentPlan,
    identity: Identity,
    client: Client,
    runtime: EmbeddedRuntime,
    clock: Clock,
    ready: Callable[[], None],
) -> None:
    cluster = await _cluster(client, plan.directory / "cluster")
    own = await _pod_cidr(client, plan.node, plan.directory / "pod-cidr", clock)
    network = RoutedPodNetwork(
        instance=plan.instance,
        node=plan.node,
        pod_cidr=own,
        state_dir=str(plan.directory / "net"),
        node_ip=plan.address,
        cluster_cidr=cluster.pod_cidr,
        service_cidr=cluster.service_cidr,
        local_addresses=[cluster.dns],
    )
    await network.start()
    proxy = NftServiceProxy(
        instance=plan.instance, node=plan.node, service_cidr=cluster.service_cidr, pod_cidrs=[cluster.pod_cidr]
    )
    informers = Informers(client, clock)
    config = NodeConfig(
        name=plan.node,
        address=plan.address,
        data_dir=str(plan.directory),
        log_dir=str(plan.directory / "logs"),
        kubelet_port=plan.kubelet_port,
        cluster_dns=cluster.dns,
        cluster_domain=cluster.domain,
        pod_cidr=own,
        cgroup_parent=f"jota-{plan.instance}",
        curve=Curve.from_environment(),
        annotations={LOCAL_ROOT: str(plan.directory / "local-volumes")},
    )
    itself = Itself.here(__version__)
    agent = NodeAgent(
        client, runtime, network, config=config, clock=clock, random=Random(), informers=informers, itself=itself
    )
    kubelet = KubeletServer(
        runtime,
        agent.pods.list,
        clock=clock,
        node_name=plan.node,
        admit=Access(client, clock, plan.node).admit,
        local_volumes=config.annotations[LOCAL_ROOT],
        itself=itself,
        configuration=configuration(config, log_size=LOG_SIZE, log_files=LOG_FILES),
        connect=lambda port: connect("", port),
    )
    serving = identity.serving_context()
    edge = HttpServer(kubelet.handle, ssl=serving, clock=clock)
    try:
        await edge.start(plan.address, plan.kubelet_port)
    except OSError as error:
        place = f"{plan.address}:{plan.kubelet_port}"
        raise Refused(f"cannot listen on {place}: {error.strerror}; choose another --kubelet-port") from error
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informers.run())
            tasks.create_task(
                run_proxy(
                    informers,
                    proxy,
                    clock=clock,
                    node=plan.node,
                    local_addresses=[cluster.dns],
                    health=ProxyHealth(clock),
                )
            )
            tasks.create_task(run_dns(informers, address=cluster.dns, domain=cluster.domain, clock=clock))
            tasks.create_task(run_routes(informers, instance=plan.instance, node_name=plan.node, clock=clock))
            tasks.create_task(
                run_service_ranges(informers, network.route_services, service_cidr=cluster.service_cidr, clock=clock)
            )
            tasks.create_task(agent.run())
            tasks.create_task(_renew(plan, client, serving, clock))
            tasks.create_task(_keep_log_short(clock))
            await agent.ready.wait()
            await _shown_ready(client, plan.node, clock)
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 100)
            ready()
            tasks.create_task(agent.mirror.run())
            log.info("node %s is ready", plan.node)
    finally:
        await edge.close(_GRACE)


async def _cluster(client: Client, kept: Path) -> _Cluster:
    """From the API, or what we last knew while the server is away: a restarted agent must serve what runs."""
    try:
        info = (await client.get(CONFIGMAPS, "cluster-info", "kube-public"))["data"]
        found = _Cluster(info["podCIDR"], info["serviceCIDR"], info["clusterDNS"], info["clusterDomain"])
    except (ApiError, OSError, TimeoutError, KeyError) as error:
        try:
            return _Cluster(*kept.read_text().split())
        except (OSError, TypeError, ValueError):
            raise Refused(f"the server does not tell the cluster's addresses: {error or 'timed out'}") from error
    write_file(kept, f"{found.pod_cidr} {found.service_cidr} {found.dns} {found.domain}".encode(), 0o644)
    return found


async def _pod_cidr(client: Client, node: str, kept: Path, clock: Clock) -> str:
    """This node's range of pod addresses: registers the bare Node if it is new and waits for the controller's answer."""
    if kept.exists():
        return kept.read_text().strip()
    pause, deadline = 0.005, clock.monotonic() + 30
    found = await _bare_node(client, node)
    while not (found.get("spec") or {}).get("podCIDR"):
        if clock.monotonic() > deadline:
            raise Refused(f"node {node} got no range of pod addresses in 30 s; is the cluster's pod range used up?")
        await clock.sleep(pause)
        pause = min(pause * 1.5, 0.5)
        found = await client.get(NODES, node)
    own = str(found["spec"]["podCIDR"])
    write_file(kept, own.encode(), 0o644)
    return own


async def _bare_node(client: Client, node: str) -> dict[str, Any]:
    try:
        return await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {}})
    except ApiError as error:
        if error.code != 409:
            raise Refused(f"the server refused the node {node}: {error.message}") from error
    return await client.get(NODES, node)


async def _shown_ready(client: Client, node: str, clock: Clock) -> None:
    """Wait until the API shows the node Ready."""
    pause = 0.005
    while True:
        try:
            conditions = ((await client.get(NODES, node)).get("status") or {}).get("conditions") or ()
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("the API does not answer: %s", error or "timed out")
            conditions = ()
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            return
        await clock.sleep(pause)
        pause = min(pause * 1.5, 1.0)


async def _renew(plan: AgentPlan, client: Client, serving: ssl.SSLContext, clock: Clock) -> None:
    """Certificates rotate by themselves, long before they end; new connections use the new ones."""
    while True:
        await clock.sleep(_RENEWAL)
        try:
            identity = await join(plan.server, None, plan.node, [plan.address], plan.directory / "pki", clock)
            if isinstance(client.transport, Https):
                client.transport.reload(*identity.client)
            serving.load_cert_chain(*identity.serving)
        except (Refused, OSError) as fault:
            log.warning("certificates could not be renewed: %s", fault)


async def _keep_log_short(clock: Clock) -> None:
    while True:
        await clock.sleep(60)
        try:
            bound_log()
        except OSError as fault:
            log.warning("the log could not be moved aside: %s", fault)
