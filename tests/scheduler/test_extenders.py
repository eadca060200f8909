"""Scheduler extenders, each a real HTTP server: what they are asked, what their answers do, and what happens when they fail."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.meta.resource import EVENTS, NODES, PODS, SERVICEACCOUNTS, Resource
from jota.pki.ca import CertificateAuthority, Subject
from jota.scheduler.config import BadConfiguration, parse
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

GPU = "example.com/gpu"
READY = {"type": "Ready", "status": "True"}
PRIORITYCLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
Answer = Callable[[Any], Any]


class Service:
    """An extender of the test: `answers` by verb; what came is noted."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Any]] = []
        self.url = ""

    def bodies(self, verb: str) -> list[Any]:
        return [body for asked, body in self.asked if asked == verb]

    def about(self, verb: str) -> list[str]:
        """The pods that it was asked about."""
        return [body["Pod"]["metadata"]["name"] for body in self.bodies(verb)]

    async def handle(self, request: Request) -> Response:
        verb, body = request.path.rpartition("/")[2], orjson.loads(request.body)
        self.asked.append((verb, body))
        said = self.answers[verb](body)
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, Response):
            return said
        return Response(200, [("Content-Type", "application/json")], orjson.dumps(said))


def names(body: Any) -> list[str]:
    if body["NodeNames"] is not None:
        return list(body["NodeNames"])
    return [n["metadata"]["name"] for n in body["Nodes"]["items"]]


def only(*wanted: str, why: str = "no gpu") -> Answer:
    """A filter that leaves these nodes."""

    def answer(body: Any) -> Any:
        failed = {n: why for n in names(body) if n not in wanted}
        return {"NodeNames": [n for n in names(body) if n in wanted], "FailedNodes": failed}

    return answer


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    service = Service()
    server = HttpServer(service.handle, ssl=tls, clock=SystemClock())
    await server.start("127.0.0.1", 0)
    service.url = f"http{'s' if tls else ''}://127.0.0.1:{server.port}/scheduler"
    try:
        yield service
    finally:
        await server.close(0)


def extender(service: Service, *verbs: str, **more: Any) -> dict[str, Any]:
    weight = {"weight": 1} if "prioritize" in verbs else {}
    return {
        "urlPrefix": service.url,
        "nodeCacheCapable": True,
        **{f"{verb}Verb": verb for verb in verbs},
        **weight,
        **more,
    }


@asynccontextmanager
async def cluster(*extenders: dict[str, Any], nodes: str = "ab", backoff: float = 0.02) -> AsyncIterator[ApiServer]:
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "podInitialBackoffSeconds": backoff,
        "podMaxBackoffSeconds": backoff,
        "extenders": list(extenders),
    }
    async with ApiServer(clock=SystemClock()) as api:
        for name in nodes:
            await add_node(api, name)
        await api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
        scheduler = Scheduler(api.client, clock=api.clock, random=Random(1), settings=parse(config))
        task = asyncio.create_task(scheduler.run())
        try:
            yield api
        finally:
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(outcome, asyncio.CancelledError), outcome


async def add_node(api: ApiServer, name: str, gpus: str = "8") -> None:
    allocatable = {"cpu": "1", "memory": "4Gi", "pods": "110", GPU: gpus}
    status = {"allocatable": allocatable, "capacity": allocatable, "conditions": [READY]}
    await api.client.create(NODES, {"metadata": {"name": name}, "status": status})


def pod(name: str, *, gpu: str = "", cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    amounts = {"cpu": cpu, **({GPU: gpu} if gpu else {})}
    resources = {"requests": amounts, "limits": {GPU: gpu} if gpu else {}}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "x", "resources": resources}], **spec},
    }


async def placed(api: ApiServer, *wanted: str) -> dict[str, str]:
    """Waits until these pods have their nodes."""
    async with asyncio.timeout(20):
        while True:
            listed = await api.client.list(PODS)
            found = {p["metadata"]["name"]: p["spec"].get("nodeName", "") for p in listed["items"]}
            if all(found.get(name) for name in wanted):
                return found
            await asyncio.sleep(0.005)


