"""image: the files of an OCI image, read-only (KEP-4639). Here it is had on the node; the runtime mounts it into containers."""

from __future__ import annotations

from jota.node.model import Object
from jota.node.volumes.volume import Context, Driver, Mounted, VolumeFault


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    if ctx.image is None:
        raise VolumeFault("no images here")
    return Mounted("", read_only=True, image=await ctx.image(name, source))


DRIVER = Driver(mount)
