"""Coordinated leader election: the oldest emulation version leads, those that do not answer do not, and nobody is ousted alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import rfc3339, rfc3339_micro
from jota.api.config import ApiConfig
from jota.controllers.controller import ControllerConfig
from jota.controllers.leaderelection import ELECTED_BY, ROUND, VALID, LeaderElectionController, plan
from jota.controllers.table import CONTROLLERS, controllers, run_controllers
from jota.kinds.coordination.leasecandidate import semver
from jota.meta.errors import ApiError
from jota.meta.resource import LEASE_CANDIDATES, LEASES, NAMESPACES
from jota.testing.cluster import ApiServer

from .builders import CA_PEM

Object = dict[str, Any]
NOW = 1_000_000.0
KEY = ("ns", "component")
OLDEST = "OldestEmulationVersion"


def candidate(name: str, emulation: str = "1.36.0", binary: str = "1.37.0", **more: Any) -> Object:
    """`renewed`, `pinged`, `made`: seconds before NOW."""
    spec: Object = {"leaseName": "component", "strategy": more.pop("strategy", OLDEST)}
    spec |= {"binaryVersion": binary, "emulationVersion": emulation}
    spec["renewTime"] = rfc3339_micro(NOW - more.pop("renewed", 0.0))
    if "pinged" in more:
        spec["pingTime"] = rfc3339_micro(NOW - more.pop("pinged"))
    created = rfc3339(NOW - more.pop("made", 0.0))
    return {"metadata": {"name": name, "namespace": "ns", "creationTimestamp": created}, "spec": spec}


def lease(holder: str = "", renewed: float = 0.0, **spec: Any) -> Object:
    held = {"holderIdentity": holder, "renewTime": rfc3339_micro(NOW - renewed), "leaseDurationSeconds": 15}
    return {"metadata": {"name": "component", "namespace": "ns"}, "spec": {**(held if holder else {}), **spec}}


def names(candidates: list[Object]) -> list[str]:
    return [c["metadata"]["name"] for c in candidates]


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([candidate("a"), candidate("b", "1.35.0")], "b"),
        ([candidate("a", "1.9.0"), candidate("b", "1.10.0")], "a"),
        ([candidate("a", "1.36.0"), candidate("b", "1.36.0-rc.1")], "b"),
        ([candidate("a", binary="1.38.0"), candidate("b", binary="1.37.0")], "b"),
        ([candidate("a", made=5), candidate("b", made=60)], "b"),
        ([candidate("b"), candidate("a")], "a"),
    ],
)
def test_the_oldest_leads(others: list[Object], chosen: str) -> None:
    found = plan(KEY, None, others, NOW)
    assert found.lease is not None
    assert found.lease["metadata"] == {
        "namespace": "ns",
        "name": "component",
        "annotations": {ELECTED_BY: "leader-election-controller"},
    }
    assert found.lease["spec"] == {
        "strategy": OLDEST,
        "holderIdentity": chosen,
        "renewTime": rfc3339_micro(NOW),
        "leaseDurationSeconds": 5,
    }


def test_who_was_not_heard_of_lately_is_pinged_and_waited_for() -> None:
    old, fresh = candidate("old", "1.30.0", renewed=60), candidate("fresh")
    found = plan(KEY, None, [old, fresh], NOW)
    assert (names(found.ping), found.lease, found.again) == (["old"], None, ROUND)
    found = plan(KEY, None, [candidate("old", "1.30.0", renewed=60, pinged=2), fresh], NOW)
    assert (found.ping, found.lease, found.again) == ([], None, pytest.approx(3.0))
    found = plan(KEY, None, [candidate("old", "1.30.0", renewed=60, pinged=6), fresh], NOW)
    assert found.lease is not None
    assert found.lease["spec"]["holderIdentity"] == "fresh"
    answered = candidate("quick", renewed=5.9, pinged=6)  # just before the other's time was up
    found = plan(KEY, None, [candidate("old", "1.30.0", renewed=60, pinged=6), answered], NOW)
    assert found.lease is not None
    assert found.lease["spec"]["holderIdentity"] == "quick"
    found = plan(KEY, None, [candidate("a", renewed=60, pinged=30), candidate("b", renewed=60, pinged=30)], NOW)
    assert (names(found.ping), found.lease) == (["a", "b"], None), "all were silent: they may be back"


def test_a_holder_that_is_alive_is_not_ousted_but_told() -> None:
    both = [candidate("new", "1.36.0"), candidate("old", "1.35.0")]
    found = plan(KEY, lease("new", strategy=OLDEST), both, NOW)
    assert found.lease is not None
    assert found.lease["spec"]["holderIdentity"] == "new"
    assert found.lease["spec"]["preferredHolder"] == "old"
    assert plan(KEY, found.lease, both, NOW).lease is None, "told once"
    assert plan(KEY, lease("old"), both, NOW).lease is None
    released = lease("", preferredHolder="old", strategy=OLDEST)
    found = plan(KEY, released, both, NOW)
    assert found.lease is not None
    assert found.lease["spec"]["holderIdentity"] == "old"
    assert "preferredHolder" not in found.lease["spec"]
    found = plan(KEY, lease("new", renewed=16), both, NOW)
    assert found.lease is not None
    assert found.lease["spec"]["holderIdentity"] == "old", "it has expired"


def test_other_strategies_are_for_others_and_conflicts_for_nobody() -> None:
    theirs = [candidate("a", strategy="example.com/mine"), candidate("b", binary="1.30.0", emulation="1.30.0")]
    found = plan(KEY, None, theirs, NOW)
    assert found.lease is not None
    assert found.lease["spec"] == {"strategy": "example.com/mine"}
    assert plan(KEY, found.lease, theirs, NOW).lease is None
    found = plan(KEY, None, [candidate("a"), candidate("b", strategy="example.com/mine")], NOW)
    assert found.lease is None
    assert "different strategies" in found.problem


def test_candidates_that_are_gone_for_long_are_removed() -> None:
    found = plan(KEY, None, [candidate("dead", renewed=VALID + 1), candidate("a")], NOW)
    assert names(found.remove) == ["dead"]
    assert found.lease is not None
    assert found.lease["spec"]["holderIdentity"] == "a"
    assert plan(KEY, None, [], NOW).again is None


AGES = st.floats(0, 3 * VALID)
CANDIDATES = st.lists(
    st.builds(
        lambda n, e, r, p: candidate(f"c{n}", f"1.{e}.0", "1.37.0", renewed=r, **({} if p is None else {"pinged": p})),
        st.integers(0, 99),
        st.integers(30, 37),
        st.one_of(st.floats(0, 20), AGES),
        st.none() | st.floats(0, 20) | AGES,
    ),
    unique_by=lambda c: c["metadata"]["name"],
    max_size=6,
)
HELD = st.none() | st.builds(lease, st.sampled_from(["", "c1", "x"]), st.floats(0, 40))


@given(CANDIDATES, HELD)
def test_whatever_the_state_a_live_holder_stays_and_only_the_living_are_elected(
    candidates: list[Object], held: Object | None
) -> None:
    found = plan(KEY, held, candidates, NOW)
    if found.lease is None:
        return
    holder = found.lease["spec"].get("holderIdentity")
    before = (held or {"spec": {}})["spec"]
    alive = before.get("holderIdentity") and rfc3339_micro(NOW - 15) <= before["renewTime"]
    if alive:
        assert holder == before["holderIdentity"]
    else:
        elected = next(c for c in candidates if c["metadata"]["name"] == holder)
        assert elected["spec"]["renewTime"] >= rfc3339_micro(NOW - 2 * ROUND)
    assert plan(KEY, found.lease, candidates, NOW).lease is None, "once is enough"


@given(st.lists(st.integers(0, 12), min_size=6, max_size=6))
def test_semantic_versions_are_ordered_as_numbers(parts: list[int]) -> None:
    a, b = (".".join(map(str, p)) for p in (parts[:3], parts[3:]))
    one, other = semver(a), semver(b)
    assert one is not None
    assert other is not None
    assert (one < other) == (parts[:3] < parts[3:])
    order = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ]
    found = [semver(v) for v in [*order, "1.0.0"]]
    assert found == sorted(found)  # type: ignore[type-var]
    assert [semver(v) for v in ("v1.0.0", "1.0", "1.0.0.0", "01.0.0", "", "1.0.0-", "١.0.0")] == [None] * 7


# -- on the real API server


@asynccontextmanager
async def running() -> AsyncIterator[ApiServer]:
    async with ApiServer(config=ApiConfig(runtime_config={"coordination.k8s.io/v1beta1": True})) as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        stop = asyncio.Event()
        work = run_controllers(
            api.client,
            api.clock,
            ControllerConfig(ca_pem=CA_PEM),
            stop,
            random=Random(1),
            controllers=(LeaderElectionController,),
        )
        task = asyncio.ensure_future(work)
        try:
            await api.settle()
            yield api
        finally:
            stop.set()
            await task


class Component:
    """What client-go does for one candidate: it answers pings, renews what it holds, and gives way."""

    def __init__(self, api: ApiServer, name: str, emulation: str) -> None:
        self.api, self.name, self.emulation, self.alive = api, name, emulation, True

    async def start(self) -> None:
        made = candidate(self.name, self.emulation)
        made["spec"]["renewTime"] = rfc3339_micro(self.api.clock.now())
        await self.api.client.create(LEASE_CANDIDATES, {"metadata": {"name": self.name}, "spec": made["spec"]}, "ns")

    async def tick(self) -> None:
        if not self.alive:
            return
        now, client = rfc3339_micro(self.api.clock.now()), self.api.client
        own = await client.get(LEASE_CANDIDATES, self.name, "ns")
        if own["spec"].get("pingTime", "") > own["spec"].get("renewTime", ""):
            await client.patch(LEASE_CANDIDATES, self.name, "ns", {"spec": {"renewTime": now}})
        try:
            held = await client.get(LEASES, "component", "ns")
        except ApiError:
            return
        if held["spec"].get("holderIdentity") == self.name:
            preferred = held["spec"].get("preferredHolder")
            gives_way = bool(preferred) and preferred != self.name
            change: Object = {"holderIdentity": None, "renewTime": None} if gives_way else {"renewTime": now}
            await client.patch(LEASES, "component", "ns", {"spec": change})


async def rest(api: ApiServer, seconds: float, *components: Component) -> str:
    """Let time pass with the components at work; who leads then."""
    for _ in range(int(seconds)):
        await api.advance(1.0)
        for component in components:
            await component.tick()
    held = await api.client.get(LEASES, "component", "ns")
    return str(held["spec"].get("holderIdentity") or "")


def test_an_upgrade_and_a_crash() -> None:
    async def story() -> None:
        async with running() as api:
            new, old = Component(api, "new", "1.37.0"), Component(api, "old", "1.36.0")
            await new.start()
            assert await rest(api, 10, new) == "new"
            await old.start()
            assert await rest(api, 30, new, old) == "old", "who leads gave way to the older one"
            old.alive = False
            assert await rest(api, 40, new, old) == "new"
            held = await api.client.get(LEASES, "component", "ns")
            assert held["metadata"]["annotations"] == {ELECTED_BY: "leader-election-controller"}
            await api.advance(VALID + 60)
            left = await api.client.list(LEASE_CANDIDATES, "ns", fields="spec.leaseName=component")
            assert left["items"] == [], "nobody renewed for half an hour"

    asyncio.run(story())


def test_it_runs_only_where_candidates_are_served() -> None:
    for config, extra in (
        ({}, 0),
        ({"coordination.k8s.io/v1beta1": True}, 1),
        ({"coordination.k8s.io/v1alpha2": True}, 1),
    ):
        assert len(controllers(ApiConfig(runtime_config=config).serves)) == len(CONTROLLERS) + extra


def test_candidates_and_leases_are_judged() -> None:
    async def story() -> None:
        async with running() as api:

            async def refused(spec: Object) -> dict[str, str]:
                with pytest.raises(ApiError) as caught:
                    await api.client.create(LEASE_CANDIDATES, {"metadata": {"name": "x"}, "spec": spec}, "ns")
                assert caught.value.code == 422
                return {c.field: c.message for c in caught.value.causes}

            good = candidate("a")["spec"]
            assert await refused({**good, "binaryVersion": "1.35.0"}) == {
                "spec.binaryVersion": 'Invalid value: "1.35.0": must be greater than or equal to `emulationVersion`'
            }
            assert set(await refused({"leaseName": "", "binaryVersion": "", "strategy": ""})) == {
                "spec.leaseName",
                "spec.binaryVersion",
                "spec.strategy",
            }
            assert set(await refused({**good, "emulationVersion": "v1"})) == {"spec.emulationVersion"}
            for strategy in ("Youngest", "example.com/", "a/b/c"):
                assert set(await refused({**good, "strategy": strategy})) == {"spec.strategy"}
            found = await refused({"leaseName": "l", "binaryVersion": "1.0.0", "strategy": OLDEST})
            assert "must be specified when `strategy`" in found["spec.emulationVersion"]
            made = await api.client.create(LEASE_CANDIDATES, {"metadata": {"name": "a"}, "spec": good}, "ns")
            with pytest.raises(ApiError, match="field is immutable"):
                await api.client.patch(LEASE_CANDIDATES, "a", "ns", {"spec": {"leaseName": "other"}})
            assert made["spec"] == good
            with pytest.raises(ApiError, match="may only be specified if `strategy` is defined"):
                await api.client.create(LEASES, {"metadata": {"name": "l"}, "spec": {"preferredHolder": "a"}}, "ns")

    asyncio.run(story())
