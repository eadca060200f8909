"""Pulls: from a real registry (Debian's docker-registry), and from one that misbehaves."""

from __future__ import annotations

import base64
import ctypes
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from jota.runtime.embedded.images import registry
from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.images.library import Library
from jota.runtime.embedded.images.manifest import INDEX_OCI, MANIFEST_OCI, architecture
from jota.runtime.protocol import RuntimeFault
from jota.testing.images import LayerBuilder, digest, image_blobs

pytestmark = pytest.mark.kernel

LAYERS = [LayerBuilder().add("a", os.urandom(3_000_000)).bytes(), LayerBuilder().add("b", b"bee").bytes()]
MANIFEST, CONFIG, _ = image_blobs(LAYERS, {"Cmd": ["/a"]})
BLOBS = {digest(blob): blob for blob in (*LAYERS, CONFIG)}
PLATFORM = {"os": "linux", "architecture": architecture()}
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": INDEX_OCI,
        "manifests": [
            {"mediaType": MANIFEST_OCI, "digest": digest(b"other"), "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
            {"mediaType": MANIFEST_OCI, "digest": digest(MANIFEST), "size": len(MANIFEST), "platform": PLATFORM},
        ],
    }
).encode()  # fmt: skip


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(Content(str(tmp_path / "store")))


# -- the real one ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def bcrypt(password: str) -> str:
    libcrypt = ctypes.CDLL("libcrypt.so.1")
    libcrypt.crypt.restype = ctypes.c_char_p
    return str(libcrypt.crypt(password.encode(), b"$2b$05$" + b"a" * 22).decode())