async def condition(api: ApiServer, name: str, words: str) -> dict[str, Any]:
    """Waits until the pod's PodScheduled says so."""
    async with asyncio.timeout(20):
        while True:
            live = await api.client.get(PODS, name, "default")
            for found in live["status"].get("conditions") or ():
                if found["type"] == "PodScheduled" and words in found.get("message", ""):
                    return dict(found)
            await asyncio.sleep(0.005)


def story(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())  # type: ignore[arg-type]

    run.__name__ = test.__name__
    return run


# -- filter and prioritize


@story
async def test_a_filter_leaves_nodes_and_sees_the_whole_pod() -> None:
    async with serving() as service:
        service.answers["filter"] = only("b")
        async with cluster(extender(service, "filter")) as api:
            made = pod("p")
            made["metadata"]["annotations"] = {"example.com/hint": "x"}
            await api.client.create(PODS, made, "default")
            assert (await placed(api, "p"))["p"] == "b"
            (body,) = service.bodies("filter")
            assert set(body) == {"Pod", "Nodes", "NodeNames"}
            assert (body["Nodes"], sorted(body["NodeNames"])) == (None, ["a", "b"])
            assert body["Pod"]["metadata"]["annotations"] == {"example.com/hint": "x"}
            assert body["Pod"]["spec"]["containers"][0]["image"] == "x"
            events = await api.client.list(EVENTS, "default")
            assert not [e for e in events["items"] if e["reason"] == "FailedScheduling"]


@story
async def test_one_without_a_cache_is_told_whole_nodes() -> None:
    def filter_(body: Any) -> Any:
        items = [n for n in body["Nodes"]["items"] if n["metadata"]["name"] == "a"]
        return {"nodes": {"items": items}, "failedNodes": {"b": "no"}}  # Go does not mind the case of names

    async with serving() as service:
        service.answers = {"filter": filter_}
        async with cluster(extender(service, "filter", nodeCacheCapable=False)) as api:
            await api.client.create(PODS, pod("p"), "default")
            assert (await placed(api, "p"))["p"] == "a"
            (body,) = service.bodies("filter")
            assert body["NodeNames"] is None
            assert {n["metadata"]["name"] for n in body["Nodes"]["items"]} == {"a", "b"}
            assert body["Nodes"]["items"][0]["status"]["allocatable"][GPU] == "8"


@story
async def test_scores_weigh_ten_times_and_only_what_is_left_is_scored() -> None:
    async with serving() as service, serving() as second:
        service.answers = {
            "filter": only("b", "c", "d"),
            "prioritize": lambda body: [{"Host": n, "Score": 10 if n == "c" else 0} for n in names(body)],
        }
        second.answers["prioritize"] = lambda body: [{"host": n, "score": 1} for n in names(body) if n == "d"]
        one = extender(service, "filter", "prioritize", weight=5)
        async with cluster(one, extender(second, "prioritize", weight=60), nodes="abcd") as api:
            await api.client.create(PODS, pod("p"), "default")
            assert (await placed(api, "p"))["p"] == "d", "60 x 1 beats 5 x 10"
            assert sorted(names(service.bodies("prioritize")[0])) == ["b", "c", "d"]
            second.answers["prioritize"] = lambda _: Response(500, [], b"")
            await api.client.create(PODS, pod("q"), "default")
            assert (await placed(api, "q"))["q"] == "c", "who fails has no say"
            service.answers["filter"] = only("a")
            asked = len(service.bodies("prioritize"))
            await api.client.create(PODS, pod("r"), "default")
            assert (await placed(api, "r"))["r"] == "a"
            assert len(service.bodies("prioritize")) == asked, "one node needs no score"


