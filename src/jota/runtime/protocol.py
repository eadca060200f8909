"""The runtime's contract, shaped like CRI: sandboxes hold namespaces, containers run in them, images feed them.

`node/` drives it; `embedded/` implements it on crun or runc, `node/hollow` simulates whole nodes. State lives in the runtime's own
directory and its supervisor, never in this process: a new agent gets the same answers from `containers()`.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from jota.wire.message import Duplex


class RuntimeFault(Exception):
    """A runtime step failed. `reason` is the Kubernetes reason shown to users (CreateContainerError, ErrImagePull, ...)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(slots=True)
class Mount:
    """A bind mount into a container."""

    source: str
    """A path of the node; with `image`, one within that image's files, "" for all of them."""
    target: str
    read_only: bool = False
    propagation: Literal["private", "rslave", "rshared"] = "private"
    image: str = ""
    """Id of a local image whose files are mounted, never to be written or executed."""


@dataclass(slots=True)
class Device:
    """A device node of the host in a container."""

    source: str
    target: str
    access: str = "rwm"
    """Of the cgroup's device rules: read, write, mknod."""


@dataclass(slots=True)
class Resources:
    """Limits as the kernel wants them; None: unlimited or default."""

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    """Microseconds per `cpu_period`."""
    cpu_period: int = 100_000
    memory_limit: int | None = None
    """Bytes."""
    pids_limit: int | None = None
    oom_score_adj: int = 0


@dataclass(slots=True)
class Security:
    """What securityContext comes down to."""

    uid: int | None = None
    gid: int | None = None
    groups: list[int] = field(default_factory=list)
    strict_groups: bool = False
    """Of these alone (and the primary one): what the image's /etc/group gives its user is left out."""
    user_name: str = ""
    """From the image (USER name); looked up in the container's own /etc/passwd when uid is None."""
    privileged: bool = False
    add_capabilities: list[str] = field(default_factory=list)
    drop_capabilities: list[str] = field(default_factory=list)
    no_new_privileges: bool = False
    read_only_root: bool = False
    seccomp: Literal["RuntimeDefault", "Unconfined", "Localhost"] = "RuntimeDefault"
    seccomp_path: str = ""
    masked_paths: bool = True


@dataclass(slots=True)
class SandboxSpec:
    """What the containers of a pod share."""

    pod_uid: str
    name: str
    namespace: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    """Where containers' log files go: /var/log/pods/<ns>_<name>_<uid> or its like under the instance's directory."""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)


@dataclass(slots=True)
class Sandbox:
    id: str
    spec: SandboxSpec
    state: Literal["ready", "notready"]
    created_at: float
    """Epoch seconds."""
    netns: str = ""
    """Path of the pinned network namespace ("" with host_network). The node attaches the network to it."""


@dataclass(slots=True)
class ContainerSpec:
    """One container, fully resolved: no references to the API are left in it."""

    name: str
    attempt: int
    """Restart count; part of the log file's name: <container>/<attempt>.log under the sandbox's log_directory."""
    image: str
    """Image id as `Images.pull` or `Images.get` returned it."""
    command: list[str] = field(default_factory=list)
    """Overrides the image's ENTRYPOINT when not empty; `args` overrides CMD."""
    args: list[str] = field(default_factory=list)
    working_dir: str = ""
    env: list[tuple[str, str]] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    target_container: str = ""
    """Container id whose process namespace is joined (ephemeral containers)."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Container:
    """A container as it stands."""

    id: str
    sandbox_id: str
    pod_uid: str
    name: str
    attempt: int
    image: str
    image_ref: str
    """name@digest or id, for status.imageID."""
    state: Literal["created", "running", "exited", "unknown"]
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    """Completed | Error | OOMKilled | ContainerCannotRun | StartError"""
    message: str = ""
    pid: int = 0
    log_path: str = ""
    root: str = ""
    """Host path of the root file system, for reading the termination message."""
    writable: str = ""
    """Host path of what the container wrote into its root file system."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Image:
    id: str
    """sha256:... of the config."""
    tags: list[str]
    digests: list[str]
    """name@sha256:... of the manifest."""
    size: int
    """Bytes on disk."""
    user: str = ""
    env: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    working_dir: str = ""
    stop_signal: str = ""
    pinned: bool = False


