"""The supervisor dies, the agent dies, both die: containers run on and nothing is forgotten."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from jota.runtime.embedded import supervisor
from jota.runtime.embedded.cleanup import cleanup
from jota.runtime.embedded.supervise.process import start_time
from jota.runtime.protocol import RuntimeFault

pytestmark = pytest.mark.kernel


async def kill_supervisor(w) -> int:
    """kill -9, and wait until the watchdog has another one."""
    old = w.runtime.supervisor_pid
    os.kill(old, signal.SIGKILL)
    await w.until(lambda: w.runtime.supervisor_pid != old and w.runtime.link._socket is not None)
    return old


def test_containers_survive_a_killed_supervisor(story):
    async def body(w):
        box = await w.sandbox()
        id = await w.start(box, "trap 'exit 9' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; done")
        before = (await w.runtime.container(id)).pid
        for _ in range(2):
            await kill_supervisor(w)
            assert (await w.runtime.container(id)).pid == before
            assert (await w.runtime.exec_sync(id, ["echo", "x"], 5))[1] == b"x\n"
        await asyncio.sleep(0.1)
        await w.runtime.stop_container(id, 5)
        container = await w.runtime.container(id)
        assert (container.exit_code, container.reason) == (9, "Error")
        numbers = [int(line.split()[1]) for line in w.output(container).splitlines()]
        assert numbers == list(range(1, len(numbers) + 1)), "no line is lost or doubled"
        assert (await w.run("echo next; exit 2", box))[0].exit_code == 2

    story(body)


def test_an_exit_while_nobody_watches(story):
    async def body(w):
        box = await w.sandbox()
        id = await w.start(box, "while ! [ -e /go ]; do sleep 0.01; done; echo last; exit 5")
        root = (await w.runtime.container(id)).root
        w.runtime._keeper.cancel()
        os.kill(w.runtime.supervisor_pid, signal.SIGKILL)
        pid = (await w.runtime.container(id)).pid
        open(f"{root}/go", "w").close()
        await w.until(lambda: start_time(pid) == "")
        w.runtime._keeper = asyncio.create_task(w.runtime.link.keep())
        container = await w.ended(id)
        # A kernel before 6.15 that has no zombie any more cannot say.
        assert (container.exit_code, container.reason) in [(5, "Error"), (137, "ContainerStatusUnknown")]
        assert w.output(container) == "last\n"

    story(body)


def test_an_exit_while_agent_and_supervisor_are_dead(story):
    async def body(w):
        box = await w.sandbox()
        id = await w.start(box, "while ! [ -e /go ]; do sleep 0.01; done; exit 5")
        container = await w.runtime.container(id)
        await w.runtime.close()
        os.kill(w.runtime.supervisor_pid, signal.SIGKILL)
        open(f"{container.root}/go", "w").close()
        await w.until(lambda: start_time(container.pid) == "")
        w.runtime = w.make()
        await w.runtime.start()
        container = await w.ended(id)
        assert (container.exit_code, container.reason) in [(5, "Error"), (137, "ContainerStatusUnknown")]

    story(body)


def test_a_new_agent_gets_the_same_answers(story):
    async def body(w):
        box = await w.sandbox(labels={"a": "b"})
        running = await w.start(box, "sleep 100")
        ended, _ = await w.run("exit 3", box)
        before = await w.runtime.containers()
        old = w.runtime.supervisor_pid
        await w.runtime.close()
        w.runtime = w.make()
        await w.runtime.start()
        assert w.runtime.supervisor_pid == old
        key = lambda c: c.id  # noqa: E731
        assert sorted(await w.runtime.containers(), key=key) == sorted(before, key=key)
        assert await w.runtime.sandboxes() == [box]
        await w.runtime.stop_container(running, 0)
        assert (await w.runtime.container(running)).exit_code == 137
        assert ended.exit_code == 3

    story(body)


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012])
def test_killed_at_any_moment_of_a_start(story, delay):
    """The start either happened or failed, says so, and can be cleaned up."""

    async def body(w):
        box = await w.sandbox()
        id = await w.create(box, "sleep 100")
        start = asyncio.ensure_future(w.runtime.start_container(id))
        await asyncio.sleep(delay)
        os.kill(w.runtime.supervisor_pid, signal.SIGKILL)
        try:
            await start
            assert (await w.runtime.container(id)).state == "running"
        except RuntimeFault as fault:
            assert fault.reason == "StartError"
            container = await w.runtime.container(id)
            assert (container.state, container.exit_code) == ("exited", 137)
            assert w.runtime.shop.cgroups.processes() == []
        await w.runtime.remove_sandbox(box.id)
        assert (await w.run("exit 2"))[0].exit_code == 2

    story(body)


def test_killed_during_a_stop(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "trap '' TERM; while true; do sleep 0.02; done")
        stop = asyncio.ensure_future(w.runtime.stop_container(id, 0.3))
        await asyncio.sleep(0.05)
        await kill_supervisor(w)
        await stop
        assert (await w.runtime.container(id)).exit_code == 137

    story(body)


def test_an_exec_is_lost_with_the_supervisor_and_says_so(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        session = await w.runtime.exec(id, ["sleep", "98"], tty=False, stdin=False)
        await kill_supervisor(w)
        with pytest.raises(RuntimeFault, match="lost"):
            await session.wait()
        await session.close()

    story(body)


def test_a_terminal_survives_a_killed_supervisor(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "exec sh", tty=True, stdin=True)
        await kill_supervisor(w)
        assert (await w.runtime.container(id)).state == "running"
        session = await w.runtime.attach(id, stdin=True)
        await session.write_stdin(b"echo $((40+2)); exit 3\n")
        out = b""
        while data := await session.read_stdout():
            out += data
        assert b"42\r\n" in out
        assert await session.wait() == 3
        await session.close()

    story(body)


def test_cleanup_without_a_supervisor(story):
    async def body(w):
        box = await w.sandbox()
        await w.start(box, "trap '' TERM; while true; do sleep 1; done")
        await w.start(await w.sandbox(host_pid=True), "sleep 1000 & sleep 1000")
        w.runtime._keeper.cancel()
        os.kill(w.runtime.supervisor_pid, signal.SIGKILL)
        root = str(w.directory / "root")
        cleanup(root, w.name)
        cleanup(root, w.name)
        assert not os.path.exists(root)
        assert w.runtime.library.content.leased() == set()

    story(body)


def test_one_supervisor_per_directory(story):
    async def body(w):
        argv = [sys.executable, "-I", "-S", supervisor.__file__, w.runtime.root]
        second = await asyncio.create_subprocess_exec(*argv, stderr=subprocess.PIPE)
        _, err = await second.communicate()
        assert second.returncode == 3
        assert b"another supervisor" in err

    story(body)


def test_the_supervisor_stays_small(story):
    async def body(w):
        await w.run("true")
        with open(f"/proc/{w.runtime.supervisor_pid}/status") as file:
            rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        assert rss < 20_000, "kB"

    story(body)


def test_a_new_connection_that_fails_half_way_is_made_again(story, monkeypatch):
    """A supervisor may be silent for long (a disk that hangs); what ended meanwhile must be noticed all the same."""

    async def body(w):
        id = await w.start(await w.sandbox(), "while ! [ -e /go ]; do sleep 0.01; done; exit 5")
        root, honest, silent = (await w.runtime.container(id)).root, w.runtime.link.call, [True]

        async def call(message, *more):
            if message["op"] == "ping" and silent:
                silent.clear()
                open(f"{root}/go", "w").close()
                await w.until(lambda: start_time(pid) == "")
                raise TimeoutError
            return await honest(message, *more)

        pid = (await w.runtime.container(id)).pid
        monkeypatch.setattr(w.runtime.link, "call", call)
        await kill_supervisor(w)
        assert not silent
        await w.until(lambda: w.runtime.state.containers[id].end is not None)

    story(body)


def test_an_exec_that_cannot_be_started_leaves_nothing_open(tmp_path, monkeypatch):
    def exhausted():
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", exhausted)
    one = supervisor.Supervisor(str(tmp_path))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        client = supervisor.Client(theirs)
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            ours.send(json.dumps({"op": "exec", "id": "x" * 32, "tty": True, "argv": ["crun"], "re": 1}).encode())
            one._receive(client)
            assert "no more processes" in json.loads(ours.recv(1 << 16))["error"]
        assert len(os.listdir("/proc/self/fd")) == len(before)
        assert os.listdir(tmp_path / "console") == []
        theirs.close()


def test_an_exec_whose_agent_dies_while_it_starts_is_ended(tmp_path):
    process = subprocess.Popen(["sleep", "100"])
    (tmp_path / "pid").write_text(str(process.pid))
    one = supervisor.Supervisor(str(tmp_path))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        client = supervisor.Client(theirs)
        one.clients.add(client)
        task = one.execs["x"] = supervisor.Task("x", {"pid_file": str(tmp_path / "pid")})
        task.client = client
        one.starting[1] = (task, client, 1)
        one._drop(client)
        one._started(1, 0)
        assert process.wait(30) == -signal.SIGKILL


def test_garbage_on_the_socket_is_answered(story):
    async def body(w):
        answer, _ = await w.runtime.link.call({"op": "nosuch"})
        assert "error" in answer
        answer, _ = await w.runtime.link.call({"op": "start"})
        assert "error" in answer
        answer, _ = await w.runtime.link.call({"op": "attach", "id": "x", "stdin": False})
        assert "not running" in answer["error"]
        assert (await w.run("exit 1"))[0].exit_code == 1

    story(body)
