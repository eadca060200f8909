"""downwardAPI: the pod's own fields as files; labels and annotations follow their changes."""

from __future__ import annotations

import os

from jota.node.fields import UnknownField, field_value, resource_value
from jota.node.model import Object
from jota.node.volumes import atomic
from jota.node.volumes.volume import Context, Driver, File, Mounted, Payload, VolumeFault, mode_of


def payload(source: Object, ctx: Context, default_mode: int) -> Payload:
    out: Payload = {}
    for item in source.get("items") or []:
        try:
            if ref := item.get("fieldRef"):
                text = field_value(ctx.pod, ref["fieldPath"], ctx.place)
            else:
                text = resource_value(ctx.pod, item["resourceFieldRef"], ctx.place)
        except (UnknownField, KeyError) as e:
            raise VolumeFault(f"downward API item {item.get('path')}: {e}") from e
        out[item["path"]] = File(text.encode(), mode_of(item.get("mode"), default_mode))
    return out


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    files = payload(source, ctx, mode_of(source.get("defaultMode"), 0o644))
    path = os.path.join(ctx.directory, "kubernetes.io~downward-api", name)
    atomic.write(path, files, ctx.clock.now(), fs_group=ctx.fs_group)
    return Mounted(path, read_only=True)


DRIVER = Driver(mount)
