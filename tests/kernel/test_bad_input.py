"""Everything that can be wrong around a cluster: each gets a clear answer that names what is wrong and what to do, nothing is
lost, and no command ever shows a traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jota.testing.host import JOTA, HostCluster, until
from jota.testing.images import LayerBuilder, busybox_layer, image_archive

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def plane(make_cluster: Callable[[str], HostCluster]) -> HostCluster:
    """A control plane without nodes."""
    made = make_cluster("p")
    made.up("--nodes", "0")
    return made


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused command says: no traceback, and not too much."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr) < 1500, done.stderr
    return done.stderr


# -- manifests, with the real kubectl

MANIFESTS = {
    "wrong type": ("replicas: many", ["replicas"]),
    "wrong type, nested": ("template: {spec: {containers: {name: c}}}", ["containers"]),
    "unknown field": ("replicaz: 3", ["replicaz"]),
    "negative": ("replicas: -1", ["spec.replicas", "-1"]),
    "not YAML": ("replicas: [", ["yaml"]),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests(plane: HostCluster, case: str) -> None:
    spec, words = MANIFESTS[case]
    containers = "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}"
    rest = "" if "containers" in spec else containers
    text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec:\n  selector: {matchLabels: {a: b}}\n"
    for options in (["apply"], ["create"], ["apply", "--server-side"]):
        said = plane.refused(*options, "-f", "-", input=f"{text}  {spec}\n  {rest}\n")
        for word in words:
            assert word.lower() in said.lower(), (options, said)
    assert plane.get("deployments")["items"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "configmap", "Bad_Name"], ["metadata.name", "Bad_Name", "lowercase"]),
        (["create", "namespace", "x" * 64], ["metadata.name"]),
        (["get", "pods", "-n", "nowhere", "x"], ["not found"]),
        (["get", "nonsense"], ["nonsense"]),
        (["label", "namespace", "default", "a=-"], ["a"]),
        (["create", "deployment", "web", "--image=UPPER:case", "-n", "nowhere"], ["nowhere", "not found"]),
        (["get", "pods", "-l", "a in b"], ["selector"]),
        (["get", "pods", "--field-selector=spec.color=red"], ["spec.color"]),
        (["create", "--raw", "/api/v1/namespaces/default/pods", "-f", "/etc/passwd"], []),
        (["scale", "deployment", "nobody", "--replicas=2"], ["nobody", "not found"]),
    ],
)
def test_commands(plane: HostCluster, arguments: list[str], words: list[str]) -> None:
    said = plane.refused(*arguments)
    for word in words:
        assert word.lower() in said.lower()


def test_an_object_that_is_too_large(plane: HostCluster) -> None:
    said = plane.refused("create", "-f", "-", input=json.dumps(_config_map("big", "x" * (4 << 20))))
    assert "too large" in said.lower() or "must have at most" in said.lower(), said
    said = plane.refused("create", "-f", "-", input=json.dumps(_config_map("big", "x" * (1 << 20 | 1))))
    assert "too long" in said.lower(), said


def _config_map(name: str, value: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}}


# -- bytes

HTTP = {
    "not HTTP": b"hello\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "huge header": b"GET / HTTP/1.1\r\nX: " + b"a" * (1 << 21),
    "many headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000,
    "bad length": b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n",
    "two lengths": b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "bad chunk": b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "body too large": b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n",
    "zero bytes": b"\0" * 1000,
}


def _tls(plane: HostCluster) -> socket.socket:
    port = int(plane.status()["server"].rpartition(":")[2])
    context = ssl.create_default_context(cafile=str(plane.data / "pki/ca.crt"))
    context.load_cert_chain(plane.data / "pki/admin.crt", plane.data / "pki/admin.key")
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.mark.parametrize("case", HTTP)
def test_malformed_http(plane: HostCluster, case: str) -> None:
    with _tls(plane) as connection:
        answer = b""
        try:
            connection.sendall(HTTP[case])
            while b"\r\n\r\n" not in answer and (data := connection.recv(65536)):
                answer += data
        except (ConnectionError, ssl.SSLError):
            pass  # closed while we still sent: the answer was not read, which is our fault
        if answer:
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]
    assert plane.request("GET", "/readyz?x=")[0] == 200


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100, b"", b"\0" * 64]
)
def test_broken_tls(plane: HostCluster, data: bytes) -> None:
    port = int(plane.status()["server"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
    assert plane.request("GET", "/readyz?x=")[0] == 200


def test_a_half_closed_socket_gets_its_answer_or_an_end(plane: HostCluster) -> None:
    for request in (
        b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHo",
        b"POST /api HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ):
        with _tls(plane) as connection:
            connection.sendall(request)
            connection.settimeout(20)
            rest = connection.unwrap if request.endswith(b"\r\n\r\n") else connection.close
            try:
                rest()
            except (ssl.SSLError, OSError):
                pass
    assert plane.request("GET", "/version")[0] == 200


def test_a_client_that_does_not_trust_the_server_and_one_that_is_not_trusted(
    plane: HostCluster, tmp_path: Path
) -> None:
    said = plane.refused("--certificate-authority=/etc/ssl/certs/ca-certificates.crt", "get", "ns")
    assert "x509" in said
    server = [f"--server={plane.status()['server']}", f"--certificate-authority={plane.data}/pki/ca.crt"]
    said = plane.refused("--kubeconfig=/dev/null", *server, "--token=nonsense", "get", "ns")
    assert "logged in" in said or "Unauthorized" in said, said


# -- images


def archive(path: Path, layer: bytes) -> str:
    image_archive(str(path), "jota.test/hostile:1", [busybox_layer(), layer], {"Cmd": ["sh"]})
    return str(path)


HOSTILE = {
    "absolute name": LayerBuilder().add("/tmp/jota-escaped", b"x"),
    "dot dot": LayerBuilder().add("../../../../../../tmp/jota-escaped", b"x"),
    "symlinked parent": LayerBuilder().add("out", kind=tarfile.SYMTYPE, link="/tmp").add("out/jota-escaped", b"x"),
    "hard link out": LayerBuilder().add("shadow", kind=tarfile.LNKTYPE, link="../../../../../../etc/shadow"),
    "device node": LayerBuilder().add("disk", kind=tarfile.BLKTYPE, device=(8, 0), mode=0o666),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_layers(cluster: HostCluster, tmp_path: Path, case: str) -> None:
    """Refused, or unpacked inside: never outside. A device node that is let in does not open (device cgroup)."""
    escaped = Path("/tmp/jota-escaped")
    path = archive(tmp_path / "a.tar", HOSTILE[case].bytes())
    done = cluster.jota("image", "load", path, "--name", cluster.name, check=False)
    assert not escaped.exists()
    if done.returncode != 0:
        said = complaint(done)
        assert "layer" in said or "image" in said
        return
    try:
        options = ["--image=jota.test/hostile:1", "--restart=Never", "--image-pull-policy=IfNotPresent", "--rm", "-i"]
        look = "ls -la /tmp; head -c1 /disk >/dev/null 2>&1 && echo OPENED; cat /shadow 2>/dev/null | grep root: && echo READ; true"
        said = cluster.kubectl("run", "look", *options, "--command", "--", "sh", "-c", look)
        assert "OPENED" not in said
        assert "READ" not in said
        assert not escaped.exists()
    finally:
        cluster.jota("image", "rm", "jota.test/hostile:1", check=False)


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\x1f\x8b" + b"junk" * 100, b"\0" * 10240])
def test_what_is_not_an_image(plane: HostCluster, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    said = complaint(plane.jota("image", "load", str(tmp_path / "a.tar"), "--name", plane.name, check=False))
    assert "a.tar" in said


def test_an_image_whose_content_is_not_what_it_claims(plane: HostCluster, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", LayerBuilder().add("x", b"1" * 5000).bytes())
    data = Path(path).read_bytes().replace(b"1" * 5000, b"2" * 5000)
    Path(path).write_bytes(data)
    said = complaint(plane.jota("image", "load", path, "--name", plane.name, check=False))
    assert "sha256" in said or "digest" in said


def test_a_missing_file(plane: HostCluster) -> None:
    said = complaint(plane.jota("image", "load", "/nowhere.tar", "--name", plane.name, check=False))
    assert "/nowhere.tar" in said


# -- the machine


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "jota-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(make_cluster: Callable[[str], HostCluster], small_disk: Path) -> None:
    """Writes are refused with a reason, reads go on, nothing acknowledged is lost, and writes work when there is room again."""
    cluster = make_cluster("f")
    cluster.data = small_disk / "data"
    cluster.up("--nodes", "0")
    path = "/api/v1/namespaces/default/configmaps"
    kept: list[str] = []
    for size in (300_000, 50_000):  # also the room that the log has taken ahead
        for _ in range(400):
            status, answer = cluster.request("POST", path, _config_map(f"m{len(kept)}", "x" * size))
            if status != 201:
                break
            kept.append(f"m{len(kept)}")
    assert status in (500, 503, 507), (status, answer)
    assert answer["kind"] == "Status"
    assert "full" in answer["message"] or "space" in answer["message"], answer
    said = cluster.refused("create", "configmap", "one-more", f"--from-literal=a={'y' * 60_000}")
    assert "full" in said or "space" in said, said
    assert cluster.request("GET", f"{path}/{kept[0]}")[0] == 200
    assert cluster.jota("status", "--name", cluster.name).returncode == 0
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    until(lambda: cluster.request("POST", path, _config_map("after", "z"))[0] in (201, 409), 10, "writes work again")
    cluster.kill("server")
    cluster.up()
    names = {o["metadata"]["name"] for o in cluster.get("configmaps")["items"]}
    assert {*kept, "after"} <= names
    assert "one-more" not in names
    cluster.down("--purge")


def test_no_room_to_start(make_cluster: Callable[[str], HostCluster], small_disk: Path) -> None:
    cluster = make_cluster("g")
    cluster.data = small_disk / "data"
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="space"), open(filler, "wb", buffering=0) as file:
        while file.write(b"\0" * (1 << 20)):
            pass
    said = complaint(cluster.up("--nodes", "0", check=False))
    assert "space" in said, said
    filler.unlink()
    cluster.up("--nodes", "0")
    cluster.down("--purge")


def test_ports_in_use(make_cluster: Callable[[str], HostCluster]) -> None:
    """A new cluster takes the next free port; one that has its port already says who to look for."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first = make_cluster("q")
        first.up("--nodes", "0")
        port = json.loads((first.data / "instance.json").read_text())["api_port"]
        first.down()
        taken.bind(("0.0.0.0", port))
        taken.listen()
        said = complaint(first.up(check=False))
        assert str(port) in said
        second = make_cluster("r")
        second.up("--nodes", "0")
        assert json.loads((second.data / "instance.json").read_text())["api_port"] != port
        second.down("--purge")
    first.up()
    first.kubectl("get", "ns")
    first.down("--purge")


