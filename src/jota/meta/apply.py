"""Server-side apply and managedFields: who owns which field. Objects in, merged object and managedFields out; pure.

`apply` is the PATCH of type apply; `track_update` notes what an ordinary write changed. Rules and texts are those of
apimachinery's `managedfields` and of structured-merge-diff; the sets are fieldset.py's. Next: api/verbs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from jota.meta import fieldset, lastapplied
from jota.meta.errors import ApiError, FieldError, bad_request
from jota.meta.fieldset import LEAF, FieldSet
from jota.meta.schema import OBJECT_META, Type, definition

Object = dict[str, Any]
MAX_UPDATE_MANAGERS = 10
"""Older ones are merged into ANCIENT."""
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"
_UNTRACKED = frozenset(
    ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion")
)
"""Fields of metadata that nobody owns; nor does anybody own apiVersion and kind."""


@dataclass(slots=True, frozen=True)
class _Manager:
    """One entry of managedFields."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return self.manager, self.operation, self.api_version, self.subresource

    def __str__(self) -> str:
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


def _decode(entries: Any, trusted: bool = True) -> list[_Manager]:
    """Entries that cannot be read are dropped, as upstream falls back to what it can read. Our own are not checked."""
    found = []
    for entry in entries if isinstance(entries, list) else ():
        if not trusted and not (isinstance(entry, dict) and fieldset.is_valid(entry.get("fieldsV1"))):
            continue
        found.append(
            _Manager(
                str(entry.get("manager") or ""),
                str(entry.get("operation") or ""),
                str(entry.get("apiVersion") or ""),
                str(entry.get("subresource") or ""),
                str(entry.get("time") or ""),
                (entry.get("fieldsV1") or LEAF) if trusted else fieldset.ordered(entry["fieldsV1"]),
            )
        )
    return found


def _encode(managers: list[_Manager]) -> list[Object]:
    """In upstream's order: applies first, then by time and name."""
    ordered = sorted(managers, key=lambda m: (m.operation, m.time, m.manager, m.api_version, m.subresource))
    return [_entry(m) for m in ordered if m.fields]


def _entry(m: _Manager) -> Object:
    out: Object = {"manager": m.manager, "operation": m.operation, "apiVersion": m.api_version}
    if m.time:
        out["time"] = m.time
    out |= {"fieldsType": "FieldsV1", "fieldsV1": m.fields}
    if m.subresource:
        out["subresource"] = m.subresource
    return out


def root_of(schema: str | Type | None) -> Type:
    """The type of an object's top level. Without a schema, metadata alone is known and the rest deduced."""
    found = schema if isinstance(schema, Type) else definition(schema) if schema else None
    if found is not None and found.kind == "struct":
        return found
    out = Type("struct", fields={"metadata": Type("struct", OBJECT_META)})
    out.open = True
    return out


def owned(obj: Object, drop: Collection[str] = ()) -> Object:
    """The object without what nobody owns."""
    out = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind") and key not in drop}
    metadata = out.get("metadata")
    if isinstance(metadata, dict):
        owned = {key: value for key, value in metadata.items() if key not in _UNTRACKED}
        if owned:
            out["metadata"] = owned
        else:
            del out["metadata"]
    return out


def extract(obj: Object, schema: str | Type | None) -> FieldSet:
    """The FieldsV1 of everything that `obj` sets, as an apply of it would own. Raises ApiError 400 for lists with items
    that lack their key or repeat it."""
    stripped = owned(obj)
    try:
        return fieldset.ordered(fieldset.extract(stripped, root_of(schema)))
    except fieldset.BadList as e:
        raise _untyped(obj, e) from None


def _untyped(obj: Object, error: Exception) -> ApiError:
    metadata = obj.get("metadata") or {}
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    return bad_request(
        f"failed to create typed patch object ({name}; {obj.get('apiVersion')}, Kind={obj.get('kind')}): {error}"
    )


# --- ordinary writes -------------------------------------------------------------------------------------------------


