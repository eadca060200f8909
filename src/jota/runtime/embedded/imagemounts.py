"""Images as volumes of a container: their files below its bundle, read-only, for as long as it exists (KEP-4639).

Blocking. `mount` gives the container's mounts with paths in place of images; `unmount` undoes it, whatever of it is there. The
images are leased with the container's own.
"""

from __future__ import annotations

import os
from dataclasses import replace

from jota.runtime import sys as kernel
from jota.runtime.embedded.images.library import Library
from jota.runtime.protocol import Mount, RuntimeFault


def mount(library: Library, directory: str, mounts: list[Mount]) -> list[Mount]:
    """`directory`: the bundle. Raises OSError, RuntimeFault."""
    out = []
    for number, one in enumerate(mounts):
        if one.image:
            root = f"{directory}/images/{number}"
            _mount(library.layers(one.image)[::-1], root, f"{directory}/images/empty")
            one = replace(one, source=_inside(root, one.source))
        out.append(one)
    return out


def _mount(layers: list[str], root: str, empty: str) -> None:
    os.makedirs(root)
    os.makedirs(empty, exist_ok=True)
    # without a layer to write to, overlayfs wants two at least
    kernel.mount_overlay(root, [*layers, empty])


def _inside(root: str, path: str) -> str:
    """Where a path of the image really is: no symbolic link in it leads out."""
    anchor = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        handle = kernel.open_in_root(anchor, (path or ".").encode(), os.O_PATH | os.O_CLOEXEC)
    except OSError as fault:
        raise RuntimeFault("CreateContainerError", f"no {path!r} in the image: {fault.strerror}") from fault
    finally:
        os.close(anchor)
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def unmount(directory: str) -> None:
    """Idempotent."""
    if os.path.isdir(f"{directory}/images"):
        for name in os.listdir(f"{directory}/images"):
            kernel.umount_if_mounted(f"{directory}/images/{name}")
