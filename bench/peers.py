"""Peers that run beside us: a program is started in a directory of its own and killed at the end, with all its children."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Skipped


def command(name: str, package: str) -> str:
    """The program's path. Raises Skipped with what to install."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Skipped(f"no {name} on this machine: install the package {package}")
    return found


@contextmanager
def running(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program in a session of its own, its output in `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until_answers(
    call: Callable[[], object], process: subprocess.Popen[bytes], program: str, log: Path, seconds: float = 20.0
) -> None:
    """Call until it raises nothing. Raises Skipped when the program dies or stays silent."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            call()
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
                raise Skipped(f"{program} does not answer ({error}); it last said: {last}") from error
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