def test_up_twice(plane: HostCluster) -> None:
    before = plane.pids()
    plane.up()
    plane.up("--nodes", "0")
    assert plane.pids() == before
    assert "node" in complaint(plane.up("--nodes", "2", check=False))
    done = plane.jota("up", "--name", plane.name, "--data-dir", "/tmp/elsewhere", check=False)
    assert str(plane.data) in complaint(done)
    done = plane.jota("up", "--name", "other-name", "--data-dir", str(plane.data), "--nodes", "0", check=False)
    assert plane.name in complaint(done)
    assert not Path("/tmp/elsewhere").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--name", "Bad_Name"], ["--nodes", "-1"], ["--nodes", "1000"], ["--name", "a" * 40]],
)
def test_impossible_options(plane: HostCluster, arguments: list[str]) -> None:
    assert arguments[1] in complaint(plane.jota("up", *arguments, check=False))


# -- stale and damaged data directories


def damaged(make_cluster: Callable[[str], HostCluster], name: str) -> HostCluster:
    cluster = make_cluster(name)
    cluster.up("--nodes", "0")
    cluster.kubectl("create", "configmap", "kept")
    return cluster


def test_stale_pid_files(make_cluster: Callable[[str], HostCluster]) -> None:
    cluster = damaged(make_cluster, "s")
    cluster.kill()
    victim = subprocess.Popen(["sleep", "60"])
    try:
        (cluster.data / "run/server.pid").write_text(f"{victim.pid}\nready\n")
        assert cluster.status()["processes"] == []
        cluster.up()
        assert cluster.kubectl("get", "configmap", "kept", "-o", "name").strip() == "configmap/kept"
        cluster.down("--purge")
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_a_damaged_instance_file(make_cluster: Callable[[str], HostCluster]) -> None:
    cluster = damaged(make_cluster, "i")
    file = cluster.data / "instance.json"
    good = file.read_text()
    for content in (
        "",
        "{",
        "[]",
        "{}",
        '{"nodes": 5}',
        good.replace('"index"', '"indox"'),
        '{"nodes": [{"x": 1}]}',
        "\xff",
    ):
        file.write_text(content)
        for command in (
            ["up", "--name", cluster.name],
            ["status", "--name", cluster.name],
            ["down", "--name", cluster.name],
        ):
            assert "instance.json" in complaint(cluster.jota(*command, check=False)), content
    file.write_text(good)
    cluster.kubectl("get", "configmap", "kept")
    cluster.down("--purge")


