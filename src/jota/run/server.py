"""`jota server`: API, store, controllers and scheduler of one instance in one asyncio process. Start and stop order.

Start: material -> store -> API (bootstrap objects) -> listen -> write the credentials that `up` and operators read ->
controllers, scheduler, compactor -> "ready". Stop: the other way round; a kill at any line loses nothing acknowledged.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from ssl import SSLContext
from typing import IO, TYPE_CHECKING, Any

from jota.aio.clock import SystemClock
from jota.api.authn.anonymous import EVERYWHERE, PUBLIC
from jota.api.config import ApiConfig, FrontProxy
from jota.api.filters.attributes import COMPONENT
from jota.api.runtime_config import left_out
from jota.api.security import secure, write_roles
from jota.api.server import Api
from jota.client.client import Client
from jota.client.informers import Informers
from jota.client.inprocess import InProcess
from jota.controllers.controller import ControllerConfig
from jota.controllers.table import controllers, run_controllers
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, SECRETS, SERVICES, Resource
from jota.run import kubeconfig, tokens
from jota.run.audit import AuditFiles, open_audit
from jota.run.authorization import AuthorizationFlags, configured, nobody_unnamed
from jota.run.garbage import run_collector, settle
from jota.run.identity import IdentityFlags, outside
from jota.run.instance import Instance, Refused, host_address, host_addresses, write_file
from jota.run.material import Material, ensure
from jota.run.upkeep import bound_log, raise_open_files
from jota.scheduler.profile import Settings
from jota.scheduler.scheduler import Scheduler
from jota.store.compactor import run_compactor
from jota.store.drivers.sqlite import Damaged, SqliteStore
from jota.store.protocol import Unavailable
from jota.wire.http import HttpServer

if TYPE_CHECKING:
    from jota.api.authz.config import Configured
    from jota.run.identityreload import Reloading

log = logging.getLogger("jota.server")

DOMAIN = "cluster.local"
_RENEWAL = 86400.0
"""Seconds between two issues of the server's own certificates."""
_LOCAL_TOKEN_LIFE = 900.0
"""Seconds that the token for this host's own nodes may be used."""
SWITCH = 0.0005
"""Seconds that a thread which wants the interpreter waits for a busy loop (Python: 0.005). The store's thread waits two times
for each group of writes."""
_GRACE = 3.0
"""Seconds that open requests get at a stop; watches are ended at once and resume elsewhere."""
_LAST_CALL = 0.3
"""Seconds of them in which idle connections may still bring a request that was on its way."""


