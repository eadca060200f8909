"""Trees as strangers make them: deep, linked, mounted upon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

import pytest

from jota.node import localstorage
from jota.node.volumes import keeper
from jota.runtime import sys as kernel
from jota.runtime import trees

DEEP = 3000
"""More than Python recurses, and than a path may be long."""

pytestmark = pytest.mark.kernel


def deep(root: Path, levels: int = DEEP, content: bytes = b"x") -> None:
    """As `mkdir d; cd d` in a loop makes it, with a file at the bottom."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here), "wb") as file:
        file.write(content)
    os.close(here)


def still_open(root: Path) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(str(root))]


def test_deep_trees_go_away(tmp_path):
    """A pod cannot keep itself from being removed."""
    (tmp_path / "volumes" / "x").mkdir(parents=True)
    deep(tmp_path / "volumes" / "x")
    asyncio.run(keeper.unmount_all([str(tmp_path / "volumes")]))
    assert os.listdir(tmp_path) == []
    assert still_open(tmp_path) == []


def test_what_lies_deep_is_measured(tmp_path):
    """A pod cannot hide what it uses below a path that is too long."""
    tree = tmp_path / "tree"
    (tree / "near").mkdir(parents=True)
    (tree / "near" / "file").write_bytes(b"y" * 100_000)
    os.link(tree / "near" / "file", tree / "again")
    (tree / "link").symlink_to("/usr")
    deep(tree, content=b"x" * 1_000_000)
    try:
        directories = [info for info in trees.entries(str(tree)) if stat.S_ISDIR(info.st_mode)]
        assert len(directories) == DEEP + 1
        assert localstorage._written(str(tree)) >= 1_100_000 + sum(info.st_blocks * 512 for info in directories)
        assert still_open(tmp_path) == []
    finally:
        trees.remove(str(tree))


def test_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(tmp_path / "tree" / "fifo")
    trees.remove(str(tmp_path / "tree"))
    trees.remove(str(tmp_path / "tree"))
    assert os.listdir(tmp_path / "outside") == ["kept"]
    (tmp_path / "tree").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError):
        trees.remove(str(tmp_path / "tree"))
    assert os.listdir(tmp_path / "outside") == ["kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", ["mounted", "ge bunden\\ä"])
def test_what_is_mounted_in_a_tree_is_not_emptied(tmp_path, name):
    """A bind mount that was left behind holds what belongs to somebody else."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    inner = tmp_path / "tree" / "a" / name
    inner.mkdir(parents=True)
    kernel.mount(str(tmp_path / "outside"), str(inner), "", kernel.MS_BIND)
    try:
        with pytest.raises(OSError, match="Invalid cross-device link"):
            trees.remove(str(tmp_path / "tree"))
        assert kernel.mounts_below(str(tmp_path)) == [str(inner)]
        asyncio.run(keeper.unmount_all([str(tmp_path / "tree")]))
    finally:
        kernel.umount_if_mounted(str(inner))
    assert os.listdir(tmp_path / "outside") == ["kept"]
    assert not (tmp_path / "tree").exists()
