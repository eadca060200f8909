"""Coordinated leader election: of the LeaseCandidates of a Lease, the one with the oldest emulation version is given it.

Candidates are pinged first (`pingTime`), and those that answer (`renewTime`) take part. A holder that is alive is not replaced but
told whom it should give way to (`preferredHolder`). In: candidates, and the Lease, which is read when it matters. Runs only where
LeaseCandidates are served (--runtime-config). Upstream: pkg/controlplane/controller/leaderelection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jota.aio.clock import rfc3339_micro
from jota.controllers.controller import Context, Controller, Object
from jota.kinds.common import moment
from jota.kinds.coordination.leasecandidate import semver
from jota.kinds.coordination.strategy import OLDEST
from jota.meta.errors import ApiError
from jota.meta.resource import LEASE_CANDIDATES, LEASES, Resource

log = logging.getLogger("jota.controllers")
ELECTED_BY = "coordination.k8s.io/elected-by"
ROUND = 5.0
"""Seconds that candidates have to answer a ping, and after which an election is looked at again."""
LEASE_SECONDS = 5
"""leaseDurationSeconds of a Lease that is given away."""
VALID = 1800.0
"""Seconds after which a candidate that did not renew counts no more, and is removed."""


@dataclass(slots=True)
class Plan:
    ping: list[Object] = field(default_factory=list)
    """Candidates that must say whether they live."""
    remove: list[Object] = field(default_factory=list)
    lease: Object | None = None
    """The Lease as it should be; made when there is none."""
    again: float | None = None
    """Seconds after which to look again."""
    problem: str = ""


def plan(key: tuple[str, str], lease: Object | None, candidates: Iterable[Object], now: float) -> Plan:
    """`key`: (namespace, name) of the Lease. `candidates`: all of it. Times in epoch seconds."""
    found, living = Plan(), list[Object]()
    for candidate in candidates:
        last = _time(candidate, "renewTime") or moment(candidate["metadata"].get("creationTimestamp")) or now
        (found.remove if last + VALID < now else living).append(candidate)
    if not living:
        return found
    found.again = ROUND
    if not _needed(lease, living, now):
        return found
    waiting = [left for c in living if (left := _patience(c, now)) > 0]
    if waiting:
        found.again = min(waiting)
        return found
    found.ping = [c for c in living if not _silent(c) and not _fresh(c, now)]
    if found.ping:
        return found
    electorate = [c for c in living if _fresh(c, now)]
    if not electorate:
        found.ping = living  # whoever was silent may be back
        return found
    strategy, found.problem = pick_strategy(electorate)
    if strategy:
        found.lease = _outcome(key, lease, strategy, best(electorate) if strategy == OLDEST else None, now)
    return found


def pick_strategy(candidates: Sequence[Object]) -> tuple[str, str]:
    """(that of the candidate with the latest binary version, what is wrong)."""
    latest = max(_version(c, "binaryVersion") for c in candidates)
    asked = {c["spec"].get("strategy", "") for c in candidates if _version(c, "binaryVersion") == latest}
    if len(asked) > 1:
        return "", f"candidates of one binary version want different strategies: {', '.join(sorted(asked))}"
    return asked.pop(), ""


def best(candidates: Iterable[Object]) -> Object | None:
    """The oldest emulation version, then the oldest binary version, then who was there first."""
    usable = [c for c in candidates if c["spec"].get("strategy") == OLDEST and c["spec"].get("emulationVersion")]

    def order(c: Object) -> Any:
        meta = c["metadata"]
        versions = _version(c, "emulationVersion"), _version(c, "binaryVersion")
        return *versions, moment(meta.get("creationTimestamp")) or 0.0, meta["name"]

    return min(usable, key=order, default=None)


def _version(candidate: Object, name: str) -> tuple[Any, ...]:
    return semver(candidate["spec"].get(name) or "") or (0, 0, 0, True, ())


def _time(obj: Object, name: str) -> float | None:
    return moment((obj.get("spec") or {}).get(name))


def _patience(candidate: Object, now: float) -> float:
    """Seconds that it still has to answer its ping."""
    return (_time(candidate, "pingTime") or 0.0) + ROUND - now if _silent(candidate) else 0.0


def _silent(candidate: Object) -> bool:
    """Pinged, and has not answered."""
    return (_time(candidate, "pingTime") or 0.0) > (_time(candidate, "renewTime") or 0.0)


def _fresh(candidate: Object, now: float) -> bool:
    """It was heard of just now: by itself, or in this round, which lasts until the last one was waited for."""
    ping = _time(candidate, "pingTime")
    renewed = (_time(candidate, "renewTime") or 0.0) + ROUND > now
    return not _silent(candidate) and (renewed or (ping is not None and ping + 2 * ROUND > now))


def _expired(lease: Object, now: float) -> bool:
    renewed, seconds = _time(lease, "renewTime"), lease["spec"].get("leaseDurationSeconds")
    return renewed is None or seconds is None or renewed + seconds < now


def _needed(lease: Object | None, living: Sequence[Object], now: float) -> bool:
    """Nobody holds the lease, or somebody better is there who is not known to the holder yet."""
    if lease is None or not lease["spec"].get("holderIdentity") or _expired(lease, now):
        return not (lease is not None and _for_others(lease, living))
    strategy, _ = pick_strategy(living)
    chosen = best(living) if strategy == OLDEST else None
    if chosen is None:
        return False
    return chosen["metadata"]["name"] not in (lease["spec"]["holderIdentity"], lease["spec"].get("preferredHolder"))


def _for_others(lease: Object, living: Sequence[Object]) -> bool:
    """Whether the lease says already that somebody else carries out its candidates' strategy."""
    strategy, _ = pick_strategy(living)
    return strategy not in ("", OLDEST) and lease["spec"].get("strategy") == strategy


