"""Exec, attach and port-forward against running containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest

from jota.runtime.protocol import RuntimeFault, Security

pytestmark = pytest.mark.kernel


async def everything(read) -> bytes:
    out = b""
    while data := await read():
        out += data
    return out


def test_clients_that_left_a_silent_container_cost_nothing(story):
    """Nobody writes, so no write tells that they are gone; a supervisor out of descriptors starts no container."""

    async def body(w):
        id = await w.start(await w.sandbox(), "exec sleep 1000")
        descriptors = f"/proc/{w.runtime.supervisor_pid}/fd"
        counts = []
        for _ in range(5):
            session = await w.runtime.attach(id, stdin=False)
            counts.append(len(os.listdir(descriptors)))
            await session.close()
        assert counts == counts[:1] * 5

    story(body)


def test_exec_sync(story):
    async def body(w):
        id = await w.start(
            await w.sandbox(), "sleep 100", env=[("A", "b")], security=Security(uid=1000, no_new_privileges=True)
        )
        script = "echo out $A; echo err >&2; id -u; exit 7"
        assert await w.runtime.exec_sync(id, ["sh", "-c", script], 5) == (7, b"out b\n1000\n", b"err\n")
        _, status, _ = await w.runtime.exec_sync(id, ["cat", "/proc/self/status"], 5)
        assert b"Seccomp:\t2\n" in status
        assert b"NoNewPrivs:\t1" in status
        assert b"CapEff:\t0000000000000000" in status
        cgroup = (await w.runtime.exec_sync(id, ["cat", "/proc/self/cgroup"], 5))[1].splitlines()
        joined = {line.split(b":")[1] for line in cgroup if line.endswith(b":/")}
        assert w.runtime.shop.cgroups.layout.mode == "v2" or b"memory" in joined

    story(body)


def test_exec_faults(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        with pytest.raises(RuntimeFault, match='exec: "nosuch": executable file not found'):
            await w.runtime.exec_sync(id, ["nosuch"], 5)
        with pytest.raises(TimeoutError):
            await w.runtime.exec_sync(id, ["sleep", "50"], 0.1)
        await w.until(lambda: len(w.runtime.shop.cgroups.processes()) == 1)
        with pytest.raises(RuntimeFault, match="not running"):
            await w.runtime.exec_sync("0" * 64, ["true"], 1)
        await w.runtime.stop_container(id, 0)
        with pytest.raises(RuntimeFault, match="not running"):
            await w.runtime.exec_sync(id, ["true"], 1)

    story(body)


def test_exec_output_is_bounded_and_background_children_do_not_hang(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        code, out, _ = await w.runtime.exec_sync(id, ["sh", "-c", "head -c 3000000 /dev/zero; sleep 90 & exit 3"], 10)
        assert (code, len(out)) == (3, 1 << 20)

    story(body)


def test_exec_streams(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        session = await w.runtime.exec(id, ["sh", "-c", "cat; echo done >&2; exit 5"], tty=False, stdin=True)
        payload = b"x" * 300_000
        reader = asyncio.ensure_future(everything(session.read_stdout))
        await session.write_stdin(payload)
        session.close_stdin()
        assert await reader == payload
        assert await everything(session.read_stderr) == b"done\n"
        assert await session.wait() == 5
        await session.close()

    story(body)


def test_closing_a_session_kills_its_process(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        session = await w.runtime.exec(id, ["sleep", "99"], tty=False, stdin=False)
        assert len(w.runtime.shop.cgroups.processes()) == 2
        await session.close()
        await w.until(lambda: len(w.runtime.shop.cgroups.processes()) == 1)

    story(body)


def test_a_client_that_leaves_while_it_is_attached_leaves_nothing_open(story, monkeypatch):
    async def body(w):
        id = await w.start(await w.sandbox(), "exec sleep 100")
        asked = asyncio.Event()

        async def call(*_):
            asked.set()
            await asyncio.Event().wait()

        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(w.runtime.link, "call", call)
            attaching = asyncio.create_task(w.runtime.attach(id, stdin=False))
            await asked.wait()
            attaching.cancel()
            await asyncio.gather(attaching, return_exceptions=True)
        assert len(os.listdir("/proc/self/fd")) == before

    story(body)


def runs(w, command: bytes) -> bool:
    """Whether a process of the node's containers has this command line."""
    for pid in w.runtime.shop.cgroups.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read() == command:
                return True
    return False


