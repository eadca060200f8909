"""A directory as an image: a docker archive of one layer, as `docker save` writes it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KERNELS = ("./dev/", "./proc/", "./sys/")


def write(out: Path, references: list[str], root: Path, config: dict[str, Any]) -> None:
    """`config`: the image's, in Docker's names (Entrypoint, Cmd, User...)."""
    layer = out.with_suffix(".layer")
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, arcname=".", filter=lambda entry: None if entry.name.startswith(_KERNELS) else entry)
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [PATH], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    text = json.dumps(image).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": references, "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(out, "w") as tar:
        tar.add(layer, arcname=f"{digest}/layer.tar")
        for member, content in ((name, text), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    layer.unlink()


def read(path: Path) -> tuple[bytes, bytes]:
    """(config, layer) of an archive that `write` wrote."""
    with tarfile.open(path) as tar:

        def content(name: str) -> bytes:
            member = tar.extractfile(name)
            assert member is not None
            return member.read()

        (parts,) = json.loads(content("manifest.json"))
        return content(parts["Config"]), content(parts["Layers"][0])
