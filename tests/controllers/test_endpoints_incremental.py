"""A look at what changed finds what a look at everything finds: of slices and of Endpoints, over random histories; first the
planners alone, then both controllers on the real API server, with selectors, labels, zones and slices changing under them.

A failing story is repeated with its seed: `pytest tests/controllers/test_endpoints_incremental.py -k "[seed]"`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.controllers import endpoints, endpointslice, endpointslice_plan
from jota.controllers.endpoints import EndpointsController, Offered, subsets_of
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.endpointslice_plan import Plan, partial, plan
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES
from jota.testing.cluster import ApiServer

from .builders import pod
from .stories import running

Object = dict[str, Any]
FEW = 3
"""Endpoints in a slice, so that a dozen pods need many."""
PORTS = ([{"name": "http", "containerPort": 8080}], [{"name": "http", "containerPort": 9090}], [])
ZONES = {"n1": "x", "n2": "y"}


def service(**spec: Any) -> Object:
    ports = [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    meta = {"name": "web", "namespace": "ns", "uid": "svc", "labels": {"team": "a"}}
    return {"metadata": meta, "spec": {"selector": {"app": "web"}, "ports": ports, **spec}}


def one_pod(number: int, life: int, ready: bool, ports: int, ips: int, node: str, leaving: bool, ended: bool) -> Pod:
    found = pod(
        f"p{number:02}",
        uid=f"{number}-{life}",
        ready=5 if ready else False,
        ports=PORTS[ports],
        node=node,
        terminating=leaving,
        phase="Succeeded" if ended else "Running",
        ip=f"10.0.0.{number + 1}",
    )
    assert found.status.podIPs
    (v4,) = found.status.podIPs
    found.status.podIPs = [[v4], [v4, type(v4)(f"fd00::{number:x}")], [type(v4)(f"fd00::{number:x}")], []][ips]
    if ips == 3:
        found.status.podIP = None
    return found


NUMBERS = st.integers(0, 13)
CHANGE = st.one_of(
    st.tuples(NUMBERS, st.none()),
    st.tuples(
        NUMBERS,
        st.builds(
            dict,
            life=st.integers(0, 1),
            ready=st.booleans(),
            ports=st.sampled_from([0, 0, 0, 1, 2]),
            ips=st.sampled_from([0, 0, 0, 1, 2, 3]),
            node=st.sampled_from(["n1", "n2", ""]),
            leaving=st.booleans(),
            ended=st.sampled_from([False, False, False, True]),
        ),
    ),
)
LOOKS = st.lists(st.lists(CHANGE, min_size=1, max_size=6), min_size=1, max_size=12)
SPECS = st.sampled_from(
    [
        {},
        {"ipFamilies": ["IPv4", "IPv6"]},
        {"trafficDistribution": "PreferClose"},
        {"clusterIP": "None", "publishNotReadyAddresses": True},
        {"ports": [], "clusterIP": "None"},
    ]
)


def after(decided: Plan, slices: dict[str, Object], serial: list[int]) -> dict[str, Object]:
    """The slices as the API would hold them."""
    held = {name: one for name, one in slices.items() if one not in decided.delete}
    held |= {str(one["metadata"]["name"]): one for one in decided.update}
    for one in decided.create:
        serial[0] += 1
        name = f"web-{serial[0]:03}"
        held[name] = {**one, "metadata": {**one["metadata"], "name": name}}
    return held


def change(pods: dict[str, Pod], changes: list[Any]) -> Iterator[str]:
    """One after another; whose names."""
    for number, given_ in changes:
        name = f"p{number:02}"
        if given_ is None:
            pods.pop(name, None)
        else:
            pods[name] = one_pod(number, **given_)
        yield name


@settings(max_examples=400, deadline=None)
@given(LOOKS, SPECS)
def test_the_plan_of_a_part_is_the_plan_of_the_whole(looks: list[list[Any]], spec: Object) -> None:
    svc, pods, slices, serial = service(**spec), dict[str, Pod](), dict[str, Object](), [0]

    def zone(node: str) -> str:
        return ZONES.get(node, "")

    with patch.object(endpointslice_plan, "LIMIT", FEW):
        slices = after(plan(svc, [], zone, []), slices, serial)
        for changes in looks:
            changed = set(change(pods, changes))
            holding = {n: frozenset(e["targetRef"]["name"] for e in one["endpoints"]) for n, one in slices.items()}
            part = partial(svc, changed, pods.get, zone, slices, holding)
            whole = plan(svc, pods.values(), zone, slices.values())
            for of_part, of_whole in ((part.create, whole.create), (part.update, whole.update)):
                assert sorted(of_part, key=repr) == sorted(of_whole, key=repr)
            assert {s["metadata"]["name"] for s in part.delete} == {s["metadata"]["name"] for s in whole.delete}
            slices = after(part, slices, serial)
            assert all(len(one["endpoints"]) <= FEW for one in slices.values())


@settings(max_examples=300, deadline=None)
@given(LOOKS, SPECS)
def test_who_is_in_endpoints_is_the_same_when_it_follows_changes(looks: list[list[Any]], spec: Object) -> None:
    svc, pods, held = service(**spec), dict[str, Pod](), set[str]()
    with patch.object(endpoints, "LIMIT", FEW):
        kept = Offered(svc, [])
        for changes in looks:
            for name in change(pods, changes):
                kept.put(name, pods.get(name))
            afresh = Offered(svc, pods.values())
            assert kept.choose(held) == afresh.choose(held)
            chosen, cut = kept.choose(held)
            able = {n for n in pods if subsets_of(svc, [pods[n]]) and Offered(svc, [pods[n]]).choose(())[0]}
            assert chosen <= able
            assert len(chosen) == min(FEW, len(able))
            assert cut == (len(able) > FEW)
            ready = {n for n in able if pods[n].ready}
            assert len(chosen & ready) == min(FEW, len(ready)), "ready ones first"
            assert len(chosen & held & ready) == min(FEW, len(held & ready)), "who is in it stays"
            held = chosen


# --- on the real API server


def a_pod(number: int, app: str, node: str) -> Object:
    container = {"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": 8080 + number % 2}]}
    meta = {"name": f"p{number:02}", "namespace": "ns", "labels": {"app": app}, "finalizers": ["test/stay"]}
    return {"metadata": meta, "spec": {"nodeName": node, "containers": [container]}}


class World:
    def __init__(self, api: ApiServer, random: Random) -> None:
        self.api, self.client, self.random = api, api.client, random
        self.steps: list[Callable[[], Any]] = [
            *[self.create] * 8, *[self.status] * 12, *[self.delete] * 3, *[self.let_go] * 3, *[self.relabel] * 3,
            self.select, self.respec, self.rezone, self.meddle, self.remove_slice, self.meddle_with_endpoints,
        ]  # fmt: skip

    def name(self) -> str:
        return f"p{self.random.randrange(12):02}"

    async def step(self) -> None:
        try:
            await self.random.choice(self.steps)()
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        if self.random.random() < 0.5:  # else the next change falls into the look at this one
            await self.api.settle()

    async def create(self) -> None:
        body = a_pod(
            self.random.randrange(12), self.random.choice(("web", "web", "db")), f"n{self.random.randrange(3)}"
        )
        await self.client.create(PODS, body)

    async def status(self) -> None:
        name, n = self.name(), self.random.randrange(250)
        ready = {"type": "Ready", "status": self.random.choice(("True", "True", "False"))}
        status: Object = {"phase": "Running", "conditions": [ready], "podIPs": [{"ip": f"10.0.1.{n}"}]}
        status["podIP"] = f"10.0.1.{n}"
        if self.random.random() < 0.1:
            status["phase"] = "Succeeded"
        await self.client.patch(PODS, name, "ns", {"status": status}, subresource="status")

    async def delete(self) -> None:
        await self.client.delete(PODS, self.name(), "ns", grace=0)

    async def let_go(self) -> None:
        name = self.name()
        if "deletionTimestamp" in (await self.client.get(PODS, name, "ns"))["metadata"]:
            await self.client.patch(PODS, name, "ns", {"metadata": {"finalizers": None}})

    async def relabel(self) -> None:
        labels = {"app": self.random.choice(("web", "db"))}
        await self.client.patch(PODS, self.name(), "ns", {"metadata": {"labels": labels}})

    async def select(self) -> None:
        spec = {"selector": {"app": self.random.choice(("web", "db"))}}
        await self.client.patch(SERVICES, "one", "ns", {"spec": spec})

    async def respec(self) -> None:
        spec = self.random.choice(
            (
                {"publishNotReadyAddresses": self.random.random() < 0.5},
                {"trafficDistribution": self.random.choice(("PreferClose", None))},
                {"ports": [{"port": 80, "targetPort": self.random.choice(("http", 8080))}]},
            )
        )
        await self.client.patch(SERVICES, "one", "ns", {"spec": spec})

    async def rezone(self) -> None:
        labels = {"topology.kubernetes.io/zone": self.random.choice(("x", "y", None))}
        await self.client.patch(NODES, f"n{self.random.randrange(3)}", "", {"metadata": {"labels": labels}})

    async def meddle(self) -> None:
        await self.api.settle()
        one = await self.a_slice()
        one["endpoints"] = [{"addresses": ["10.9.9.9"]}, *(one["endpoints"] or [])[1:]]
        await self.client.update(ENDPOINTSLICES, one)

    async def remove_slice(self) -> None:
        await self.api.settle()
        await self.client.delete(ENDPOINTSLICES, (await self.a_slice())["metadata"]["name"], "ns")

    async def meddle_with_endpoints(self) -> None:
        await self.client.patch(ENDPOINTS, "one", "ns", {"subsets": None})

    async def a_slice(self) -> Object:
        found: Object = self.random.choice((await self.client.list(ENDPOINTSLICES, "ns"))["items"])
        return found

    async def check(self) -> None:
        """Whoever looks at everything finds nothing to do, and in the slices is what the API's pods say."""
        pods = [p for p in (await self.client.list(PODS, "ns"))["items"] if p["status"].get("phase") == "Running"]
        for name in ("one", "two"):
            svc = await self.client.get(SERVICES, name, "ns")
            wanted = {}
            for p in pods:
                if p["metadata"]["labels"]["app"] == svc["spec"]["selector"]["app"] and p["status"].get("podIP"):
                    ready = p["status"]["conditions"][0]["status"] == "True"
                    leaving = "deletionTimestamp" in p["metadata"]
                    always = bool(svc["spec"].get("publishNotReadyAddresses"))
                    wanted[p["metadata"]["uid"]] = (
                        p["status"]["podIP"],
                        always or (ready and not leaving),
                        leaving,
                        await self.zone(p["spec"]["nodeName"]),
                    )
            slices = (await self.client.list(ENDPOINTSLICES, "ns", f"kubernetes.io/service-name={name}"))["items"]
            found = {}
            for e in (e for s in slices for e in s["endpoints"] or ()):
                conds = e["conditions"]
                assert e["targetRef"]["uid"] not in found, "in one slice only"
                found[e["targetRef"]["uid"]] = (
                    e["addresses"][0],
                    conds["ready"],
                    conds["terminating"],
                    e.get("zone", ""),
                )
                near = svc["spec"].get("trafficDistribution") and conds["ready"] and e.get("zone")
                assert e.get("hints") == ({"forZones": [{"name": e["zone"]}]} if near else None)
            assert found == wanted, name
            assert all(len(s["endpoints"] or ()) <= FEW for s in slices)
            always = bool(svc["spec"].get("publishNotReadyAddresses"))
            may = {uid: ip for uid, (ip, _, leaving, _) in wanted.items() if always or not leaving}
            held = await self.client.get(ENDPOINTS, name, "ns")
            said = {
                a["targetRef"]["uid"]: a["ip"]
                for s in held.get("subsets") or ()
                for kind in ("addresses", "notReadyAddresses")
                for a in s.get(kind) or ()
            }
            assert said.items() <= may.items()
            assert len(said) == min(2 * FEW, len(may))
            cut = "endpoints.kubernetes.io/over-capacity" in (held["metadata"].get("annotations") or {})
            assert cut == (len(may) > 2 * FEW)

    async def zone(self, node: str) -> str:
        labels = (await self.client.get(NODES, node))["metadata"].get("labels") or {}
        return str(labels.get("topology.kubernetes.io/zone", ""))