def test_an_exec_whose_client_leaves_while_it_starts_is_ended(story, monkeypatch):
    async def body(w):
        id = await w.start(await w.sandbox(), "exec sleep 100")
        honest, sent = w.runtime.link.call, asyncio.Event()

        async def call(message, *more):
            answer = asyncio.ensure_future(honest(message, *more))
            await asyncio.sleep(0)
            sent.set()
            return await answer

        with monkeypatch.context() as patch:
            patch.setattr(w.runtime.link, "call", call)
            starting = asyncio.create_task(w.runtime.exec(id, ["sleep", "99"], tty=False, stdin=False))
            await sent.wait()
            while not runs(w, b"sleep\x0099\0"):
                time.sleep(0.001)  # noqa: ASYNC251 (the answer must not come before we leave)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await w.until(lambda: len(w.runtime.shop.cgroups.processes()) == 1)

    story(body)


def test_exec_on_a_terminal(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        session = await w.runtime.exec(id, ["sh"], tty=True, stdin=True)
        session.resize(111, 33)
        await session.write_stdin(b"stty size; tty; echo $TERM; exit 4\n")
        out = await everything(session.read_stdout)
        assert b"33 111\r\n" in out
        assert b"/dev/pts/0\r\n" in out
        assert b"xterm\r\n" in out
        assert await session.wait() == 4
        await session.close()

    story(body)


def test_attach_follows_and_ends_with_the_container(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "while ! [ -e /go ]; do sleep 0.02; done; echo out; echo err >&2; exit 6")
        one, two = await w.runtime.attach(id, stdin=False), await w.runtime.attach(id, stdin=False)
        await w.runtime.exec_sync(id, ["touch", "/go"], 5)
        for session in (one, two):
            assert await everything(session.read_stdout) == b"out\n"
            assert await everything(session.read_stderr) == b"err\n"
            assert await session.wait() == 6
            await session.close()
        assert w.output(await w.runtime.container(id)) in ("out\nerr\n", "err\nout\n")

    story(body)


def test_attach_feeds_stdin_once(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "cat; echo end", stdin=True, stdin_once=True)
        session = await w.runtime.attach(id, stdin=True)
        await session.write_stdin(b"hello\n")
        session.close_stdin()
        assert await everything(session.read_stdout) == b"hello\nend\n"
        await session.close()

    story(body)


def test_stdin_stays_open_across_attachments(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "while read line; do echo got $line; done; echo over", stdin=True)
        for word in (b"one", b"two"):
            session = await w.runtime.attach(id, stdin=True)
            await session.write_stdin(word + b"\n")
            assert await session.read_stdout() == b"got " + word + b"\n"
            session.close_stdin()
            await session.close()
        assert (await w.runtime.container(id)).state == "running"

    story(body)


def test_an_attachment_ends_with_its_own_input_when_that_stays_open_for_others(story):
    async def body(w):
        for tty in (False, True):
            id = await w.start(await w.sandbox(), "cat; echo end", stdin=True, tty=tty)
            session = await w.runtime.attach(id, stdin=True)
            await session.write_stdin(b"hello\n")
            assert b"hello" in await session.read_stdout()
            session.close_stdin()
            assert b"end" not in await everything(session.read_stdout)
            assert await session.wait() == 0
            await session.close()
            assert (await w.runtime.container(id)).state == "running"

    story(body)


def test_attach_to_a_terminal(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "exec sh", tty=True, stdin=True)
        session = await w.runtime.attach(id, stdin=True)
        session.resize(70, 20)
        await session.write_stdin(b"stty size; exit 3\n")
        out = await everything(session.read_stdout)
        assert b"20 70\r\n" in out
        assert await session.wait() == 3
        await session.close()
        assert "20 70\r" in w.output(await w.runtime.container(id))

    story(body)


def test_a_slow_attached_client_does_not_stop_the_container(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 0.2; head -c 20000000 /dev/zero; exit 0")
        session = await w.runtime.attach(id, stdin=False)
        assert (await w.ended(id)).exit_code == 0
        await session.close()

    story(body)


def test_port_forward(story):
    async def body(w):
        box = await w.sandbox()
        await w.start(box, "httpd -f -p 127.0.0.1:8080 -h /etc & httpd -f -p '[::1]:8081' -h /etc")
        for port in (8080, 8081):
            async with asyncio.timeout(5):
                while True:
                    try:
                        stream = await w.runtime.port_forward(box.id, port)
                        break
                    except ConnectionError:
                        await asyncio.sleep(0.02)
            stream.write(b"GET /group HTTP/1.0\r\n\r\n")
            await stream.drain()
            assert b"nobody:x:65534" in await everything(stream.read)
            stream.close()
        with pytest.raises(ConnectionError, match="localhost:9 inside"):
            await w.runtime.port_forward(box.id, 9)
        with pytest.raises(ConnectionError):
            await w.runtime.port_forward("nothing", 80)

    story(body)


def test_an_ephemeral_container_sees_its_target(story):
    async def body(w):
        box = await w.sandbox()
        target = await w.start(box, "exec sleep 4242")
        _, text = await w.run("ps", box, target_container=target)
        assert "sleep 4242" in text

    story(body)