def track_update(
    live: Object | None,
    new: Object,
    *,
    manager: str,
    api_version: str,
    time: str,
    schema: str | Type | None,
    subresource: str = "",
    unchanged: Collection[str] = (),
) -> list[Object]:
    """managedFields of `new` after a create (live None), update or patch by `manager`; neither object is changed.

    `time` is RFC 3339, in seconds. `unchanged` names top-level fields that the caller knows to be equal: they are not
    looked at. An entry's time moves only when its set changes; the result is `live`'s own list when nothing does."""
    sent = (new.get("metadata") or {}).get("managedFields")
    kept = (live.get("metadata") or {}).get("managedFields") if live is not None else None
    if sent == [{}]:
        return []  # the documented way to give up all tracking; the next apply starts anew
    base = sent if live is None or (sent and sent != kept) else kept
    managers = _decode(base, trusted=base is kept)
    if not managers and base is not kept:
        base = kept  # what cannot be read is as if it had not been sent
        managers = _decode(base)
    if live is not None and not managers:
        return []
    changed, removed = _changes(live, new, root_of(schema), unchanged)
    if changed is None and removed is None:
        return base if isinstance(base, list) else []
    own = _Manager(manager, "Update", api_version, subresource, time, changed or LEAF)
    if not managers:
        return [_entry(own)]
    made = _noted(managers, own, changed or {}, removed or {})
    if made is None:
        return base if isinstance(base, list) else []
    return made


def note_update(
    entries: list[Object],
    changed: FieldSet,
    removed: FieldSet,
    *,
    manager: str,
    api_version: str,
    time: str,
    subresource: str = "",
) -> list[Object]:
    """The stored managedFields `entries` after an update that changed and removed these fields; `entries` itself when
    that makes no difference."""
    managers = _decode(entries)
    if not managers:
        return entries  # nobody tracks this object
    own = _Manager(manager, "Update", api_version, subresource, time, LEAF)
    made = _noted(managers, own, fieldset.ordered(changed), removed)
    return entries if made is None else made


def _noted(managers: list[_Manager], own: _Manager, changed: FieldSet, removed: FieldSet) -> list[Object] | None:
    """None: as it was."""
    updated = _hand_over(managers, own, changed, removed)
    return None if updated == managers else _encode(_capped(updated))


def _changes(
    live: Object | None, new: Object, root: Type, unchanged: Collection[str]
) -> tuple[FieldSet | None, FieldSet | None]:
    after = owned(new, unchanged)
    if live is not None:
        changed, removed = fieldset.compare(owned(live, unchanged), after, root)
        return changed and fieldset.ordered(changed), removed
    found = {"f:" + k: fieldset.created_segment(after[k], fieldset.child_type(root, k)) for k in sorted(after)}
    return found or None, None


def _hand_over(managers: list[_Manager], own: _Manager, changed: FieldSet, removed: FieldSet) -> list[_Manager]:
    """`own` takes what changed from everybody else; what was removed is nobody's."""
    out: list[_Manager] = []
    mine, mine_time, identity = changed, own.time, own.identity
    for m in managers:
        rest = fieldset.subtract(m.fields, removed) if removed else m.fields
        if m.identity == identity:
            mine = fieldset.union_roots(rest, changed)
            mine_time = m.time if mine == m.fields else own.time
            continue
        rest = fieldset.subtract(rest, changed) if changed else rest
        if rest:
            out.append(m if rest is m.fields else replace(m, fields=rest))
    if mine:
        out.append(_Manager(*identity, mine_time, mine))
    return out


def _capped(managers: list[_Manager]) -> list[_Manager]:
    """At most MAX_UPDATE_MANAGERS update entries: the oldest of one version are merged into its ANCIENT entry."""
    updates = sorted((m for m in managers if m.operation == "Update"), key=lambda m: (m.time, m.manager))
    excess = len(updates) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return managers
    gone: set[tuple[str, str, str, str]] = set()
    buckets: dict[str, _Manager] = {}
    for m in updates:
        if excess <= 0:
            break
        bucket = buckets.get(m.api_version)
        gone.add(m.identity)
        if bucket is None:
            buckets[m.api_version] = m
            continue
        fields = fieldset.union_roots(bucket.fields, m.fields)
        buckets[m.api_version] = _Manager(ANCIENT, "Update", m.api_version, "", m.time, fields)
        excess -= 1
    return [m for m in managers if m.identity not in gone] + list(buckets.values())


# --- apply -----------------------------------------------------------------------------------------------------------