@pytest.mark.parametrize("seed", range(6))
def test_slices_and_endpoints_follow_whatever_happens(seed: int) -> None:
    looks = {"partial": 0, "plan": 0}

    def counted(name: str) -> Callable[..., Plan]:
        function: Callable[..., Plan] = getattr(endpointslice_plan, name)

        def count(*args: Any, **more: Any) -> Plan:
            looks[name] += 1
            return function(*args, **more)

        return count

    async def story() -> None:
        async with running(EndpointSliceController, EndpointsController) as api:
            for n in range(3):
                await api.client.create(NODES, {"metadata": {"name": f"n{n}"}})
            for name, app in (("one", "web"), ("two", "db")):
                spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": "http"}]}
                await api.client.create(SERVICES, {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})
            world = World(api, Random(seed))
            for _ in range(12):
                for _ in range(10):
                    await world.step()
                await api.advance(2)  # what was refused is tried again; the slow timer stays silent
                await world.check()

    with (
        patch.object(endpointslice_plan, "LIMIT", FEW),
        patch.object(endpoints, "LIMIT", 2 * FEW),
        patch.object(endpointslice, "plan", counted("plan")),
        patch.object(endpointslice, "partial", counted("partial")),
    ):
        asyncio.run(story())
    assert looks["partial"] > looks["plan"] > 0


