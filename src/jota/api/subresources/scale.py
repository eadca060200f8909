"""/scale (autoscaling/v1): replicas and selector of anything that scales, in one shape. Where they are: `Kind.scale`.

A write changes spec.replicas of the parent through its main rules (defaults, validation, generation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jota.api import metadata, respond, table
from jota.api.call import Call
from jota.api.resource import Engine, Form, Outcome
from jota.api.subresources import body, scale_apply
from jota.api.verbs.apply import require_manager
from jota.api.verbs.patch import APPLY, Patch, media_of
from jota.kinds.common import AGE, NAME, labels_text, plain, selector_text
from jota.kinds.kind import Object, Scale
from jota.meta.errors import MODIFIED, bad_request, conflict, invalid, invalid_object
from jota.meta.resource import Resource
from jota.wire.message import Response

DEFINITION = "io.k8s.api.autoscaling.v1.Scale"
SCALES = Resource("autoscaling", "v1", "scales", "Scale")
COLUMNS = (
    NAME,
    plain("Desired", lambda scale, _: scale["spec"].get("replicas", 0), "integer"),
    plain("Available", lambda scale, _: scale["status"]["replicas"], "integer"),
    AGE,
)
META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(where: Scale, obj: Object) -> Object:
    """The Scale of an object."""
    meta = obj["metadata"]
    spec, status = _number(obj, where.spec_replicas), _number(obj, where.status_replicas)
    shown: dict[str, Any] = {"replicas": status}
    selector = _selector(_read(obj, where.selector) if where.selector else None)
    if selector:
        shown["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in META if key in meta},
        "spec": {"replicas": spec} if spec else {},
        "status": shown,
    }


def _selector(value: Any) -> str:
    """Selector as query text: kept when it is text already (custom resources)."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not value:
        return ""
    if all(isinstance(v, str) for v in value.values()):
        return labels_text(value)
    return selector_text(value) if any(value.values()) else ""


def _read(obj: Object, path: str) -> Any:
    at: Any = obj
    for key in path.lstrip(".").split("."):
        at = at.get(key) if isinstance(at, dict) else None
    return at


def _number(obj: Object, path: str) -> int:
    value = _read(obj, path)
    return value if type(value) is int else 0


def _write(obj: Object, path: str, value: int) -> None:
    *parents, last = path.lstrip(".").split(".")
    for key in parents:
        obj = obj.setdefault(key, {})
    obj[last] = value


def _where(call: Call) -> Scale:
    where = call.served.kind.scale
    assert where is not None, "the dispatcher lets only kinds with a scale pass"
    return where


async def get(engine: Engine, call: Call) -> Response:
    """Raises ApiError 404."""
    await engine.store.sync()
    target, served = call.target, call.served
    entry = engine.stored(served, target.namespace, target.name)
    if served.foreign:
        (entry,) = await served.readable((entry,))
    return _shown(call, scale_of(_where(call), served.object_of(entry)), engine.clock.now())


async def update(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 409, 422."""
    wanted = body.read(call, DEFINITION, "Scale")
    return await _set(engine, call, lambda _scale: wanted)


async def patch(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 409, 415, 422."""
    media = media_of(call)
    if media == APPLY:
        return await _apply(engine, call)
    return await _set(engine, call, Patch(call, media, DEFINITION))


async def _apply(engine: Engine, call: Call) -> Response:
    require_manager(call)
    where, applied, now = _where(call), body.read(call, DEFINITION, "Scale"), engine.clock.now()
    if not applied.get("kind") or not applied.get("apiVersion"):
        raise bad_request("an apply patch must be an object with apiVersion and kind")

    def change(obj: Object) -> Object:
        wanted, owners = scale_apply.merge(call, obj, scale_of(where, obj), applied, where.spec_replicas, now)
        _write(obj, where.spec_replicas, _replicas(call, obj, wanted))
        obj["metadata"]["managedFields"] = owners
        return obj

    return await _answer(engine, call, change, owned=True)


async def _set(engine: Engine, call: Call, change_scale: Any) -> Response:
    where = _where(call)

    def change(obj: Object) -> Object:
        wanted = change_scale(scale_of(where, obj))
        _write(obj, where.spec_replicas, _replicas(call, obj, wanted))
        return obj

    return await _answer(engine, call, change)


async def _answer(engine: Engine, call: Call, change: Callable[[Object], Object], *, owned: bool = False) -> Response:
    where, target = _where(call), call.target

    def take(obj: Object, scale: Object) -> None:
        _write(obj, where.spec_replicas, _replicas(call, obj, scale))

    form = Form(lambda obj: scale_of(where, obj), take)
    result: Outcome = await engine.update(
        call, target.name, target.namespace, change, subresource="scale", owned=owned, form=form
    )
    if result.entry is not None:
        result.object["metadata"]["resourceVersion"] = str(result.entry.revision)
    return _shown(call, scale_of(where, result.object), engine.clock.now())


def _shown(call: Call, scale: Object, now: float) -> Response:
    if call.accepted.form == "Table":
        return respond.json(call, table.of_object(call, scale, now, shown=COLUMNS))
    return respond.json(call, scale)


def _replicas(call: Call, obj: Object, wanted: Object) -> int:
    """The replicas that a Scale asks for. Raises ApiError 400, 409, 422."""
    meta, name = body.part(wanted, "metadata"), obj["metadata"]["name"]
    metadata.check_name(meta, name)
    revision = metadata.revision_of(meta)
    if revision and str(revision) != obj["metadata"]["resourceVersion"]:
        raise conflict(call.served.resource.plural, name, MODIFIED, call.served.resource.group)
    replicas = body.part(wanted, "spec").get("replicas", 0)
    if type(replicas) is not int or replicas < 0:
        cause = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid_object("Scale", name, [cause], "autoscaling")
    return replicas


VERBS = {"get": get, "update": update, "patch": patch}
