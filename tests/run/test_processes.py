"""Pid files and processes: whose they are, when they are ready, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jota.run import pidfile, processes
from jota.run.instance import Instance, NodePlan, Refused


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    nodes = [NodePlan("n1")]
    made = Instance("t", str(tmp_path), 0, 6443, "10.64.0.0/16", "10.128.0.0/16", "10.192.0.0/24", nodes)
    made.pid_file("server").parent.mkdir()
    return made


@pytest.fixture
def ours(instance: Instance) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line carries the data directory."""
    words = [
        sys.executable,
        "-c",
        "print(flush=True); import time; time.sleep(60)",
        "jota.cli.main",
        "server",
        instance.data_dir,
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs its own command line now
        yield process
        process.kill()


def test_only_our_own_processes_are_found(instance: Instance, ours: subprocess.Popen[bytes]) -> None:
    file = instance.pid_file("server")
    for text in ("", "x", "99999999", f"{os.getpid()}\nready\n"):
        file.write_text(text)
        assert processes.running(instance) == []
    file.write_text(f"{ours.pid}\n")
    assert processes.running(instance) == [processes.Process("server", ours.pid, ready=False)]
    file.write_text(f"{ours.pid}\nready\n")
    assert processes.running(instance) == [processes.Process("server", ours.pid)]


def test_strays_are_those_without_a_pid_file(instance: Instance, ours: subprocess.Popen[bytes]) -> None:
    assert [p.pid for p in processes.strays(instance)] == [ours.pid]
    instance.pid_file("server").write_text(f"{ours.pid}\n")
    assert processes.strays(instance) == []


def test_settle_tells_ready_from_ended(instance: Instance, ours: subprocess.Popen[bytes]) -> None:
    file = instance.pid_file("server")
    file.write_text(f"{ours.pid}\n")
    (starting,) = processes.running(instance)
    with pytest.raises(Refused, match="not ready"):
        processes.settle(starting, instance, 0.05)
    file.write_text(f"{ours.pid}\nready\n")
    assert processes.settle(starting, instance, 1.0)
    file.unlink()
    assert not processes.settle(starting, instance, 1.0)


def test_end_uses_force_on_what_ignores_the_signal(instance: Instance) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    deaf = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        assert processes.Process("server", deaf.pid).rss > 0
        processes.end([processes.Process("server", deaf.pid), processes.Process("agent", 99999999)], 0.1)
        assert deaf.wait() == -signal.SIGKILL
    assert processes.Process("server", deaf.pid).rss == 0


def test_a_pid_file_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "run" / "server.pid"
    with pidfile.held(path, "the server") as own:
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(Refused, match=f"process {os.getpid()}"), pidfile.held(path, "the server"):
            pass
        assert path.read_text() == f"{os.getpid()}\n"
        own.announce()
        assert path.read_text() == f"{os.getpid()}\nready\n"
    assert not path.exists()
    path.write_text("4242\nready\n")  # left by a kill -9
    with pidfile.held(path, "the server"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_ready_is_said_even_when_nobody_listens(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with pidfile.held(tmp_path / "a.pid", "the agent", write) as own:
        own.announce()
        assert (tmp_path / "a.pid").read_text().endswith("ready\n")
    read, write = os.pipe()
    with pidfile.held(tmp_path / "a.pid", "the agent", write) as own:
        own.announce()
    assert os.read(read, 100) == b"ready\n"
    os.close(read)
