"""The agent's own pod: pure tables, then stories of an agent that shows itself and is taken for a container by nobody."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jota.aio.clock import SystemClock, rfc3339
from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.controllers.tainteviction import tolerated_for
from jota.controllers.views import Toleration
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS
from jota.node import mirror
from jota.node.agentlog import Lines
from jota.node.itself import Itself
from jota.node.logs import LogOptions, follow
from jota.node.server import KubeletServer
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer
from jota.wire.message import Peer, Request

from .doubles import FakeRuntime
from .world import World, container, pod

Object = dict[str, Any]
FIRST = Itself(41, 7000, 1_000.0, "0.1.0")
OWN = "jota-agent-n1"


def shown(**changes: Any) -> Object:
    """The pod as the API gives it back."""
    made = mirror.owned(mirror.wanted(FIRST, "n1"), {"metadata": {"name": "n1", "uid": "node-uid"}})
    made["metadata"] = {**made["metadata"], "uid": "u1", **changes}
    return copy.deepcopy(made)


# -- pure


def test_the_pod_says_what_it_is() -> None:
    made = shown()
    meta, spec = made["metadata"], made["spec"]
    notes = meta["annotations"]
    assert (meta["namespace"], meta["name"]) == ("kube-system", OWN)
    assert notes["kubernetes.io/config.mirror"] == notes["kubernetes.io/config.hash"] != ""
    assert notes["kubernetes.io/config.source"] == "agent"
    assert meta["labels"] == {"app.kubernetes.io/name": "jota-agent", "component": "jota-agent", "tier": "node"}
    (owner,) = meta["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": True}
    assert (spec["nodeName"], spec["hostNetwork"], spec["priorityClassName"]) == ("n1", True, "system-node-critical")
    (only,) = spec["containers"]
    assert (only["name"], only["image"], only.get("resources")) == ("agent", "jota:0.1.0", None)
    assert not {"serviceAccountName", "volumes"} & spec.keys()


def test_no_taint_drives_it_away() -> None:
    tolerations = [Toleration(**t) for t in shown()["spec"]["tolerations"]]
    for effect in ("NoExecute", "NoSchedule"):
        assert tolerated_for(tolerations, {"key": "node.kubernetes.io/unreachable", "effect": effect}) is None


def test_a_local_version_makes_a_valid_tag() -> None:
    assert replace(FIRST, version="0.2.0+git.1").image == "jota:0.2.0-git.1"


WANT = mirror.wanted(FIRST, "n1")
NEXT = mirror.wanted(replace(FIRST, version="0.2.0"), "n1")
LABELS = WANT["metadata"]["labels"]


@pytest.mark.parametrize(
    ("pods", "want", "removed", "kept", "create"),
    [
        ([], WANT, 0, False, True),
        ([], None, 0, False, False),
        ([shown()], WANT, 0, True, False),
        ([shown()], NEXT, 1, False, True),
        ([shown()], None, 1, False, False),
        ([shown(deletionTimestamp="2026-01-02T03:04:05Z")], WANT, 1, False, True),
        ([shown(labels={**LABELS, "tier": "mine"})], WANT, 1, False, True),
        ([shown(labels={**LABELS, "more": "is fine"})], WANT, 0, True, False),
        ([shown(name="etcd-n1")], WANT, 1, False, True),
        ([shown(namespace="default"), shown()], WANT, 1, True, False),
        ([{**shown(), "spec": {**shown()["spec"], "containers": [{"image": "other"}]}}], WANT, 1, False, True),
    ],
)
def test_plan(pods: list[Object], want: Object | None, removed: int, kept: bool, create: bool) -> None:
    decided = mirror.plan(pods, want)
    assert (len(decided.remove), decided.own is not None, decided.create) == (removed, kept, create)


@pytest.mark.parametrize(
    ("status", "known", "count"),
    [
        ({}, 0, 0),
        ({}, 3, 3),  # the pod is new, the agent remembers
        ({"containerID": "jota://agent-41-7000", "restartCount": 2}, 0, 2),
        ({"containerID": "jota://agent-40-6000", "restartCount": 2}, 0, 3),
        ({"containerID": "jota://agent-40-7000"}, 0, 1),
    ],
)
def test_restarts_are_counted_by_the_process_that_is_shown(status: Object, known: int, count: int) -> None:
    seen = {**shown(), "status": {"containerStatuses": [{"name": "agent", **status}] if status else []}}
    assert mirror.restarts(seen, FIRST, known) == count


def test_status() -> None:
    status = mirror.status_of(shown(), FIRST, 2, ready=True, host_ip="10.0.0.1", now=2_000.0)
    assert (status["phase"], status["hostIP"], status["podIP"]) == ("Running", "10.0.0.1", "10.0.0.1")
    assert status["podIPs"] == status["hostIPs"] == [{"ip": "10.0.0.1"}]
    assert status["startTime"] == rfc3339(1_000.0)
    assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    (only,) = status["containerStatuses"]
    assert only["state"] == {"running": {"startedAt": rfc3339(1_000.0)}}
    assert (only["ready"], only["started"], only["restartCount"]) == (True, True, 2)
    assert only["containerID"] == "jota://agent-41-7000"


def test_while_the_node_is_not_ready_others_say_whether_the_pod_is() -> None:
    seen = shown()
    for ready, others, wanted in ((True, "False", "True"), (False, "False", "False"), (False, "True", "True")):
        seen["status"] = {"conditions": [{"type": "Ready", "status": others, "lastTransitionTime": rfc3339(1.0)}]}
        status = mirror.status_of(seen, FIRST, 0, ready=ready, host_ip="10.0.0.1", now=2_000.0)
        assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == [wanted]
        assert len(status["conditions"]) == 5


def test_this_process_is_found(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    before = time.time()
    with log.open("ab") as file:
        here = Itself.here("1", log=file.fileno())
    read, write = os.pipe()
    elsewhere = Itself.here("1", log=read)
    os.close(read)
    os.close(write)
    assert (here.pid, here.log_path, elsewhere.log_path) == (os.getpid(), str(log), "")
    assert here.started_at < before
    first = here.use(1.0)
    assert 1 << 20 < first.memory_usage < 1 << 40
    total = sum(os.times()[:2])
    assert abs(first.cpu_ns / 1e9 - total) < 1.0
    assert first.pids >= 1


def test_a_command_name_with_spaces_and_brackets(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    rest = " ".join(str(n) for n in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (odd) S 1 name) S {rest}\n")
    use = replace(FIRST, pid=7, proc=str(tmp_path)).use(5.0)
    assert use.cpu_ns == (14 + 15) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert use.memory_usage == 24 * os.sysconf("SC_PAGE_SIZE")
    assert use.pids == 20


# -- the agent's stories


async def own(w: World) -> Object | None:
    try:
        return await w.api.client.get(PODS, OWN, "kube-system")
    except ApiError as e:
        assert e.code == 404
        return None


async def running(w: World) -> bool:
    found = await own(w)
    return found is not None and found["status"].get("phase") == "Running"


def test_it_is_shown_and_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            first = await own(w)
            assert first is not None
            assert (
                first["metadata"]["ownerReferences"][0]["uid"]
                == (await w.api.client.get(NODES, "n1"))["metadata"]["uid"]
            )
            assert first["status"]["qosClass"] == "BestEffort"
            await w.advance(600)
            later = await own(w)
            assert later is not None
            assert later["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]  # nothing to write
            assert (w.agent.workers, w.runtime.made, w.runtime.boxes) == ({}, {}, {})
            assert not list((tmp_path / "data" / "pods").iterdir())

    asyncio.run(story())


def test_it_comes_back_however_it_is_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            uids = set()
            for grace in (None, 0, 30):
                await w.until(lambda: running(w))
                found = await own(w)
                assert found is not None
                uids.add(found["metadata"]["uid"])
                await w.api.client.delete(PODS, OWN, "kube-system", grace=grace)
            await w.until(lambda: running(w))
            await w.api.client.delete_collection(PODS, "kube-system")
            await w.until(lambda: running(w))
            found = await own(w)
            assert found is not None
            assert len({*uids, found["metadata"]["uid"]}) == 4

    asyncio.run(story())


def test_a_new_agent_takes_it_over_and_counts(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            before = await own(w)
            assert before is not None
            for number in (1, 2):
                await w.kill()
                w.itself = replace(FIRST, pid=50 + number, started_at=w.clock.now())
                await w.boot()
                await w.settle()
                after = await own(w)
                assert after is not None
                assert after["metadata"]["uid"] == before["metadata"]["uid"]
                (status,) = after["status"]["containerStatuses"]
                assert (status["restartCount"], status["containerID"]) == (number, f"jota://agent-{50 + number}-7000")
                assert after["status"]["startTime"] == before["status"]["startTime"]
                assert status["state"]["running"]["startedAt"] == rfc3339(w.itself.started_at)
            await w.api.client.delete(PODS, OWN, "kube-system")
            await w.until(lambda: running(w))
            again = await own(w)
            assert again is not None
            assert again["status"]["containerStatuses"][0]["restartCount"] == 2

    asyncio.run(story())


def test_another_version_is_another_pod(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            before = await own(w)
            await w.kill()
            w.itself = replace(FIRST, pid=50, version="0.2.0")
            await w.boot()
            await w.until(lambda: running(w))
            after = await own(w)
            assert before is not None
            assert after is not None
            assert after["metadata"]["uid"] != before["metadata"]["uid"]
            assert after["spec"]["containers"][0]["image"] == "jota:0.2.0"

    asyncio.run(story())


def test_what_others_wrote_into_its_status_is_put_right(tmp_path: Path) -> None:
    """The node lifecycle controller declares a node that was silent for a while unknown, and its pods not ready."""

    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            await w.advance(12)
            for kind, name, namespace, said in ((NODES, "n1", "", "Unknown"), (PODS, OWN, "kube-system", "False")):
                silent = {"status": {"conditions": [{"type": "Ready", "status": said}]}}
                await w.api.client.patch(kind, name, namespace, silent, type="strategic", subresource="status")

            async def ready() -> bool:
                shown = [await own(w), await w.api.client.get(NODES, "n1")]
                states = [c["status"] for o in shown if o for c in o["status"]["conditions"] if c["type"] == "Ready"]
                return states == ["True", "True"]

            await w.until(ready, within=25)

    asyncio.run(story())


def test_mirrors_of_nothing_are_removed_and_never_run(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            fake = pod("fake", container())
            fake["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
            await w.create(fake)
            await w.until_gone("fake")
            assert w.runtime.made == {}
            assert await running(w)

    asyncio.run(story())


def test_without_its_node_it_waits(tmp_path: Path) -> None:
    """The Node owns it: a pod without an owner would outlive the node."""

    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            await w.api.client.delete(NODES, "n1")
            await w.api.client.delete(PODS, OWN, "kube-system")
            await w.advance(5)
            assert await own(w) is None
            again = await w.api.client.create(NODES, {"metadata": {"name": "n1"}})
            await w.until(lambda: running(w))
            found = await own(w)
            assert found is not None
            assert found["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]

    asyncio.run(story())


def test_it_is_one_of_the_node_s_pods(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, itself=FIRST, max_pods=2) as w:
            await w.until(lambda: running(w))
            await w.create(pod("one"))
            await w.until_phase("Running", "one")
            await w.create(pod("two"))
            assert (await w.until_phase("Failed", "two"))["reason"] == "OutOfpods"
            assert await running(w)

    asyncio.run(story())


@asynccontextmanager
async def guarded(tmp_path: Path) -> AsyncIterator[World]:
    """The agent is an ordinary node to an API server with all its doors."""
    api = ApiServer()
    secure(api.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
    w = World(tmp_path, api=api, itself=FIRST)
    w.user = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
    await api.__aenter__()
    await write_roles(api.api)
    try:
        await w.boot()
        yield w
    finally:
        await w.kill()
        await w.agent.shutdown()
        await api.__aexit__(None, None, None)


def test_a_node_s_credential_is_enough(tmp_path: Path) -> None:
    async def story() -> None:
        async with guarded(tmp_path) as w:
            await w.until(lambda: running(w))
            found = await own(w)
            assert found is not None
            assert found["spec"]["priority"] == 2_000_001_000
            assert found["spec"]["tolerations"] == [{"operator": "Exists"}]  # none was added
            assert not found["spec"].get("volumes")  # no account's token
            await w.api.client.delete(PODS, OWN, "kube-system", grace=30)
            await w.until(lambda: running(w))

    asyncio.run(story())


def test_what_refuses_it_is_told_and_outlived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An ordinary pod has the name; once it is gone the mirror comes."""

    async def story() -> None:
        async with World(tmp_path, itself=FIRST) as w:
            await w.until(lambda: running(w))
            await w.kill()
            await w.api.client.delete(PODS, OWN, "kube-system")
            squatter = pod(OWN)
            squatter["metadata"]["namespace"] = "kube-system"
            squatter["spec"]["nodeName"] = "elsewhere"
            await w.api.client.create(PODS, squatter, "kube-system")
            await w.boot()
            await w.advance(5)
            assert "already exists" in caplog.text
            await w.api.client.delete(PODS, OWN, "kube-system", grace=0)
            await w.until(lambda: running(w))

    asyncio.run(story())