def apply(
    live: Object | None,
    applied: Object,
    *,
    manager: str,
    api_version: str,
    time: str,
    schema: str | Type | None,
    force: bool = False,
    subresource: str = "",
    reset: Collection[str] = (),
) -> tuple[Object, list[Object]]:
    """(merged object, its managedFields); neither argument is changed.

    `live` None creates. `reset` names top-level fields that this endpoint does not accept (status at the main one).
    Fields that only this manager owned and no longer applies are removed; defaults come afterwards, from the caller.
    What `kubectl apply` noted in the live object's annotation, kubectl may take from others, and then keeps the annotation.
    Raises ApiError 409 with FieldManagerConflict causes unless `force`, 400 for managedFields or bad lists in `applied`.
    """
    if (applied.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    root = root_of(schema)
    configuration = owned(applied, reset)
    own = _Manager(manager, "Apply", api_version, subresource, time, extract({**configuration}, root))
    renewed = lastapplied.renewed if manager == lastapplied.MANAGER else lambda merged, _: merged
    if live is None:
        return renewed({k: v for k, v in applied.items() if k not in reset}, applied), _encode([own])
    managers = _managers_of(live, root, api_version, time)
    try:
        merged = fieldset.merge(live, _mergeable(applied, configuration), root)
    except fieldset.BadList as e:
        raise _untyped(applied, e) from None
    changed, _ = fieldset.compare(owned(live), owned(merged), root)
    free = _freed(live, root, api_version) if manager == lastapplied.MANAGER else LEAF
    others = _without_conflicts([m for m in managers if m.identity != own.identity], changed or {}, force, free)
    last = next((m for m in managers if m.identity == own.identity), None)
    if last is not None:
        merged = _pruned(merged, last.fields, own.fields, others, root)
    if last is not None and last.fields == own.fields and merged == live:
        own = last  # nothing happened: the time stays
    entries = _encode([*others, own])
    return renewed(merged, applied), entries


def hand_over_elsewhere(
    entries: list[Object],
    api_version: str,
    live: Object,
    new: Object,
    *,
    schema: str | Type | None,
    judged: bool,
) -> list[Object]:
    """managedFields after a write in one version, for the entries of another: both objects as `api_version` has them.

    What changed there is no longer its owners'; `judged`: an apply that does not force may not take anything from them.
    The list itself when nothing does. Raises ApiError 409 with FieldManagerConflict causes.
    """
    managers = _decode(entries)
    there = [m for m in managers if m.api_version == api_version]
    changed, removed = fieldset.compare(owned(live), owned(new), root_of(schema))
    if not there or (changed is None and removed is None):
        return entries
    reduced = _without_conflicts(there, changed or {}, force=not judged)
    if removed:
        reduced = [replace(m, fields=fieldset.subtract(m.fields, removed)) for m in reduced]
    return _encode([m for m in managers if m.api_version != api_version] + [m for m in reduced if m.fields])


def _mergeable(applied: Object, configuration: Object) -> Object:
    """What is laid over the live object: the owned fields, and the names, which must stay."""
    out = dict(configuration)
    for key in ("apiVersion", "kind"):
        if key in applied:
            out[key] = applied[key]
    return out


def _managers_of(live: Object, root: Type, api_version: str, time: str) -> list[_Manager]:
    """Everything in an object that nobody manages belongs to BEFORE_FIRST_APPLY."""
    managers = _decode((live.get("metadata") or {}).get("managedFields"))
    if managers:
        return managers
    everything, _ = _changes(None, live, root, ())
    return [_Manager(BEFORE_FIRST_APPLY, "Update", api_version, "", time, everything or {})]


def _freed(live: Object, root: Type, api_version: str) -> FieldSet:
    """What kubectl may take from others, since its own annotation tells that it was applied."""
    noted = lastapplied.noted(live, api_version)
    try:
        return lastapplied.still_so(owned(noted), owned(live), root) if noted else LEAF
    except fieldset.BadList:
        return LEAF


def _without_conflicts(others: list[_Manager], changed: FieldSet, force: bool, free: FieldSet = LEAF) -> list[_Manager]:
    """`free`: what may be taken without force."""
    found = [(m, path) for m in others for path in fieldset.intersect(changed, m.fields)]
    if found and not force:
        allowed = set(fieldset.intersect(changed, free))
        if denied := [(m, path) for m, path in found if path not in allowed]:
            raise _conflict(denied)
    if not found:
        return others
    reduced = [replace(m, fields=fieldset.subtract(m.fields, changed)) for m in others]
    return [m for m in reduced if m.fields]


def _conflict(found: list[tuple[_Manager, str]]) -> ApiError:
    causes = [FieldError("FieldManagerConflict", path, f"conflict with {m}") for m, path in found]
    if len(found) == 1:
        m, path = found[0]
        text = f"Apply failed with 1 conflict: conflict with {m}: {path}"
    else:
        lines = []
        for name in sorted({str(m) for m, _ in found}):
            lines.append(f"conflicts with {name}:")
            lines += [f"- {path}" for m, path in found if str(m) == name]
        text = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, causes=causes)


def _pruned(merged: Object, last: FieldSet, now: FieldSet, others: list[_Manager], root: Type) -> Object:
    rest: FieldSet = {}
    for m in others:
        rest = fieldset.union_roots(rest, m.fields)
    # metadata itself always stays: it holds what nobody owns
    out: Object = fieldset.prune(merged, last, {"f:metadata": LEAF, **now}, rest, root)
    return out
