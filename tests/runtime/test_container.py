"""Stories of one container: it runs, it logs, it ends, it is limited, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from jota.runtime.protocol import ContainerSpec, Mount, Resources, RuntimeFault, Security

pytestmark = pytest.mark.kernel

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")


def test_a_pod_lives_and_leaves_a_log(story):
    async def body(w):
        box = await w.sandbox()
        assert box.netns
        assert os.path.exists(box.netns)
        container, text = await w.run("echo one; echo two >&2; printf three; hostname; echo $VERSION; exit 7", box)
        assert (container.exit_code, container.reason, container.signal) == (7, "Error", 0)
        assert container.started_at <= container.finished_at
        assert container.image_ref.startswith("jota.test/busybox@sha256:")
        assert w.output(container, "stderr") == "two\n"
        assert w.output(container, "stdout") == "one\nthreeweb-0\n1\n"
        assert all(LINE.fullmatch(line) for line in w.lines(container))
        assert "two" in text

    story(body)


def test_what_containers_write_is_not_for_the_users_of_the_machine(story):
    """Whoever may run programs on the host could run a setuid one that a container made."""

    async def body(w):
        id = await w.start(await w.sandbox(), "sleep 100")
        container = await w.runtime.container(id)
        for path in (container.writable, w.runtime.state.container_dir(id), w.runtime.state.sandbox_dir("x")):
            above = [parent for parent in Path(path).parents if w.directory in parent.parents]
            assert any(parent.stat().st_mode & 0o077 == 0 for parent in above), path
        await w.runtime.stop_container(id, 0)

    story(body)


def test_exit_codes(story):
    async def body(w):
        box = await w.sandbox()
        table = [("exit 0", 0, 0, "Completed"), ("exit 255", 255, 0, "Error")]
        for script, code, number, reason in table:
            container, _ = await w.run(script, box)
            assert (container.exit_code, container.signal, container.reason) == (code, number, reason)
        id = await w.start(box, "sleep 100")
        await w.runtime.stop_container(id, 0)
        container = await w.runtime.container(id)
        assert (container.exit_code, container.signal, container.reason) == (137, 9, "Error")

    story(body)


def test_stop_sends_the_stop_signal_first(story):
    async def body(w):
        box = await w.sandbox()
        id = await w.start(box, "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done")
        path = (await w.runtime.container(id)).log_path
        await w.until(lambda: "up" in Path(path).read_text())
        await w.runtime.stop_container(id, 10)
        await w.runtime.stop_container(id, 10)
        container = await w.runtime.container(id)
        assert container.exit_code == 3
        assert "bye" in w.output(container)

    story(body)


def test_stop_kills_after_the_grace(story):
    async def body(w):
        id = await w.start(await w.sandbox(), "trap '' TERM; while true; do sleep 0.05; done")
        await w.runtime.stop_container(id, 0.1)
        assert (await w.runtime.container(id)).exit_code == 137

    story(body)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_bad_command_says_so(story, command, message):
    async def body(w):
        box = await w.sandbox()
        id = await w.runtime.create_container(box.id, ContainerSpec("main", 0, w.image.id, command=command))
        with pytest.raises(RuntimeFault) as caught:
            await w.runtime.start_container(id)
        assert (caught.value.reason, caught.value.message) == ("StartError", message)
        container = await w.runtime.container(id)
        assert (container.state, container.exit_code, container.reason) == ("exited", 128, "StartError")
        assert container.message == message

    story(body)


def test_out_of_memory(story):
    async def body(w):
        container, _ = await w.run("tail /dev/zero", resources=Resources(memory_limit=32 << 20))
        assert (container.reason, container.exit_code) == ("OOMKilled", 137)

    story(body)


def test_limits_stats_and_resize(story):
    async def body(w):
        limits = Resources(memory_limit=64 << 20, cpu_shares=100, cpu_quota=50_000, pids_limit=50)
        id = await w.start(await w.sandbox(), "sleep 100", resources=limits)
        _, out, _ = await w.runtime.exec_sync(id, ["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"], 5)
        stats = await w.runtime.stats()
        assert [s.container_id for s in stats] == [id]
        assert 0 < stats[0].memory_working_set <= stats[0].memory_usage
        assert stats[0].pids >= 1
        if w.runtime.shop.cgroups.layout.mode != "v2":
            assert int(out) == 64 << 20
            await w.runtime.update_resources(id, Resources(memory_limit=128 << 20))
            _, out, _ = await w.runtime.exec_sync(
                id, ["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"], 5
            )
            assert int(out) == 128 << 20

    story(body)


def test_identity(story):
    async def body(w):
        table = [
            (Security(), "uid=0(root) gid=0(root) groups=0(root)"),
            (Security(uid=1000), "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)"),
            (Security(uid=5000, gid=6000, groups=[7000]), "uid=5000 gid=6000 groups=6000,7000"),
            (Security(user_name="user"), "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)"),
        ]
        box = await w.sandbox()
        for security, expected in table:
            container, text = await w.run("id; echo $HOME; echo x > /dev/stdout", box, security=security)
            assert text.splitlines()[0] == expected
            assert container.exit_code == 0, text

    story(body)


def test_the_default_cage(story):
    async def body(w):
        script = (
            "grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs)' /proc/self/status; unshare -n true; mount -t tmpfs x /tmp;"
            "echo 1 > /proc/sys/kernel/panic; mknod /tmp/disk b 254 0 && cat /tmp/disk | head -c 1; touch /sys/x; ls /proc/acpi;"
            "tr '\\0' ' ' < /proc/1/cmdline; chroot / echo chrooted"
        )
        _, text = await w.run(script)
        assert "CapEff:\t00000000a80425fb" in text
        assert "Seccomp:\t2" in text
        assert "unshare: unshare(0x40000000): Operation not permitted" in text
        assert "mount: permission denied" in text or "mount: mounting x on /tmp failed: Operation not permitted" in text
        assert "can't create /proc/sys/kernel/panic: Read-only file system" in text
        assert "can't open '/tmp/disk': Operation not permitted" in text
        assert "/sys/x: Read-only file system" in text
        assert "sh -c grep" in text
        assert "chrooted" in text

    story(body)


def test_security_choices(story):
    async def body(w):
        box = await w.sandbox()
        show = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; touch /x"
        drop = Security(
            drop_capabilities=["ALL"], add_capabilities=["NET_ADMIN"], no_new_privileges=True, read_only_root=True
        )
        _, text = await w.run(show, box, security=drop)
        assert "CapEff:\t0000000000001000" in text
        assert "NoNewPrivs:\t1" in text
        assert "Read-only file system" in text
        _, text = await w.run(
            show + "; unshare -n echo unshared; ls /dev/kmsg", box, security=Security(privileged=True)
        )
        assert "Seccomp:\t0" in text
        assert "unshared" in text
        assert "/dev/kmsg" in text
        _, text = await w.run(show, box, security=Security(uid=1000))
        assert "CapEff:\t0000000000000000" in text

    story(body)


def test_mounts(story, tmp_path):
    async def body(w):
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "text").write_text("hello")
        (tmp_path / "hosts").write_text("1.2.3.4 there\n")
        mounts = [
            Mount(str(tmp_path / "conf"), "/conf", read_only=True),
            Mount(str(tmp_path / "hosts"), "/etc/hosts"),
            Mount(str(tmp_path / "conf"), "/rw"),
        ]
        script = "cat /conf/text /etc/hosts; touch /conf/x; touch /rw/y; cat /etc/hostname; echo z > /dev/shm/z"
        container, text = await w.run(script, mounts=mounts)
        assert text.startswith("hello1.2.3.4 there\n")
        assert "/conf/x: Read-only file system" in text
        assert (tmp_path / "conf" / "y").exists()
        assert "web-0" in text
        assert container.exit_code == 0

    story(body)


def test_containers_share_what_a_pod_shares(story):
    async def body(w):
        box = await w.sandbox()
        first = ContainerSpec("server", 0, w.image.id, command=["httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc"])
        server = await w.runtime.create_container(box.id, first)
        await w.runtime.start_container(server)
        _, text = await w.run(
            "for i in 1 2 3 4 5; do wget -qO- http://127.0.0.1:8080/group && break; sleep 0.1; done; ps", box
        )
        assert "root:x:0" in text
        assert "httpd" not in text

    story(body)


def test_host_namespaces(story):
    async def body(w):
        box = await w.sandbox(host_network=True, host_pid=True, host_ipc=True)
        assert box.netns == ""
        script = "for kind in net pid ipc mnt; do readlink /proc/self/ns/$kind; done"
        _, text = await w.run(script, box)
        ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid", "ipc", "mnt")]
        assert text.split()[:3] == ours[:3]
        assert text.split()[3] != ours[3]

    story(body)


def test_host_pid_containers_die_whole(story):
    async def body(w):
        box = await w.sandbox(host_pid=True)
        _, text = await w.run("sleep 1000 & echo $!", box)
        assert not os.path.exists(f"/proc/{int(text)}") or "sleep" not in Path(f"/proc/{int(text)}/cmdline").read_text()

    story(body)


def test_sysctls(story):
    async def body(w):
        box = await w.sandbox(sysctls={"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"})
        _, text = await w.run("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced", box)
        assert text.split() == ["77", "1"]
        with pytest.raises(RuntimeFault) as caught:
            await w.sandbox(sysctls={"net.no.such": "1"})
        assert caught.value.reason == "FailedCreatePodSandBox"
        assert "net.no.such" in caught.value.message

    story(body)


def test_long_lines_are_split_and_binary_output_survives(story):
    async def body(w):
        container, text = await w.run("head -c 40000 /dev/zero | tr '\\0' a; echo; printf 'x\\ny'")
        assert text == "a" * 40000 + "\nx\ny"
        assert max(len(line) for line in w.lines(container)) < 16384 + 50

    story(body)


def test_much_output_is_rotated(world, tmp_path):
    async def main():
        world.runtime = world.make(log_size=100_000, log_files=3)
        try:
            await world.runtime.start()
            world.image = (await world.runtime.images.load(world.archive))[0]
            container, _ = await world.run("for i in $(seq 20000); do echo line $i; done")
            directory = Path(container.log_path).parent
            files = sorted(directory.iterdir())
            assert len(files) == 3
            assert all(f.stat().st_size < 200_000 + (1 << 17) for f in files)
            last = next(line for f in files for line in f.read_text().splitlines() if line.endswith("line 20000"))
            assert last
        finally:
            await world.runtime.shutdown()

    asyncio.run(main())


def test_removal_and_unknown_ids_are_idempotent(story):
    async def body(w):
        box = await w.sandbox()
        id = await w.start(box, "sleep 100")
        await w.runtime.remove_container(id)
        await w.runtime.remove_container(id)
        await w.runtime.stop_container(id, 1)
        assert await w.runtime.containers() == []
        await w.runtime.stop_sandbox(box.id)
        await w.runtime.stop_sandbox(box.id)
        assert not os.path.exists(box.netns)
        await w.runtime.remove_sandbox(box.id)
        await w.runtime.remove_sandbox(box.id)
        assert await w.runtime.sandboxes() == []
        with pytest.raises(RuntimeFault):
            await w.create(box, "true")

    story(body)


def test_events_say_look(story):
    async def body(w):
        seen: list[str] = []

        async def listen() -> None:
            async for uid in w.runtime.events():
                seen.append(uid)

        task = asyncio.create_task(listen())
        await asyncio.sleep(0)
        await w.run("true")
        await w.until(lambda: len(seen) >= 2)
        assert set(seen) == {"uid-1"}
        task.cancel()

    story(body)


def test_many_at_once(story):
    async def body(w):
        boxes = await asyncio.gather(*(w.sandbox() for _ in range(8)))
        results = await asyncio.gather(*(w.run(f"echo {i}; exit {i}", box) for i, box in enumerate(boxes)))
        assert [container.exit_code for container, _ in results] == list(range(8))
        assert [text for _, text in results] == [f"{i}\n" for i in range(8)]

    story(body)


@pytest.mark.parametrize("low_level", ["runc"])
def test_another_low_level_runtime(story, world, low_level):
    world.low_level = low_level

    async def body(w):
        box = await w.sandbox()
        container, text = await w.run(
            "echo hi; grep Seccomp: /proc/self/status; exit 4", box, resources=Resources(memory_limit=64 << 20)
        )
        assert container.exit_code == 4
        assert text == "hi\nSeccomp:\t2\n"
        id = await w.start(box, "sleep 100")
        assert (await w.runtime.exec_sync(id, ["echo", "x"], 5))[:2] == (0, b"x\n")
        session = await w.runtime.exec(id, ["sh", "-c", "tty; exit 6"], tty=True, stdin=True)
        assert b"/dev/pts/0" in await session.read_stdout()
        assert await session.wait() == 6
        await session.close()
        terminal = await w.start(box, "tty; exit 5", tty=True)
        assert (await w.ended(terminal)).exit_code == 5
        assert w.output(await w.runtime.container(terminal)) == "/dev/pts/0\r\n"
        bad = await w.runtime.create_container(box.id, ContainerSpec("bad", 0, w.image.id, command=["nosuch"]))
        with pytest.raises(RuntimeFault, match="executable file not found"):
            await w.runtime.start_container(bad)
        await w.runtime.stop_container(id, 0)

    story(body)


def test_a_shared_process_namespace(story):
    async def body(w):
        box = await w.sandbox(share_process_namespace=True)
        first = await w.start(box, "exec sleep 4242")
        container, text = await w.run("ps -o pid,user,comm,args; kill -9 1; sleep 55 & exit 3", box)
        assert container.exit_code == 3
        assert "sleep 4242" in text
        assert re.search(r"^ +1 65535 +pause", text, re.M), text
        _, text = await w.run("ps; ls /proc/1/root/", box, security=Security(add_capabilities=["SYS_PTRACE"]))
        assert "sleep 55" not in text, "a container's children go with it"
        assert "supervisor" not in text
        assert text.rstrip().endswith("ls /proc/1/root/") or "ps" in text.splitlines()[-1], "its root is empty"
        await w.runtime.stop_container(first, 0)
        await w.runtime.remove_sandbox(box.id)
        assert w.runtime.shop.cgroups.processes() == []

    story(body)


def test_the_orphans_of_a_shared_process_namespace_are_reaped(story):
    async def body(w):
        box = await w.sandbox(share_process_namespace=True)
        _, text = await w.run("for i in 1 2 3; do (sleep 0.05 &); done; sleep 0.3; ps -o stat,comm", box)
        assert not re.search(r"^Z", text, re.M), text

    story(body)