@pytest.fixture
def real(tmp_path) -> Iterator[str]:
    """host:port of a docker-registry with user "u", password "p" that holds app:v1 and app:list."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    port = free_port()
    (tmp_path / "htpasswd").write_text(f"u:{bcrypt('p')}\n")
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n"
    )
    log = open(tmp_path / "registry.log", "w")  # noqa: SIM115
    process = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "config.yml")], stdout=log, stderr=log)
    try:
        _push(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        log.close()


def _push(host: str) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}

    def send(method: str, path: str, body: bytes = b"", **more: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request(method, path, body, {**headers, **{k.replace("_", "-"): v for k, v in more.items()}})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    deadline = time.monotonic() + 10
    while True:
        try:
            assert send("GET", "/v2/").status == 200
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    for name, blob in BLOBS.items():
        location = send("POST", "/v2/app/blobs/uploads/").headers["Location"].split(host)[1]
        assert send("PUT", f"{location}&digest={name}", blob).status == 201
    assert send("PUT", "/v2/app/manifests/v1", MANIFEST, Content_Type=MANIFEST_OCI).status == 201


def test_pull_from_a_real_registry(real, library):
    with pytest.raises(RuntimeFault, match="authentication required"):
        registry.pull(library, f"{real}/app:v1")
    with pytest.raises(RuntimeFault, match="pull access denied"):
        registry.pull(library, f"{real}/app:v1", ("u", "wrong"))
    image = registry.pull(library, f"{real}/app:v1", ("u", "p"))
    assert image.tags == [f"{real}/app:v1"]
    assert image.digests == [f"{real}/app@{digest(MANIFEST)}"]
    assert image.cmd == ["/a"]
    by_digest = registry.pull(library, f"{real}/app@{digest(MANIFEST)}", ("u", "p"))
    assert by_digest.id == image.id
    assert library.get(f"{real}/app@{digest(MANIFEST)}") == by_digest
    for missing in ("app:nowhere", "nothing:1", f"app@{digest(b'x')}"):
        with pytest.raises(RuntimeFault) as caught:
            registry.pull(library, f"{real}/{missing}", ("u", "p"))
        assert caught.value.reason == "ErrImagePull"
        assert "not found" in caught.value.message


# -- the other one --------------------------------------------------------------------------------------------------


class Registry(http.server.ThreadingHTTPServer):
    """Answers from a table; `trouble` changes the answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.trouble = ""
        self.requests: list[tuple[str, str]] = []
        self.broken: set[str] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, trouble = self.server, self.server.trouble
        server.requests.append((self.path, self.headers.get("Authorization", "")))
        if self.path.startswith("/token"):
            return self.answer(200, json.dumps({"token": "t0k3n"}).encode())
        if self.path.startswith("/bounce/"):
            return self.answer(307, b"", {"Location": self.path.replace("bounce", "storage")})
        if self.path.startswith("/storage/"):
            return self.blob(self.path.removeprefix("/storage/"))
        if trouble == "token" and self.headers.get("Authorization") != "Bearer t0k3n":
            realm = f'Bearer realm="http://{server.host}/token",service="s",scope="repository:app:pull"'
            return self.answer(401, b"{}", {"WWW-Authenticate": realm})
        if trouble.isdigit():
            return self.answer(int(trouble), b'{"errors":[{"message":"so it is"}]}')
        if match := re.fullmatch(r"/v2/app/manifests/(.*)", self.path):
            body = {
                "v1": MANIFEST,
                "list": INDEX,
                digest(MANIFEST): MANIFEST,
                "html": b"<html>",
                "old": b'{"schemaVersion":1}',
            }
            found = body.get(match[1])
            if trouble == "lies":
                found = MANIFEST + b" "
            return self.answer(200, found) if found else self.answer(404, b"{}")
        if match := re.fullmatch(r"/v2/app/blobs/(.*)", self.path):
            if trouble in ("storage", "bounce"):
                # Another host, as far as credentials are concerned.
                return self.answer(
                    307, b"", {"Location": f"http://localhost:{server.server_address[1]}/{trouble}/{match[1]}"}
                )
            if trouble == "port":
                return self.answer(307, b"", {"Location": "http://127.0.0.1:port/"})
            if trouble == "loop":
                return self.answer(307, b"", {"Location": self.path})
            if trouble == "file":
                return self.answer(307, b"", {"Location": "file:///etc/passwd"})
            return self.blob(match[1])
        self.answer(404, b"{}")

    def blob(self, name: str) -> None:
        data, trouble = BLOBS[name], self.server.trouble
        if trouble == "corrupt":
            data = data[:-1] + b"x"
        if trouble == "longer":
            data += b"x"
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if trouble == "breaks" and name not in self.server.broken:
            self.server.broken.add(name)
            self.wfile.write(data[start : start + len(data) // 2])
            return
        self.wfile.write(data[start:])

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def fake() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_token_service_and_an_index(fake, library):
    fake.trouble = "token"
    image = registry.pull(library, f"{fake.host}/app:list", ("user", "secret"))
    assert image.digests == [f"{fake.host}/app@{digest(MANIFEST)}"]
    token = next(request for request in fake.requests if request[0].startswith("/token"))
    assert "scope=repository%3Aapp%3Apull" in token[0]
    assert token[1] == "Basic " + base64.b64encode(b"user:secret").decode()
    assert len(os.listdir(f"{library.content.root}/layers")) == 2


def test_a_second_pull_fetches_only_the_manifest(fake, library):
    registry.pull(library, f"{fake.host}/app:v1")
    fake.requests.clear()
    registry.pull(library, f"{fake.host}/app:v1")
    assert [path for path, _ in fake.requests] == ["/v2/app/manifests/v1"]


def test_broken_connections_are_resumed(fake, library):
    fake.trouble = "breaks"
    assert registry.pull(library, f"{fake.host}/app:v1").cmd == ["/a"]
    assert fake.broken == set(BLOBS)


@pytest.mark.parametrize("where", ["storage", "bounce"])
def test_credentials_do_not_follow_a_redirect(fake, library, where):
    """Nor a second one, within the host that the first led to."""
    fake.trouble = "token"
    session_trouble = ["token", where]
    registry_manifest = registry._manifest

    def manifest(*arguments):
        found = registry_manifest(*arguments)
        fake.trouble = session_trouble[1]
        return found

    registry._manifest = manifest
    try:
        registry.pull(library, f"{fake.host}/app:v1", ("u", "p"))
    finally:
        registry._manifest = registry_manifest
    stored = [authorization for path, authorization in fake.requests if path.startswith("/storage/")]
    assert stored == [""] * 3
    assert any(authorization == "Bearer t0k3n" for path, authorization in fake.requests if "/blobs/" in path)


@pytest.mark.parametrize(
    ("trouble", "reference", "reason", "message"),
    [
        ("corrupt", "app:v1", "ErrImagePull", "corrupt"),
        ("lies", f"app@{digest(MANIFEST)}", "ErrImagePull", "corrupt"),
        ("403", "app:v1", "ErrImagePull", "so it is"),
        ("429", "app:v1", "RegistryUnavailable", "so it is"),
        ("503", "app:v1", "RegistryUnavailable", "HTTP 503: so it is"),
        ("401", "app:v1", "ErrImagePull", "authentication required"),
        ("loop", "app:v1", "ErrImagePull", "HTTP 307"),
        ("file", "app:v1", "ErrImagePull", "file:///etc/passwd"),
        ("port", "app:v1", "ErrImagePull", "answers nonsense"),
        ("longer", "app:v1", "ErrImagePull", "is larger than"),
        ("", "app:html", "ErrImagePull", "not JSON"),
        ("", "app:old", "ErrImagePull", "no config and layers"),
        ("", "app:nowhere", "ErrImagePull", "not found"),
        ("", "App:1", "InvalidImageName", "couldn't parse"),
    ],
)
def test_trouble_is_named(fake, library, trouble, reference, reason, message):
    fake.trouble = trouble
    with pytest.raises(RuntimeFault) as caught:
        registry.pull(library, f"{fake.host}/{reference}")
    assert caught.value.reason == reason
    assert message in caught.value.message
    assert library.list() == []
    assert [name for name in os.listdir(f"{library.content.root}/tmp") if not name.endswith(".lock")] == []


def test_nobody_listens(library):
    with pytest.raises(RuntimeFault) as caught:
        registry.pull(library, f"127.0.0.1:{free_port()}/app:v1")
    assert caught.value.reason == "RegistryUnavailable"
    assert "refused" in caught.value.message


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "lookup reg.example: no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "lookup reg.example: Temporary failure"),
        (TimeoutError(), "i/o timeout"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (http.client.RemoteDisconnected("Remote end closed connection"), "remote end closed connection"),
        (OSError(), "oserror"),
    ],
)
def test_what_cannot_be_reached_is_told_in_plain_words(
    fault: OSError, said: str, monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(http.client.HTTPSConnection, "request", fails)
    with pytest.raises(RuntimeFault) as caught:
        registry.pull(library, "reg.example/app:v1")
    assert caught.value.reason == "RegistryUnavailable"
    text = (
        f'failed to pull and unpack image "reg.example/app:v1": GET "https://reg.example/v2/app/manifests/v1": {said}'
    )
    assert caught.value.message == text
