"""What ConfigMap and Secret volumes share: an object's data, chosen and renamed by `items`, as a payload."""

from __future__ import annotations

from jota.meta.resource import Resource
from jota.node.env import payload as data_of
from jota.node.model import Object
from jota.node.volumes.volume import Context, File, Payload, VolumeFault, mode_of


def pick(resource: Resource, name: str, source: Object, ctx: Context, default_mode: int) -> Payload:
    """The files of one object. Raises VolumeFault when it, or a key that `items` names, is missing and not optional."""
    optional = bool(source.get("optional"))
    obj = ctx.lookup(resource, name)
    if obj is None:
        if optional:
            return {}
        raise VolumeFault(f'{resource.kind.lower()} "{name}" not found')
    data = data_of(resource, obj)
    items = source.get("items")
    if not items:
        return {key: File(value, default_mode) for key, value in data.items()}
    out: Payload = {}
    for item in items:
        if item["key"] in data:
            out[item["path"]] = File(data[item["key"]], mode_of(item.get("mode"), default_mode))
        elif not optional:
            raise VolumeFault(f"references non-existent {resource.kind.lower()} key: {item['key']}")
    return out
