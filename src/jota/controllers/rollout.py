"""The decisions of a Deployment: which ReplicaSets get which sizes now. Pure; the rules are Kubernetes'.

In: the deployment and its sets. Out: a Plan of creates, new sizes, notes and deletes; deployment.py carries it out and
rollout_status.py says what the status then is. At most one step of a rollout is decided per call: the change comes back
as an event, and the next call sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jota.controllers.revisions import (
    DESIRED,
    MAXIMUM,
    counted,
    created,
    find_new,
    max_surge,
    max_unavailable,
    new_set,
    notes_of,
    number,
    renewed_notes,
    replicas,
    revision,
    size_notes,
)

Object = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Change:
    """One set gets a size and notes."""

    set: Object
    size: int
    notes: dict[str, str]


@dataclass(slots=True)
class Plan:
    new: Object | None = None
    """The set with the current template, when it exists."""
    old: list[Object] = field(default_factory=list)
    create: Object | None = None
    changes: list[Change] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    revision: str = ""
    """What the deployment's own revision annotation must be; "" leaves it."""

    def sets(self) -> list[Object]:
        return [*self.old, *([self.new] if self.new else [])]


def plan(deployment: Object, sets: list[Object], old_pods_running: bool) -> Plan:
    """What to do now. `old_pods_running`: pods of old sets exist that have not finished (Recreate waits for them)."""
    new = find_new(deployment, sets)
    out = Plan(new, [s for s in sets if s is not new])
    if "deletionTimestamp" in deployment["metadata"]:
        return out
    paused = bool(deployment["spec"].get("paused"))
    if paused or _is_scaling(deployment, sets):
        _note_revision(deployment, out)
        _scale(deployment, out)
        if paused:
            _clean_up(deployment, out)
    elif (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        _recreate(deployment, out, old_pods_running)
    else:
        _roll(deployment, out)
    return out


# -- the two strategies


def _roll(deployment: Object, out: Plan) -> None:
    _ensure_new(deployment, out)
    if out.create is not None or out.new is None:
        return
    target = _new_size(deployment, out)
    if target != replicas(out.new):
        return _resize(deployment, out, out.new, target)
    if not _shrink_old(deployment, out) and complete(deployment, out):
        _clean_up(deployment, out)
    return None


def _recreate(deployment: Object, out: Plan, old_pods_running: bool) -> None:
    _note_revision(deployment, out)
    active = [s for s in out.old if replicas(s) > 0]
    for one in active:
        _resize(deployment, out, one, 0)
    if active or old_pods_running:
        return
    _ensure_new(deployment, out)
    if out.new is not None and out.create is None:
        if replicas(out.new) != replicas(deployment):
            _resize(deployment, out, out.new, replicas(deployment))
        elif complete(deployment, out):
            _clean_up(deployment, out)


def complete(deployment: Object, out: Plan) -> bool:
    """As the last written status had it."""
    wanted, status = replicas(deployment), deployment.get("status") or {}
    return (
        all((status.get(f) or 0) == wanted for f in ("updatedReplicas", "replicas", "availableReplicas"))
        and (status.get("observedGeneration") or 0) >= deployment["metadata"].get("generation", 0)
        and out.new is not None
    )


# -- the new set


def _ensure_new(deployment: Object, out: Plan) -> None:
    if out.new is None:
        size = _new_size(deployment, out)
        out.create = new_set(deployment, size, _next_revision(out))
        out.revision = str(_next_revision(out))
    else:
        _note_revision(deployment, out)


def _next_revision(out: Plan) -> int:
    return max((revision(s) for s in out.old), default=0) + 1


def _note_revision(deployment: Object, out: Plan) -> None:
    """Give the existing new set the newest number (a rollback makes an old set new again) and inherited annotations."""
    if out.new is None:
        return
    notes = renewed_notes(deployment, out.new, _next_revision(out))
    out.revision = notes.get("deployment.kubernetes.io/revision", "")
    ready = deployment["spec"].get("minReadySeconds") or 0
    if notes != notes_of(out.new) or (out.new["spec"].get("minReadySeconds") or 0) != ready:
        changed = {**out.new, "spec": {**out.new["spec"], "minReadySeconds": ready}}
        out.changes.append(Change(changed, replicas(out.new), notes))


def _new_size(deployment: Object, out: Plan) -> int:
    """How large the new set may be now: up to the surge, never above what is wanted."""
    wanted, have = replicas(deployment), replicas(out.new) if out.new else 0
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate" or have > wanted:
        return wanted
    room = wanted + max_surge(deployment) - sum(replicas(s) for s in out.sets())
    return have + max(0, min(room, wanted - have))


# -- the old sets


def _shrink_old(deployment: Object, out: Plan) -> bool:
    """Take from old sets what availability allows: first replicas that are not available anyway, then the oldest."""
    assert out.new is not None
    minimum = replicas(deployment) - max_unavailable(deployment)
    total = sum(replicas(s) for s in out.sets())
    budget = total - minimum - (replicas(out.new) - counted(out.new, "availableReplicas"))
    active = sorted((s for s in out.old if replicas(s) > 0), key=created)
    if not active or budget <= 0:
        return False
    sizes = {s["metadata"]["name"]: replicas(s) for s in active}
    for one in active:
        sick = max(0, replicas(one) - counted(one, "availableReplicas"))
        cut = min(budget, sick)
        sizes[one["metadata"]["name"]] -= cut
        budget -= cut
    surplus = sum(counted(s, "availableReplicas") for s in out.sets()) - minimum
    for one in active:
        cut = max(0, min(sizes[one["metadata"]["name"]], surplus, budget))
        sizes[one["metadata"]["name"]] -= cut
        surplus, budget = surplus - cut, budget - cut
    moved = [s for s in active if sizes[s["metadata"]["name"]] != replicas(s)]
    for one in moved:
        _resize(deployment, out, one, sizes[one["metadata"]["name"]])
    return bool(moved)


def _clean_up(deployment: Object, out: Plan) -> None:
    """Forget the oldest revisions beyond revisionHistoryLimit; only sets that are empty and settled."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None:
        return
    kept = sorted((s for s in out.old if "deletionTimestamp" not in s["metadata"]), key=revision)
    for one in kept[: max(0, len(kept) - limit)]:
        settled = one["metadata"].get("generation", 0) <= counted(one, "observedGeneration")
        if replicas(one) == 0 and counted(one, "replicas") == 0 and settled:
            out.delete.append(one)


# -- scaling


def _is_scaling(deployment: Object, sets: list[Object]) -> bool:
    """spec.replicas changed since the sets were last sized."""
    wanted = str(replicas(deployment))
    return any(replicas(s) > 0 and notes_of(s).get(DESIRED, wanted) != wanted for s in sets)


def _scale(deployment: Object, out: Plan) -> None:
    """A change of spec.replicas alone, in proportion to the sizes the sets have in the middle of a rollout."""
    wanted = replicas(deployment)
    active = [s for s in out.sets() if replicas(s) > 0]
    if len(active) <= 1:
        only = active[0] if active else (out.new or max(out.old, key=created, default=None))
        if only is not None and (replicas(only) != wanted or _stale_notes(deployment, only)):
            _resize(deployment, out, only, wanted)
    elif _saturated(deployment, out.new):
        for one in out.old:
            if replicas(one) > 0:
                _resize(deployment, out, one, 0)
    elif (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate":
        for one, size in proportions(deployment, active):
            if size != replicas(one) or _stale_notes(deployment, one):
                _resize(deployment, out, one, size)


def proportions(deployment: Object, active: list[Object]) -> list[tuple[Object, int]]:
    """Distribute the difference over the sets: each its share, the rest to the largest."""
    wanted = replicas(deployment)
    allowed = wanted + max_surge(deployment) if wanted else 0
    to_add = allowed - sum(replicas(s) for s in active)
    # Largest first; among equals the newest gains first and the oldest loses first.
    oldest = sorted(active, key=created)
    order = sorted(oldest[::-1] if to_add > 0 else oldest, key=replicas, reverse=True)
    sizes, added = [], 0
    for one in order:
        part = _fraction(deployment, one) if to_add else 0
        part = min(part, to_add - added) if to_add > 0 else max(part, to_add - added)
        sizes.append(replicas(one) + part)
        added += part
    sizes[0] = max(0, sizes[0] + to_add - added)
    return list(zip(order, sizes, strict=True))


def _fraction(deployment: Object, one: Object) -> int:
    wanted = replicas(deployment)
    if wanted == 0:
        return -replicas(one)
    before = number(one, MAXIMUM) or counted(deployment, "replicas") or wanted
    target = replicas(one) * (wanted + max_surge(deployment)) / before
    return int(target + 0.5) - replicas(one)  # halves away from zero, as upstream rounds


def _saturated(deployment: Object, new: Object | None) -> bool:
    wanted = replicas(deployment)
    return (
        new is not None
        and notes_of(new).get(DESIRED) == str(wanted)
        and replicas(new) == wanted
        and counted(new, "availableReplicas") == wanted
    )


def _stale_notes(deployment: Object, one: Object) -> bool:
    have = notes_of(one)
    return any(have.get(k) != v for k, v in size_notes(deployment).items())


def _resize(deployment: Object, out: Plan, one: Object, size: int) -> None:
    """Add a change; one that was decided before for the same set (its notes) is merged into it."""
    name = one["metadata"]["name"]
    before = next((c for c in out.changes if c.set["metadata"]["name"] == name), None)
    if before is not None:
        out.changes.remove(before)
        one = before.set
    notes = {**(before.notes if before else notes_of(one)), **size_notes(deployment)}
    out.changes.append(Change(one, size, notes))