@story
async def test_the_second_filter_sees_what_the_first_left() -> None:
    async with serving() as first, serving() as second:
        first.answers["filter"], second.answers["filter"] = only("a", "b"), only("b", "c")
        async with cluster(extender(first, "filter"), extender(second, "filter"), nodes="abc") as api:
            await api.client.create(PODS, pod("p"), "default")
            assert (await placed(api, "p"))["p"] == "b"
            assert sorted(names(second.bodies("filter")[0])) == ["a", "b"]


@story
async def test_only_pods_of_managed_resources_are_asked_about() -> None:
    async with serving() as service:
        service.answers["filter"] = only("b")
        async with cluster(extender(service, "filter", managedResources=[{"name": GPU}])) as api:
            await api.client.create(PODS, pod("plain"), "default")
            await api.client.create(PODS, pod("gpu", gpu="1"), "default")
            init = pod("init")
            init["spec"]["initContainers"] = pod("x", gpu="1")["spec"]["containers"]
            init["spec"]["initContainers"][0]["name"] = "i"
            await api.client.create(PODS, init, "default")
            found = await placed(api, "plain", "gpu", "init")
            assert (found["gpu"], found["init"]) == ("b", "b")
            assert sorted(service.about("filter")) == ["gpu", "init"]


@story
async def test_a_resource_may_be_left_to_the_extender() -> None:
    """ignoredByScheduler: NodeResourcesFit does not count it; no node has so many."""
    async with serving() as service:
        service.answers["filter"] = only("b")
        managed = [{"name": GPU, "ignoredByScheduler": True}]
        async with cluster(extender(service, "filter", managedResources=managed)) as api:
            await api.client.create(PODS, pod("p", gpu="100"), "default")
            assert (await placed(api, "p"))["p"] == "b"


# -- the loop goes on