async def serve(
    instance: Instance,
    *,
    bind: str,
    ready: Callable[[], None],
    audit: AuditFiles | None = None,
    scheduling: Settings | None = None,
    runtime_config: Mapping[str, bool] | None = None,
    users: IdentityFlags | None = None,
    access: AuthorizationFlags | None = None,
    shutdown_delay: float = 0.0,
) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called once everything serves. Raises Refused when it cannot start."""
    sys.setswitchinterval(SWITCH)
    clock = SystemClock()
    access = access or AuthorizationFlags()
    authorizers, authorizers_file = configured(access)
    raise_open_files()
    advertised = instance.bridge_ip if instance.bridged else host_address()
    addresses = list(dict.fromkeys((advertised, *host_addresses())))
    material = _material(instance, addresses, clock)
    lock = _lock(instance.root)
    store = _open_store(instance.root, material)
    api, reconfigure, reloading = _api(
        instance,
        store,
        material,
        advertised,
        clock,
        dict(runtime_config or {}),
        users,
        authorizers,
        nobody_unnamed(access),
    )
    api.audit = open_audit(audit or AuditFiles(), instance.log_file("audit"), clock)
    await api.start()
    await write_roles(api)
    serving = material.serving_context()
    edge = HttpServer(api.reply, ssl=serving, clock=clock)
    try:
        await edge.start(bind, instance.api_port)
    except OSError as error:
        raise Refused(
            f"cannot listen on {bind}:{instance.api_port}: {error.strerror}; is another server running?"
        ) from error
    client = Client(InProcess(api.reply, COMPONENT))
    api.metrics.more.append(client.caches.text)
    await _publish(instance, material, client, clock, advertised)
    informers = Informers(client, clock)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(
                    run_controllers(
                        client,
                        clock,
                        _controller_config(instance, material),
                        stop,
                        informers=informers,
                        controllers=controllers(api.config.serves),
                    )
                ),
                tasks.create_task(
                    Scheduler(client, clock=clock, random=Random(), settings=scheduling, informers=informers).run()
                ),
                tasks.create_task(run_compactor(store, clock)),
                tasks.create_task(_bound_log(clock)),
                tasks.create_task(run_collector(clock, lambda: api.metrics.answered)),
                tasks.create_task(_renew(instance, addresses, serving, api, clock)),
            ]
            for part, loop in zip(("controller-manager", "scheduler"), loops, strict=False):
                api.components[part] = partial(_runs, loop)
            if reloading is not None:
                loops.append(tasks.create_task(reloading.run()))
            if authorizers_file is not None:
                loops.append(tasks.create_task(authorizers_file.follow(clock, reconfigure)))
            if instance.bridged:
                loops.append(tasks.create_task(_host_routes(instance, client, clock)))
            ready()
            settle()
            log.info("serving on https://%s:%d", advertised, instance.api_port)
            await stop.wait()
            api.fail_ready()
            if shutdown_delay:
                await clock.sleep(shutdown_delay)
            for loop in loops:
                loop.cancel()
    finally:
        await leave(api, edge)
        await api.close()
        await store.close()
        lock.close()


def _runs(loop: asyncio.Task[None]) -> bool:
    return not loop.done()


async def leave(api: Api, edge: HttpServer) -> None:
    """Nobody new is let in, what is at work is finished, and watches end cleanly: their clients resume at the next server."""
    api.fail_ready()
    edge.stop_listening()
    api.end_watches()
    await edge.close(_GRACE, _LAST_CALL)


def _material(instance: Instance, addresses: list[str], clock: SystemClock) -> Material:
    return ensure(instance.pki, addresses=addresses, service_cidr=instance.service_cidr, domain=DOMAIN, now=clock.now())


async def _renew(instance: Instance, addresses: list[str], serving: SSLContext, api: Api, clock: SystemClock) -> None:
    """Issue our own certificates anew every day, so that a server that runs for years locks nobody out."""
    while True:
        await clock.sleep(_RENEWAL)
        try:
            material = _material(instance, addresses, clock)
            serving.load_cert_chain(*material.pair("server"))
            if api.config.kubelet_tls is not None:
                api.config.kubelet_tls.load_cert_chain(*material.pair("kubelet-client"))
            api.aggregation.renewed()
            _write_credentials(instance, material)
        except OSError as fault:
            log.warning("certificates could not be renewed: %s", fault)


def _write_credentials(instance: Instance, material: Material) -> None:
    admin = kubeconfig.Credentials(
        f"https://127.0.0.1:{instance.api_port}", material.ca_pem, material.admin.certificate, material.admin.key
    )
    write_file(instance.admin_kubeconfig, kubeconfig.render(instance.context, admin), 0o600)


def _lock(root: Path) -> IO[str]:
    """One server per data directory: two writers would each believe in their own index."""
    handle = open(root / "server.lock", "w")  # noqa: SIM115 - held for the life of the process
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Refused(f"another server is running on {root}; stop it first: jota down") from None
    return handle


def _open_store(root: Path, material: Material) -> SqliteStore:
    try:
        return SqliteStore(str(root / "store.db"), material.envelope)
    except (Damaged, Unavailable) as error:
        raise Refused(f"the store cannot be opened: {error}") from error


def _api(
    instance: Instance,
    store: SqliteStore,
    material: Material,
    advertised: str,
    clock: SystemClock,
    runtime_config: dict[str, bool],
    users: IdentityFlags | None,
    authorizers: Configured,
    named_only: bool,
) -> tuple[Api, Callable[[Configured], None], Reloading | None]:
    """The server, what puts other authorizers in force, and what follows the file about users."""
    config = ApiConfig(
        service_cidr=instance.service_cidr,
        cluster_domain=DOMAIN,
        advertise_address=advertised,
        advertise_port=instance.api_port,
        kubelet_tls=material.kubelet_client_context(),
        runtime_config=runtime_config,
        front_proxy=FrontProxy(
            *material.pair("front-proxy-client"), material.front_proxy_ca.decode(), material.ca_pem.decode()
        ),
    )
    for missing in left_out(runtime_config):
        log.warning("--runtime-config asks for %s, which this server does not have", missing)
    api = Api(store, clock=clock, random=Random(), config=config)
    issuer = f"https://kubernetes.default.svc.{DOMAIN}"
    reloading = None
    authenticators, anonymous = ([], EVERYWHERE) if users is None else outside(users, clock, issuer)
    if named_only and anonymous.enabled:
        log.warning("anonymous requests are refused but for what is public: AlwaysAllow would grant them everything")
        anonymous = PUBLIC
    reconfigure = secure(api, material.signer, issuer, authenticators, anonymous, authorizers)
    if users is not None and users.authentication_config:
        from jota.run.identityreload import Reloading

        reloading = Reloading(users.authentication_config, issuer, clock, authenticators, socket.gethostname())
        api.metrics.more.append(reloading.metrics)
    return api, reconfigure, reloading


def _controller_config(instance: Instance, material: Material) -> ControllerConfig:
    return ControllerConfig(
        cluster_cidr=instance.pod_cidr,
        ca_pem=material.ca_pem.decode(),
        signer=material.authority,
        reserved=material.names,
        token_signer=material.signer,
    )


async def _publish(instance: Instance, material: Material, client: Client, clock: SystemClock, advertised: str) -> None:
    """Write what others need to come in: credentials, a join token, facts for joining nodes, the DNS Service."""
    _write_credentials(instance, material)
    token = tokens.create(material.authority.fingerprint)
    await client.create(SECRETS, tokens.secret(token, now=clock.now(), lifetime=_LOCAL_TOKEN_LIFE), "kube-system")
    write_file(instance.join_token, str(token).encode(), 0o600)
    await _apply(
        client, CONFIGMAPS, _cluster_info(instance, f"https://{advertised}:{instance.api_port}", material.ca_pem)
    )
    await _apply(client, SERVICES, _dns_service(instance.dns_ip))


async def _apply(client: Client, resource: Resource, obj: dict[str, Any]) -> None:
    """Create, or bring an older one's content up to date."""
    meta = obj["metadata"]
    try:
        await client.create(resource, obj, meta["namespace"])
    except ApiError as error:
        if error.code != 409:
            raise
        content = {k: v for k, v in obj.items() if k in ("data", "spec")}
        await client.patch(resource, meta["name"], meta["namespace"], content)


