"""EmbeddedRuntime: the Runtime contract on crun or runc, one supervisor process and plain files.

Calls of the node agent come in; blocking work goes to a few worker threads, starting and stopping to the supervisor (`link.py`).
Pieces: `sandbox.py`, `container.py`, `cgroups.py`, `images/`, `exec.py`, `cleanup.py`. No state is kept here that is not on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jota.aio import files
from jota.aio.clock import Clock
from jota.runtime import sys as kernel
from jota.runtime import trees
from jota.runtime.embedded import cgroups, container, imagemounts, lowlevel, sandbox, spec
from jota.runtime.embedded.cgroups import Cgroups
from jota.runtime.embedded.exec import Execs, Session, attach, collect
from jota.runtime.embedded.holder import Holder
from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.images.library import Library
from jota.runtime.embedded.images.store import EmbeddedImages
from jota.runtime.embedded.link import Link, SupervisorLost
from jota.runtime.embedded.portforward import Stream, connect
from jota.runtime.embedded.state import Record, State
from jota.runtime.embedded.state import container as view
from jota.runtime.embedded.supervise import console
from jota.runtime.protocol import Container, ContainerSpec, Resources, RuntimeFault, Sandbox, SandboxSpec, Stats

T = TypeVar("T")
_WORKERS, _PULLS = 4, 4
LOG_SIZE, LOG_FILES = 10 << 20, 5
"""The kubelet's containerLogMaxSize and containerLogMaxFiles."""


