"""A node's runtime for one story; afterwards nothing of it may be left on the machine."""

from __future__ import annotations

import asyncio
import glob
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jota.aio.clock import SystemClock
from jota.runtime import sys as kernel
from jota.runtime.embedded.runtime import EmbeddedRuntime
from jota.runtime.protocol import Container, ContainerSpec, Image, Sandbox, SandboxSpec
from jota.testing.images import busybox_archive


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0 and (shutil.which("crun") or shutil.which("runc")) and shutil.which("busybox"):
        return
    skip = pytest.mark.skip(reason="needs root, crun or runc, and busybox")
    for item in items:
        if "kernel" in item.keywords and "runtime" in str(item.fspath):
            item.add_marker(skip)


@dataclass
class World:
    """One node under test, and short words for what stories do."""

    directory: Path
    archive: str
    name: str
    low_level: str | None = None
    runtime: EmbeddedRuntime = field(init=False)
    image: Image = field(init=False)
    pods: int = 0
    attempts: int = -1

    def make(self, **more: object) -> EmbeddedRuntime:
        """Another agent over the same directories (nothing is started)."""
        root, images = str(self.directory / "root"), str(self.directory / "images")
        settings = {
            "name": self.name,
            "cgroup_parent": "jota-test",
            "clock": SystemClock(),
            "low_level": self.low_level,
        }
        return EmbeddedRuntime(root, images, **{**settings, **more})  # type: ignore[arg-type]

    async def sandbox(self, **more: object) -> Sandbox:
        self.pods += 1
        logs = str(self.directory / "logs" / str(self.pods))
        spec = {"hostname": "web-0", "log_directory": logs, **more}
        return await self.runtime.run_sandbox(SandboxSpec(f"uid-{self.pods}", "web-0", "default", **spec))  # type: ignore[arg-type]

    async def create(self, box: Sandbox, script: str, **more: object) -> str:
        self.attempts += 1
        spec = ContainerSpec("main", self.attempts, self.image.id, command=["sh", "-c", script], **more)  # type: ignore[arg-type]
        return await self.runtime.create_container(box.id, spec)

    async def start(self, box: Sandbox, script: str, **more: object) -> str:
        id = await self.create(box, script, **more)
        await self.runtime.start_container(id)
        return id

    async def ended(self, id: str, seconds: float = 10) -> Container:
        async with asyncio.timeout(seconds):
            while True:
                found = await self.runtime.container(id)
                assert found is not None
                if found.state == "exited":
                    return found
                await asyncio.sleep(0.005)

    async def run(self, script: str, box: Sandbox | None = None, **more: object) -> tuple[Container, str]:
        """Run to the end; the container and its output."""
        id = await self.start(box or await self.sandbox(), script, **more)
        found = await self.ended(id)
        return found, self.output(found)

    def output(self, container: Container, stream: str = "") -> str:
        """What stands in the log, without CRI's prefix."""
        out = []
        for line in self.lines(container):
            _, source, tag, text = line.split(" ", 3)
            if stream in ("", source):
                out.append(text + ("\n" if tag == "F" else ""))
        return "".join(out)

    def lines(self, container: Container) -> list[str]:
        path = Path(container.log_path)
        return path.read_bytes().decode().split("\n")[:-1] if path.exists() else []

    async def until(self, check: Callable[[], object], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not check():  # noqa: ASYNC110 (the machine changes, no task of ours)
                await asyncio.sleep(0.005)


def leftovers(directory: Path, name: str) -> list[str]:
    """Mounts, cgroups and processes of a node."""
    found = [point for point in kernel.mounts_below(str(directory)) if not point.endswith("/tiny")]
    found += glob.glob(f"/sys/fs/cgroup/*/jota-test/jota-{name}") + glob.glob(f"/sys/fs/cgroup/jota-test/jota-{name}")
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = Path(path).read_bytes()
        except OSError:
            continue
        if f"{directory}/root".encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("image") / "busybox.tar")
    busybox_archive(path, "jota.test/busybox:1", {"VERSION": "1"})
    return path


@pytest.fixture
def world(tmp_path: Path, archive: str) -> Iterator[World]:
    name = f"t{os.getpid()}-{os.path.basename(tmp_path)[-12:].strip('-')}"
    one = World(tmp_path, archive, name)
    yield one
    assert leftovers(tmp_path, name) == []


@pytest.fixture
def story(world: World) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Runs an async story on a started runtime with busybox loaded, and shuts down."""

    def run(body: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            world.runtime = world.make()
            try:
                await world.runtime.start()
                world.image = (await world.runtime.images.load(world.archive))[0]
                await body(world)
            finally:
                await world.runtime.shutdown()

        asyncio.run(main())

    return run