# -- its log, its use, and what is refused

LOG = b"""Traceback of the run before
2026-01-02 03:04:05,006 jota.agent INFO node n1 is ready
2026-01-02 03:04:06,000 jota.node ERROR it broke
Traceback (most recent call last):
  somewhere
2026-01-02 03:04:07,250 jota.node INFO on it goes
"""
STAMPED = b"2026-01-02T03:04:06.000000000Z "


def read(path: Path, options: LogOptions) -> bytes:
    async def main() -> bytes:
        return b"".join([b"".join(b) async for b in follow(str(path), options, clock=SystemClock(), parser=Lines)])

    return asyncio.run(main())


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield None  # type: ignore[misc]
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("options", "begins", "ends"),
    [
        (LogOptions(), b"Traceback of the run before\n", b"on it goes\n"),
        (LogOptions(tail=1), b"2026-01-02 03:04:07,250", b"on it goes\n"),
        (LogOptions(tail=2, timestamps=True), b"  somewhere\n", b"on it goes\n"),
        (LogOptions(tail=4, timestamps=True), STAMPED + b"2026-01-02 03:04:06,000", b"on it goes\n"),
        (LogOptions(since=1767323046.0), b"2026-01-02 03:04:06,000", b"on it goes\n"),
        (LogOptions(since=1767323046.0, limit=60), b"2026-01-02 03:04:06,000", b"\nTraceback ("),
        (LogOptions(stream="stdout"), b"", b""),
    ],
)
def test_plain_lines_are_chosen_by_their_times(tmp_path: Path, options: LogOptions, begins: bytes, ends: bytes) -> None:
    path = tmp_path / "agent.log"
    path.write_bytes(LOG)
    found = read(path, options)
    assert found.startswith(begins)
    assert found.endswith(ends)
    assert bool(found) == bool(begins)