def test_a_damaged_kubeconfig(make_cluster: Callable[[str], HostCluster]) -> None:
    cluster = damaged(make_cluster, "k")
    foreign = "apiVersion: v1\nkind: Config\nclusters: [{name: foreign, cluster: {server: https://x}}]\n"
    for content in ("{{{", "- a list", "clusters: 5", "\0"):
        cluster.kubeconfig.write_text(content)
        assert str(cluster.kubeconfig) in complaint(cluster.up(check=False)), content
        assert cluster.kubeconfig.read_text() == content
    cluster.kubeconfig.write_text(foreign)
    cluster.up()
    cluster.kubectl("get", "configmap", "kept")
    assert "foreign" in cluster.kubeconfig.read_text()
    cluster.down("--purge")
    assert "foreign" in cluster.kubeconfig.read_text()
    assert cluster.name not in cluster.kubeconfig.read_text()


def test_a_damaged_store(make_cluster: Callable[[str], HostCluster]) -> None:
    cluster = damaged(make_cluster, "t")
    cluster.down()
    store = cluster.data / "store.db"
    good = store.read_bytes()
    for content in (b"not a database" * 1000, good[:2000], good[:100] + b"\xff" * 200 + good[300:]):
        store.write_bytes(content)
        said = complaint(cluster.up(check=False))
        assert "store" in said, said
        assert store.read_bytes() == content, "a damaged store is kept for whoever can mend it"
    store.write_bytes(good)
    cluster.up()
    cluster.kubectl("get", "configmap", "kept")
    cluster.down("--purge")