def _outcome(
    key: tuple[str, str], lease: Object | None, strategy: str, chosen: Object | None, now: float
) -> Object | None:
    """None: the lease is as it should be."""
    old = lease or {"metadata": {"namespace": key[0], "name": key[1]}, "spec": {}}
    meta, spec = dict(old["metadata"]), {**old["spec"], "strategy": strategy}
    if chosen is not None:
        name, holder = chosen["metadata"]["name"], spec.get("holderIdentity")
        if not holder or (_expired(old, now) and holder != name):
            spec.pop("preferredHolder", None)
            spec.pop("acquireTime", None)
            spec |= {"holderIdentity": name, "renewTime": rfc3339_micro(now), "leaseDurationSeconds": LEASE_SECONDS}
            meta["annotations"] = {**(meta.get("annotations") or {}), ELECTED_BY: "leader-election-controller"}
        elif holder != name:
            spec["preferredHolder"] = name
    new = {**old, "metadata": meta, "spec": spec}
    return None if lease is not None and new == lease else new


class LeaderElectionController(Controller):
    name: ClassVar[str] = "leader-election-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context, candidates: Resource = LEASE_CANDIDATES) -> None:
        super().__init__(context)
        self._resource = candidates
        self.candidates = self.watch(candidates, _leases)

    def all_keys(self) -> Iterable[str]:
        return {key for c in self.candidates.list() for key in _leases(c)}

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        mine = [c for c in self.candidates.list() if key in _leases(c)]
        if not mine:
            return None
        found = plan((namespace, name), await self._lease(namespace, name), mine, self.clock.now())
        if found.problem:
            log.warning("nobody is elected for the lease %s: %s", key, found.problem)
        for candidate in found.remove:
            meta = candidate["metadata"]
            version = meta["resourceVersion"]
            await self._accepting(
                404,
                409,
                self.client.delete(self._resource, meta["name"], namespace, uid=meta["uid"], resource_version=version),
            )
        for candidate in found.ping:
            spec = {**candidate["spec"], "pingTime": rfc3339_micro(self.clock.now())}
            written = await self._accepting(404, 409, self.client.update(self._resource, {**candidate, "spec": spec}))
            if written is not None:
                self.wrote(key, self.candidates, written)
        if found.lease is not None:
            made = "resourceVersion" not in found.lease["metadata"]
            write = (
                self.client.create(LEASES, found.lease, namespace) if made else self.client.update(LEASES, found.lease)
            )
            if await self._accepting(404, 409, write) is None:
                return 0.0  # somebody else wrote it meanwhile: judge anew
        return found.again

    async def _lease(self, namespace: str, name: str) -> Object | None:
        return await self._accepting(404, 404, self.client.get(LEASES, name, namespace))

    @staticmethod
    async def _accepting(one: int, other: int, work: Any) -> Object | None:
        """The answer; None when it is one of these refusals: what was read is old."""
        try:
            answer: Object = await work
        except ApiError as error:
            if error.code not in (one, other):
                raise
            return None
        return answer


def _leases(candidate: Object) -> list[str]:
    name = (candidate.get("spec") or {}).get("leaseName")
    return [f"{candidate['metadata']['namespace']}/{name}"] if name else []
