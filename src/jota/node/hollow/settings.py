"""What simulated nodes are like and how their pods live. In: the ConfigMap kube-system/hollow-nodes. Out: Settings.

The ConfigMap is the one truth for a running fleet: `jota hollow` writes it, the process watches it and follows. Every
chance is drawn from the object's own identity (uid or name), so a restart of the process decides the same again.
Next: lifecycle.py for pods, nodeset.py for nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from zlib import crc32

CONFIG_NAMESPACE, CONFIG_NAME = "kube-system", "hollow-nodes"
LABEL = "jota.dev/hollow"
RUN_SECONDS, EXIT_CODE = "hollow.jota.dev/run-seconds", "hollow.jota.dev/exit-code"
START_SECONDS, STOP_SECONDS = "hollow.jota.dev/start-seconds", "hollow.jota.dev/stop-seconds"
"""A pod's own annotations win over the settings."""

MOST_NODES = 16_000
"""Each gets a /24 of 100.64.0.0/10 for its pods."""


@dataclass(slots=True, frozen=True)
class Settings:
    """Times in seconds, chances from 0 to 1."""

    nodes: int = 0
    extra: str = ""
    """Numbers of nodes beyond those, "7,12": the cluster autoscaler's."""
    prefix: str = "hollow"
    cpu: str = "32"
    memory: str = "256Gi"
    pods: str = "110"
    resources: str = ""
    """Extended resources of every node: "example.com/gpu=8,..."."""
    regions: int = 1
    zones: int = 3
    """Per region; nodes are dealt round robin."""
    types: str = "hollow.small,hollow.large"
    """Instance types, dealt round robin."""
    lease_interval: float = 10.0
    status_interval: float = 300.0
    start_seconds: float = 0.0
    stop_seconds: float = 0.0
    run_seconds: float = 1.0
    """After which pods that are meant to end (restartPolicy Never or OnFailure) do."""
    jitter: float = 0.0
    """Part by which times vary: 0.2 is up to 20 % more or less."""
    failure_rate: float = 0.0
    """Part of the pods whose containers fail at their start."""
    lost: float = 0.0
    """Part of the nodes that are silent: no heartbeat, no status, their pods are not looked after."""

    def numbers(self) -> list[int]:
        """Of all nodes that there should be, in order."""
        more = {int(n) for n in self.extra.split(",") if n}
        return sorted({*range(self.nodes), *more}) if more else list(range(self.nodes))


def parse(data: Mapping[str, str]) -> Settings:
    """Raises ValueError that names the key. Unknown keys are refused: a typing error must not pass as a setting."""
    values: dict[str, object] = {}
    defaults = Settings()
    kinds: dict[str, type[int] | type[float] | type[str]] = {
        f.name: type(getattr(defaults, f.name)) for f in fields(Settings)
    }
    for key, text in data.items():
        kind = kinds.get(key)
        if kind is None:
            raise ValueError(f"{key}: no such setting; there are {', '.join(kinds)}")
        try:
            values[key] = kind(text)
        except ValueError:
            raise ValueError(f"{key}: {text!r} is not a number") from None
    settings = Settings(**values)  # type: ignore[arg-type]
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if not 0 <= settings.nodes <= MOST_NODES:
        raise ValueError(f"nodes: {settings.nodes} is not between 0 and {MOST_NODES}")
    if not all(n.isdigit() and int(n) < MOST_NODES for n in settings.extra.split(",") if n):
        raise ValueError(f"extra: {settings.extra!r} is not a list of numbers below {MOST_NODES}")
    for name in ("jitter", "failure_rate", "lost"):
        if not 0.0 <= getattr(settings, name) <= 1.0:
            raise ValueError(f"{name}: {getattr(settings, name)} is not between 0 and 1")
    for name in ("regions", "zones"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}: must be at least 1")
    for name in ("lease_interval", "status_interval"):
        if getattr(settings, name) < 0.5:
            raise ValueError(f"{name}: must be at least 0.5 seconds")
    for name in ("start_seconds", "stop_seconds", "run_seconds"):
        if getattr(settings, name) < 0:
            raise ValueError(f"{name}: must not be negative")


def to_data(settings: Settings) -> dict[str, str]:
    """The ConfigMap's data: what differs from the defaults, and the number of nodes always."""
    defaults = asdict(Settings())
    return {k: str(v) for k, v in asdict(settings).items() if k == "nodes" or v != defaults[k]}


def chance(identity: str, salt: str) -> float:
    """A number in [0, 1) that belongs to this identity for good."""
    return crc32(f"{salt}/{identity}".encode()) / 2**32


def is_lost(settings: Settings, node: str) -> bool:
    return bool(settings.lost) and chance(node, "lost") < settings.lost
