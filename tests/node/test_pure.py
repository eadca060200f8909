"""The smaller pure parts by tables: files of the node, security, resources, pull policy, admission, eviction, node status."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from jota.node import admission, eviction, hosts, nodestatus
from jota.node.config import EvictionThresholds, NodeConfig
from jota.node.env import ConfigError
from jota.node.eviction import Pressure
from jota.node.images import credentials_from, matching, pull_policy, registry_of
from jota.node.machine import Disk, Memory, architecture
from jota.node.resources import container_resources, oom_score, pod_resources, qos_class
from jota.node.security import forbidden_sysctls, host_sysctls, security
from jota.node.start import write_pod_files
from jota.node.unsupported import complaints
from jota.runtime.protocol import Image

from .shapes import pod

GIB = 1 << 30


def with_resources(*sets: dict[str, Any]) -> dict[str, Any]:
    return pod(containers=[{"name": f"c{n}", "image": "x:1", "resources": r} for n, r in enumerate(sets)])


# -- hosts and resolver


def test_a_hosts_file_that_a_container_made_large_is_written_anew_and_not_read(tmp_path: Path) -> None:
    config, obj = NodeConfig(name="n", address="10.0.0.1", data_dir=str(tmp_path), log_dir=str(tmp_path)), pod()
    write_pod_files(obj, ["10.42.0.1"], config)
    path = os.path.join(config.pod_dir(obj["metadata"]["uid"]), "hosts")
    wanted = Path(path).read_bytes()
    os.truncate(path, 64 << 20)
    tracemalloc.start()
    try:
        write_pod_files(obj, ["10.42.0.1"], config)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert Path(path).read_bytes() == wanted


def test_hosts_file() -> None:
    obj = pod(hostname="h", subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = hosts.hosts_file(obj, ["10.42.0.1"], "cluster.local")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.42.0.1\th.sub.default.svc.cluster.local\th\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")
    assert "10.42.0.1\tweb\n" in hosts.hosts_file(pod(), ["10.42.0.1"], "cluster.local")
    assert hosts.hosts_file(pod(hostNetwork=True), [], "x", "127.0.0.1 me\n").endswith("127.0.0.1 me\n")


def test_hostname() -> None:
    assert hosts.hostname(pod()) == "web"
    assert hosts.node_hostname(pod(hostNetwork=True), "node", "x") == "node"
    assert hosts.node_hostname(pod(subdomain="s", setHostnameAsFQDN=True), "node", "c.l") == "web.s.default.svc.c.l"
    long = pod()
    long["metadata"]["name"] = "a" * 62 + "-b"
    assert hosts.hostname(long) == "a" * 62


HOST = hosts.Resolver(["9.9.9.9"], ["corp"], ["timeout:1"])
CLUSTER = (
    "search default.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.43.0.10\noptions ndots:5\n"
)
PLAIN = "search corp\nnameserver 9.9.9.9\noptions timeout:1\n"
EXTRA = {
    "nameservers": ["1.1.1.1"],
    "searches": ["x.y"],
    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
}
DNS = [
    ({}, CLUSTER),
    ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, PLAIN),
    ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER),
    ({"dnsPolicy": "Default"}, PLAIN),
    ({"dnsPolicy": "None", "dnsConfig": EXTRA}, "search x.y\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"),
    (
        {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
        CLUSTER.replace("ndots:5", "ndots:1"),
    ),
]


@pytest.mark.parametrize(("spec", "expected"), DNS)
def test_resolver(spec: dict[str, Any], expected: str) -> None:
    assert hosts.resolver(pod(**spec), HOST, "10.43.0.10", "cluster.local").render() == expected


def test_parse_resolver() -> None:
    text = "# comment\nnameserver 9.9.9.9\nsearch corp\noptions timeout:1\n\nbroken\n"
    assert hosts.parse_resolver(text) == HOST


# -- security


def image(user: str = "") -> Image:
    return Image("sha256:1", ["x"], [], 1, user=user)


def secured(outer: dict[str, Any], inner: dict[str, Any], user: str = "") -> Any:
    obj = pod(securityContext=outer)
    obj["spec"]["containers"][0]["securityContext"] = inner
    return security(obj, obj["spec"]["containers"][0], image(user), seccomp_dir="/s")


def test_the_container_overrides_the_pod() -> None:
    s = secured({"runAsUser": 1000, "runAsGroup": 5, "fsGroup": 7, "supplementalGroups": [8]}, {"runAsUser": 2000})
    assert (s.uid, s.gid, s.groups) == (2000, 5, [8, 7])


def test_groups_of_the_image_are_left_out_when_the_policy_is_strict() -> None:
    policies = {
        policy: secured({"supplementalGroupsPolicy": policy}, {}).strict_groups for policy in ("Strict", "Merge")
    }
    assert policies == {"Strict": True, "Merge": False}


def test_the_image_s_user_is_used() -> None:
    assert secured({}, {}, "1234").uid == 1234
    assert (secured({}, {}, "nobody:x").uid, secured({}, {}, "nobody:x").user_name) == (None, "nobody:x")


NON_ROOT = [
    ({"runAsUser": 0}, "", "container's runAsUser breaks non-root policy"),
    ({}, "", "container has runAsNonRoot and image will run as root"),
    ({}, "0", "container has runAsNonRoot and image will run as root"),
    ({}, "0:5", "container has runAsNonRoot and image will run as root"),
    ({}, "app", "image has non-numeric user .app., cannot verify user is non-root"),
]


@pytest.mark.parametrize(("inner", "user", "message"), NON_ROOT)
def test_run_as_non_root(inner: dict[str, Any], user: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        secured({"runAsNonRoot": True}, inner, user)
    assert secured({"runAsNonRoot": True}, {"runAsUser": 5}).uid == 5


def test_capabilities_privilege_and_seccomp() -> None:
    s = secured(
        {"seccompProfile": {"type": "RuntimeDefault"}},
        {
            "capabilities": {"add": ["NET_ADMIN", "CAP_SYS_TIME"], "drop": ["ALL"]},
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
        },
    )
    assert s.add_capabilities == ["CAP_NET_ADMIN", "CAP_SYS_TIME"]
    assert s.drop_capabilities == ["ALL"]
    assert (s.no_new_privileges, s.read_only_root, s.seccomp, s.masked_paths) == (True, True, "RuntimeDefault", True)
    assert secured({}, {}).seccomp == "Unconfined"
    privileged = secured({"seccompProfile": {"type": "RuntimeDefault"}}, {"privileged": True})
    assert (privileged.privileged, privileged.seccomp, privileged.masked_paths) == (True, "Unconfined", False)
    local = secured({}, {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}})
    assert (local.seccomp, local.seccomp_path) == ("Localhost", "/s/a/b.json")
    with pytest.raises(ConfigError):
        secured({}, {"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}})


def test_sysctls() -> None:
    context = {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": "kernel/msgmax", "value": "1"}]}
    assert forbidden_sysctls(pod(securityContext=context)) == ["kernel.msgmax"]


@pytest.mark.parametrize(
    ("shared", "name", "kind"),
    [("hostNetwork", "net.ipv4.ip_local_port_range", "net"), ("hostIPC", "kernel/shm_rmid_forced", "ipc")],
)
def test_sysctls_of_the_nodes_own_namespaces_are_not_set(shared: str, name: str, kind: str) -> None:
    context = {"sysctls": [{"name": name, "value": "1"}]}
    told = admission.check(pod(securityContext=context, **{shared: True}), [], {}, ROOM, "n1")
    assert told is not None
    words = f'forbidden sysctl: "{name.replace("/", ".")}" not allowed with host {kind} enabled'
    assert (told.reason, told.message) == ("SysctlForbidden", words)
    assert host_sysctls(pod(securityContext=context)) == []


# -- resources


QOS = [
    ([{}], "BestEffort"),
    ([{"requests": {"cpu": "0"}}], "BestEffort"),
    ([{"requests": {"cpu": "1"}}], "Burstable"),
    ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
    ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}], "Guaranteed"),
    ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
    ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
]


@pytest.mark.parametrize(("sets", "expected"), QOS)
def test_quality_of_service(sets: list[dict[str, Any]], expected: str) -> None:
    assert qos_class(with_resources(*sets)) == expected


OOM = [
    ({}, 1000),
    ({"limits": {"cpu": "1", "memory": "1Gi"}}, -997),
    ({"requests": {"memory": "4Gi"}}, 500),
    ({"requests": {"cpu": "1"}}, 999),
    ({"requests": {"memory": "8Gi"}}, 3),
]


@pytest.mark.parametrize(("one", "expected"), OOM)
def test_out_of_memory_score(one: dict[str, Any], expected: int) -> None:
    obj = with_resources(one)
    assert oom_score(obj, obj["spec"]["containers"][0], 8 * GIB) == expected


def test_kernel_limits() -> None:
    obj = with_resources({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}})
    r = container_resources(obj, obj["spec"]["containers"][0], 8 * GIB)
    assert (r.cpu_shares, r.cpu_quota, r.memory_limit) == (256, 50_000, 64 << 20)
    bare = container_resources(pod(), pod()["spec"]["containers"][0], 8 * GIB)
    assert (bare.cpu_shares, bare.cpu_quota, bare.memory_limit, bare.oom_score_adj) == (2, None, None, 1000)
    tiny = container_resources(
        with_resources({"limits": {"cpu": "1m"}}), {"name": "c", "resources": {"limits": {"cpu": "1m"}}}, 1
    )
    assert tiny.cpu_quota == 1000


def test_pod_level_limits_need_every_container_s() -> None:
    limits = {"limits": {"memory": "64Mi", "cpu": "1"}}
    assert pod_resources(with_resources(limits, limits)).memory_limit == 128 << 20
    assert pod_resources(with_resources(limits, {})).memory_limit is None


# -- images


POLICY = [
    ("x", "Always"),
    ("x:latest", "Always"),
    ("x:1", "IfNotPresent"),
    ("reg:5000/x", "Always"),
    ("reg:5000/x:1", "IfNotPresent"),
    ("x@sha256:0", "IfNotPresent"),
]


@pytest.mark.parametrize(("name", "expected"), POLICY)
def test_pull_policy(name: str, expected: str) -> None:
    assert pull_policy({"image": name}) == expected
    assert pull_policy({"image": name, "imagePullPolicy": "Never"}) == "Never"


def test_registry() -> None:
    names = ["busybox", "library/busybox", "ghcr.io/a/b", "localhost/x", "reg:5000/x"]
    assert [registry_of(n) for n in names] == ["docker.io", "docker.io", "ghcr.io", "localhost", "reg:5000"]


def test_pull_secrets() -> None:
    auth = base64.b64encode(b"bob:pw:x").decode()
    config = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": auth},
            "ghcr.io/team": {"username": "a", "password": "b"},
            "ghcr.io": {"username": "c", "password": "d"},
            "broken": {"auth": "%"},
        }
    }
    secret = {"data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()}}
    found = credentials_from([secret, {"data": {".dockerconfigjson": "bm8="}}])
    assert matching("busybox", found) == [("bob", "pw:x")]
    assert matching("ghcr.io/team/app:1", found) == [("a", "b"), ("c", "d")]
    assert matching("ghcr.io/teamwork/app:1", found) == [("c", "d")]
    assert matching("quay.io/x", found) == []


# -- admission


ROOM = {"cpu": "2", "memory": "4Gi", "pods": "3"}


def refused(obj: dict[str, Any], *others: dict[str, Any], labels: dict[str, str] | None = None) -> str:
    verdict = admission.check(obj, others, labels or {}, ROOM, "n1")
    return verdict.reason if verdict else ""


def test_room() -> None:
    one = with_resources({"requests": {"cpu": "1", "memory": "1Gi"}})
    assert refused(one, one) == ""
    assert refused(one, one, one) == "OutOfcpu"
    assert refused(pod(), pod(), pod(), pod()) == "OutOfpods"
    assert refused(with_resources({"requests": {"memory": "5Gi"}})) == "OutOfmemory"
    assert refused(with_resources({"requests": {"example.com/gpu": "5"}})) == ""


def test_a_pod_of_another_system() -> None:
    assert refused(pod(os={"name": "windows"})) == "PodOSNotSupported"
    assert refused(pod(os={"name": "linux"})) == ""


def test_a_hostname_that_overrides_all_of_it() -> None:
    named = pod(hostnameOverride="over-there", hostname="h", subdomain="s")
    assert hosts.node_hostname(named, "n1", "cluster.local") == "over-there"
    assert "10.0.0.9\tover-there\n" in hosts.hosts_file(named, ["10.0.0.9"], "cluster.local")


def test_init_containers_count_by_their_peak() -> None:
    big = {"name": "i", "image": "i", "resources": {"requests": {"cpu": "1500m"}}}
    side = {"name": "s", "image": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}}
    obj = with_resources({"requests": {"cpu": "1"}})
    obj["spec"]["initContainers"] = [side, big]
    assert admission.pod_requests(obj)["cpu"] == 1_800_000_000
    obj["spec"]["overhead"] = {"cpu": "100m"}
    assert admission.pod_requests(obj)["cpu"] == 1_900_000_000


def test_selectors() -> None:
    assert refused(pod(nodeSelector={"a": "b"})) == "NodeAffinity"
    assert refused(pod(nodeSelector={"a": "b"}), labels={"a": "b"}) == ""
    field = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    expression = {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}

    def affine(*terms: dict[str, Any]) -> dict[str, Any]:
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
        return pod(affinity={"nodeAffinity": required})

    assert refused(affine(field)) == ""
    assert refused(affine(expression)) == "NodeAffinity"
    assert refused(affine(expression, field)) == ""
    assert refused(affine({})) == "NodeAffinity"


def test_host_ports() -> None:
    def holding(ip: str = "") -> dict[str, Any]:
        return pod(
            containers=[{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": ip}]}]
        )

    assert refused(holding(), holding()) == "NodePorts"
    assert refused(holding("1.1.1.1"), holding("2.2.2.2")) == ""
    assert refused(holding("1.1.1.1"), holding("")) == "NodePorts"


# -- pressure and the node's status


class FakeMachine:
    available = 4 * GIB
    space = 50

    def memory(self) -> Memory:
        return Memory(8 * GIB, self.available)

    def disk(self) -> Disk:
        return Disk(100, self.space, 100, 100)

    def pids(self) -> tuple[int, int]:
        return 10, 1000


def test_pressure_outlives_its_cause() -> None:
    machine: Any = FakeMachine()
    pressure = Pressure(EvictionThresholds())
    assert not any(pressure.conditions(machine, 0).values())
    machine.available, machine.space = 1 << 20, 5
    assert pressure.conditions(machine, 10) == {"MemoryPressure": True, "DiskPressure": True, "PIDPressure": False}
    machine.available, machine.space = 4 * GIB, 50
    assert pressure.conditions(machine, 300)["MemoryPressure"]
    assert not pressure.conditions(machine, 311)["MemoryPressure"]


def test_who_goes_first() -> None:
    def named(name: str, request: str, priority: int = 0) -> dict[str, Any]:
        obj = with_resources({"requests": {"memory": request}})
        obj["metadata"]["uid"] = name
        obj["spec"]["priority"] = priority
        return obj

    pods = [
        named("modest", "1Gi"),
        named("greedy", "1Mi"),
        named("worse", "1Mi"),
        named("critical", "0", 2_000_000_001),
    ]
    used = {"modest": 1 << 20, "greedy": 100 << 20, "worse": 200 << 20, "critical": GIB}

    def first(*names: str) -> str:
        gone = eviction.first_to_go([p for p in pods if p["metadata"]["uid"] in names], used)
        return str(gone["metadata"]["uid"]) if gone else ""

    assert first("modest", "greedy", "worse", "critical") == "worse"
    assert first("modest", "critical") == "modest"
    assert first("critical") == ""


def test_node_status() -> None:
    config = NodeConfig(
        "n1", "10.0.0.1", "/d", "/l", reserved={"cpu": "500m", "memory": "1Gi"}, capacity={"memory": "2Gi"}
    )
    total = nodestatus.capacity(config, {"cpu": "4", "memory": "8Gi", "pods": "110"})
    assert nodestatus.allocatable(config, total) == {"cpu": "3500m", "memory": "1Gi", "pods": "110"}
    images = [
        Image("sha256:a", ["a:1"], ["a@sha256:0"], 5),
        Image("sha256:b", ["b:1"], [], 9),
        Image("sha256:c", [], [], 99),
    ]
    assert [i["names"][0] for i in nodestatus.image_list(images)] == ["b:1", "a@sha256:0"]
    calm = {"MemoryPressure": False}
    first = nodestatus.conditions([{"type": "NetworkUnavailable", "status": "False"}], calm, "", 1_800_000_000)
    assert [c["type"] for c in first] == ["NetworkUnavailable", "MemoryPressure", "Ready"]
    later = nodestatus.conditions(first, calm, "", 1_800_000_100)
    assert not nodestatus.differs({"conditions": first}, {"conditions": later})
    broken = nodestatus.conditions(later, calm, "container runtime is down: x", 1_800_000_200)
    assert nodestatus.differs({"conditions": later}, {"conditions": broken})
    assert broken[-1]["reason"] == "KubeletNotReady"


def test_architecture() -> None:
    assert [architecture(m) for m in ("x86_64", "aarch64", "riscv64")] == ["amd64", "arm64", "riscv64"]


def test_what_is_not_supported_is_told() -> None:
    assert complaints(pod()) == []
    obj = pod(hostUsers=False)
    obj["spec"]["containers"][0] |= {
        "securityContext": {"seLinuxOptions": {"level": "s0"}, "appArmorProfile": {"type": "RuntimeDefault"}},
    }
    obj["spec"]["containers"][0]["securityContext"]["procMount"] = "Unmasked"
    assert complaints(obj) == [
        "spec.hostUsers: user namespaces are not supported; the pod uses the host's",
        "container c: securityContext.seLinuxOptions: SELinux labels are not supported",
        "container c: securityContext.procMount: Unmasked needs user namespaces; /proc stays masked",
    ]


def test_the_hosts_proc_is_never_unmasked() -> None:
    """There are no user namespaces here, whatever the pod asks for."""
    obj = pod(hostUsers=False)
    obj["spec"]["containers"][0]["securityContext"] = {"procMount": "Unmasked"}
    assert security(obj, obj["spec"]["containers"][0], image()).masked_paths


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}, False),
        ({"secret": {"secretName": "s", "items": [{"key": "k", "path": "p", "user": 0}]}}, True),
        ({"configMap": {"name": "c", "defaultUser": 5}}, True),
        ({"projected": {"sources": [{"podCertificate": {"keyPath": "k"}}]}}, False),
        ({"projected": {"sources": [{"podCertificate": {"keyPath": "k", "user": 5}}]}}, True),
        ({"projected": {"sources": [{"downwardAPI": {"items": [{"path": "k", "user": 5}]}}]}}, True),
    ],
)
def test_files_that_are_to_belong_to_somebody_are_told(source: dict[str, Any], told: bool) -> None:
    found = complaints(pod(volumes=[{"name": "v", **source}]))
    assert found == (['volume "v": users of single files are not supported'] if told else [])


def test_an_eviction_names_the_containers_that_use_too_much() -> None:
    def container(name: str, memory: str = "") -> dict[str, object]:
        return {"name": name, "resources": {"requests": {"memory": memory}} if memory else {}}

    pod = {"spec": {"containers": [container("modest", "64Mi"), container("greedy", "64Mi"), container("free")]}}
    used = {"modest": 60 << 20, "greedy": 100 << 20, "free": (1 << 20) + 512}
    verdict = eviction.evicted(pod, (80 << 20) + 1024, 100 << 20, used)
    assert verdict.message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 81921Ki. "
        "Container greedy was using 100Mi, request is 64Mi, has larger consumption of memory. "
        "Container free was using 1049088, request is 0, has larger consumption of memory. "
    )
    assert (verdict.reason, verdict.grace, verdict.disrupts) == ("Evicted", 1.0, True)
