"""Test images made of the host's static busybox: no registry and no network needed.

A path and a name come in, an OCI archive goes out; the same input gives the same bytes. Used by tests, benches and the demo.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def busybox() -> str:
    """The host's static busybox. Raises FileNotFoundError with what to install."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            return path
    raise FileNotFoundError("no busybox on this machine: install the package busybox-static")


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(slots=True)
class LayerBuilder:
    """A layer's tar, member by member."""

    _buffer: io.BytesIO = field(default_factory=io.BytesIO)

    def __post_init__(self) -> None:
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115 (closed by `bytes`)

    _tar: tarfile.TarFile = field(init=False)

    def add(
        self,
        name: str,
        data: bytes = b"",
        *,
        kind: bytes = tarfile.REGTYPE,
        link: str = "",
        mode: int = 0o755,
        uid: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> LayerBuilder:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.linkname, info.uid, info.gid = kind, len(data), mode, link, uid, uid
        info.devmajor, info.devminor = device
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def busybox_layer() -> bytes:
    """A root file system: busybox with all its applets, root and nobody."""
    layer = LayerBuilder()
    for directory in ("bin", "etc", "root", "tmp", "var", "usr", "home"):
        layer.add(directory, kind=tarfile.DIRTYPE, mode=0o1777 if directory == "tmp" else 0o755)
    with open(busybox(), "rb") as file:
        layer.add("bin/busybox", file.read())
    for applet in subprocess.check_output([busybox(), "--list"], text=True).split():
        if applet != "busybox":
            layer.add(f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
    passwd = (
        b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    layer.add("etc/passwd", passwd, mode=0o644)
    layer.add("etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnobody:x:65534:\n", mode=0o644)
    return layer.bytes()


def image_blobs(layers: Sequence[bytes], config: Mapping[str, object]) -> tuple[bytes, bytes, list[bytes]]:
    """(manifest, config, layers) of an OCI image. `config` is the OCI `config` object (Env, Cmd, User, ...)."""
    described = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    config_blob = json.dumps(described, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": digest(config_blob), "size": len(config_blob)},
        "layers": [{"mediaType": _LAYER, "digest": digest(layer), "size": len(layer)} for layer in layers],
    }
    return json.dumps(manifest, sort_keys=True).encode(), config_blob, list(layers)


def image_archive(path: str, name: str, layers: Sequence[bytes], config: Mapping[str, object]) -> str:
    """Write an OCI archive; returns the manifest's digest."""
    manifest, config_blob, blobs = image_blobs(layers, config)
    entry = {
        "mediaType": _MANIFEST,
        "digest": digest(manifest),
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }
    archive = LayerBuilder()
    archive.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', mode=0o644)
    archive.add("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(), mode=0o644)
    for blob in {digest(b): b for b in (manifest, config_blob, *blobs)}.values():
        archive.add(f"blobs/sha256/{digest(blob).removeprefix('sha256:')}", blob, mode=0o644)
    with open(path, "wb") as file:
        file.write(archive.bytes())
    return digest(manifest)


def busybox_archive(path: str, name: str = "jota.test/busybox:1", env: Mapping[str, str] | None = None) -> str:
    """Write an OCI archive of the host's busybox, named `name`, with `env` added to its environment; returns the
    manifest's digest. Raises FileNotFoundError when there is no busybox."""
    variables = ["PATH=/bin:/sbin:/usr/bin:/usr/sbin", *(f"{key}={value}" for key, value in (env or {}).items())]
    return image_archive(path, name, [busybox_layer()], {"Env": variables, "Cmd": ["sh"]})
