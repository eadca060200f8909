"""ContainerSpec to OCI config, as tables; no kernel needed but for reading a passwd file."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace

import pytest

from jota.runtime.embedded import cgroups, lowlevel, spec
from jota.runtime.embedded.cgroups import Cgroups, Layout
from jota.runtime.embedded.runtime import _signal_number
from jota.runtime.protocol import ContainerSpec, Device, Mount, Resources, RuntimeFault, SandboxSpec, Security

ALL = spec.Machine(frozenset(spec.ALL_CAPABILITIES), 1 << 20, 0, False)
POOR = spec.Machine(frozenset(spec.ALL_CAPABILITIES) - {"SYS_RESOURCE"}, 20000, 100, True)
BOX = SandboxSpec("u", "p", "d", hostname="h")
PATHS = spec.Paths("/r", {"mount": "", "network": "/ns/net"}, "/shm", "/hostname")


def build(machine=ALL, box=BOX, image=None, user=None, paths=PATHS, **more):
    return spec.build(
        ContainerSpec("c", 0, "i", **{"command": ["x"], **more}), box, image or {}, user or spec.User(), paths, machine
    )


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "cmd", "argv"),
    [
        ([], [], ["e"], ["c"], ["e", "c"]),
        ([], ["a"], ["e"], ["c"], ["e", "a"]),
        (["x"], [], ["e"], ["c"], ["x"]),
        (["x"], ["a"], ["e"], ["c"], ["x", "a"]),
        ([], [], None, ["c"], ["c"]),
        ([], ["a"], None, None, ["a"]),
    ],
)
def test_command_and_args(command, args, entrypoint, cmd, argv):
    asked = ContainerSpec("c", 0, "i", command=command, args=args)
    assert spec.arguments(asked, {"Entrypoint": entrypoint, "Cmd": cmd}) == argv


def test_no_command():
    with pytest.raises(RuntimeFault, match="no command specified"):
        spec.arguments(ContainerSpec("c", 0, "i"), {})


def test_environment():
    asked = ContainerSpec("c", 0, "i", env=[("A", "spec"), ("B", "x=y")], tty=True)
    lines = spec.environment(asked, {"Env": ["A=image", "C=", "D"]}, "host", "/home")
    assert dict(line.split("=", 1) for line in lines) == {
        "A": "spec", "B": "x=y", "C": "", "D": "", "PATH": spec.DEFAULT_PATH.partition("=")[2], "TERM": "xterm",
        "HOSTNAME": "host", "HOME": "/home",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (Security(), set(spec.DEFAULT_CAPABILITIES)),
        (Security(drop_capabilities=["ALL"]), set()),
        (Security(drop_capabilities=["all"], add_capabilities=["CAP_NET_ADMIN", "kill"]), {"NET_ADMIN", "KILL"}),
        (
            Security(add_capabilities=["ALL"], drop_capabilities=["SYS_ADMIN"]),
            set(spec.ALL_CAPABILITIES) - {"SYS_ADMIN"},
        ),
        (Security(drop_capabilities=["all"], add_capabilities=["ALL", "kill"]), {"KILL"}),
        (Security(drop_capabilities=["SYS_ADMIN"], add_capabilities=["SYS_ADMIN"]), set(spec.DEFAULT_CAPABILITIES)),
        (Security(drop_capabilities=["MKNOD"]), set(spec.DEFAULT_CAPABILITIES) - {"MKNOD"}),
        (Security(privileged=True), set(spec.ALL_CAPABILITIES)),
        (Security(add_capabilities=["NO_SUCH"]), set(spec.DEFAULT_CAPABILITIES)),
    ],
)
def test_capabilities(security, expected):
    found = spec.capabilities(ContainerSpec("c", 0, "i", security=security), ALL)
    assert {name.removeprefix("CAP_") for name in found} == expected


def test_a_poor_machine_clamps():
    process = build(POOR, security=Security(privileged=True), resources=Resources(oom_score_adj=-998))["process"]
    assert process["oomScoreAdj"] == 100
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 20000, "soft": 20000}]
    assert "CAP_SYS_RESOURCE" not in process["capabilities"]["bounding"]
    assert build(ALL, resources=Resources(oom_score_adj=-998))["process"]["oomScoreAdj"] == -998


def test_other_users_have_no_effective_capabilities():
    sets = build(user=spec.User(1000, 1000))["process"]["capabilities"]
    assert sets["effective"] == sets["permitted"] == []
    assert "CAP_CHOWN" in sets["bounding"]


def test_mounts_in_order_and_read_only_all_the_way_down(tmp_path):
    (tmp_path / "file").touch()
    mounts = [
        Mount(str(tmp_path), "/a/b", read_only=True),
        Mount("/t", "/a", propagation="rslave"),
        Mount("/u", "/dev/shm"),
        Mount(str(tmp_path / "file"), "/etc/file", read_only=True),
    ]
    config = build(mounts=mounts)
    found = [m for m in config["mounts"] if m["destination"] in ("/a", "/a/b", "/dev/shm")]
    assert [m["destination"] for m in found] == ["/a", "/a/b", "/dev/shm"]
    assert found[0]["options"] == ["rbind", "rslave", "rw"]
    assert found[1]["options"] == ["rbind", "rprivate", "rro"]
    assert found[2]["source"] == "/u"
    file = next(m for m in config["mounts"] if m["destination"] == "/etc/file")
    assert file["options"] == ["rbind", "rprivate", "ro"]  # crun 1.8 fails with rro on a file


def test_a_privileged_container_is_not_masked():
    linux = build(security=Security(privileged=True))["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert any(device["path"] == "/dev/kmsg" for device in linux["devices"])


def test_devices_are_shown_where_they_are_wanted_and_allowed_to_the_cgroup():
    info = os.stat("/dev/null")
    numbers = {"major": os.major(info.st_rdev), "minor": os.minor(info.st_rdev)}
    paths = replace(PATHS, cgroup="/x")
    linux = build(devices=[Device("/dev/null", "/data", "r")], paths=paths)["linux"]
    assert [(d["path"], d["type"], d["major"], d["minor"]) for d in linux["devices"]] == [
        ("/data", "c", *numbers.values())
    ]
    assert linux["resources"]["devices"][-1] == {"allow": True, "type": "c", "access": "r", **numbers}
    # a privileged container has the host's devices as well, but one of each path
    linux = build(devices=[Device("/dev/null", "/dev/kmsg")], security=Security(privileged=True))["linux"]
    assert [d["minor"] for d in linux["devices"] if d["path"] == "/dev/kmsg"] == [numbers["minor"]]
    for source, complaint in (("/nope", "No such file"), ("/etc/passwd", "is not a device")):
        with pytest.raises(RuntimeFault, match=complaint):
            build(devices=[Device(source, "/data")])


def test_users(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/www:\nbad line\n:::::\n")
    (tmp_path / "etc/group").write_text("web:x:34:\nextra:x:50:web,root\nbad\n")

    def find(image_user="", **more):
        user = spec.find_user(str(tmp_path), ContainerSpec("c", 0, "i", security=Security(**more)), image_user)
        return user.uid, user.gid, user.groups, user.home

    assert find() == (0, 0, [0], "/")
    assert find("web") == (33, 34, [34, 50], "/www")
    assert find("33") == (33, 34, [34, 50], "/www")
    assert find("web:extra") == (33, 50, [50], "/www")
    assert find("12:13") == (12, 13, [13], "/")
    assert find("web", groups=[9], strict_groups=True) == (33, 34, [9, 34], "/www")  # not what the image says
    assert find("web", uid=0) == (0, 0, [0, 50], "/root")
    assert find(uid=33, gid=5, groups=[9]) == (33, 5, [5, 9, 50], "/www")
    with pytest.raises(RuntimeFault, match="unable to find user nobody"):
        find("nobody")
    with pytest.raises(RuntimeFault, match="unable to find group nogroup"):
        find("web:nogroup")


def test_a_passwd_file_that_points_outside_is_not_read(tmp_path):
    (tmp_path / "outside").write_text("evil:x:0:0::/root:\n")
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").symlink_to(tmp_path / "outside")
    with pytest.raises(RuntimeFault):
        spec.find_user(str(tmp_path / "root"), ContainerSpec("c", 0, "i"), "evil")


def test_a_number_is_an_id_and_never_the_name_of_a_user_of_the_image(tmp_path):
    """An image cannot make root of runAsUser or of runAsNonRoot."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("1000:x:0:0::/root:\nbad:x:root:0::/:\nworse:x:7:%s::/:\n" % ("9" * 5000))
    (tmp_path / "etc/group").write_text("1000:x:0:\n")

    def find(image_user="", **more):
        user = spec.find_user(str(tmp_path), ContainerSpec("c", 0, "i", security=Security(**more)), image_user)
        return user.uid, user.gid

    assert find(uid=1000) == (1000, 0)
    assert find("1000") == (1000, 0)
    assert find("1000:1000") == (1000, 1000)
    assert find(user_name="1000:1000") == (1000, 1000)
    for name in ("bad", "worse", "²", "9" * 5000, "4294967295"):
        with pytest.raises(RuntimeFault, match="unable to find user"):
            find(name)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_passwd_file_that_is_none_is_not_opened(tmp_path, kind):
    """Opening a FIFO waits for ever, and opening a device (the watchdog) does something."""
    (tmp_path / "etc").mkdir()
    os.mknod(tmp_path / "etc/passwd", stat.S_IFIFO | 0o600 if kind == "fifo" else stat.S_IFSOCK | 0o600)
    found: list[int] = []
    thread = threading.Thread(
        target=lambda: found.append(spec.find_user(str(tmp_path), ContainerSpec("c", 0, "i"), "7").uid), daemon=True
    )
    thread.start()
    thread.join(10)
    assert found == [7]


