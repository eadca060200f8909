"""Manifests and configs: their media types, the choice of a platform, and what of a config a container needs. Pure."""

from __future__ import annotations

import os
from typing import Any

from jota.runtime.protocol import RuntimeFault

MANIFEST_OCI = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_OCI = "application/vnd.oci.image.index.v1+json"
INDEX_DOCKER = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = ", ".join((MANIFEST_OCI, MANIFEST_DOCKER, INDEX_OCI, INDEX_DOCKER))

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """This machine in GOARCH's words."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def check_config(digest: str, config: dict[str, Any]) -> None:
    """A config is input from strangers: what is read of it later has the types that the OCI image specification gives.
    Raises RuntimeFault(ErrImagePull)."""
    inner = config.get("config")
    if inner is None:
        return
    good = isinstance(inner, dict)
    for key in ("Env", "Entrypoint", "Cmd") if good else ():
        value = inner.get(key)
        good = good and (value is None or (isinstance(value, list) and all(isinstance(item, str) for item in value)))
    for key in ("User", "WorkingDir", "StopSignal") if good else ():
        good = good and isinstance(inner.get(key) or "", str)
    if not good:
        raise RuntimeFault("ErrImagePull", f"malformed image config {digest}")


def pick_platform(index: dict[str, Any], arch: str = "") -> dict[str, Any]:
    """The descriptor for linux/`arch`; an index of one image without a platform is taken as it is."""
    arch = arch or architecture()
    entries = [e for e in index.get("manifests", []) if isinstance(e, dict)]
    for entry in entries:
        platform = entry.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == arch:
            return entry
    if len(entries) == 1 and not entries[0].get("platform"):
        return entries[0]
    platforms = [entry.get("platform") or {} for entry in entries]
    offered = ", ".join(sorted(f"{p.get('os')}/{p.get('architecture')}" for p in platforms))
    raise RuntimeFault("ErrImagePull", f"no match for platform in manifest: linux/{arch} is wanted, offered: {offered}")
