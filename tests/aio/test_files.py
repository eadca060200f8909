"""Replacing a file: whole or not at all, whatever fails or is killed on the way."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest

from jota.aio import files

STEPS = ("open", "fchmod", "fsync", "rename")


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_it_has_its_permissions_whatever_the_umask(tmp_path: Path) -> None:
    path, before = tmp_path / "key", os.umask(0o777)
    try:
        files.replace(path, b"old", mode=0o640)
        files.replace(path, b"new", mode=0o604, durable=True)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o604)
    assert names(tmp_path) == ["key"]


def test_it_is_private_unless_said_otherwise(tmp_path: Path) -> None:
    files.replace(str(tmp_path / "key"), b"")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_name_without_a_directory_is_in_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.replace("here", b"x", durable=True)
    assert names(tmp_path) == ["here"]


@pytest.mark.parametrize("step", STEPS)
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "plan"
    files.replace(path, b"old")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            files.replace(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["plan"]
    files.replace(path, b"new", durable=True)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_step_shows_the_old_or_the_new(tmp_path: Path, step: str, when: str) -> None:
    path = tmp_path / "plan"
    files.replace(path, b"old" * 1000)
    child = os.fork()
    if child == 0:
        real = getattr(os, step)

        def die(*args: object, **more: object) -> None:
            if when == "after":
                real(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, step, die)
        files.replace(path, b"new" * 1000, durable=True)
        os._exit(1)  # it came through: the step was none
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    renamed = step == "rename" and when == "after"
    assert path.read_bytes() == (b"new" if renamed else b"old") * 1000
    # what it left is hidden, is taken for nothing else, and is in nobody's way
    assert all(name.startswith(".plan.") and name.endswith(".tmp") for name in names(tmp_path) if name != "plan")
    files.replace(path, b"next")
    assert path.read_bytes() == b"next"


def test_many_at_a_time_each_write_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    contents = [bytes([n]) * 5000 for n in range(8)]

    def write(content: bytes) -> None:
        for _ in range(50):
            files.replace(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    files.replace(path, contents[0])
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    for writer in writers:
        writer.join()
    assert names(tmp_path) == ["plan"]


def test_what_is_durable_is_flushed_before_it_is_named_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).split(".")[-1])
        sync(descriptor)

    def renamed(source: str, target: str) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    files.replace(tmp_path / "quick", b"x")
    assert done == ["rename"]
    done.clear()
    files.replace(tmp_path / "kept", b"x", durable=True)
    assert done == ["tmp", "rename", tmp_path.name.split(".")[-1]]