HYBRID = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_layouts():
    hybrid = cgroups.detect(HYBRID)
    assert hybrid.mode == "hybrid"
    assert hybrid.controllers["cpu"] == hybrid.controllers["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert hybrid.controllers["systemd"] == "/sys/fs/cgroup/systemd"
    assert cgroups.detect("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").mode == "v2"
    assert cgroups.detect("\n".join(HYBRID.splitlines()[:-1])).mode == "v1"


def test_limits_in_both_languages():
    r = Resources(cpu_shares=1024, cpu_quota=50_000, memory_limit=1 << 20, pids_limit=7)
    one = Cgroups(Layout("v1", {"cpu": "/c"}), "", "n").limits(r)
    assert ("cpu", "cpu.shares", "1024") in one
    assert one.index(("cpu", "cpu.cfs_period_us", "100000")) < one.index(("cpu", "cpu.cfs_quota_us", "50000"))
    two = {file: value for _, file, value in Cgroups(Layout("v2", {}, "/u"), "", "n").limits(r)}
    assert two == {"cpu.weight": "39", "cpu.max": "50000 100000", "memory.max": "1048576", "pids.max": "7"}
    empty = {file: value for _, file, value in Cgroups(Layout("v2", {}, "/u"), "", "n").limits(Resources())}
    assert empty == {"cpu.max": "max 100000", "memory.max": "max", "pids.max": "max"}


def test_low_level_messages():
    line = '{"msg":"%s","level":"error","time":"x"}\n'
    table = [
        (
            "executable file `x` not found in $PATH: No such file or directory",
            'exec: "x": executable file not found in $PATH',
        ),
        ('exec: \\"x\\": executable file not found in $PATH', 'exec: "x": executable file not found in $PATH'),
        ("open executable: Permission denied", 'exec: "x": permission denied'),
        ("mount `/a` to `/b`: No such file or directory", "mount `/a` to `/b`: No such file or directory"),
    ]
    for text, expected in table:
        assert lowlevel.explain(line % text, "x", "fallback") == ("StartError", expected)
    assert lowlevel.explain("garbage\n", "x", "fallback") == ("StartError", "fallback")


def test_signals():
    table = {"": 15, "SIGINT": 2, "INT": 2, "9": 9, "SIGRTMIN+3": 37, "sigquit": 3, "NONSENSE": 15}
    # none that cannot be sent
    table |= dict.fromkeys(("0", "65", "64000", "9" * 5000, "²", "SIGRTMIN+1000", "SIGKILL+-9", "SIGTERM+x"), 15)
    assert {text: _signal_number(text) for text in table} == table