@story
async def test_a_slow_extender_holds_up_nobody_else_and_is_asked_about_one_pod_at_a_time() -> None:
    gate, at_once, most = asyncio.Event(), [0], [0]

    async def slow(body: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        await gate.wait()
        at_once[0] -= 1
        return {"NodeNames": names(body)}

    async with serving() as service:
        service.answers["filter"] = slow
        async with cluster(extender(service, "filter", managedResources=[{"name": GPU}])) as api:
            for n in range(4):
                await api.client.create(PODS, pod(f"gpu{n}", gpu="1", cpu=f"{100 + n}m"), "default")
            for n in range(5):
                await api.client.create(PODS, pod(f"p{n}"), "default")
            found = await placed(api, *(f"p{n}" for n in range(5)))
            assert not any(found[f"gpu{n}"] for n in range(4))
            gate.set()
            await placed(api, *(f"gpu{n}" for n in range(4)))
            assert most[0] == 1


@story
async def test_the_more_important_pod_is_asked_about_first() -> None:
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def slow(body: Any) -> Any:
        arrived.set()
        await gate.wait()
        return {"NodeNames": names(body)}

    async with serving() as service:
        service.answers["filter"] = slow
        async with cluster(extender(service, "filter")) as api:
            await priority(api, "high", 1000)
            await api.client.create(PODS, pod("first"), "default")
            await arrived.wait()
            await api.client.create(PODS, pod("low"), "default")
            await api.client.create(PODS, pod("high", priorityClassName="high"), "default")
            await asyncio.sleep(0.05)
            gate.set()
            await placed(api, "first", "low", "high")
            assert service.about("filter") == ["first", "high", "low"]


@story
async def test_a_pod_that_goes_or_changes_while_it_is_judged() -> None:
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def slow(body: Any) -> Any:
        if body["Pod"]["metadata"]["name"] in ("gone", "moved"):
            arrived.set()
            await gate.wait()
        return {"NodeNames": names(body)}

    async with serving() as service:
        service.answers["filter"] = slow
        async with cluster(extender(service, "filter")) as api:
            await api.client.create(PODS, pod("gone"), "default")
            await arrived.wait()
            await api.client.delete(PODS, "gone", "default", grace=0)
            again = pod("gone", cpu="200m")
            await api.client.create(PODS, again, "default")
            gate.set()
            found = await placed(api, "gone")
            assert found["gone"], "its namesake is another pod"
            live = await api.client.get(PODS, "gone", "default")
            assert [b["Pod"]["metadata"]["uid"] for b in service.bodies("filter")][-1] == live["metadata"]["uid"]
            gate.clear()
            arrived.clear()
            await api.client.create(PODS, pod("moved"), "default")
            await arrived.wait()
            patch = {"metadata": {"labels": {"app": "x"}}}
            await api.client.patch(PODS, "moved", "default", patch)
            await asyncio.sleep(0.02)
            gate.set()
            await placed(api, "moved")
            last = service.bodies("filter")[-1]["Pod"]
            assert last["metadata"].get("labels") == {"app": "x"}, "it was judged as it is now"


@story
async def test_a_node_that_fills_up_meanwhile_is_not_overfilled() -> None:
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def slow(body: Any) -> Any:
        arrived.set()
        await gate.wait()
        return only("a")(body)

    async with serving() as service:
        service.answers["filter"] = slow
        async with cluster(extender(service, "filter", managedResources=[{"name": GPU}])) as api:
            await api.client.create(PODS, pod("gpu", gpu="1", cpu="800m"), "default")
            await arrived.wait()
            for n in range(2):
                await api.client.create(PODS, pod(f"p{n}", cpu="800m"), "default")
            await placed(api, "p0", "p1")
            gate.set()
            await condition(api, "gpu", "2 Insufficient cpu")


# -- refusals and failures


@story
async def test_a_refusal_is_told_in_the_extenders_words_and_tried_again() -> None:
    async with serving() as service:
        service.answers["filter"] = only(why="the device is broken")
        async with cluster(extender(service, "filter")) as api:
            await api.client.create(PODS, pod("p"), "default")
            found = await condition(api, "p", "0/2 nodes are available: 2 the device is broken.")
            assert found["reason"] == "Unschedulable"
            service.answers["filter"] = only("a", "c")
            await add_node(api, "c")
            assert (await placed(api, "p"))["p"] in ("a", "c")


@story
async def test_one_that_says_nothing_of_the_nodes_it_drops() -> None:
    async with serving() as service:
        service.answers["filter"] = lambda _: None
        async with cluster(extender(service, "filter")) as api:
            await api.client.create(PODS, pod("p"), "default")
            await condition(api, "p", f"2 node(s) were filtered out by the extender {service.url}")


@story
async def test_an_extender_that_fails_keeps_its_pods_waiting_and_says_so() -> None:
    answers: list[tuple[Answer, str]] = [
        (lambda _: Response(500, [], b"x"), "code 500"),
        (lambda _: Response(200, [], b"{"), "is no JSON"),
        (lambda _: {"Error": "out of order"}, "out of order"),
        (lambda _: {"NodeNames": ["elsewhere"]}, 'claims a filtered node "elsewhere"'),
    ]
    async with serving() as service:
        service.answers["filter"] = answers[0][0]
        async with cluster(extender(service, "filter")) as api:
            await api.client.create(PODS, pod("p"), "default")
            for answer, words in answers:
                service.answers["filter"] = answer
                found = await condition(api, "p", words)
                assert (found["status"], found["reason"]) == ("False", "SchedulerError")
            service.answers["filter"] = only("b")
            assert (await placed(api, "p"))["p"] == "b"


@story
async def test_one_that_is_not_there_or_too_slow() -> None:
    never = asyncio.Event()

    async def hang(_: Any) -> Any:
        await never.wait()

    async with serving() as service:
        service.answers["filter"] = hang
        gone = {"urlPrefix": "http://127.0.0.1:1", "filterVerb": "filter", "managedResources": [{"name": GPU}]}
        slow = extender(service, "filter", httpTimeout="50ms", managedResources=[{"name": "example.com/x"}])
        async with cluster(gone, slow) as api:
            await api.client.create(PODS, pod("p", gpu="1"), "default")
            await condition(api, "p", 'Post "http://127.0.0.1:1/filter"')
        async with cluster(extender(service, "filter", httpTimeout="50ms")) as api:
            await api.client.create(PODS, pod("p"), "default")
            await condition(api, "p", "no answer within 0.05 s")
        never.set()


@story
async def test_an_ignorable_extender_is_done_without() -> None:
    async with serving() as service:
        service.answers["filter"] = only("b")
        gone = {"urlPrefix": "http://127.0.0.1:1", "filterVerb": "f", "bindVerb": "b", "ignorable": True}
        async with cluster(gone, extender(service, "filter")) as api:
            await api.client.create(PODS, pod("p"), "default")
            assert (await placed(api, "p"))["p"] == "b"


@story
async def test_pods_of_a_group_are_told_that_extenders_cannot_judge_them() -> None:
    async with serving() as service:
        service.answers["filter"] = only("b")
        async with cluster(extender(service, "filter", managedResources=[{"name": GPU}])) as api:
            await api.client.create(PODS, pod("p", gpu="1", schedulingGroup={"podGroupName": "g"}), "default")
            await condition(api, "p", "which scheduler extenders cannot judge")
            assert service.asked == []


# -- bind


@story
async def test_an_extender_binds_the_pods_that_it_cares_for() -> None:
    async with serving() as service, cluster(extender(service, "bind", managedResources=[{"name": GPU}])) as api:

        async def bind(body: Any) -> Any:
            target = {"apiVersion": "v1", "kind": "Node", "name": body["Node"]}
            binding = {"metadata": {"name": body["PodName"], "uid": body["PodUID"]}, "target": target}
            await api.client.create(PODS, binding, body["PodNamespace"], subresource="binding", name=body["PodName"])
            return {}

        service.answers["bind"] = bind
        made = await api.client.create(PODS, pod("p", gpu="1"), "default")
        await api.client.create(PODS, pod("plain"), "default")
        found = await placed(api, "p", "plain")
        (body,) = service.bodies("bind")
        assert body == {
            "PodName": "p",
            "PodNamespace": "default",
            "PodUID": made["metadata"]["uid"],
            "Node": found["p"],
        }


@story
async def test_a_failed_binding_is_taken_back_and_tried_again() -> None:
    async with serving() as service:
        tries = [0]
        async with cluster(extender(service, "bind"), nodes="a") as api:

            async def bind(body: Any) -> Any:
                tries[0] += 1
                if tries[0] < 3:
                    return {"Error": "the device is busy"}
                target = {"apiVersion": "v1", "kind": "Node", "name": body["Node"]}
                binding = {"metadata": {"name": body["PodName"]}, "target": target}
                await api.client.create(PODS, binding, "default", subresource="binding", name=body["PodName"])
                return None

            service.answers["bind"] = bind
            await api.client.create(PODS, pod("p", cpu="600m"), "default")
            await placed(api, "p")
            assert tries[0] == 3, "what was assumed before was given back: the node holds only one of it"


# -- preemption


async def priority(api: ApiServer, name: str, value: int) -> None:
    await api.client.create(PRIORITYCLASSES, {"metadata": {"name": name}, "value": value})


@asynccontextmanager
async def full(*extenders: dict[str, Any]) -> AsyncIterator[ApiServer]:
    """Nodes a and b, each with a pod that fills it: fill-a, fill-b."""
    async with cluster(*extenders) as api:
        await priority(api, "high", 1000)
        for node in "ab":
            await api.client.create(PODS, pod(f"fill-{node}", cpu="800m", nodeName=node), "default")
        yield api


async def until_sent_away(api: ApiServer, name: str) -> None:
    """Waits until the pod is being deleted, and lets it go as its node would."""
    async with asyncio.timeout(20):
        while True:
            listed = await api.client.list(PODS, "default")
            live = [p for p in listed["items"] if p["metadata"]["name"] == name]
            if live and live[0]["metadata"].get("deletionTimestamp"):
                await api.client.delete(PODS, name, "default", grace=0)
                return
            await asyncio.sleep(0.005)


@story
async def test_an_extender_chooses_among_the_nodes_where_room_can_be_made() -> None:
    def preempt(body: Any) -> Any:
        return {"NodeNameToMetaVictims": {"b": body["NodeNameToMetaVictims"]["b"]}}

    async with serving() as service:
        service.answers = {"preempt": preempt}
        async with full(extender(service, "preempt", managedResources=[{"name": GPU}])) as api:
            await api.client.create(PODS, pod("p", gpu="1", cpu="800m", priorityClassName="high"), "default")
            await until_sent_away(api, "fill-b")
            body = service.bodies("preempt")[0]
            assert set(body) == {"Pod", "NodeNameToVictims", "NodeNameToMetaVictims"}
            uids = {n: [v["UID"] for v in given["Pods"]] for n, given in body["NodeNameToMetaVictims"].items()}
            for node in "ab":
                filler = await api.client.get(PODS, f"fill-{node}", "default") if node == "a" else None
                if filler is not None:
                    assert uids[node] == [filler["metadata"]["uid"]]
                    assert "deletionTimestamp" not in filler["metadata"]
            assert (await placed(api, "p"))["p"] == "b"


@story
async def test_one_without_a_cache_is_told_whole_victims_and_may_refuse_all() -> None:
    async with serving() as service:
        service.answers["preempt"] = lambda _: {"NodeNameToMetaVictims": {}}
        async with full(extender(service, "preempt", nodeCacheCapable=False)) as api:
            await api.client.create(PODS, pod("p", cpu="800m", priorityClassName="high"), "default")
            await condition(api, "p", "2 Insufficient cpu")
            body = service.bodies("preempt")[0]
            assert body["NodeNameToMetaVictims"] is None
            victims = {n: [p["metadata"]["name"] for p in v["Pods"]] for n, v in body["NodeNameToVictims"].items()}
            assert victims == {"a": ["fill-a"], "b": ["fill-b"]}
            live = await api.client.list(PODS, "default")
            assert not [p for p in live["items"] if p["metadata"].get("deletionTimestamp")]


@story
async def test_an_extender_cannot_name_victims_of_its_own() -> None:
    async with serving() as service:
        service.answers["preempt"] = lambda _: {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "somebody"}]}}}
        async with full(extender(service, "preempt")) as api:
            await api.client.create(PODS, pod("p", cpu="800m", priorityClassName="high"), "default")
            found = await condition(api, "p", "claims to preempt a pod on node: a")
            assert found["reason"] == "SchedulerError"
            live = await api.client.list(PODS, "default")
            assert not [p for p in live["items"] if p["metadata"].get("deletionTimestamp")]


