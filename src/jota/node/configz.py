"""This node's settings under the names of upstream's KubeletConfiguration, for /configz. In: NodeConfig. Out: a plain value. Pure.

Only what this agent has, as it has it: who reads it (conformance scanners, Sonobuoy) takes a missing field for upstream's default.
"""

from __future__ import annotations

from typing import Any

from jota.node.config import NodeConfig


def configuration(config: NodeConfig, *, log_size: int, log_files: int) -> dict[str, Any]:
    """`log_size`: bytes after which a container's log is rotated; `log_files`: how many of it are kept."""
    thresholds = config.eviction
    evictions = {
        "memory.available": f"{thresholds.memory_available >> 20}Mi",
        "nodefs.available": f"{thresholds.disk_available:.0%}",
        "nodefs.inodesFree": f"{thresholds.inodes_free:.0%}",
        "pid.available": f"{thresholds.pids_available:.0%}",
    }
    return {
        "address": config.address,
        "port": config.kubelet_port,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": [config.cluster_dns] if config.cluster_dns else [],
        "resolvConf": config.resolv_conf,
        "podCIDR": config.pod_cidr,
        "maxPods": config.max_pods,
        "nodeStatusUpdateFrequency": _duration(config.status_interval),
        "nodeStatusReportFrequency": _duration(config.status_report),
        "nodeLeaseDurationSeconds": config.lease_seconds,
        "crashLoopBackOff": {"maxContainerRestartPeriod": _duration(config.curve.cap)},
        "evictionHard": evictions if thresholds.enabled else {},
        "evictionPressureTransitionPeriod": _duration(thresholds.transition),
        "systemReserved": dict(config.reserved),
        "containerLogMaxSize": f"{log_size >> 20}Mi",
        "containerLogMaxFiles": log_files,
        "enableServer": True,
        "enableControllerAttachDetach": True,
    }


def _duration(seconds: float) -> str:
    """As Go prints it: "10s", "5m0s"."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
