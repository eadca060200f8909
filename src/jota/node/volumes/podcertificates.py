"""podCertificate: a key of the pod's own and a certificate for it, asked of a signer by a PodCertificateRequest and renewed.

In: a source, each time that its volume is written. Out: the credential, or why there is none yet; one request at a time.
`settle`, `alarms` and `next_look` are pure. The steps are the kubelet's:

    nothing -> asked -> issued -> (at beginRefreshAt) issued and asked again -> issued
                 \\-> denied or failed: for good                     \\-> denied or failed: for good

Nothing of it outlives the agent: the next one asks anew, and what is mounted stays as it is until then.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from jota.aio.clock import Clock, parse_rfc3339
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.client.informer import Informer
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, POD_CERTIFICATE_REQUESTS, SERVICEACCOUNTS
from jota.node.events import PodEvents
from jota.node.model import Object, key_of, uid_of
from jota.node.sharedcache import SharedCache
from jota.node.volumes.volume import Credential, VolumeFault

log = logging.getLogger(__name__)

JITTER = 300.0
"""A renewal begins up to so many seconds late, so that those of many pods spread."""
OVERDUE = 600.0
"""Seconds after beginRefreshAt at which the pod is told that nobody renews its certificate."""
RETRY = 60.0
"""Seconds after a renewal that could not be asked for."""
Source = tuple[str, str, int]
"""(pod uid, volume name, index of the source)"""


class Pending(NamedTuple):
    """A request on its way."""

    name: str
    version: int
    """resourceVersion at its creation."""
    key: bytes


class Refusal(NamedTuple):
    """The condition that ended a request without a certificate."""

    type: str
    """Denied or Failed."""
    reason: str
    message: str

    def __str__(self) -> str:
        return f'reason="{self.reason}", message="{self.message}"'


@dataclass(slots=True, frozen=True)
class Held:
    """What the node has for one source."""

    credential: Credential | None = None
    pending: Pending | None = None
    refusal: Refusal | None = None
    """The pod gets none any more."""
    not_before: float = 0.0
    """Epoch seconds: no request until then, after one that came to nothing."""

    def asks(self, now: float) -> bool:
        """Whether it is time for a request."""
        if self.refusal is not None or self.pending is not None:
            return False
        return now >= max(self.not_before, self.credential.refresh_at if self.credential else 0.0)


def settle(held: Held, request: Object | None, revision: int, now: float, jitter: float) -> Held:
    """What has become of the pending request, as a cache of this revision shows it. One that a newer cache does not have was
    deleted: another may be made, but not at once, in case that somebody deletes them all."""
    pending = held.pending
    if pending is None:
        return held
    if request is None:
        return replace(held, pending=None, not_before=now + RETRY) if revision >= pending.version else held
    status = request.get("status") or {}
    for condition in status.get("conditions") or ():
        type_ = condition["type"]
        if type_ in ("Denied", "Failed"):
            return Held(refusal=Refusal(type_, condition["reason"], condition["message"]))
        if type_ == "Issued":
            from jota.pki import pem

            chain = pem.certificates(block.der for block in pem.blocks(status["certificateChain"]))
            refresh_at = parse_rfc3339(status["beginRefreshAt"]) + jitter
            return Held(Credential(pending.key, chain, refresh_at, parse_rfc3339(status["notAfter"])))
    return held


def alarms(credential: Credential, now: float) -> list[tuple[str, str]]:
    """(reason, message) of what the pod should be told about a certificate that nobody renews."""
    found = []
    if now > credential.refresh_at + OVERDUE:
        found.append(("CertificateOverdueForRefresh", "PodCertificate refresh overdue"))
    if now > credential.not_after:
        found.append(("CertificateExpired", "PodCertificate expired"))
    return found


def next_look(held: Held, now: float) -> float:
    """Epoch seconds at which to look again though nothing is heard; 0: never."""
    if held.credential is None:
        return 0.0
    refresh_at, end = held.credential.refresh_at, held.credential.not_after
    # a second late: what is due must have passed
    times = (max(refresh_at, held.not_before) if held.pending is None else 0.0, refresh_at + OVERDUE + 1, end + 1)
    return min((t for t in times if t > now), default=0.0)


class PodCertificates:
    """The credentials of this node's pods."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        random: Random,
        group: asyncio.TaskGroup,
        recorder: EventRecorder,
        node: str,
    ) -> None:
        self._client, self._clock, self._random, self._recorder, self._node = client, clock, random, recorder, node
        informer: Informer[Object] = Informer(
            client, POD_CERTIFICATE_REQUESTS, fields=f"spec.nodeName={node}", clock=clock, random=random
        )
        self._cache = SharedCache(informer, lambda request: (request["spec"]["podUID"],), group)
        self._held: dict[Source, Held] = {}
        self._told: set[tuple[Source, str]] = set()

    def forget(self, uid: str) -> None:
        """The pod is over."""
        self._cache.forget(uid)
        self._held = {source: held for source, held in self._held.items() if source[0] != uid}
        self._told = {told for told in self._told if told[0][0] != uid}

    async def credential(
        self, pod: Object, volume: str, index: int, spec: Object, changed: Callable[[], None]
    ) -> tuple[Credential, float]:
        """(the credential of the pod's source, epoch seconds at which to ask again or 0); `changed` is called when a request
        of the pod changes. Raises VolumeFault, TimeoutError."""
        uid = uid_of(pod)
        source, namespace = (uid, volume, index), pod["metadata"]["namespace"]
        self._cache.follow(uid, uid, changed)
        requests = await self._cache.ready()
        before, now = self._held.get(source) or Held(), self._clock.now()
        request = requests.get(f"{namespace}/{before.pending.name}") if before.pending else None
        held = settle(before, request, requests.revision, now, self._random.uniform(0, JITTER))
        self._tell(pod, source, before, held, now)
        if held.asks(now):
            try:
                held = replace(held, pending=await self._request(pod, spec))
            except (ApiError, OSError, TimeoutError, ValueError) as e:
                if held.credential is None:
                    raise VolumeFault(f"while creating PodCertificateRequest: {e}") from e
                log.warning("pod %s: while renewing a certificate: %s", key_of(pod), e)
                held = replace(held, not_before=now + RETRY)
        self._held[source] = held
        if held.refusal is not None:
            raise VolumeFault(f"PodCertificateRequest was permanently {held.refusal.type.lower()}: {held.refusal}")
        if held.credential is None:
            raise VolumeFault("credential bundle is not issued yet")
        return held.credential, next_look(held, now)

    async def _request(self, pod: Object, spec: Object) -> Pending:
        # certificates cost 50 ms to load: only nodes whose pods ask for them pay
        from jota.pki import keyproof

        meta, account = pod["metadata"], pod["spec"].get("serviceAccountName") or "default"
        owner = await self._client.get(SERVICEACCOUNTS, account, meta["namespace"])
        node = await self._client.get(NODES, self._node)
        key, proof = await asyncio.to_thread(keyproof.make, spec["keyType"])
        wanted = {
            "signerName": spec["signerName"],
            "podName": meta["name"],
            "podUID": meta["uid"],
            "serviceAccountName": account,
            "serviceAccountUID": owner["metadata"]["uid"],
            "nodeName": self._node,
            "nodeUID": node["metadata"]["uid"],
            "stubPKCS10Request": base64.b64encode(proof).decode(),
        }
        if (seconds := spec.get("maxExpirationSeconds")) is not None:
            wanted["maxExpirationSeconds"] = seconds
        if told := spec.get("userAnnotations"):
            wanted["unverifiedUserAnnotations"] = told
        request = {
            "apiVersion": POD_CERTIFICATE_REQUESTS.api_version,
            "kind": POD_CERTIFICATE_REQUESTS.kind,
            "metadata": {
                "generateName": "req-",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}],
            },
            "spec": wanted,
        }
        made = (await self._client.create(POD_CERTIFICATE_REQUESTS, request, meta["namespace"]))["metadata"]
        return Pending(made["name"], int(made["resourceVersion"]), key)

    def _tell(self, pod: Object, source: Source, before: Held, held: Held, now: float) -> None:
        """The pod's events: a request that was refused, and once for each certificate that nobody renews it."""
        events = PodEvents(self._recorder, pod)
        if held.refusal is not None and before.pending is not None:
            verb = "was denied" if held.refusal.type == "Denied" else "failed"
            name = f"{pod['metadata']['namespace']}/{before.pending.name}"
            events.warning(held.refusal.type, f"PodCertificateRequest {name} {verb}, {held.refusal}")
        due = alarms(held.credential, now) if held.credential is not None else []
        for reason, message in due:
            if (source, reason) not in self._told:
                self._told.add((source, reason))
                events.warning(reason, message)
        if not due:
            self._told = {told for told in self._told if told[0] != source}
