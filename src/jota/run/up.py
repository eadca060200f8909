"""`jota up`: make or find the instance, start what is not running, return when every node is Ready.

Server and agents start at the same time; each agent loads its code while the server makes keys, then reads from its
standard input how to join. Readiness comes back through a pipe per process: nothing is polled, but for processes that a
killed `up` left half started.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jota.run import doctor, kubeconfig, processes
from jota.run.instance import Instance, NodePlan, Refused, Registry, host_address, write_file
from jota.run.reservation import Reservations

_PATIENCE = 60.0
"""Seconds until a process that says nothing is given up."""


_ATTEMPTS = 3


@dataclass(slots=True)
class Started:
    """A process that is coming up."""

    what: str
    process: subprocess.Popen[bytes]
    ready: int
    log: Path


def up(
    registry: Registry, name: str, *, data_dir: str | None, config: str | None, nodes: int | None, bind: str,
    hollow: int | None = None, runtime_config: str | None = None, autoscale: Scaling | None = None,
    server_flags: Sequence[str] = (), say: Callable[[str], None],
) -> Instance:  # fmt: skip
    """The running instance. `server_flags`: more arguments of `jota server`, kept for its next starts. Raises Refused."""
    with registry.locked(name), Reservations() as held:
        existing = registry.find(name)
        if autoscale is not None and autoscale.hollow and hollow is None and not (existing and existing.hollow):
            hollow = 0
        local = autoscale is not None and autoscale.local is not None
        least = autoscale.local if autoscale is not None and autoscale.local is not None else _default_nodes(hollow)
        wanted = least if nodes is None else nodes
        if (len(existing.nodes) if existing else wanted) or local:
            _check_machine()
        instance = existing or registry.create(name, data_dir, wanted, held, namespaced=local)
        instance.hollow = instance.hollow or hollow is not None
        _check_same(instance, existing is not None, data_dir, nodes)
        _check_new(instance, runtime_config)
        _check_flags(instance, list(server_flags))
        if autoscale is not None:
            adopt_scaling(instance, autoscale)
        try:
            _bring_up(registry, instance, bind)
            if instance.hollow:
                _hollow(instance, hollow, processes.running(instance))
            if instance.autoscaled:
                start_autoscaler(instance)
        except BaseException:
            if existing is None:
                say(f"the cluster could not be started; its logs are in {instance.root / 'logs'}")
            raise
        target = kubeconfig.target(config or instance.kubeconfig or None)
        kubeconfig.merge_into(target, instance.context, _credentials(instance))
        instance.kubeconfig = str(target)
        instance.save()
    return instance


def _check_same(instance: Instance, existed: bool, data_dir: str | None, nodes: int | None) -> None:
    if not existed:
        return
    if data_dir and Path(data_dir).absolute() != instance.root:
        raise Refused(
            f'the cluster "{instance.name}" lives in {instance.root}, not in {data_dir}; choose another --name, '
            f"or remove it first: jota down --name {instance.name} --purge"
        )
    if nodes is not None and nodes != len(instance.nodes) and not (instance.autoscaled and instance.namespaced):
        raise Refused(
            f'the cluster "{instance.name}" has {len(instance.nodes)} node(s) on this host, not {nodes}; to change that: '
            f"jota down --name {instance.name} --purge, then jota up --name {instance.name} --nodes {nodes}"
        )


def _check_new(instance: Instance, runtime_config: str | None) -> None:
    """What a server is told at its start cannot be told to one that runs. None: as before."""
    if runtime_config is None or runtime_config == instance.runtime_config:
        return
    if any(p.role == "server" for p in processes.running(instance)):
        raise Refused(
            f'the server of "{instance.name}" runs already; for another --runtime-config: jota down --name '
            f"{instance.name}, then jota up --name {instance.name} --runtime-config '{runtime_config}'"
        )
    instance.runtime_config = runtime_config


def _check_flags(instance: Instance, flags: list[str]) -> None:
    """Likewise for its flags that are passed on. None given: as before."""
    if not flags or flags == instance.server_flags:
        return
    if any(p.role == "server" for p in processes.running(instance)):
        given = ", ".join(sorted({flag.partition("=")[0] for flag in flags}))
        raise Refused(
            f'the server of "{instance.name}" runs already; for another {given}: jota down --name {instance.name}, then '
            f"jota up --name {instance.name} with all flags of this kind"
        )
    instance.server_flags = flags


def _check_machine() -> None:
    """Before anything is written: a refused `up` leaves no trace."""
    failed = doctor.missing()
    if failed:
        lines = [f"  {c.name}: {c.found} (needed for {c.needed_for}); {c.remedy}" for c in failed]
        alone = "What works without it: a control plane without nodes (API, controllers, scheduler): jota up --nodes 0"
        raise Refused("this machine cannot run pods yet:\n" + "\n".join(lines) + "\n" + alone)
    host_address()


def _bring_up(registry: Registry, instance: Instance, bind: str) -> None:
    """Start what is missing and wait for what an earlier `up` began: should that end instead, it is started anew."""
    for _ in range(_ATTEMPTS):
        processes.end(processes.strays(instance), grace=0.0)
        live = [p for p in processes.running(instance) if p.role in ("server", "agent")]
        server = [p for p in live if p.role == "server" and processes.settle(p, instance, _PATIENCE)]
        agents = [p for p in live if p.role == "agent"]
        _start_missing(registry, instance, server + agents, bind)
        if all(processes.settle(p, instance, _PATIENCE) for p in agents):
            return
    raise Refused(f"the processes of {instance.name} end while they start; their logs are in {instance.root / 'logs'}")


def _start_missing(registry: Registry, instance: Instance, live: list[processes.Process], bind: str) -> None:
    running = {(p.role, p.node) for p in live}
    if instance.bridged:
        _make_bridge(instance)
    server = None if ("server", "") in running else _start_server(instance, bind)
    missing = [n for n in instance.nodes if ("agent", n.name) not in running and not n.leaving]
    agents = [start_agent(registry, instance, n) for n in missing]
    if server is not None:
        wait_ready(server)
    for agent in agents:
        tell(agent, _join_token(instance))
    for agent in agents:
        wait_ready(agent)


def _default_nodes(hollow: int | None) -> int:
    """Who asks for simulated nodes alone gets no real one."""
    return 1 if hollow is None else 0


def start_hollow(instance: Instance, nodes: int | None) -> None:
    """Start the process that simulates nodes; `nodes` None keeps their number. Returns when all are Ready. Raises Refused."""
    command = ["hollow", "run", "--name", instance.name, "--data-dir", instance.data_dir]
    command += [] if nodes is None else ["--count", str(nodes)]
    log = instance.log_file("hollow")
    process, ready = processes.start(command, log)
    assert process.stdin is not None
    process.stdin.close()
    wait_ready(Started("hollow nodes' process", process, ready, log))


def _hollow(instance: Instance, nodes: int | None, live: list[processes.Process]) -> None:
    if not any(p.role == "hollow" for p in live):
        start_hollow(instance, nodes)
    elif nodes is not None:
        from jota.run.hollow import change

        change(instance, {"nodes": str(nodes)}, patience=_PATIENCE)


@dataclass(slots=True, frozen=True)
class Scaling:
    """Settings of the cluster autoscaler, and what they need of an instance."""

    document: str
    """The content of autoscaler.yaml."""
    local: int | None = None
    """The minimum of nodes of this host, when those are scaled."""
    hollow: bool = False


def adopt_scaling(instance: Instance, wanted: Scaling) -> None:
    """Make the settings the instance's own; a running autoscaler sees them at its next pass. Raises Refused."""
    if wanted.local is not None and not instance.bridged:
        raise Refused(
            f'the node of the cluster "{instance.name}" lives in the host\'s own network, and more cannot be added to it; '
            f"make it anew: jota down --name {instance.name} --purge, then jota up --name {instance.name} --autoscale ..."
        )
    if wanted.hollow and not instance.hollow:
        raise Refused(f"there are no simulated nodes yet: jota hollow scale 0 --name {instance.name}")
    instance.autoscaled = True
    instance.namespaced = instance.namespaced or wanted.local is not None
    write_file(instance.autoscaler_settings, wanted.document.encode(), 0o600)
    instance.save()


