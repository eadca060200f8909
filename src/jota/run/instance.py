"""One cluster on this host: its name, directory, ports and address ranges, kept in `<data dir>/instance.json`.

Many instances live side by side, so each gets an index that no other has; ports and address ranges follow from it. A small
registry (one file per instance, under one lock) remembers where each instance keeps its data. Next: up.py starts the
processes that this file describes.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from jota.aio import files
from jota.run.reservation import Reservations

DEFAULT_NAME = "jota"
INSTANCE_FILE = "instance.json"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
_MOST_INSTANCES = 64


class Refused(Exception):
    """The request cannot be carried out. The message says what to do instead."""


@dataclass(slots=True)
class NodePlan:
    """One node that this host runs."""

    name: str
    ip: str = ""
    """Its address on the instance's bridge; "" for a node in the host's own network namespace."""
    kubelet_port: int = 10250
    created: float = 0.0
    """When the cluster autoscaler made it (epoch seconds); 0 for one that came with `jota up`."""
    leaving: bool = False
    """Its removal has begun: it is not started any more."""


@dataclass(slots=True)
class Instance:
    name: str
    data_dir: str
    index: int
    api_port: int
    pod_cidr: str
    service_cidr: str
    node_cidr: str
    """The link between simulated nodes; its first address is the host's."""
    nodes: list[NodePlan] = field(default_factory=list)
    hollow: bool = False
    """Whether a process that simulates nodes belongs to it; how many is in the API (ConfigMap kube-system/hollow-nodes)."""
    namespaced: bool = False
    """Whether its nodes live in network namespaces of their own, however few they are."""
    autoscaled: bool = False
    """Whether a cluster autoscaler belongs to it; its settings are in autoscaler.yaml."""
    kubeconfig: str = ""
    """Where `up` merged the credentials, so that `down` can take them out again."""
    runtime_config: str = ""
    """What the server was told to serve (`--runtime-config`), so that it is told the same when it is started again."""
    server_flags: list[str] = field(default_factory=list)
    """The same for what it was told about users from elsewhere and their rights (cli/identity.py,
    cli/authorization.py)."""

    # -- where things are

    @property
    def root(self) -> Path:
        return Path(self.data_dir)

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.root / "admin.kubeconfig"

    @property
    def join_token(self) -> Path:
        """A short-lived token for the nodes that `up` itself starts."""
        return self.root / "join-token"

    @property
    def autoscaler_settings(self) -> Path:
        """What is to be scaled, and between which bounds; read anew by the autoscaler whenever it changes."""
        return self.root / "autoscaler.yaml"

    def node_dir(self, node: str) -> Path:
        return self.root / "nodes" / node

    def pid_file(self, role: str, node: str = "") -> Path:
        return self.root / "run" / (f"{role}-{node}.pid" if node else f"{role}.pid")

    def log_file(self, role: str, node: str = "") -> Path:
        return self.root / "logs" / (f"{role}-{node}.log" if node else f"{role}.log")

    # -- addresses

    @property
    def bridged(self) -> bool:
        """Whether the nodes live in network namespaces of their own on a bridge."""
        return self.namespaced or any(n.ip for n in self.nodes)

    def place(self, node: NodePlan) -> int:
        """The number of a node's namespace and uplink, from its address: it stays when other nodes go."""
        return int(IPv4Address(node.ip)) - int(IPv4Network(self.node_cidr).network_address) - 2

    def free_address(self) -> str:
        """For one more node on the bridge. Raises Refused when there is none."""
        taken = {n.ip for n in self.nodes} | {self.bridge_ip}
        for address in IPv4Network(self.node_cidr).hosts():
            if str(address) not in taken:
                return str(address)
        raise Refused(f"{self.node_cidr} has no address left for one more node")

    @property
    def bridge_ip(self) -> str:
        return str(next(IPv4Network(self.node_cidr).hosts()))

    @property
    def dns_ip(self) -> str:
        """The tenth address of the service range, where clusters keep their DNS."""
        return str(IPv4Network(self.service_cidr)[10])

    @property
    def server_url(self) -> str:
        """How this host's own nodes reach the API."""
        return f"https://{self.bridge_ip if self.bridged else '127.0.0.1'}:{self.api_port}"

    @property
    def context(self) -> str:
        """The kubeconfig context's name."""
        return self.name if self.name == DEFAULT_NAME else f"{DEFAULT_NAME}-{self.name}"

    def save(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_file(self.root / INSTANCE_FILE, json.dumps(asdict(self), indent=1).encode(), 0o644)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Replace a file that must outlive a loss of power (keys, plans), in a directory that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content, mode=mode, durable=True)