@pytest.mark.usefixtures("utc")
def test_a_traceback_has_the_time_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_bytes(LOG)
    found = read(path, LogOptions(timestamps=True)).splitlines()
    assert found[0] == b"Traceback of the run before"  # whose time nobody knows
    assert found[3:5] == [STAMPED + b"Traceback (most recent call last):", STAMPED + b"  somewhere"]
    assert not read(path, LogOptions(timestamps=True)).endswith(b"Z \n")  # no empty last line


def test_what_is_no_time_is_text() -> None:
    lines = Lines()
    assert lines(b"2026-99-99 99:99:99,999 no such day").time == b""
    assert lines(b"\xff\xfe").text == b"\xff\xfe"


async def anybody(_: object) -> None:
    """As for a request of the API server."""


def kubelet(tmp_path: Path, itself: Itself | None, connect: Any = None) -> KubeletServer:
    clock = SystemClock()
    return KubeletServer(
        FakeRuntime(clock), lambda: [shown()], clock=clock, node_name="n1", admit=anybody, itself=itself, connect=connect
    )  # fmt: skip


def ask(server: KubeletServer, path: str) -> tuple[int, str]:
    path, _, query = path.partition("?")
    data = bytearray()

    class Out:
        def write(self, parts: list[bytes]) -> None:
            data.extend(b"".join(parts))

        async def drain(self) -> None:
            return None

    async def main() -> tuple[int, str]:
        response = await server.handle(Request("GET", path, query, {}, b"", Peer(certificate=b"der"), None))
        if response.stream is not None:
            await response.stream(Out())  # type: ignore[arg-type]
            return response.status, data.decode()
        return response.status, bytes(response.body).decode()

    return asyncio.run(main())