def start_autoscaler(instance: Instance) -> None:
    """Unless it runs. Returns when it looks at the cluster. Raises Refused."""
    if any(p.role == "autoscaler" for p in processes.running(instance)):
        return
    log = instance.log_file("autoscaler")
    command = ["autoscale", "run", "--name", instance.name, "--data-dir", instance.data_dir]
    process, ready = processes.start(command, log)
    assert process.stdin is not None
    process.stdin.close()
    wait_ready(Started("cluster autoscaler", process, ready, log))


def _make_bridge(instance: Instance) -> None:
    """The host's side of simulated nodes: their namespaces, and routes so that pods and services answer from the host."""
    for node in instance.nodes:
        if not node.leaving:
            make_namespace(instance, node)


def make_namespace(instance: Instance, node: NodePlan) -> None:
    """The namespace of one node on the bridge, or nothing when it is there. Raises NetworkFault, NftError."""
    from jota.net import nodes as simulated

    simulated.make_node_namespace(
        instance.name,
        instance.place(node),
        subnet=instance.node_cidr,
        cluster_cidrs=(instance.pod_cidr, instance.service_cidr),
    )


def _start_server(instance: Instance, bind: str) -> Started:
    command = ["server", "--name", instance.name, "--data-dir", instance.data_dir, "--bind", bind]
    command += ["--runtime-config", instance.runtime_config] if instance.runtime_config else []
    command += instance.server_flags
    log = instance.log_file("server")
    process, ready = processes.start(command, log)
    assert process.stdin is not None
    process.stdin.close()
    return Started("server", process, ready, log)


