"""What a node agent must be told: names, addresses, directories, intervals. `run/agent.py` fills it in; `agent.py` reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Curve:
    """The restart backoff of crashing containers, in seconds.

    Upstream starts at 10 s and ends at 300 s; Jota follows KEP-4603's quicker shape. The first restart is immediate.
    """

    base: float = 1.0
    cap: float = 60.0
    reset: float = 600.0
    """A container that ran this long starts over at the beginning of the curve."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Curve:
        """JOTA_BACKOFF_BASE, JOTA_BACKOFF_CAP, JOTA_BACKOFF_RESET in seconds. Raises ValueError on a non-number."""
        return cls(
            float(environ.get("JOTA_BACKOFF_BASE", cls().base)),
            float(environ.get("JOTA_BACKOFF_CAP", cls().cap)),
            float(environ.get("JOTA_BACKOFF_RESET", cls().reset)),
        )

    def delay(self, step: int) -> float:
        """Seconds to wait before the restart that follows the `step`-th start in a row (0: the first)."""
        return 0.0 if step <= 0 else min(self.cap, self.base * 2.0 ** min(step - 1, 64))


@dataclass(slots=True, frozen=True)
class EvictionThresholds:
    """Hard thresholds, as upstream's `--eviction-hard` defaults."""

    memory_available: int = 100 << 20
    """Bytes."""
    disk_available: float = 0.10
    """Fraction of the file system of the data directory."""
    inodes_free: float = 0.05
    pids_available: float = 0.05
    enabled: bool = True
    transition: float = 300.0
    """Seconds that a pressure condition stays after the pressure has gone (upstream: 5 min)."""


@dataclass(slots=True, frozen=True)
class NodeConfig:
    """Everything about this node that is not the API's to say. Paths are absolute; times are seconds."""

    name: str
    address: str
    """InternalIP."""
    data_dir: str
    """Pods live under <data_dir>/pods/<uid>."""
    log_dir: str
    """Container logs: <log_dir>/<namespace>_<name>_<uid>/<container>/<attempt>.log."""
    hostname: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    kubelet_port: int = 10250
    cluster_dns: str = ""
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    """The host's own, for dnsPolicy Default."""
    cgroup_parent: str = ""
    provider_id: str = ""
    pod_cidr: str = ""
    max_pods: int = 110
    capacity: dict[str, str] = field(default_factory=dict)
    """Overrides of what the machine says: {"cpu": "4", "memory": "8Gi"}; simulated and shared machines need it."""
    reserved: dict[str, str] = field(default_factory=dict)
    """Taken off capacity to give allocatable."""
    unschedulable: bool = False
    lease_seconds: int = 40
    lease_interval: float = 10.0
    status_interval: float = 10.0
    """How often the machine is looked at; unchanged status is written only every `status_report` seconds."""
    status_report: float = 300.0
    resync_interval: float = 60.0
    concurrent_starts: int = 16
    version: str = ""
    kubelet_version: str = "v1.37.0"
    runtime_version: str = "jota://0.1.0"
    curve: Curve = field(default_factory=Curve)
    eviction: EvictionThresholds = field(default_factory=EvictionThresholds)

    def pod_dir(self, uid: str) -> str:
        return f"{self.data_dir}/pods/{uid}"

    @property
    def volatile_dir(self) -> str:
        """A tmpfs for what must not touch the disk: secrets and tokens, one directory per pod uid."""
        return f"{self.data_dir}/volatile"

    def log_directory(self, namespace: str, name: str, uid: str) -> str:
        return f"{self.log_dir}/{namespace}_{name}_{uid}"
