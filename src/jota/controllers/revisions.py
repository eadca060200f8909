"""A Deployment's ReplicaSets as revisions of its template: which one is new, names, annotations. Pure.

In: a deployment and its sets. Out: the set that carries the current template, or the one to create. Next: rollout.py.
"""

from __future__ import annotations

import hashlib
import math
from copy import deepcopy
from typing import Any

import orjson

from jota.aio.clock import parse_rfc3339
from jota.controllers import claim
from jota.meta.resource import DEPLOYMENTS

Object = dict[str, Any]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
    }
)
_HISTORY_LIMIT = 2000
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def notes_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def replicas(obj: Object) -> int:
    """spec.replicas."""
    return int(obj["spec"].get("replicas", 1))


def counted(obj: Object, field: str) -> int:
    """A number of the status, 0 when absent."""
    return int((obj.get("status") or {}).get(field) or 0)


def created(obj: Object) -> tuple[float, str]:
    """Sorts by age, oldest first."""
    stamp = obj["metadata"].get("creationTimestamp")
    return (parse_rfc3339(stamp) if stamp else 0.0, obj["metadata"]["name"])


def revision(obj: Object) -> int:
    return number(obj, REVISION)


def number(obj: Object, annotation: str) -> int:
    text = notes_of(obj).get(annotation, "")
    return int(text) if text.isdigit() else 0


def find_new(deployment: Object, sets: list[Object]) -> Object | None:
    """The oldest set with the deployment's template (several can exist after a collision of two writers)."""
    wanted = comparable(deployment["spec"]["template"])
    return next((s for s in sorted(sets, key=created) if comparable(s["spec"]["template"]) == wanted), None)


def comparable(template: Object) -> Object:
    """The template without its hash label and without what JSON can say in two ways (null, empty list, absent)."""
    out = _pruned(template)
    meta = {k: v for k, v in (out.get("metadata") or {}).items() if v}
    if "labels" in meta:
        meta["labels"] = {k: v for k, v in meta["labels"].items() if k != HASH_LABEL}
    out["metadata"] = {k: v for k, v in meta.items() if v}
    return out  # type: ignore[no-any-return]


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _pruned(v) for k, v in value.items() if v is not None and v != []}
    return [_pruned(v) for v in value] if isinstance(value, list) else value


def template_hash(template: Object, collisions: int) -> str:
    """A name part that depends on the template alone, and on how often the name was taken by something else."""
    text = orjson.dumps(comparable(template), option=orjson.OPT_SORT_KEYS) + (b"%d" % collisions if collisions else b"")
    value, out = int.from_bytes(hashlib.sha256(text).digest()[:8], "big"), ""
    for _ in range(10):
        value, digit = divmod(value, len(_ALPHABET))
        out += _ALPHABET[digit]
    return out


def new_set(deployment: Object, size: int, next_revision: int) -> Object:
    """The ReplicaSet of the current template."""
    meta, spec = deployment["metadata"], deployment["spec"]
    collisions = (deployment.get("status") or {}).get("collisionCount") or 0
    hash_ = template_hash(spec["template"], collisions)
    template = deepcopy(spec["template"])
    template_meta = template.setdefault("metadata", {})
    template_meta["labels"] = {**(template_meta.get("labels") or {}), HASH_LABEL: hash_}
    selector = deepcopy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hash_}
    body: Object = {"replicas": size, "selector": selector, "template": template}
    if spec.get("minReadySeconds"):
        body["minReadySeconds"] = spec["minReadySeconds"]
    notes = {**inherited(deployment), REVISION: str(next_revision), **size_notes(deployment)}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{hash_}",
            "namespace": meta["namespace"],
            "labels": dict(template_meta["labels"]),
            "annotations": notes,
            "ownerReferences": [claim.reference(deployment, DEPLOYMENTS.api_version, DEPLOYMENTS.kind)],
        },
        "spec": body,
    }


def inherited(deployment: Object) -> dict[str, str]:
    """The deployment's annotations that its new set carries too."""
    return {k: v for k, v in notes_of(deployment).items() if k not in _NOT_COPIED}


def size_notes(deployment: Object) -> dict[str, str]:
    wanted = replicas(deployment)
    return {DESIRED: str(wanted), MAXIMUM: str(wanted + max_surge(deployment))}


def renewed_notes(deployment: Object, new: Object, next_revision: int) -> dict[str, str]:
    """What the new set's annotations must become: inherited ones, and the newest revision number."""
    notes = dict(notes_of(new))
    notes.update(inherited(deployment))
    old = revision(new)
    if old < next_revision:
        notes[REVISION] = str(next_revision)
        if old:
            history = [h for h in notes.get(REVISION_HISTORY, "").split(",") if h]
            notes[REVISION_HISTORY] = _bounded([*history, str(old)])
    return notes


def _bounded(history: list[str]) -> str:
    while len(text := ",".join(history)) > _HISTORY_LIMIT:
        history = history[1:]
    return text


def max_surge(deployment: Object) -> int:
    return _fence_posts(deployment)[0]


def max_unavailable(deployment: Object) -> int:
    wanted = replicas(deployment)
    return min(_fence_posts(deployment)[1], wanted) if wanted else 0


def _fence_posts(deployment: Object) -> tuple[int, int]:
    """(maxSurge rounded up, maxUnavailable rounded down); never both 0, or no rollout could move."""
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0, 0
    rolling, wanted = strategy.get("rollingUpdate") or {}, replicas(deployment)
    surge = math.ceil(share(rolling.get("maxSurge", "25%"), wanted))
    unavailable = math.floor(share(rolling.get("maxUnavailable", "25%"), wanted))
    return surge, (1 if surge == 0 and unavailable == 0 else unavailable)


def share(value: int | str, of: int) -> float:
    """An IntOrString: a number, or a percentage of `of`. Raises ValueError."""
    if isinstance(value, int):
        return value
    return int(value.removesuffix("%")) * of / 100