def start_agent(registry: Registry, instance: Instance, node: NodePlan) -> Started:
    """Its identity comes next: `tell`."""
    log = instance.log_file("agent", node.name)
    command = [
        "agent", "--name", instance.name, "--data-dir", str(instance.node_dir(node.name)), "--node", node.name,
        "--server", instance.server_url, "--address", node.ip or host_address(), "--images", str(registry.images),
        "--kubelet-port", str(node.kubelet_port), "--pid-file", str(instance.pid_file("agent", node.name)),
        "--token-stdin",
    ]  # fmt: skip
    process, ready = processes.start(command, log, netns=_pin(instance, node) if node.ip else "")
    return Started(f"agent of node {node.name}", process, ready, log)


def _pin(instance: Instance, node: NodePlan) -> str:
    from jota.net import names, sys

    return os.path.join(sys.NAMESPACES, names.node_pin(instance.name, instance.place(node)))


def _join_token(instance: Instance) -> bytes:
    try:
        return instance.join_token.read_bytes()
    except FileNotFoundError:
        return b""  # the nodes have their identities already


def tell(agent: Started, token: bytes) -> None:
    """Give a waiting agent its join token; one that already has an identity does not look at it."""
    assert agent.process.stdin is not None
    try:
        with agent.process.stdin as pipe:
            pipe.write(token + b"\n")
    except BrokenPipeError:
        pass  # it died: wait_ready tells


def wait_ready(started: Started) -> None:
    """Block until the process is ready. Raises Refused with the last line of its log when it dies or stays silent."""
    deadline = time.monotonic() + _PATIENCE
    try:
        readable, _, _ = select.select([started.ready], [], [], max(0.0, deadline - time.monotonic()))
        if readable and os.read(started.ready, 16):
            return
    finally:
        os.close(started.ready)
    if readable:
        raise Refused(f"the {started.what} stopped: {_last_line(started.log)} (whole log: {started.log})")
    raise Refused(
        f"the {started.what} is not ready after {_PATIENCE:.0f} s: {_last_line(started.log)} (log: {started.log})"
    )


def _last_line(log: Path) -> str:
    """Of a traceback the error itself, without the frame that Python draws around groups."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [text for line in lines if (text := line.strip(" |+-"))]
    return told[-1] if told else "it left no message"


def _credentials(instance: Instance) -> kubeconfig.Credentials:
    return kubeconfig.read(instance.admin_kubeconfig)


def describe(instance: Instance) -> str:
    """The instance as `jota status -o json` shows it."""
    live = processes.running(instance)
    return json.dumps(
        {
            "name": instance.name,
            "dataDir": instance.data_dir,
            "server": f"https://127.0.0.1:{instance.api_port}",
            "context": instance.context,
            "kubeconfig": instance.kubeconfig,
            "running": any(p.role == "server" for p in live),
            "nodes": [{"name": n.name, "ip": n.ip} for n in instance.nodes],
            "processes": [{"role": p.role, "pid": p.pid, "rss": p.rss, "node": p.node} for p in live],
        },
        indent=2,
    )