def test_its_log_is_the_agent_s_own(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_bytes(LOG)
    server = kubelet(tmp_path, replace(FIRST, log_path=str(path)))
    where = f"/containerLogs/kube-system/{OWN}/agent"
    assert ask(server, where) == (200, LOG.decode())
    assert ask(server, where + "?tailLines=1")[1].endswith("on it goes\n")
    status, body = ask(server, where + "?previous=true")
    assert (status, "previous terminated container" in body) == (400, True)
    status, body = ask(server, f"/containerLogs/kube-system/{OWN}/other")
    assert (status, "no such container" in body) == (400, True)


def test_a_log_that_is_no_file_is_told(tmp_path: Path) -> None:
    status, body = ask(kubelet(tmp_path, FIRST), f"/containerLogs/kube-system/{OWN}/agent")
    assert (status, "does not log to a file" in json.loads(body)["message"]) == (400, True)


@pytest.mark.parametrize(("verb", "words"), [("exec", "exec into"), ("attach", "attach to")])
def test_nobody_gets_into_the_process(tmp_path: Path, verb: str, words: str) -> None:
    status, body = ask(kubelet(tmp_path, FIRST), f"/{verb}/kube-system/{OWN}/agent?command=ls&output=1")
    assert status == 403
    assert json.loads(body)["message"].startswith(f"cannot {words} {OWN}: it is the agent of node n1 itself")


def test_its_use_is_told_as_every_pod_s(tmp_path: Path) -> None:
    server = kubelet(tmp_path, Itself.here("1"))
    text = ask(server, "/metrics/resource")[1]
    sizes = [line for line in text.splitlines() if line.startswith("pod_memory_working_set_bytes{")]
    assert len(sizes) == 1
    assert f'namespace="kube-system",pod="{OWN}"' in sizes[0]
    assert int(sizes[0].split()[1]) > 1 << 20
    (told,) = json.loads(ask(server, "/stats/summary")[1])["pods"]
    assert told["podRef"] == {"name": OWN, "namespace": "kube-system", "uid": "u1"}
    assert told["containers"][0]["name"] == "agent"
