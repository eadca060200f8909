"""The host-wide content store: blobs by sha256, unpacked layers by diff id, and one index of names.

Bytes come in and are verified before they get their name; several nodes and instances share one store, guarded by flock
on `lock`. Layout: blobs/sha256/<hex>, layers/<hex>/fs, index.json, leases/<node>/<container>, tmp/. Next: `unpack.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import Any, BinaryIO

from jota.aio import files
from jota.runtime.protocol import RuntimeFault

MAX_METADATA = 4 << 20
"""Bytes of the largest manifest or config that is read into memory (the registry limit is the same)."""


class Content:
    """Blobs and layers below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root
        for name in ("blobs/sha256", "layers", "leases", "tmp"):
            os.makedirs(f"{root}/{name}", mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def lock(self, name: str = "lock") -> Iterator[None]:
        """Exclusive among all processes of the host. Blocks: call it from a worker thread."""
        fd = os.open(f"{self.root}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Held while blobs arrive that no image names yet: garbage collection waits for the next occasion."""
        fd = os.open(f"{self.root}/guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[bool]:
        """True while nobody holds `guard` (and nobody can take it)."""
        fd = os.open(f"{self.root}/guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            yield False
            return
        try:
            yield True
        finally:
            os.close(fd)

    def blob(self, digest: str) -> str:
        """The blob's path, whether or not it exists."""
        return f"{self.root}/blobs/sha256/{digest.removeprefix('sha256:')}"

    def has(self, digest: str) -> bool:
        return os.path.exists(self.blob(digest))

    def temporary(self) -> str:
        return f"{self.root}/tmp/{os.getpid()}-{secrets.token_hex(8)}"

    def put(self, source: BinaryIO, digest: str = "", limit: int = 1 << 40) -> str:
        """Copy a stream into the store; returns its digest. Raises RuntimeFault when it is not `digest` or exceeds
        `limit` bytes."""
        path, hasher, total = self.temporary(), hashlib.sha256(), 0
        try:
            with open(path, "xb") as out:
                while chunk := source.read(1 << 20):
                    total += len(chunk)
                    if total > limit:
                        raise RuntimeFault("ErrImagePull", f"blob {digest or path} is larger than {limit} bytes")
                    hasher.update(chunk)
                    out.write(chunk)
            return self.adopt(path, f"sha256:{hasher.hexdigest()}", digest)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def adopt(self, path: str, actual: str, expected: str = "") -> str:
        """Give a finished temporary file its name."""
        if expected and actual != expected:
            raise RuntimeFault("ErrImagePull", f"blob {expected} is corrupt: its content is {actual}")
        os.rename(path, self.blob(actual))
        return actual

    def read(self, digest: str, limit: int = MAX_METADATA) -> bytes:
        """A small blob, verified again. Raises RuntimeFault when it is absent, too large or corrupt."""
        try:
            with open(self.blob(digest), "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as fault:
            raise RuntimeFault("ErrImagePull", f"blob {digest} is missing") from fault
        if len(data) > limit:
            raise RuntimeFault("ErrImagePull", f"{digest} is larger than {limit} bytes")
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RuntimeFault("ErrImagePull", f"blob {digest} is corrupt on disk: remove the image and pull again")
        return data

    def read_json(self, digest: str) -> dict[str, Any]:
        try:
            value = json.loads(self.read(digest))
        except (ValueError, RecursionError) as fault:
            raise RuntimeFault("ErrImagePull", f"{digest} is not JSON: {fault}") from fault
        if not isinstance(value, dict):
            raise RuntimeFault("ErrImagePull", f"{digest} is not a JSON object")
        return value

    def layer(self, diff_id: str) -> str:
        """Where the layer is (or will be) unpacked."""
        return f"{self.root}/layers/{diff_id.removeprefix('sha256:')}/fs"

    def has_layer(self, diff_id: str) -> bool:
        return os.path.isdir(self.layer(diff_id))

    # -- names ------------------------------------------------------------------------------------------------------

    def index(self) -> dict[str, Any]:
        """{"images": {id: {"manifest": digest, "names": [...], "digests": [...], "layers": [...], "size": n}}}."""
        try:
            with open(f"{self.root}/index.json", encoding="utf-8") as file:
                value = json.load(file)
        except FileNotFoundError:
            return {"images": {}}
        assert isinstance(value, dict)
        return value

    def write_index(self, index: dict[str, Any]) -> None:
        """Call it under `lock`."""
        files.replace(f"{self.root}/index.json", json.dumps(index).encode(), durable=True)

    # -- leases -----------------------------------------------------------------------------------------------------

    def lease(self, owner: str, container: str, *images: str) -> None:
        """Keep `images` while `container` of node `owner` exists."""
        os.makedirs(f"{self.root}/leases/{owner}", mode=0o700, exist_ok=True)
        files.replace(f"{self.root}/leases/{owner}/{container}", "\n".join(images).encode())

    def release(self, owner: str, container: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.root}/leases/{owner}/{container}")

    def release_all(self, owner: str) -> None:
        shutil.rmtree(f"{self.root}/leases/{owner}", ignore_errors=True)

    def leased(self) -> set[str]:
        """Images in use by any container on this host."""
        out: set[str] = set()
        for directory, _, owned in os.walk(f"{self.root}/leases"):
            for name in owned:
                with contextlib.suppress(FileNotFoundError), open(f"{directory}/{name}", encoding="ascii") as file:
                    out.update(file.read().split("\n"))
        return out
