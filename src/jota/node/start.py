"""Turn one container of a pod into a ContainerSpec: no references to the API are left in it. In: Part, what is mounted, the
image. Out: runtime.ContainerSpec, ready to create. Next: worker.py creates and starts it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jota.node import hosts
from jota.node.config import NodeConfig
from jota.node.env import command_line
from jota.node.model import (
    BACKOFF_STEP,
    CONTAINER_NAME,
    GRACE,
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    RESOURCES,
    SPEC_HASH,
    Object,
    Part,
    spec_hash,
    uid_of,
)
from jota.node.plan import DEFAULT_GRACE
from jota.node.resources import container_resources, given_text, pod_resources, whole_label
from jota.node.security import security, sysctls
from jota.node.volumes.keeper import container_devices, container_mounts
from jota.node.volumes.volume import Mounted
from jota.runtime.protocol import ContainerSpec, Image, Mount, SandboxSpec

TERMINATION_PATH = "/dev/termination-log"


@dataclass(slots=True)
class Given:
    """What was prepared for the container."""

    image: Image
    mounted: Mapping[str, Mounted]
    variables: Mapping[str, str]
    machine_memory: int
    target: str = ""
    """Container id whose process namespace an ephemeral container joins."""


def sandbox_spec(pod: Object, attempt: int, config: NodeConfig) -> SandboxSpec:
    """What the containers of `pod` share."""
    meta, spec = pod["metadata"], pod["spec"]
    return SandboxSpec(
        pod_uid=uid_of(pod),
        name=meta["name"],
        namespace=meta["namespace"],
        attempt=attempt,
        hostname=hosts.node_hostname(pod, config.hostname or config.name, config.cluster_domain),
        log_directory=config.log_directory(meta["namespace"], meta["name"], meta["uid"]),
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_process_namespace=bool(spec.get("shareProcessNamespace")),
        sysctls=sysctls(pod),
        labels={
            **pod_labels(pod),
            **whole_label(pod),
            GRACE: str(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE)),
        },
        resources=pod_resources(pod),
    )


def pod_labels(pod: Object) -> dict[str, str]:
    meta = pod["metadata"]
    return {POD_NAME: meta["name"], POD_NAMESPACE: meta["namespace"], POD_UID: meta["uid"]}


def container_spec(pod: Object, p: Part, attempt: int, step: int, given: Given, config: NodeConfig) -> ContainerSpec:
    """The whole container. Raises ConfigError, VolumeFault."""
    c = p.spec
    command, args = command_line(c, given.variables)
    pod_dir = config.pod_dir(uid_of(pod))
    mounts = container_mounts(c, given.mounted, given.variables, os.path.join(pod_dir, "volume-subpaths"))
    mounts += node_mounts(pod, c, attempt, pod_dir, {m.target for m in mounts})
    return ContainerSpec(
        name=p.name,
        attempt=attempt,
        image=given.image.id,
        command=command,
        args=args,
        working_dir=c.get("workingDir", ""),
        env=list(given.variables.items()),
        mounts=mounts,
        devices=container_devices(c, given.mounted),
        resources=container_resources(pod, c, given.machine_memory),
        security=security(pod, c, given.image, seccomp_dir=os.path.join(config.data_dir, "seccomp")),
        tty=bool(c.get("tty")),
        stdin=bool(c.get("stdin")),
        stdin_once=bool(c.get("stdinOnce")),
        target_container=given.target,
        labels={
            **pod_labels(pod),
            CONTAINER_NAME: p.name,
            SPEC_HASH: spec_hash(c),
            BACKOFF_STEP: str(step),
            RESOURCES: given_text(pod, c),
            GRACE: str(pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE)),
        },
    )


def termination_file(pod_dir: str, name: str, attempt: int) -> str:
    return os.path.join(pod_dir, "containers", name, f"{attempt}.termination")


def node_mounts(pod: Object, container: Object, attempt: int, pod_dir: str, taken: set[str]) -> list[Mount]:
    """The files that the node itself provides, unless the container mounts its own there."""
    out = []
    for target in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
        if target not in taken:
            out.append(Mount(os.path.join(pod_dir, os.path.basename(target)), target))
    target = container.get("terminationMessagePath") or TERMINATION_PATH
    if target not in taken:
        source = termination_file(pod_dir, container["name"], attempt)
        os.makedirs(os.path.dirname(source), exist_ok=True)
        with open(source, "ab"):
            os.chmod(source, 0o666)  # any uid inside may write it
        out.append(Mount(source, target))
    return out


def write_pod_files(pod: Object, ips: list[str], config: NodeConfig) -> None:
    """/etc/hosts, /etc/resolv.conf and /etc/hostname of the pod, under its directory. Written in place: they are mounted."""
    pod_dir = config.pod_dir(uid_of(pod))
    os.makedirs(pod_dir, mode=0o750, exist_ok=True)
    host_hosts = _read("/etc/hosts") if pod["spec"].get("hostNetwork") else ""
    host = hosts.parse_resolver(_read(config.resolv_conf))
    resolver = hosts.resolver(pod, host, config.cluster_dns, config.cluster_domain)
    own = config.hostname or config.name
    texts: dict[str, Any] = {
        "hosts": hosts.hosts_file(pod, ips, config.cluster_domain, host_hosts),
        "resolv.conf": resolver.render(),
        "hostname": hosts.node_hostname(pod, own, config.cluster_domain) + "\n",
    }
    for name, text in texts.items():
        path, data = os.path.join(pod_dir, name), text.encode()
        if _holds(path, data):
            continue
        with open(path, "wb") as f:
            f.write(data)
            os.fchmod(f.fileno(), 0o644)


def _holds(path: str, data: bytes) -> bool:
    """Containers may write these files, and make them as large as they like: no more is read than is wanted."""
    try:
        with open(path, "rb") as f:
            return f.read(len(data) + 1) == data
    except FileNotFoundError:
        return False


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""