@dataclass(slots=True)
class Stats:
    """One container's use, from its cgroup."""

    container_id: str
    at: float
    cpu_ns: int
    memory_working_set: int
    memory_usage: int
    pids: int = 0


class Exec(Protocol):
    """A running exec or attach session. Output ends with b""; `wait` gives the exit code (attach: of the container)."""

    async def read_stdout(self) -> bytes: ...

    async def read_stderr(self) -> bytes: ...

    async def write_stdin(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int: ...

    async def close(self) -> None:
        """End the session; an exec's process is killed, an attached container is left alone."""
        ...


class Images(Protocol):
    async def pull(self, reference: str, *, auth: tuple[str, str] | None = None) -> Image:
        """Fetch from a registry. Raises RuntimeFault(ErrImagePull | InvalidImageName | RegistryUnavailable)."""
        ...

    async def load(self, path: str) -> builtins.list[Image]:
        """Import an OCI/docker archive or OCI layout directory. Raises RuntimeFault."""
        ...

    async def get(self, reference: str) -> Image | None:
        """By tag, digest reference or id; short names are normalised (busybox -> docker.io/library/busybox:latest)."""
        ...

    async def list(self) -> builtins.list[Image]: ...

    async def remove(self, reference: str) -> None: ...


class Runtime(Protocol):
    @property
    def images(self) -> Images: ...

    async def start(self) -> None:
        """Connect to (or start) the supervisor and recover state. Safe to call on a machine full of running containers."""
        ...

    async def close(self) -> None:
        """Let go; containers keep running."""
        ...

    async def shutdown(self) -> None:
        """Stop everything: containers, sandboxes, supervisor; unmount; remove cgroups (jota down)."""
        ...

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox: ...

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kill what still runs in it and release its namespaces. Idempotent."""
        ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandboxes(self) -> list[Sandbox]: ...

    async def create_container(self, sandbox_id: str, spec: ContainerSpec) -> str: ...

    async def start_container(self, container_id: str) -> None:
        """Raises RuntimeFault(StartError | ContainerCannotRun) with the low-level runtime's own message."""
        ...

    async def stop_container(self, container_id: str, grace: float) -> None:
        """Stop signal (image's or SIGTERM), then SIGKILL after `grace` seconds. Idempotent; returns once it is dead."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def containers(self) -> list[Container]: ...

    async def container(self, container_id: str) -> Container | None: ...

    def events(self) -> AsyncIterator[str]:
        """Pod uids whose containers or sandbox changed state (an exit, an OOM). Says "look", never "what"."""
        ...

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> tuple[int, bytes, bytes]:
        """(exit code, stdout, stderr); output bounded to 1 MiB each. Raises TimeoutError, RuntimeFault."""
        ...

    async def exec(self, container_id: str, command: list[str], *, tty: bool, stdin: bool) -> Exec: ...

    async def attach(self, container_id: str, *, stdin: bool) -> Exec: ...

    async def port_forward(self, sandbox_id: str, port: int) -> Duplex:
        """A TCP connection to 127.0.0.1:port (else [::1]) inside the sandbox's network. Raises ConnectionError."""
        ...

    async def update_resources(
        self, container_id: str, resources: Resources, labels: Mapping[str, str] | None = None
    ) -> None:
        """Change the limits of a running container, and labels that tell of them: what it has must outlive the caller. What is
        None in `resources` is lifted. Raises RuntimeFault(UpdateContainerError)."""
        ...

    async def update_sandbox(
        self, sandbox_id: str, resources: Resources, labels: Mapping[str, str] | None = None
    ) -> None:
        """The same for what all containers of the sandbox share. Raises RuntimeFault(UpdateSandboxError)."""
        ...

    async def stats(self) -> list[Stats]: ...