class Registry:
    """Which instances this host has. Root keeps it in /var/lib/jota, others in their own data home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._directory = home / "instances"

    @staticmethod
    def default() -> Registry:
        if os.geteuid() == 0:
            return Registry(Path("/var/lib/jota"))
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        return Registry(Path(data) / "jota")

    @property
    def images(self) -> Path:
        """The content store that all instances of this host share."""
        return self.home / "images"

    @contextmanager
    def locked(self, name: str = "") -> Iterator[None]:
        """Exclude other commands: on one instance, or (without a name) on the registry itself."""
        with open(self.lock_file(name), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def lock_file(self, name: str = "") -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f".{name or 'registry'}.lock"

    def names(self) -> list[str]:
        return sorted(p.stem for p in self._directory.glob("*.json"))

    def find(self, name: str) -> Instance | None:
        """Raises Refused when the instance's own file is damaged."""
        try:
            place = json.loads((self._directory / f"{name}.json").read_text())["dataDir"]
        except FileNotFoundError:
            return None
        return load(Path(place))

    def get(self, name: str) -> Instance:
        """Raises Refused when there is no such instance."""
        instance = self.find(name)
        if instance is None:
            known = ", ".join(self.names()) or "none"
            raise Refused(
                f'there is no cluster "{name}" on this host (known: {known}); start one with: jota up --name {name}'
            )
        return instance

    def create(
        self, name: str, data_dir: str | None, nodes: int, held: Reservations, *, namespaced: bool = False
    ) -> Instance:
        """Choose an index, ports and ranges that nothing else uses; keep `held` open until they are in use. Raises Refused."""
        if not _NAME.fullmatch(name):
            raise Refused(f'"{name}" is not a cluster name: use lower-case letters, digits and "-", at most 32')
        root = Path(data_dir).absolute() if data_dir else self.home / "clusters" / name
        if (existing := load(root)) is not None and existing.name != name:
            raise Refused(f'{root} belongs to the cluster "{existing.name}"; choose another --data-dir')
        with self.locked():
            others = [i for i in map(self._quietly, self.names()) if i is not None]
            instance = existing
            if instance is None:
                instance = _plan(name, str(root), nodes, others, held, namespaced)
                instance.save()
            write_file(self._directory / f"{name}.json", json.dumps({"dataDir": str(root)}).encode(), 0o644)
        return instance

    def abandoned(self, name: str) -> bool:
        """Registered, but its data directory is gone: a purge was cut off, or somebody removed it by hand."""
        return name in self.names() and self.find(name) is None

    def forget(self, name: str) -> None:
        for suffix in (f"{name}.json", f".{name}.lock"):
            (self._directory / suffix).unlink(missing_ok=True)

    def _quietly(self, name: str) -> Instance | None:
        try:
            return self.find(name)
        except Refused:
            return None


def load(root: Path) -> Instance | None:
    """The instance whose data directory this is, or None. Raises Refused when its file is damaged."""
    try:
        raw = json.loads((root / INSTANCE_FILE).read_text())
        nodes = [NodePlan(**n) for n in raw.pop("nodes")]
        known = {f.name for f in fields(Instance)}
        return Instance(nodes=nodes, **{k: v for k, v in raw.items() if k in known})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(
            f"{root / INSTANCE_FILE} is damaged ({error}); remove the directory or restore the file"
        ) from error


def _plan(name: str, root: str, nodes: int, others: list[Instance], held: Reservations, namespaced: bool) -> Instance:
    taken = {i.index for i in others}
    routes = _host_networks()
    for index in range(_MOST_INSTANCES):
        ranges = [f"10.{64 + index}.0.0/16", f"10.{128 + index}.0.0/16", f"10.{192 + index}.0.0/24"]
        clash = any(IPv4Network(r).overlaps(n) for r in ranges for n in routes)
        if index not in taken and not clash and held.take(f"ranges {index}"):
            break
    else:
        raise Refused(
            f"no free address range is left: {len(others)} clusters on this host; remove one with: jota down --purge"
        )
    ports = {i.api_port for i in others} | {n.kubelet_port for i in others for n in i.nodes if not n.ip}
    instance = Instance(name, root, index, free_port(6443, ports, held), ranges[0], ranges[1], ranges[2])
    hosts = list(IPv4Network(instance.node_cidr).hosts())
    instance.namespaced = namespaced
    if nodes == 1 and not namespaced:
        instance.nodes = [NodePlan(host_name(), "", free_port(10250, ports | {instance.api_port}, held))]
    else:
        instance.nodes = [NodePlan(f"{name}-{n}", str(hosts[n])) for n in range(1, nodes + 1)]
    return instance


def host_name() -> str:
    """The host's name as a node name: a DNS subdomain (Kubernetes' rule for node names)."""
    name = re.sub(r"[^-.a-z0-9]+", "-", socket.gethostname().lower()).strip("-.")
    return name or "node"


def free_port(preferred: int, taken: set[int], held: Reservations) -> int:
    """`preferred` or the next port above it on which nobody listens or is about to. Raises Refused."""
    for port in range(preferred, preferred + 1000):
        if port in taken or not held.take(f"port {port}"):
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                held.leave(f"port {port}")
                continue
            return port
    raise Refused(f"no free port between {preferred} and {preferred + 1000}")


def _host_networks() -> list[IPv4Network]:
    """Destinations in the host's routing table, the default route left out."""
    found = []
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        address, bits = _little_endian(destination), bin(int(mask, 16)).count("1")
        if bits:
            found.append(IPv4Network((address, bits), strict=False))
    return found


def _little_endian(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text)[::-1], "big")


def host_address() -> str:
    """The IPv4 address by which others reach this host: that of the default route, else any that is not loopback.

    Raises Refused when the host has none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent, the kernel only chooses a source
            return str(probe.getsockname()[0])
        except OSError:
            pass
    addresses = host_addresses()
    if not addresses:
        raise Refused("this host has no IPv4 address besides loopback; add one: ip address add 10.0.0.1/32 dev lo")
    return addresses[0]


def host_addresses() -> list[str]:
    """All IPv4 addresses of this host but loopback, from the kernel's local routing table."""
    found: list[str] = []
    try:
        lines = Path("/proc/net/fib_trie").read_text().splitlines()
    except OSError:
        return []
    for above, line in itertools.pairwise(lines):
        if "32 host LOCAL" in line:
            address = above.split()[-1]
            if not address.startswith("127.") and address not in found:
                found.append(address)
    return found