@story
async def test_nodes_that_an_extender_calls_hopeless_are_not_emptied() -> None:
    def filter_(body: Any) -> Any:
        """Node a fits, but the extender will never have it."""
        return {"NodeNames": [n for n in names(body) if n != "a"], "FailedAndUnresolvableNodes": {"a": "never"}}

    async with serving() as service:
        service.answers["filter"] = filter_
        async with cluster(extender(service, "filter")) as api:
            await priority(api, "high", 1000)
            await api.client.create(PODS, pod("low-a", nodeName="a"), "default")
            await api.client.create(PODS, pod("low-b", cpu="800m", nodeName="b"), "default")
            await api.client.create(PODS, pod("p", cpu="800m", priorityClassName="high"), "default")
            await until_sent_away(api, "low-b")
            assert (await placed(api, "p"))["p"] == "b"
            assert "deletionTimestamp" not in (await api.client.get(PODS, "low-a", "default"))["metadata"]


# -- TLS and the configuration


def test_an_extender_behind_tls(tmp_path: Path) -> None:
    now = SystemClock().now()
    authority = CertificateAuthority(CertificateAuthority.create("test", days=1, now=now))
    pair = authority.issue(Subject("s", (), ("gpu.example",)), days=1, client=False, server=True, now=now)
    mine = authority.issue(Subject("scheduler", ()), days=1, client=True, server=False, now=now)
    (tmp_path / "c").write_bytes(pair.certificate)
    (tmp_path / "k").write_bytes(pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "c", tmp_path / "k")
    tls.load_verify_locations(cadata=authority.certificate_pem.decode())
    tls.verify_mode = ssl.CERT_REQUIRED
    given = {
        "caData": base64.b64encode(authority.certificate_pem).decode(),
        "serverName": "gpu.example",
        "certData": base64.b64encode(mine.certificate).decode(),
        "keyData": base64.b64encode(mine.key).decode(),
    }

    async def main() -> None:
        async with serving(tls) as service:
            service.answers["filter"] = only("b")
            async with cluster(extender(service, "filter", tlsConfig=given, enableHTTPS=True)) as api:
                await api.client.create(PODS, pod("p"), "default")
                assert (await placed(api, "p"))["p"] == "b"
            async with cluster(extender(service, "filter", tlsConfig={**given, "serverName": "other"})) as api:
                await api.client.create(PODS, pod("p"), "default")
                await condition(api, "p", "certificate verify failed")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"urlPrefix": "gpu"}, r"extenders\[0\].urlPrefix: 'gpu' is no http or https URL"),
        ({"urlPrefix": "http://x:y"}, "urlPrefix"),
        ({"prioritizeVerb": "p"}, "weight: must have a positive weight"),
        ({"prioritizeVerb": "p", "weight": -1}, "weight"),
        ({"weight": "1"}, "weight"),
        ({"httpTimeout": "soon"}, "httpTimeout"),
        ({"httpTimeout": 5}, "httpTimeout"),
        ({"filterVerb": 1}, "filterVerb: must be a text"),
        ({"ignorable": "yes"}, "ignorable: must be true or false"),
        ({"surprise": 1}, r"extenders\[0\].surprise: not supported"),
        ({"managedResources": [{"name": "cpu"}]}, "'cpu' is an invalid extended resource name"),
        ({"managedResources": [{"name": "kubernetes.io/x"}]}, "invalid extended resource name"),
        ({"managedResources": [{"name": GPU}, {"name": GPU}]}, "duplicate extender managed resource name"),
        ({"managedResources": [{"name": GPU, "x": 1}]}, r"managedResources\[0\].x: not supported"),
        ({"urlPrefix": "https://x", "tlsConfig": {"caFile": "/none"}}, "caFile: /none"),
        ({"urlPrefix": "https://x", "tlsConfig": {"caData": "?"}}, "caData: is not base64"),
        ({"urlPrefix": "https://x", "tlsConfig": {"certData": "YQ=="}}, "need each other"),
        ({"urlPrefix": "https://x", "tlsConfig": {"x": 1}}, "tlsConfig.x: not supported"),
    ],
)
def test_what_cannot_work_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        parse(document({"urlPrefix": "http://x", **change}))


def document(*extenders: dict[str, Any]) -> dict[str, Any]:
    api = "kubescheduler.config.k8s.io/v1"
    return {"apiVersion": api, "kind": "KubeSchedulerConfiguration", "extenders": list(extenders)}


def test_extenders_share_neither_resources_nor_the_binding() -> None:
    one = {"urlPrefix": "http://x", "managedResources": [{"name": GPU}]}
    with pytest.raises(BadConfiguration, match=rf"extenders\[1\].*duplicate extender managed resource name {GPU}"):
        parse(document(one, {**one, "urlPrefix": "http://y"}))
    with pytest.raises(BadConfiguration, match="only one extender can implement bind"):
        parse(document({"urlPrefix": "http://x", "bindVerb": "b"}, {"urlPrefix": "http://y", "bindVerb": "b"}))
    (found,) = parse(document({"urlPrefix": "http://x/", "httpTimeout": "100ms"})).extenders
    assert (found.timeout, found.weight, found.tls) == (0.1, 0, None)
    assert parse(document({"urlPrefix": "http://x"})).extenders[0].timeout == 5.0
