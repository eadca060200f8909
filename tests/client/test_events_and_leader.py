"""The event recorder and leader election, on the real API server in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.client.inprocess import InProcess
from jota.client.leader import LeaderElector
from jota.meta.resource import CONFIGMAPS, EVENTS, LEASES, NAMESPACES
from jota.testing.cluster import ApiServer
from jota.wire.message import Request, Response


def test_repeats_are_counted_and_bursts_are_cut() -> None:
    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            obj = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "ns"}})
            recorder = EventRecorder(api.client, api.clock, "tester", "host")
            for _ in range(3):
                recorder.event(obj, "Warning", "Failed", "again")
            await recorder.flush()
            (event,) = (await api.client.list(EVENTS, "ns"))["items"]
            assert (event["count"], event["reason"], event["source"]["component"]) == (3, "Failed", "tester")
            assert event["involvedObject"]["uid"] == obj["metadata"]["uid"]
            assert event["metadata"]["name"].startswith("a.")
            for n in range(60):
                recorder.event(obj, "Normal", "Noise", f"number {n}")
            await recorder.flush()
            assert len((await api.client.list(EVENTS, "ns"))["items"]) == 23
            assert recorder.dropped == 38
            gone = {"kind": "Pod", "name": "p", "namespace": "nowhere"}
            recorder.event(gone, "Normal", "Lost", "its namespace does not exist")
            await recorder.flush()

    asyncio.run(story())


def test_of_a_closing_namespace_no_more_is_told_than_is_refused() -> None:
    async def story() -> None:
        async with ApiServer() as api:
            for name in ("closing", "open"):
                await api.client.create(NAMESPACES, {"metadata": {"name": name}})
            await api.client.delete(NAMESPACES, "closing")
            asked: list[str] = []
            recorder = EventRecorder(counted(api, asked), api.clock, "tester")
            for n in range(40):
                for namespace in ("closing", "open"):
                    one = {"kind": "Pod", "name": f"p{n}", "namespace": namespace}
                    recorder.event(one, "Normal", "Scheduled", "somewhere")
            await recorder.flush()
            assert len((await api.client.list(EVENTS, "open"))["items"]) == 40
            assert not (await api.client.list(EVENTS, "closing"))["items"]
            assert sum("/closing/" in path for path in asked) == 1

    asyncio.run(story())


def counted(api: ApiServer, asked: list[str]) -> Client:
    async def handle(request: Request) -> Response:
        asked.append(request.path)
        return await api.api.handle(request)

    return Client(InProcess(handle, COMPONENT))


def test_one_leads_and_another_takes_over() -> None:
    async def story() -> None:
        async with ApiServer() as api:
            started: list[str] = []

            def elector(name: str) -> LeaderElector:
                return LeaderElector(api.client, api.clock, "work", name, Random(1))

            async def run(one: LeaderElector) -> None:
                async def work() -> None:
                    started.append(one.identity)
                    await asyncio.Event().wait()

                await one.lead(work)

            electors = [elector("a"), elector("b")]
            tasks = [asyncio.ensure_future(run(e)) for e in electors]
            await api.advance(30)
            assert len(started) == 1
            leader = next(n for n, e in enumerate(electors) if e.leading)
            tasks[leader].cancel()
            await asyncio.wait({tasks[leader]})
            await api.advance(30)
            assert sorted(started) == ["a", "b"]
            lease = await api.client.get(LEASES, "work", "kube-system")
            assert lease["spec"]["leaseTransitions"] >= 1
            other = tasks[1 - leader]
            # Somebody else holds the Lease now: the leader notices within its renew deadline and stops its work.
            taken = {"spec": {"holderIdentity": "thief", "renewTime": "2100-01-01T00:00:00.000000Z"}}
            await api.client.patch(LEASES, "work", "kube-system", taken)
            await api.advance(20)
            assert other.done()

    asyncio.run(story())