class EmbeddedRuntime:
    """See `jota.runtime.protocol.Runtime`.

    `root`: this node's private directory. `images_root`: the content store, shared by all nodes and instances of the host.
    `name`: instance and node; part of every cgroup name. `cgroup_parent`: group below which ours is made ("" for the top).
    """

    def __init__(
        self, root: str, images_root: str, *, name: str, cgroup_parent: str, clock: Clock, low_level: str | None = None,
        new_id: Callable[[], str] = lambda: secrets.token_hex(32), log_size: int = LOG_SIZE, log_files: int = LOG_FILES,
    ) -> None:  # fmt: skip
        self.home = os.path.abspath(root)
        # All but the containers' own data lives in memory: their processes do not outlive a reboot either, and creating a
        # dozen files per container on a busy disk costs more than the rest of its start.
        self.root = f"{self.home}/run"
        self.name, self.clock, self._new_id = name, clock, new_id
        self._images_root = os.path.abspath(images_root)
        self._wanted, self._parent = low_level, cgroup_parent
        self._log_bounds = (log_size, log_files)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="runtime")
        self._image_pool = ThreadPoolExecutor(_PULLS, thread_name_prefix="images")
        self._listeners: set[asyncio.Queue[str]] = set()
        self._ended: dict[str, asyncio.Event] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._holder = Holder()
        self.link = Link(self.root, clock, self._on_event, self._on_connect, self._on_lost, self._holder.note_exits)
        self._execs = Execs(self.link, new_id)
        self.library = Library(Content(self._images_root))
        self.images = EmbeddedImages(self.library, self._blocking, self._slow)
        self.state = State(self.root)

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find or start the supervisor, read the state, finish what was cut off. Raises RuntimeFault."""
        await self._blocking(self._prepare)
        await self.link.connect()
        self._keeper = asyncio.get_running_loop().create_task(self.link.keep(), name="supervisor watchdog")

    def _mount_run(self) -> None:
        for directory in (self.home, self.root, f"{self.home}/snapshots"):
            os.makedirs(directory, mode=0o711, exist_ok=True)
        # A setuid program that a container's root made is not for the users of this machine (CVE-2021-41103).
        os.chmod(f"{self.home}/snapshots", 0o700)
        if not os.path.ismount(self.root):
            try:
                kernel.mount("jota", self.root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=711")
            except PermissionError:
                return  # without the right to mount, a plain directory does

    def _prepare(self) -> None:
        self._mount_run()
        layout = cgroups.detect()
        low = lowlevel.choose(f"{self.root}/oci", layout.mode != "v2", self._wanted)
        groups = Cgroups(layout, self._parent, self.name)
        try:
            groups.create_base()
        except OSError as fault:
            raise RuntimeFault("CgroupUnavailable", f"cannot make cgroup {groups.base}: {fault}") from fault
        os.makedirs(low.state, mode=0o700, exist_ok=True)
        os.makedirs(console.directory(self.root), mode=0o700, exist_ok=True)
        about = {
            "name": self.name,
            "cgroup_parent": self._parent,
            "images_root": self._images_root,
            "low_level": low.path,
        }
        files.replace(f"{self.home}/runtime.json", json.dumps(about).encode())
        self._hide = f"{layout.unified}/cgroup.controllers" if low.own_cgroups and layout.mode == "hybrid" else ""
        self.shop = container.Workshop(
            self.root, f"{self.home}/snapshots", self.name, self.library, groups, low, spec.this_machine()
        )
        self.state.load()
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed agent, or a reboot, left: directories and leases without a record."""
        for id in set(os.listdir(f"{self.home}/snapshots")) - set(self.state.containers):
            self._discard_container(id)
        for id in set(os.listdir(f"{self.root}/containers")) - set(self.state.containers):
            self._discard_container(id)
        for id in set(os.listdir(f"{self.root}/sandboxes")) - set(self.state.sandboxes):
            sandbox.tear_down(self.state.sandbox_dir(id))
            self.state.forget_sandbox(id)
        for box in list(self.state.sandboxes.values()):
            if box.state == "ready" and sandbox.unfinished(self.state.sandbox_dir(box.id), box.spec):
                self._release_sandbox(box)

    def _discard_container(self, id: str) -> None:
        kernel.umount_if_mounted(f"{self.state.container_dir(id)}/rootfs")
        imagemounts.unmount(self.state.container_dir(id))
        with contextlib.suppress(OSError):
            trees.remove(f"{self.home}/snapshots/{id}")
        self.library.content.release(self.name, id)
        self.state.forget_container(id)

    async def close(self) -> None:
        """Let go; containers keep running."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self.link.close()
        self._holder.drop_all()
        self._pool.shutdown(wait=True)
        self._image_pool.shutdown(wait=False, cancel_futures=True)

    async def shutdown(self) -> None:
        """Stop everything and remove every trace of it."""
        from jota.runtime.embedded.cleanup import cleanup

        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self.link.close()
        self._holder.drop_all()
        await self._blocking(lambda: cleanup(self.home, self.name))
        self._pool.shutdown(wait=True)
        self._image_pool.shutdown(wait=False, cancel_futures=True)
        self.link.reap()

    @property
    def supervisor_pid(self) -> int:
        """0 before `start`."""
        return self.link.pid

    async def _slow(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._image_pool, work)

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    # -- events -----------------------------------------------------------------------------------------------------

    def _on_event(self, message: dict[str, Any]) -> None:
        if message["event"] == "exec_exit":
            self._execs.on_event(message)
            return
        if message["event"] != "exit" or message["id"] not in self.state.containers:
            return
        record = self.state.containers[message["id"]]
        self.state.refresh(record.id)
        self._finish(record)

    def _finish(self, record: Record) -> None:
        self._holder.drop(record.id)
        event = self._ended.pop(record.id, None)
        if event is not None:
            event.set()
        self._announce(record.pod_uid)

    async def _on_connect(self) -> None:
        """A new connection may have missed events: look at every container that was not known to be dead, and share what
        is held of those that run."""
        for record in list(self.state.containers.values()):
            if record.end is None:
                self.state.refresh(record.id)
                if record.end is not None:
                    self._finish(record)
                elif record.run is not None:
                    await self._share(record)

    def _on_lost(self) -> None:
        self._execs.on_lost()

    async def _share(self, record: Record) -> None:
        """Give a new supervisor the terminal that we hold; ask the old one for it when we are new."""
        terminal = self._holder.terminal(record.id)
        if record.spec.tty:
            given = (terminal,) if terminal >= 0 else ()
            _, taken = await self.link.call({"op": "terminal", "id": record.id}, given)
            terminal = taken[0] if taken else -1
        assert record.run is not None
        self._holder.keep(record.id, self.state.container_dir(record.id), int(record.run["pid"]), terminal)

    def _announce(self, pod_uid: str) -> None:
        for queue in self._listeners:
            with contextlib.suppress(asyncio.QueueFull):
                # A full queue already says "look" often enough; the agent relists on a slow timer, too.
                queue.put_nowait(pod_uid)

    def events(self) -> AsyncIterator[str]:
        """Pod uids whose containers changed, from this call on."""
        queue: asyncio.Queue[str] = asyncio.Queue(4096)
        self._listeners.add(queue)
        return self._listen(queue)

    async def _listen(self, queue: asyncio.Queue[str]) -> AsyncIterator[str]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    # -- sandboxes --------------------------------------------------------------------------------------------------

    async def run_sandbox(self, wanted: SandboxSpec) -> Sandbox:
        """Raises RuntimeFault(FailedCreatePodSandBox); then nothing is left."""
        id = self._new_id()
        directory = self.state.sandbox_dir(id)
        netns = "" if wanted.host_network else f"{directory}/ns/net"
        made = Sandbox(id, wanted, "ready", self.clock.now(), netns)

        def work() -> None:
            try:
                sandbox.set_up(directory, wanted)
                self.shop.cgroups.create(container.pod_group(wanted.pod_uid), wanted.resources)
                self.state.save_sandbox(made)
            except BaseException as fault:
                self._discard_sandbox(made)
                if isinstance(fault, OSError):
                    raise RuntimeFault(
                        "FailedCreatePodSandBox", f"cannot set up the sandbox of {wanted.name}: {fault}"
                    ) from fault
                raise

        await self._blocking(work)
        if wanted.share_process_namespace and not wanted.host_pid:
            try:
                await self._pause(made)
            except RuntimeFault:
                await self._blocking(lambda: self._discard_sandbox(made))
                raise
        return made

    async def _pause(self, box: Sandbox) -> None:
        """Start PID 1 of a shared process namespace and pin the namespace. Raises RuntimeFault."""
        directory, group = self.state.sandbox_dir(box.id), container.pause_group(box)
        await self._blocking(lambda: sandbox.make_pause_root(directory, self.shop.cgroups, group))
        request = {
            "op": "pause",
            "join": self.shop.cgroups.join_files(group, always=True),
            "root": f"{directory}/empty",
        }
        try:
            await self.link.connected(10)
            answer, _ = await self.link.call(request)
        except (SupervisorLost, TimeoutError) as fault:
            raise RuntimeFault("FailedCreatePodSandBox", f"cannot start the pause process: {fault}") from fault
        if "error" in answer:
            raise RuntimeFault("FailedCreatePodSandBox", f"cannot start the pause process: {answer['error']}")
        await self._blocking(lambda: sandbox.pin_process_namespace(directory, int(answer["pid"])))

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kill what still runs in it and release its namespaces. Idempotent."""
        found = self.state.sandboxes.get(sandbox_id)
        if found is None:
            return
        for record in [r for r in self.state.containers.values() if r.sandbox_id == sandbox_id]:
            await self.stop_container(record.id, 0)

        await self._blocking(lambda: self._release_sandbox(found))
        self._announce(found.spec.pod_uid)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Stop it, and remove it with its containers. Idempotent."""
        found = self.state.sandboxes.get(sandbox_id)
        if found is None:
            return
        await self.stop_sandbox(sandbox_id)
        for record in [r for r in self.state.containers.values() if r.sandbox_id == sandbox_id]:
            await self.remove_container(record.id)

        await self._blocking(lambda: self._discard_sandbox(found))

    def _end_pause(self, box: Sandbox) -> None:
        if box.spec.share_process_namespace and not self.shop.cgroups.end(container.pause_group(box)):
            raise RuntimeFault("KillPodSandboxError", f"the pause process of {box.spec.name} does not die")

    def _release_sandbox(self, box: Sandbox) -> None:
        self._end_pause(box)
        sandbox.tear_down(self.state.sandbox_dir(box.id))
        box.state = "notready"
        self.state.save_sandbox(box)

    def _discard_sandbox(self, box: Sandbox) -> None:
        """Namespaces, the pod's cgroup unless another sandbox of the pod has it, and the directory."""
        self._end_pause(box)
        sandbox.tear_down(self.state.sandbox_dir(box.id))
        if not any(s.spec.pod_uid == box.spec.pod_uid for s in self.state.sandboxes.values() if s.id != box.id):
            self.shop.cgroups.remove(container.pod_group(box.spec.pod_uid))
        self.state.forget_sandbox(box.id)

    async def sandboxes(self) -> list[Sandbox]:
        return list(self.state.sandboxes.values())

    # -- containers -------------------------------------------------------------------------------------------------

    async def create_container(self, sandbox_id: str, wanted: ContainerSpec) -> str:
        """Raises RuntimeFault(CreateContainerError); then nothing is left."""
        box = self.state.sandboxes.get(sandbox_id)
        if box is None or box.state != "ready":
            raise RuntimeFault("CreateContainerError", f"sandbox {sandbox_id} is not ready")
        id = self._new_id()
        log_path = (
            f"{box.spec.log_directory}/{wanted.name}/{wanted.attempt}.log" if box.spec.log_directory else "/dev/null"
        )

        def work() -> None:
            found = self.library.get(wanted.image)
            if found is None:
                raise RuntimeFault("CreateContainerError", f"image {wanted.image} is not present")
            wanted.image = found.id
            ref = found.digests[0] if found.digests else found.id
            stop = _signal_number(found.stop_signal)
            record = Record(id, sandbox_id, box.spec.pod_uid, wanted, ref, stop, self.clock.now(), log_path)
            container.set_up(
                self.shop, record, box.spec, self.state.sandbox_dir(sandbox_id), self._process_namespace(box, wanted)
            )
            try:
                self.state.save_container(record)
            except OSError as fault:
                container.tear_down(self.shop, record)
                raise RuntimeFault("CreateContainerError", f"container {wanted.name}: {fault}") from fault

        await self._blocking(work)
        return id

    def _process_namespace(self, box: Sandbox, wanted: ContainerSpec) -> str:
        if wanted.target_container:
            target = self.state.containers.get(wanted.target_container)
            if target is None or target.run is None or target.end is not None:
                raise RuntimeFault("CreateContainerError", f"target container {wanted.target_container} is not running")
            return f"/proc/{target.run['pid']}/ns/pid"
        if box.spec.host_pid:
            return "host"
        return f"{self.state.sandbox_dir(box.id)}/ns/pid" if box.spec.share_process_namespace else ""

    def _record(self, id: str) -> Record:
        record = self.state.containers.get(id)
        if record is None:
            raise RuntimeFault("NotFound", f"container {id} not found")
        return record

    async def start_container(self, container_id: str) -> None:
        """Raises RuntimeFault(StartError) with the low-level runtime's own message; the container is then `exited`, 128."""
        record = self._record(container_id)
        if record.run is not None or record.end is not None:
            raise RuntimeFault("StartError", f"container {container_id} was already started")
        directory = self.state.container_dir(container_id)
        log = f"{directory}/lowlevel.log"
        socket_path = console.path(self.root, container_id) if record.spec.tty else ""
        request = {
            "op": "start",
            "id": container_id,
            "dir": directory,
            "cwd": directory,
            "argv": self.shop.low_level.run(container_id, directory, f"{directory}/pid", log, socket_path),
            "pid_file": f"{directory}/pid",
            "error_log": log,
            "join": self.shop.cgroups.join_files(container.group(record)) if self.shop.low_level.own_cgroups else [],
            "hide": self._hide,
            "procs": self.shop.cgroups.procs_file(container.group(record)),
            "oom": self.shop.cgroups.oom_file(container.group(record)),
            "log": record.log_path,
            "log_size": self._log_bounds[0],
            "log_files": self._log_bounds[1],
            "tty": record.spec.tty,
            "stdin": record.spec.stdin,
            "stdin_once": record.spec.stdin_once,
        }
        for _ in range(3):
            try:
                await self.link.connected(10)
                answer, terminal = await self.link.call(request)
                break
            except (SupervisorLost, TimeoutError) as fault:
                if await self._after_loss(record, fault):
                    return
        else:
            raise RuntimeFault("StartError", "the supervisor dies whenever this container starts")
        if "error" in answer:
            text = await self._blocking(lambda: _read(log))
            reason, message = lowlevel.explain(text, record.argv0, str(answer["error"]))
            end = {
                "code": 128,
                "signal": 0,
                "finished_at": self.clock.now(),
                "reason": reason,
                "oom": False,
                "message": message,
            }
            self.state.save_end(container_id, end)
            self._announce(record.pod_uid)
            raise RuntimeFault(reason, message)
        record.run = {key: answer[key] for key in ("pid", "start_time", "started_at")}
        if record.end is None:
            self._holder.keep(container_id, directory, int(answer["pid"]), terminal.pop() if terminal else -1)
        for fd in terminal:
            os.close(fd)
        self._announce(record.pod_uid)

    async def _after_loss(self, record: Record, fault: Exception) -> bool:
        """The supervisor died under a start: what its successor found decides. False: it had not begun, start again."""
        try:
            await self.link.connected(10)
        except TimeoutError:
            raise RuntimeFault("StartError", f"the supervisor does not come back: {fault}") from fault
        self.state.refresh(record.id)
        if record.run is None and record.end is None:
            if not os.path.exists(f"{self.state.container_dir(record.id)}/start.json"):
                return False
            raise RuntimeFault("StartError", "the supervisor does not say what became of the start") from fault
        if record.run is None:
            raise RuntimeFault("StartError", "the supervisor was restarted while the container started") from fault
        return True

    async def stop_container(self, container_id: str, grace: float) -> None:
        """Stop signal, then SIGKILL after `grace` seconds. Idempotent; returns once it is dead."""
        record = self.state.containers.get(container_id)
        if record is None or record.end is not None:
            return
        if record.run is None:
            end = {"code": 137, "signal": 9, "finished_at": self.clock.now(), "reason": "", "oom": False}
            self.state.save_end(container_id, end)
            return
        ended = self._ended.setdefault(container_id, asyncio.Event())
        if grace > 0 and await self._signalled(record, record.stop_signal, ended, grace):
            return
        for _ in range(20):
            if await self._signalled(record, signal.SIGKILL, ended, 2.0):
                return
            if record.end is not None:
                return
            await self._blocking(lambda: self.shop.cgroups.kill(container.group(record)))
        raise RuntimeFault("KillContainerError", f"container {container_id} does not die (uninterruptible?)")

    async def _signalled(self, record: Record, number: int, ended: asyncio.Event, seconds: float) -> bool:
        """Send a signal and wait for the end; False when it is still alive after `seconds`."""
        with contextlib.suppress(SupervisorLost, TimeoutError):
            await self.link.call({"op": "kill", "id": record.id, "signal": int(number)})
        waiter = asyncio.ensure_future(ended.wait())
        timer = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait({waiter, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            timer.cancel()
        return ended.is_set()

    async def remove_container(self, container_id: str) -> None:
        """Kill it if it runs, and remove every trace of it (its log stays: the node owns that). Idempotent."""
        record = self.state.containers.get(container_id)
        if record is None:
            return
        await self.stop_container(container_id, 0)
        await self._blocking(lambda: container.tear_down(self.shop, record))
        self.state.containers.pop(container_id, None)

    async def containers(self) -> list[Container]:
        return [self._view(record) for record in self.state.containers.values()]

    async def container(self, container_id: str) -> Container | None:
        record = self.state.containers.get(container_id)
        return None if record is None else self._view(record)

    def _view(self, record: Record) -> Container:
        return view(record, self.state.container_dir(record.id), container.writable(self.shop, record))

    # -- sessions ---------------------------------------------------------------------------------------------------

    def _running(self, container_id: str, reason: str) -> Record:
        record = self.state.containers.get(container_id)
        if record is None or record.run is None or record.end is not None:
            raise RuntimeFault(reason, f"container {container_id} is not running")
        return record

    async def exec(self, container_id: str, command: list[str], *, tty: bool, stdin: bool) -> Session:
        """Raises RuntimeFault(ExecError)."""
        record = self._running(container_id, "ExecError")
        join = self.shop.cgroups.join_files(container.group(record)) if self.shop.low_level.own_cgroups else []
        common = {"join": join, "hide": self._hide}
        return await self._execs.start(self.shop.low_level, self.root, container_id, common, command, tty, stdin)

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> tuple[int, bytes, bytes]:
        """(exit code, stdout, stderr); output bounded to 1 MiB each. Raises TimeoutError (the process is then killed; 0 means
        no limit), RuntimeFault(ExecError)."""
        session = await self.exec(container_id, command, tty=False, stdin=False)
        try:
            return await asyncio.wait_for(collect(session), timeout or None)
        finally:
            await session.close()

    async def attach(self, container_id: str, *, stdin: bool) -> Session:
        """Raises RuntimeFault(AttachError)."""
        record = self._running(container_id, "AttachError")
        spec = record.spec
        return await attach(
            self.link, container_id, stdin and spec.stdin, spec.stdin_once, lambda: self._exit_code(record)
        )

    async def _exit_code(self, record: Record) -> int:
        if record.end is None:
            await self._ended.setdefault(record.id, asyncio.Event()).wait()
        return int(record.end["code"]) if record.end else 137

    async def port_forward(self, sandbox_id: str, port: int) -> Stream:
        """Raises ConnectionError."""
        found = self.state.sandboxes.get(sandbox_id)
        if found is None or found.state != "ready":
            raise ConnectionError(f"sandbox {sandbox_id} is not ready")
        return await connect(found.netns, port)

    async def update_resources(
        self, container_id: str, resources: Resources, labels: Mapping[str, str] | None = None
    ) -> None:
        """Change the limits of a running container. Raises RuntimeFault(UpdateContainerError)."""
        record = self._record(container_id)

        def work() -> None:
            try:
                self.shop.cgroups.limit(container.group(record), resources, lift=True)
            except OSError as fault:
                raise RuntimeFault("UpdateContainerError", str(fault)) from fault
            record.spec.resources = resources
            record.spec.labels = {**record.spec.labels, **(labels or {})}
            self.state.save_container(record)

        await self._blocking(work)

    async def update_sandbox(
        self, sandbox_id: str, resources: Resources, labels: Mapping[str, str] | None = None
    ) -> None:
        """Change the limits of the pod's own group. Raises RuntimeFault(UpdateSandboxError)."""

        def work() -> None:
            found = self.state.sandboxes.get(sandbox_id)
            if found is None:
                raise RuntimeFault("UpdateSandboxError", f"sandbox {sandbox_id} does not exist")
            try:
                self.shop.cgroups.limit(container.pod_group(found.spec.pod_uid), resources, lift=True)
            except OSError as fault:
                raise RuntimeFault("UpdateSandboxError", str(fault)) from fault
            known = {**found.spec.labels, **(labels or {})}
            wanted = dataclasses.replace(found.spec, resources=resources, labels=known)
            self.state.save_sandbox(dataclasses.replace(found, spec=wanted))

        await self._blocking(work)

    async def stats(self) -> list[Stats]:
        """Of running containers."""

        def work() -> list[Stats]:
            out = []
            for record in list(self.state.containers.values()):
                if record.run is None or record.end is not None:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    cpu, working, usage, pids = self.shop.cgroups.usage(container.group(record))
                    out.append(Stats(record.id, self.clock.now(), cpu, working, usage, pids))
            return out

        return await self._blocking(work)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        return ""


def _signal_number(text: str) -> int:
    """STOPSIGNAL of an image: SIGTERM, TERM, 15 or SIGRTMIN+3. SIGTERM when absent or unknown."""
    name = text.strip().upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    try:
        number = int(name) if name.isdigit() else int(signal.Signals[f"SIG{base}"]) + (int(offset) if plus else 0)
    except (KeyError, ValueError):
        number = 0
    # One that does not exist could not be sent, and the container would never be stopped.
    return number if 0 < number <= signal.SIGRTMAX else int(signal.SIGTERM)
