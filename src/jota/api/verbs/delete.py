"""DELETE of one object: at once, after its grace period, or when its finalizers are done.

`plan` decides on a copy of the stored object (rules of apiserver's `rest.BeforeDelete` and its finalizer handling);
`remove` carries the decision out and repeats it when another writer was faster. Options come in the body (DeleteOptions)
or in the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from jota.aio.clock import rfc3339
from jota.api import object as at_rest
from jota.api import respond
from jota.api.call import Call
from jota.api.path import flag, integer
from jota.api.resource import Engine, Outcome, removable
from jota.api.served import Served
from jota.kinds.kind import Object
from jota.meta import decode
from jota.meta.change import Change
from jota.meta.errors import MODIFIED, ApiError, bad_request, conflict
from jota.meta.resource import NAMESPACES
from jota.store.protocol import Conflict, Entry, Write
from jota.wire.message import Response

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
POLICIES = ("Orphan", "Background", "Foreground")
TRIES = 16


class _Preconditions(msgspec.Struct):
    uid: str | None = None
    resourceVersion: str | None = None


class _Body(msgspec.Struct):
    """meta/v1 DeleteOptions."""

    kind: str | None = None
    apiVersion: str | None = None
    gracePeriodSeconds: int | None = None
    propagationPolicy: str | None = None
    orphanDependents: bool | None = None
    preconditions: _Preconditions | None = None
    dryRun: list[str] | None = None
    ignoreStoreReadErrorWithClusterBreakingPotential: bool | None = None


_decode_body = msgspec.json.Decoder(_Body).decode


_MARKS = ("deletionTimestamp", "generation", "finalizers")
"""What a deletion that waits may change of metadata, and readers look at."""


@dataclass(slots=True)
class Options:
    grace: int | None = None
    """Seconds."""
    policy: str = ""
    """Orphan, Background, Foreground or "" (the kind's default)."""
    uid: str = ""
    resource_version: str = ""


async def delete(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 404, 409, 422."""
    options = read_options(call)
    outcome = await remove(engine, call, call.target.namespace, call.target.name, options)
    if not outcome.removed or call.served.kind.returns_deleted:
        return respond.outcome(call, outcome, engine.clock.now())
    return respond.success(call, outcome.object["metadata"].get("uid", ""))


def read_options(call: Call) -> Options:
    """DeleteOptions from the body, else from the query. Raises ApiError 400, 422."""
    request, params = call.request, call.params
    if request.body:
        raw, _ = decode.decode_body(request.headers.get("content-type", ""), request.body, None)
        try:
            body = msgspec.convert(raw, _Body)
        except msgspec.ValidationError as e:
            raise bad_request(f"DeleteOptions: {e}") from None
        if body.kind not in (None, "", "DeleteOptions"):
            raise bad_request(f'invalid object in the body of a delete: kind "{body.kind}"')
        if body.dryRun:
            params["dryRun"] = next((one for one in body.dryRun if one != "All"), "All")
        pre = body.preconditions or _Preconditions()
        options = Options(
            body.gracePeriodSeconds, body.propagationPolicy or "", pre.uid or "", pre.resourceVersion or ""
        )
        orphan = body.orphanDependents
    else:
        options = Options(integer(params, "gracePeriodSeconds"), params.get("propagationPolicy", ""))
        orphan = flag(params, "orphanDependents") if "orphanDependents" in params else None
    if orphan is not None:
        if options.policy:
            text = "orphanDependents and deletionPropagation cannot be both set"
            raise ApiError(422, "Invalid", f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: {text}')
        options.policy = "Orphan" if orphan else "Background"
    if options.policy and options.policy not in POLICIES:
        choices = ", ".join(f'"{p}"' for p in POLICIES)
        text = f'propagationPolicy: Unsupported value: "{options.policy[:64]}": supported values: {choices}'
        raise ApiError(422, "Invalid", f'DeleteOptions.meta.k8s.io "" is invalid: {text}')
    if not options.policy and call.served.kind.policy_warning:
        call.warn(call.served.kind.policy_warning)
    return options


def plain_options(body: msgspec.Raw) -> Options | None:
    """DeleteOptions in JSON with nothing unusual in them; None: `read_options`. Raises msgspec.MsgspecError."""
    found = _decode_body(body)
    plain = found.kind == "DeleteOptions" and not found.dryRun and found.orphanDependents is None
    if not plain or found.propagationPolicy not in (None, *POLICIES):
        return None
    pre = found.preconditions or _Preconditions()
    return Options(found.gracePeriodSeconds, found.propagationPolicy or "", pre.uid or "", pre.resourceVersion or "")


async def remove(
    engine: Engine, call: Call, namespace: str, name: str, options: Options, *, shown: bool = True
) -> Outcome:
    """Delete one object as far as it may be deleted now. Raises ApiError 403, 404, 409.

    `shown`: to webhooks and policies.
    Of kinds that go by the thousand only metadata and a small part are decoded, and the outcome's `object` has no more;
    its `entry` is whole."""
    served, dry_run = call.served, call.dry_run
    hooked = shown and engine.webhooks.concern(served.kind)
    small = served.kind.graced_from if not (hooked or dry_run or served.foreign or served.converted) else None
    for _ in range(TRIES):
        entry = engine.stored(served, namespace, name)
        if served.foreign:
            (entry,) = await served.readable((entry,))
        obj, whole = looked_at(engine, call, entry, options, small)
        if hooked:
            attrs = engine.attributes(call, "DELETE", None, obj)
            await engine.webhooks.mutate(attrs, call.warn)
            await engine.webhooks.validate(attrs, call.warn)
        changed = plan(served, obj, options, engine.clock.now())
        gone = may_go(served, obj, changed)
        try:
            if dry_run:
                return Outcome(obj, None, removed=gone)
            if gone:
                beside = engine.beside(call, "DELETE", None, obj)
                tombstone = await engine.store.delete(entry.key, expect=entry.revision, beside=beside)
                obj["metadata"]["resourceVersion"] = str(tombstone.revision)
                last = None if whole else _last(entry, obj if changed else None, tombstone)
                return Outcome(obj, last, removed=True)
            if changed and not whole:
                value, memo = marked(entry, obj["metadata"])
                entry = await engine.store.put(entry.key, value, expect=entry.revision, memo=memo)
            elif changed:
                entry = await engine.put(served, entry.key, obj, expect=entry.revision)
            return Outcome(obj, entry)
        except Conflict:
            continue
    raise conflict(served.resource.plural, name, MODIFIED, served.resource.group)


def plain(engine: Engine, call: Call) -> bool:
    """Nobody but plugins has a say in a deletion of this kind, and nothing is written beside it: `planned` says it all."""
    served = call.served
    alone = not (call.target.subresource or served.foreign or served.converted or engine.voices(served, "").beside)
    return alone and not call.dry_run and not engine.webhooks.concern(served.kind)


def planned(engine: Engine, call: Call, entry: Entry, options: Options) -> Write | None:
    """The write that deletes the object as far as it may be deleted now; None: there is nothing to do. Changes nothing.

    Raises ApiError 403, 409."""
    obj, whole = looked_at(engine, call, entry, options, call.served.kind.graced_from)
    changed = plan(call.served, obj, options, engine.clock.now())
    if may_go(call.served, obj, changed):
        return entry.key, None, entry.revision, None
    if not changed:
        return None
    value, memo = (call.served.encode(obj), None) if whole else marked(entry, obj["metadata"])
    return entry.key, value, entry.revision, memo


def looked_at(engine: Engine, call: Call, entry: Entry, options: Options, small: Any) -> tuple[Object, bool]:
    """The stored object, when nothing here speaks against its deletion; whether it is whole, or metadata and what `small` (a
    TypedDict; None: all) names. Raises ApiError 403, 409."""
    served, value = call.served, entry.value or b""
    part = at_rest.excerpt(value, entry.revision, small) if small is not None else None
    obj = part if part is not None else served.decode(value, entry.revision)
    check_preconditions(served, obj, options)
    attrs = engine.attributes(call, "DELETE", None, obj)
    for validate in engine.voices(served, "").validate:
        validate(attrs)
    return obj, part is None


def marked(entry: Entry, metadata: Object) -> tuple[bytes, at_rest.Memo | None]:
    """What is stored of an object whose deletion waits, metadata alone being as `plan` left it; what is known of that."""
    own = {name: metadata[name] for name in _MARKS if name in metadata}
    own.setdefault("finalizers", None)
    change = Change(str(entry.revision), metadata=own)
    return at_rest.with_metadata(metadata, entry.value or b""), at_rest.after(entry, change)


def _last(entry: Entry, changed: Object | None, tombstone: Entry) -> Entry:
    """The object as it went, for the answer: stored nowhere."""
    value = entry.value or b""
    if changed is not None:
        value = at_rest.with_metadata(changed["metadata"], value)
    return Entry(entry.key, value, tombstone.revision, entry.created)


def check_preconditions(served: Served, obj: Object, options: Options) -> None:
    """Raises ApiError 409."""
    meta, resource = obj["metadata"], served.resource
    detail = ""
    if options.uid and options.uid != meta.get("uid"):
        detail = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {meta.get('uid')}"
    elif options.resource_version and options.resource_version != meta["resourceVersion"]:
        detail = "Precondition failed: ResourceVersion in precondition: "
        detail += f"{options.resource_version}, ResourceVersion in object meta: {meta['resourceVersion']}"
    if detail:
        raise conflict(resource.plural, meta["name"], detail, resource.group)


def plan(served: Served, obj: Object, options: Options, now: float) -> bool:
    """Mark `obj` (in place) for what its deletion must wait for: grace period, finalizers. True: it changed.

    It may be removed at once exactly when `may_go` says so afterwards."""
    meta: dict[str, Any] = obj["metadata"]
    if not meta.get("deletionTimestamp"):
        served.kind.prepare_delete(obj, now)
    before = (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds"), list(meta.get("finalizers", ())))
    _set_finalizers(meta, options.policy, served.kind.policy)
    grace = _grace(served, obj, options.grace)
    holding = bool(meta.get("finalizers")) or _namespace_holds(served, obj)
    if meta.get("deletionTimestamp"):
        _shorten(meta, grace, options.grace, now)
    elif grace or holding:
        if meta.get("generation"):
            meta["generation"] += 1
        meta["deletionTimestamp"] = rfc3339(now + grace)
        meta["deletionGracePeriodSeconds"] = grace
    if served.resource == NAMESPACES and holding:
        obj.setdefault("status", {})["phase"] = "Terminating"
    after = (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds"), list(meta.get("finalizers", ())))
    return before != after


def may_go(served: Served, obj: Object, changed: bool) -> bool:
    """Nothing holds it: never marked at all, or marked and free."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp"):
        return True
    return removable(served, obj)


def _grace(served: Served, obj: Object, asked: int | None) -> int:
    """Seconds. Only some kinds (pods) end gracefully; a negative wish counts as one second."""
    if served.kind.grace is None:
        return 0
    if asked is not None and asked < 0:
        asked = 1
    return served.kind.grace(obj, asked)


def _shorten(meta: dict[str, Any], grace: int, asked: int | None, now: float) -> None:
    """A second delete can only make it sooner."""
    current = meta.get("deletionGracePeriodSeconds") or 0
    if asked is None and grace:
        return
    if grace < current:
        meta["deletionTimestamp"] = rfc3339(now + grace)
        meta["deletionGracePeriodSeconds"] = grace


def _set_finalizers(meta: dict[str, Any], policy: str, default: str) -> None:
    """The garbage collector's finalizers follow the propagation policy; without one, those that are there or the `default`."""
    found = meta.get("finalizers", ())
    if not policy and (ORPHAN in found or FOREGROUND in found):
        return
    policy = policy or default
    if not policy:
        return
    kept = [f for f in found if f not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        kept.append(ORPHAN)
    elif policy == "Foreground":
        kept.append(FOREGROUND)
    if kept:
        meta["finalizers"] = kept
    else:
        meta.pop("finalizers", None)


def _namespace_holds(served: Served, obj: Object) -> bool:
    return served.resource == NAMESPACES and bool((obj.get("spec") or {}).get("finalizers"))