def test_one_pod_of_many_is_one_slice_at_once() -> None:
    """Its slice alone is looked at and written, and without waiting: in no time at all, in virtual time."""
    made: list[str] = []
    real = endpointslice_plan.endpoint

    def noted(svc: Object, pod: Pod, address: str, zones: Callable[[str], str]) -> Object:
        made.append(pod.metadata.name)
        return real(svc, pod, address, zones)

    async def story() -> None:
        async with running(EndpointSliceController, EndpointsController) as api:
            spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
            await api.client.create(SERVICES, {"metadata": {"name": "one", "namespace": "ns"}, "spec": spec})
            for n in range(10 * FEW):
                await api.client.create(PODS, a_pod(n, "web", "n1"))
                await ready(api, n, "True")
            before = await versions(api)
            assert len(before) == 10
            made.clear()
            await ready(api, 4, "False")
            assert len(made) == FEW
            assert "p04" in made
            assert len((await versions(api)).items() - before.items()) == 1
            (unready,) = [e for e in await all_endpoints(api) if not e["conditions"]["ready"]]
            assert unready["targetRef"]["name"] == "p04"
            held = await api.client.get(ENDPOINTS, "one", "ns")
            assert [a["targetRef"]["name"] for a in held["subsets"][0]["notReadyAddresses"]] == ["p04"]

    async def ready(api: ApiServer, n: int, state: str) -> None:
        status = {"phase": "Running", "podIP": f"10.0.1.{n}", "podIPs": [{"ip": f"10.0.1.{n}"}]}
        status |= {"conditions": [{"type": "Ready", "status": state}]}
        await api.client.patch(PODS, f"p{n:02}", "ns", {"status": status}, subresource="status")
        await api.settle()

    async def versions(api: ApiServer) -> dict[str, str]:
        found = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
        return {s["metadata"]["name"]: s["metadata"]["resourceVersion"] for s in found}

    async def all_endpoints(api: ApiServer) -> list[Object]:
        return [e for s in (await api.client.list(ENDPOINTSLICES, "ns"))["items"] for e in s["endpoints"]]

    with patch.object(endpointslice_plan, "LIMIT", FEW), patch.object(endpointslice_plan, "endpoint", noted):
        asyncio.run(story())
