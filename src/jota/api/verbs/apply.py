"""PATCH of type apply: server-side apply. Merges what the manager wants into the live object, or creates it (201)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from jota.aio.clock import rfc3339
from jota.api import decoding, metadata, respond
from jota.api.call import Call
from jota.api.filters import creation
from jota.api.path import flag
from jota.api.resource import Engine
from jota.kinds.kind import Object
from jota.meta import apply as ssa
from jota.meta import check, decode, schema, structs
from jota.meta.errors import MODIFIED, ApiError, bad_request, conflict, required
from jota.meta.schema import Type
from jota.wire.message import Response

_LARGE = 100_000
"""Bytes."""


async def apply(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 404 (a subresource of nothing), 409, 415, 422."""
    require_manager(call)
    target, served, now = call.target, call.served, engine.clock.now()
    applied = _read(engine, call)
    if len(call.request.body) > _LARGE:
        await asyncio.sleep(
            0
        )  # reading, merging and judging take some ten milliseconds each for a megabyte: one in a turn
    if engine.store.get(served.key(target.namespace, target.name)) is None and not target.subresource:
        return await _create(engine, call, applied)

    def change(live: Object) -> Object:
        _same_revision(call, live, applied)
        return _merge(engine, call, live, applied)

    result = await engine.update(
        call, target.name, target.namespace, change, subresource=target.subresource, owned=True
    )
    return respond.outcome(call, result, now)


def require_manager(call: Call) -> None:
    """Raises ApiError 422."""
    if not call.params.get("fieldManager"):
        cause = required("fieldManager", "is required for apply patch")
        text = f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {cause.message}'
        raise ApiError(422, "Invalid", text, group="meta.k8s.io", kind="PatchOptions", causes=[cause])


def _read(engine: Engine, call: Call) -> Object:
    """The configuration to apply. Raises ApiError 400."""
    kind = call.served.kind
    applied, problems = decode.decode_body(
        call.request.headers.get("content-type", ""),
        call.request.body,
        None,
        strict=call.field_validation,
    )
    if not isinstance(applied, dict) or not applied.get("kind") or not applied.get("apiVersion"):
        raise bad_request("an apply patch must be an object with apiVersion and kind")
    for problem in problems:
        call.warn(problem)
    if applied["apiVersion"] != kind.resource.api_version:
        versions = f"Specified patch version: {applied['apiVersion']}, expected: {kind.resource.api_version}"
        raise bad_request(f"Incorrect version specified in apply patch. {versions}")
    decoding.check_type(call.served, applied)
    if kind.structure is not None:
        _declared(call, applied, kind.structure)
    elif kind.schema and not structs.clean_value(kind.schema, applied):
        _declared(call, applied, schema.definition(kind.schema))
        decode.validate_object(applied, kind.schema, strict="Ignore")
    meta = metadata.check(applied)
    name = call.target.name
    if meta.setdefault("name", name) != name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    return applied


def _declared(call: Call, applied: Object, structure: Type | None) -> None:
    """A configuration names only fields of its kind's schema, whatever the field validation: nobody could own others. Raises
    ApiError 400."""
    if structure is None:
        return
    unknown = [p.path for p in schema.check(structure, applied) if p.kind == "unknown"]
    if not unknown:
        return
    text = ", ".join(f".{path}: field not declared in schema" for path in unknown)
    what = f"{call.target.namespace}/{call.target.name}; {applied['apiVersion']}, Kind={applied['kind']}"
    error = bad_request(f"failed to create typed patch object ({what}): {text}")
    near = [(path, check.suggest(structure, path)) for path in unknown]
    error.warnings = [f'"{path}": did you mean "{better}"?' for path, better in near if better]
    raise error


async def _create(engine: Engine, call: Call, applied: Object) -> Response:
    if applied["metadata"].get("uid"):
        resource = call.served.resource
        detail = f"uid mismatch: the provided object specified uid {applied['metadata']['uid']}, and no existing object was found"
        raise conflict(resource.plural, call.target.name, detail, resource.group)
    await creation.require(engine, call)
    applied["metadata"].pop("resourceVersion", None)
    obj = _merge(engine, call, None, applied)
    result = await engine.create(call, obj, call.target.namespace, owned=True)
    return respond.outcome(call, result, engine.clock.now())


def _merge(engine: Engine, call: Call, live: Object | None, applied: Object) -> Object:
    """Raises ApiError 400, 409."""
    kind = call.served.kind
    merged, fields = ssa.apply(
        live,
        applied,
        manager=call.manager,
        api_version=kind.resource.api_version,
        time=rfc3339(engine.clock.now()),
        schema=kind.definition,
        force=flag(call.params, "force"),
        subresource=call.target.subresource,
        reset=_not_accepted(call, applied),
    )
    merged["metadata"] = {**merged.get("metadata", {}), "managedFields": fields}
    return merged


def _not_accepted(call: Call, applied: Object) -> Collection[str]:
    """Top-level fields that this endpoint does not take."""
    if call.target.subresource == "status":
        return [key for key in applied if key not in ("apiVersion", "kind", "metadata", "status")]
    return ("status",) if call.served.kind.status else ()


def _same_revision(call: Call, live: Object, applied: Object) -> None:
    """resourceVersion and uid in the configuration are preconditions. Raises ApiError 409."""
    for field in ("resourceVersion", "uid"):
        wanted = applied["metadata"].get(field)
        if wanted and wanted != live["metadata"][field]:
            resource = call.served.resource
            raise conflict(resource.plural, call.target.name, MODIFIED, resource.group)
