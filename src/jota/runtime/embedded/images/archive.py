"""Image archives: an OCI layout (directory or tar) or a docker-archive tar comes in, manifests in the content store go out.

The archive's own index names the images. Next: `library.py` unpacks the layers and registers the names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from typing import Any, BinaryIO

from jota.runtime.embedded.images import reference
from jota.runtime.embedded.images.content import MAX_METADATA, Content
from jota.runtime.embedded.images.manifest import MANIFEST_OCI, pick_platform
from jota.runtime.protocol import RuntimeFault

_NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(slots=True)
class Found:
    """One image of an archive: its manifest is in the store."""

    manifest: str
    names: list[str]


def load(path: str, content: Content) -> list[Found]:
    """Import every image of `path`. Raises RuntimeFault when it is neither an OCI nor a docker archive."""
    if os.path.isdir(path):
        return _load(_Directory(path), content, path)
    try:
        with open(path, "rb") as raw:
            file: BinaryIO = raw
            if raw.read(2) == b"\x1f\x8b":
                file = gzip.open(path, "rb")  # type: ignore[assignment]  # noqa: SIM115
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                return _load(_Tar(tar), content, path)
    except (OSError, tarfile.TarError, EOFError) as fault:
        raise RuntimeFault("ErrImageLoad", f"cannot read image archive {path}: {fault}") from fault


class _Directory:
    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, name: str) -> BinaryIO | None:
        try:
            return open(os.path.join(self._path, name), "rb")
        except FileNotFoundError:
            return None


class _Tar:
    """Members by name; links inside the archive (docker save makes them) are followed."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {os.path.normpath(m.name): m for m in tar.getmembers()}

    def open(self, name: str) -> BinaryIO | None:
        member = self._members.get(os.path.normpath(name))
        for _ in range(4):
            if member is None or not (member.issym() or member.islnk()):
                break
            beside = os.path.dirname(member.name) if member.issym() else ""
            member = self._members.get(os.path.normpath(os.path.join(beside, member.linkname)))
        if member is None or not member.isreg():
            return None
        return self._tar.extractfile(member)  # type: ignore[return-value]


_Archive = _Directory | _Tar


def _json(archive: _Archive, name: str) -> Any:
    file = archive.open(name)
    if file is None:
        return None
    with file:
        data = file.read(MAX_METADATA + 1)
    if len(data) > MAX_METADATA:
        raise RuntimeFault("ErrImageLoad", f"{name} is larger than {MAX_METADATA} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise RuntimeFault("ErrImageLoad", f"{name} is not JSON: {fault}") from fault


def _load(archive: _Archive, content: Content, path: str) -> list[Found]:
    try:
        index, docker = _json(archive, "index.json"), _json(archive, "manifest.json")
        if index is not None:
            tags = _docker_tags(docker)
            return [_oci(archive, content, entry, tags) for entry in index["manifests"]]
        if docker is not None:
            return [_docker(archive, content, entry) for entry in docker]
    except (KeyError, TypeError, AttributeError, IndexError) as fault:
        raise RuntimeFault("ErrImageLoad", f"malformed image archive {path}: {fault!r}") from fault
    raise RuntimeFault(
        "ErrImageLoad", f"{path} is neither an OCI nor a docker archive (no index.json, no manifest.json)"
    )


def _docker_tags(docker: Any) -> dict[str, list[str]]:
    """Config digest -> RepoTags: newer `docker save` writes both forms, and full names only here."""
    out = {}
    for entry in docker or []:
        name = os.path.basename(entry["Config"]).removesuffix(".json")
        out[f"sha256:{name}"] = list(entry.get("RepoTags") or [])
    return out


def _fetch(archive: _Archive, content: Content, digest: str, limit: int = 1 << 40) -> None:
    if not reference.is_digest(digest):
        raise RuntimeFault("ErrImageLoad", f"unsupported digest {digest!r}")
    if content.has(digest):
        return
    file = archive.open(f"blobs/sha256/{digest.removeprefix('sha256:')}")
    if file is None:
        raise RuntimeFault("ErrImageLoad", f"the archive lacks blob {digest}")
    with file:
        content.put(file, digest, limit)


def _oci(archive: _Archive, content: Content, entry: dict[str, Any], tags: dict[str, list[str]]) -> Found:
    digest = entry["digest"]
    _fetch(archive, content, digest, MAX_METADATA)
    manifest = content.read_json(digest)
    if "manifests" in manifest:
        digest = pick_platform(manifest)["digest"]
        _fetch(archive, content, digest, MAX_METADATA)
        manifest = content.read_json(digest)
    config = manifest["config"]["digest"]
    _fetch(archive, content, config, MAX_METADATA)
    for layer in manifest["layers"]:
        _fetch(archive, content, layer["digest"])
    annotations = entry.get("annotations") or {}
    names = tags.get(config) or [annotations[key] for key in _NAME_KEYS if key in annotations][:1]
    return Found(digest, [name for name in names if _valid(name)])


def _valid(name: str) -> bool:
    try:
        reference.parse(name)
    except RuntimeFault:
        return False
    return True


def _docker(archive: _Archive, content: Content, entry: dict[str, Any]) -> Found:
    """docker-archive has no manifest: write the one that describes the same blobs."""
    config = _put(archive, content, entry["Config"], MAX_METADATA)
    layers = [_put(archive, content, name) for name in entry["Layers"]]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_OCI,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **_sized(content, config)},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", **_sized(content, layer)} for layer in layers
        ],
    }
    data = json.dumps(manifest).encode()
    digest = content.put(io.BytesIO(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
    return Found(digest, [name for name in entry.get("RepoTags") or [] if _valid(name)])


def _put(archive: _Archive, content: Content, name: str, limit: int = 1 << 40) -> str:
    file = archive.open(name)
    if file is None:
        raise RuntimeFault("ErrImageLoad", f"the archive lacks {name}")
    with file:
        return content.put(file, limit=limit)


def _sized(content: Content, digest: str) -> dict[str, Any]:
    return {"digest": digest, "size": os.path.getsize(content.blob(digest))}
