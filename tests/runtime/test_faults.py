"""Set-up and tear-down fail at every step: the caller is told, nothing is left, and the next try works."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from jota.aio import files
from jota.runtime import sys as kernel
from jota.runtime.embedded import cgroups, container, sandbox
from jota.runtime.protocol import Mount, Resources, RuntimeFault

pytestmark = pytest.mark.kernel


class Gremlin:
    """Lets `calls` calls of the watched functions pass, and the next one fail."""

    def __init__(self) -> None:
        self.calls = -1
        self.seen: list[str] = []

    def watch(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if self.calls >= 0:
                self.seen.append(name)
                if len(self.seen) == self.calls + 1:
                    raise OSError(5, f"gremlin in {name}")
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    def arm(self, calls: int) -> None:
        self.calls, self.seen = calls, []

    @property
    def struck(self) -> bool:
        return len(self.seen) > self.calls


SET_UP = [
    (kernel, "unshare"),
    (kernel, "mount"),
    (kernel, "mount_overlay"),
    (os, "mkfifo"),
    (sandbox, "_loopback_up"),
    (cgroups, "_mkdir"),
    (cgroups, "_write"),
    (files, "replace"),
]


def picture(w) -> tuple:
    """What stands of this node right now."""
    root = w.runtime.root
    groups = sorted(os.listdir(f"{w.runtime.shop.cgroups._roots()[0]}/{w.runtime.shop.cgroups.base}"))
    return (
        [point for point in kernel.mounts_below(root) if point != root],
        os.listdir(f"{root}/sandboxes"),
        os.listdir(f"{root}/containers"),
        os.listdir(f"{w.runtime.home}/snapshots"),
        [name for name in groups if name.startswith("pod")],
        w.runtime.library.content.leased(),
        sorted(w.runtime.state.sandboxes),
        sorted(w.runtime.state.containers),
    )


def test_a_sandbox_fails_at_each_step(story, monkeypatch):
    gremlin = Gremlin()
    for module, name in SET_UP:
        gremlin.watch(monkeypatch, module, name)

    async def body(w):
        before = picture(w)
        for step in range(200):
            gremlin.arm(step)
            try:
                box = await w.sandbox(resources=Resources(memory_limit=1 << 28))
            except RuntimeFault as fault:
                gremlin.arm(-1)
                assert fault.reason == "FailedCreatePodSandBox"
                assert "gremlin" in fault.message
                assert picture(w) == before, f"after a fault in step {step}, {gremlin.seen}"
                continue
            gremlin.arm(-1)
            break
        assert step > 8
        assert (await w.run("exit 3", box))[0].exit_code == 3
        await w.runtime.remove_sandbox(box.id)
        assert picture(w) == before

    story(body)


def test_a_container_fails_at_each_step(story, monkeypatch, tmp_path):
    gremlin = Gremlin()
    for module, name in SET_UP:
        gremlin.watch(monkeypatch, module, name)

    async def body(w):
        box = await w.sandbox()
        before = picture(w)
        for step in range(200):
            gremlin.arm(step)
            try:
                id = await w.create(
                    box, "exit 4", mounts=[Mount(str(tmp_path), "/m")], resources=Resources(memory_limit=1 << 26)
                )
            except RuntimeFault as fault:
                gremlin.arm(-1)
                assert fault.reason == "CreateContainerError"
                assert "gremlin" in fault.message
                assert picture(w) == before, f"after a fault in step {step}"
                continue
            gremlin.arm(-1)
            break
        assert step > 8
        await w.runtime.start_container(id)
        assert (await w.ended(id)).exit_code == 4

    story(body)


@pytest.mark.parametrize(
    "module_name", [(kernel, "umount_if_mounted"), (cgroups.Cgroups, "remove"), (container, "group")], ids=str
)
def test_tear_down_can_be_repeated(story, monkeypatch, module_name):
    gremlin = Gremlin()
    gremlin.watch(monkeypatch, *module_name)

    async def body(w):
        before = picture(w)
        box = await w.sandbox()
        await w.start(box, "sleep 100")
        for step in range(20):
            gremlin.arm(step)
            try:
                await w.runtime.remove_sandbox(box.id)
            except OSError:
                gremlin.arm(-1)
                continue
            gremlin.arm(-1)
            break
        await w.runtime.remove_sandbox(box.id)
        assert picture(w) == before

    story(body)


class Killed(BaseException):
    """Nothing runs after it, as after kill -9."""


@pytest.mark.parametrize("step", ["make_pause_root", "pin_process_namespace"])
def test_an_agent_killed_before_a_shared_process_namespace_was_pinned(story, monkeypatch, step):
    """A sandbox without it is of no use; the next agent sees that it is not ready, and makes another."""

    async def body(w):
        def killed(*_):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(sandbox, step, killed)
            with pytest.raises(Killed):
                await w.sandbox(share_process_namespace=True)
        await w.runtime.close()
        w.runtime = w.make()
        await w.runtime.start()
        assert [box.state for box in await w.runtime.sandboxes()] == ["notready"]
        assert w.runtime.shop.cgroups.processes() == []
        box = await w.sandbox(share_process_namespace=True)
        assert (await w.run("exit 3", box))[0].exit_code == 3

    story(body)


def test_an_agent_killed_while_it_made_things(story):
    """Directories without a record are swept by the next agent."""

    async def body(w):
        box = await w.sandbox()
        id = await w.create(box, "true")
        before = picture(w)
        os.unlink(f"{w.runtime.root}/containers/{id}/container.json")
        os.unlink(f"{w.runtime.root}/sandboxes/{box.id}/sandbox.json")
        await w.runtime.close()
        w.runtime = w.make()
        await w.runtime.start()
        mounts, sandboxes, containers, snapshots, _, leased, *_ = picture(w)
        assert (mounts, sandboxes, containers, snapshots, leased) == ([], [], [], [], set())
        assert before[0]
        assert (await w.run("exit 3"))[0].exit_code == 3

    story(body)