def test_a_store_of_another_version(make_cluster: Callable[[str], HostCluster]) -> None:
    import sqlite3
    from contextlib import closing

    cluster = damaged(make_cluster, "v")
    cluster.down()
    with closing(sqlite3.connect(cluster.data / "store.db")) as database:
        before = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute(f"PRAGMA user_version = {before + 1000}")
        database.commit()
    said = complaint(cluster.up(check=False))
    assert "version" in said, said
    with closing(sqlite3.connect(cluster.data / "store.db")) as database:
        database.execute(f"PRAGMA user_version = {before}")
        database.commit()
    cluster.up()
    cluster.kubectl("get", "configmap", "kept")
    cluster.down("--purge")


# -- a poor machine

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
"""The test's Python may lie in root's home: reading is allowed, nothing else."""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_not_root(tmp_path: Path) -> None:
    home = Path("/tmp") / f"jota-nobody-{os.getpid()}"
    home.mkdir(mode=0o755)
    os.chown(home, 65534, 65534)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}

    def jota(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*AS_NOBODY, *READING, JOTA, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    try:
        said = complaint(jota("up"))
        assert "root" in said
        assert "sudo" in said
        assert "--nodes 0" in said
        assert "MISS  root" in jota("doctor").stdout
        done = jota("up", "--nodes", "0")
        assert done.returncode == 0, done.stderr
        kubectl = ["kubectl", f"--kubeconfig={home}/.kube/config", "get", "ns", "-o", "name"]
        assert "namespace/default" in subprocess.check_output(kubectl, text=True)
        assert (home / ".kube/config").stat().st_uid == 65534
        assert jota("image", "ls").returncode == 0
        assert "sudo" in complaint(jota("agent", "--server", "https://127.0.0.1:1"))
        assert jota("down", "--purge").returncode == 0
        assert complaint(jota("up", "--nodes", "0", "--data-dir", "/var/lib/jota/x"))
        assert complaint(jota("up", "--nodes", "0", "--kubeconfig", "/etc/jota-kubeconfig"))
        jota("down", "--purge")
    finally:
        shutil.rmtree(home)


@pytest.mark.parametrize(("absent", "remedy"), [("crun", "apt-get install -y crun"), ("nsenter", "util-linux")])
def test_missing_tools(make_cluster: Callable[[str], HostCluster], tmp_path: Path, absent: str, remedy: str) -> None:
    cluster = make_cluster(f"x{absent[0]}")
    for tool in ("python3", "sh", "env", "crun", "nft", "nsenter", "kubectl"):
        if tool != absent and shutil.which(tool):
            (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    kept, cluster.environment["PATH"] = cluster.environment["PATH"], str(tmp_path)
    assert remedy in cluster.jota("doctor", check=False).stdout
    said = complaint(cluster.up(check=False))
    assert remedy in said
    assert not cluster.data.exists()
    cluster.up("--nodes", "0")
    cluster.down("--purge")
    cluster.environment["PATH"] = kept


def test_a_token_that_is_not_one(plane: HostCluster) -> None:
    url = plane.status()["server"]
    options = ["--server", url, "--name", plane.name, "--data-dir", str(plane.directory / "join")]
    assert "jota token create" in complaint(plane.jota("agent", *options, "--token", "abc", check=False))
    assert "token" in complaint(plane.jota("agent", *options, check=False))
    token = plane.jota("token", "create", "--name", plane.name).stdout.strip()
    wrong = token[:-4] + ("0000" if not token.endswith("0000") else "1111")
    assert "CA" in complaint(plane.jota("agent", *options, "--token", wrong, check=False))
    other = "zzzzzz" + token[6:]
    assert "jota token create" in complaint(plane.jota("agent", *options, "--token", other, check=False))
    gone = ["--server", "https://127.0.0.1:1", "--name", plane.name, "--data-dir", str(plane.directory / "gone")]
    assert "cannot reach" in complaint(plane.jota("agent", *gone, "--token", token, check=False))
    assert plane.jota("token", "create", "--name", plane.name, "--ttl", "0.1").stdout
    assert "--ttl" in complaint(plane.jota("token", "create", "--name", plane.name, "--ttl", "-1", check=False))