def _cluster_info(instance: Instance, url: str, ca_pem: bytes) -> dict[str, Any]:
    """ConfigMap kube-public/cluster-info: what joining nodes read before they trust anybody (kubeadm's form), and what
    every node must know of the cluster's addresses."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
    text = 'apiVersion: v1\nkind: Config\nclusters:\n- name: ""\n  cluster:\n'
    text += "".join(f"    {key}: {value}\n" for key, value in cluster.items())
    facts = {
        "kubeconfig": text,
        "podCIDR": instance.pod_cidr,
        "serviceCIDR": instance.service_cidr,
        "clusterDNS": instance.dns_ip,
        "clusterDomain": DOMAIN,
    }
    meta = {"name": "cluster-info", "namespace": "kube-public"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": facts}


def _dns_service(address: str) -> dict[str, Any]:
    """kube-system/kube-dns without a selector: every node's agent answers on its address. Give it endpoints, and it
    leads to them instead."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": labels}
    spec = {"clusterIP": address, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


async def _host_routes(instance: Instance, client: Client, clock: SystemClock) -> None:
    """With nodes in namespaces of their own, the host reaches pods and services through them."""
    from jota.node.routes import run_host_routes

    informers = Informers(client, clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(informers.run())
        tasks.create_task(
            run_host_routes(informers, instance=instance.name, service_cidr=instance.service_cidr, clock=clock)
        )


async def _bound_log(clock: SystemClock) -> None:
    while True:
        await clock.sleep(60)
        try:
            bound_log()
        except OSError as fault:
            log.warning("the log could not be moved aside: %s", fault)
