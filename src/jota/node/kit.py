"""What all workers of one node share: one value instead of a dozen parameters. Made by `agent.py`, read by `worker.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.net.protocol import PodNetwork
from jota.node.config import NodeConfig
from jota.node.images import ImageKeeper
from jota.node.machine import Machine
from jota.node.model import Object
from jota.node.references import References
from jota.node.resizes import Resizes
from jota.node.snapshot import Snapshots
from jota.node.volumes.podcertificates import PodCertificates
from jota.node.volumes.tokens import Tokens
from jota.node.volumes.trustbundles import TrustBundles
from jota.runtime.protocol import Runtime


@dataclass(slots=True)
class Kit:
    client: Client
    runtime: Runtime
    network: PodNetwork
    config: NodeConfig
    clock: Clock
    random: Random
    machine: Machine
    recorder: EventRecorder
    references: References
    tokens: Tokens
    bundles: TrustBundles
    certificates: PodCertificates
    images: ImageKeeper
    snapshots: Snapshots
    services: Callable[[], Iterable[Object]]
    """The cluster's Services, from a cache."""
    resizes: Resizes
    starts: asyncio.Semaphore
    """Bounds the sandboxes and containers that are being started at once."""
    allocatable: dict[str, str] = field(default_factory=dict)

    def forget(self, uid: str) -> None:
        """The pod needs nothing of the API any more."""
        for source in (self.tokens, self.bundles, self.certificates):
            source.forget(uid)
        self.references.release(uid)
