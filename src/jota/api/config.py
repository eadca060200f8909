"""What an API server is told when it starts. Everything has a value that a test or a laptop can live with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from jota.api.runtime_config import serves
from jota.kinds.kind import Kind

VERSION = "v1.37.0"
"""The Kubernetes release whose API is served: what `kubectl version` and every client's feature checks see."""


@dataclass(slots=True, frozen=True)
class FrontProxy:
    """How this server and extension servers (APIServices) know each other; a CA of its own signs front proxies."""

    certificate: Path
    key: Path
    """Files of our own client certificate."""
    ca: str
    """PEM: whose certificates may speak for users in X-Remote-* headers (requestheader-client-ca-file)."""
    client_ca: str
    """PEM: whose certificates name users by themselves (client-ca-file)."""
    names: tuple[str, ...] = ("front-proxy-client",)
    """Common names of front proxies (requestheader-allowed-names)."""


@dataclass(slots=True)
class ApiConfig:
    service_cidr: str = "10.96.0.0/12"
    node_ports: tuple[int, int] = (30000, 32767)
    """First and last port of the node port range."""
    cluster_domain: str = "cluster.local"
    version: str = VERSION
    advertise_address: str = ""
    """Where pods and agents reach this server: what the Endpoints of default/kubernetes say. "" leaves them out."""
    advertise_port: int = 6443
    min_watch_timeout: int = 1800
    """Seconds; a watch without its own timeout lasts between once and twice this."""
    request_timeout: float = 60.0
    """Seconds until a request that is not long-running is answered 504, unless its `timeout` says less."""
    max_inflight: int = 600
    """Seats of priority and fairness: requests at work at a time, of all levels but the exempt (upstream: 400 + 200)."""
    watch_backlog: int = 64 << 20
    """Bytes that all slow watchers together may hold; then the slowest are cut off."""
    kubelet_tls: SSLContext | None = None
    """The client side of TLS towards node agents; without it logs, exec and the like are refused."""
    kubelet_port: int = 10250
    """Used for nodes that do not report their own."""
    front_proxy: FrontProxy | None = None
    """Without it extension servers see no client certificate, and nobody may speak for others here."""
    runtime_config: dict[str, bool] = field(default_factory=dict)
    """Group versions or resources beyond the stable ones: {"api/all": true, "batch/v2alpha1": true} (runtime_config.py)."""

    def serves(self, kind: Kind) -> bool:
        """Stable kinds are served unless switched off, others only when asked for (upstream's --runtime-config)."""
        return serves(self.runtime_config, kind)
