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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jota.run import doctor, kubeconfig, processes
from jota.run.instance import Instance, NodePlan, Refused, Registry, host_address

_PATIENCE = 60.0
"""Seconds until a process that says nothing is given up."""


_ATTEMPTS = 3


@dataclass(slots=True)
class _Started:
    what: str
    process: subprocess.Popen[bytes]
    ready: int
    log: Path


def up(
    registry: Registry, name: str, *, data_dir: str | None, config: str | None, nodes: int | None, bind: str,
    hollow: int | None = None, runtime_config: str | None = None, say: Callable[[str], None],
) -> Instance:  # fmt: skip
    """The running instance. Raises Refused with what to do."""
    with registry.locked(name):
        existing = registry.find(name)
        wanted = _default_nodes(hollow) if nodes is None else nodes
        if len(existing.nodes) if existing else wanted:
            _check_machine()
        instance = existing or registry.create(name, data_dir, wanted)
        instance.hollow = instance.hollow or hollow is not None
        _check_same(instance, existing is not None, data_dir, nodes)
        _check_new(instance, runtime_config)
        try:
            _bring_up(registry, instance, bind)
            if instance.hollow:
                _hollow(instance, hollow, processes.running(instance))
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
    if nodes is not None and nodes != len(instance.nodes):
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
    agents = [
        _start_agent(registry, instance, n, i) for i, n in enumerate(instance.nodes) if ("agent", n.name) not in running
    ]
    if server is not None:
        _wait(server)
    for agent in agents:
        _tell(instance, agent)
    for agent in agents:
        _wait(agent)


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
    _wait(_Started("hollow nodes' process", process, ready, log))


def _hollow(instance: Instance, nodes: int | None, live: list[processes.Process]) -> None:
    if not any(p.role == "hollow" for p in live):
        start_hollow(instance, nodes)
    elif nodes is not None:
        from jota.run.hollow import change

        change(instance, {"nodes": str(nodes)}, patience=_PATIENCE)


def _make_bridge(instance: Instance) -> None:
    """The host's side of simulated nodes: their namespaces, and routes so that pods and services answer from the host."""
    from jota.net import nodes as simulated

    for index in range(len(instance.nodes)):
        simulated.make_node_namespace(
            instance.name,
            index,
            subnet=instance.node_cidr,
            cluster_cidrs=(instance.pod_cidr, instance.service_cidr),
        )


def _start_server(instance: Instance, bind: str) -> _Started:
    command = ["server", "--name", instance.name, "--data-dir", instance.data_dir, "--bind", bind]
    command += ["--runtime-config", instance.runtime_config] if instance.runtime_config else []
    log = instance.log_file("server")
    process, ready = processes.start(command, log)
    assert process.stdin is not None
    process.stdin.close()
    return _Started("server", process, ready, log)


def _start_agent(registry: Registry, instance: Instance, node: NodePlan, index: int) -> _Started:
    log = instance.log_file("agent", node.name)
    command = [
        "agent", "--name", instance.name, "--data-dir", str(instance.node_dir(node.name)), "--node", node.name,
        "--server", instance.server_url, "--address", node.ip or host_address(), "--images", str(registry.images),
        "--kubelet-port", str(node.kubelet_port), "--pid-file", str(instance.pid_file("agent", node.name)),
        "--token-stdin",
    ]  # fmt: skip
    process, ready = processes.start(command, log, netns=_pin(instance, index) if node.ip else "")
    return _Started(f"agent of node {node.name}", process, ready, log)


def _pin(instance: Instance, index: int) -> str:
    from jota.net import names, sys

    return os.path.join(sys.NAMESPACES, names.node_pin(instance.name, index))


def _tell(instance: Instance, agent: _Started) -> None:
    """Give a waiting agent its join token; one that already has an identity does not look at it."""
    assert agent.process.stdin is not None
    try:
        with agent.process.stdin as pipe:
            pipe.write(instance.join_token.read_bytes() + b"\n")
    except (BrokenPipeError, FileNotFoundError):
        pass  # it died, or needs no token: _wait tells


def _wait(started: _Started) -> None:
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
