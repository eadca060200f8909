"""configMap: the keys of a ConfigMap as files; changes reach them within a second."""

from __future__ import annotations

import os

from jota.meta.resource import CONFIGMAPS, Resource
from jota.node.model import Object
from jota.node.volumes import atomic
from jota.node.volumes.objects import pick
from jota.node.volumes.volume import Context, Driver, Mounted, mode_of


def references(source: Object) -> list[tuple[Resource, str]]:
    return [(CONFIGMAPS, source.get("name", ""))]


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    payload = pick(CONFIGMAPS, source.get("name", ""), source, ctx, mode_of(source.get("defaultMode"), 0o644))
    path = os.path.join(ctx.directory, "kubernetes.io~configmap", name)
    atomic.write(path, payload, ctx.clock.now(), fs_group=ctx.fs_group)
    return Mounted(path, read_only=True)


DRIVER = Driver(mount, references)
