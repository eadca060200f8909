"""What controllers make of a Pod (client/pods.py) beside what it says itself: how its changes find their way to keys.

All controllers of a process share one cache of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from jota.client.cache import Cache
from jota.client.indexes import Alike
from jota.client.informer import key_of
from jota.client.podparts import ObjectMeta as ObjectMeta
from jota.client.podparts import OwnerReference as OwnerReference
from jota.client.podparts import PodClaim as PodClaim
from jota.client.podparts import PodStatus as PodStatus
from jota.client.podparts import Toleration as Toleration
from jota.client.pods import CONDITIONS, DELETION, ENDED, FINISHED, LABELS, OWNERS, PLACED
from jota.client.pods import Pod as Pod
from jota.client.sharing import MOST


class Partial(msgspec.Struct, gc=False):
    """Any object's metadata (PartialObjectMetadata)."""

    metadata: ObjectMeta
    apiVersion: str = ""
    kind: str = ""


class LeaseSpec(msgspec.Struct, gc=False):
    renewTime: str | None = None


class Lease(msgspec.Struct, gc=False):
    """A Lease: each node renews its own every ten seconds."""

    metadata: ObjectMeta
    spec: LeaseSpec | None = None


KIND = LABELS | OWNERS | CONDITIONS | DELETION | FINISHED
"""The changes of a pod by which `kind_of` it may become another one."""


def kind_of(pod: Pod) -> tuple[int, int, int, bool, bool]:
    """Pods of one kind share labels, owners and conditions, and whether they have ended and are being deleted: the first of
    them tells of all. Good as long as there is a pod of the kind."""
    meta, status = pod.metadata, pod.status
    return (
        id(meta.labels),
        id(meta.ownerReferences),
        id(status.conditions),
        status.phase in ENDED,
        meta.deletionTimestamp is None,
    )


def grouped(pods: Iterable[Pod]) -> list[Alike[Pod]]:
    """The same pods, those together that are of one kind."""
    groups: dict[tuple[int, int, int, bool, bool], dict[str, Pod]] = {}
    for pod in pods:
        groups.setdefault(kind_of(pod), {})[pod.metadata.uid] = pod
    return [Alike(found, kind, found) for kind, found in groups.items()]


def index_by_labels(pods: Cache[Pod]) -> None:
    """Keep the index "labels": by namespace, in which `groups` gives those together that have the same labels. Of use to who
    selects: one look at each group."""
    pods.add_index("labels", _namespace_of, on=LABELS, kind=_labels_of)


def _namespace_of(pod: Pod) -> tuple[str]:
    return (pod.metadata.namespace,)


def _labels_of(pod: Pod) -> int:
    return id(pod.metadata.labels)


def index_by_kind(pods: Cache[Pod]) -> None:
    """Keep the index "kind": by namespace, in which `groups` gives those together that are of one kind."""
    pods.add_index("kind", _namespace_of, on=KIND, kind=kind_of)


def index_by_node(pods: Cache[Pod]) -> None:
    """Keep the index "node"."""
    pods.add_index("node", _node_of, on=PLACED)


def _node_of(pod: Pod) -> tuple[str, ...]:
    return (pod.spec.nodeName,) if pod.spec.nodeName else ()


class ByLabels:
    """Answers about pods that follow from their namespace and labels alone. Pods of one template share their labels, and so the
    answer, until `forget` is called."""

    def __init__(self, look: Callable[[str, dict[str, str]], list[str]]) -> None:
        self._look = look
        self._known: dict[tuple[str, int], tuple[dict[str, str] | None, list[str]]] = {}
        """(namespace, identity of labels) -> the labels, kept so that their identity stays theirs, and the answer."""

    def __call__(self, pod: Pod) -> list[str]:
        meta = pod.metadata
        place = meta.namespace, id(meta.labels)
        found = self._known.get(place)
        if found is None:
            if len(self._known) >= MOST:
                self._known.clear()
            found = self._known[place] = meta.labels, self._look(meta.namespace, meta.labels or {})
        return found[1]

    def forget(self) -> None:
        self._known.clear()


def mine_or_nobodys(kind: str, group: str = "") -> Callable[[Pod], bool]:
    """Of which pods the controller of a `kind` hears (`of` of Controller.watch): those that it manages, and orphans to adopt."""

    def concerns(pod: Pod) -> bool:
        owner = pod.metadata.controller
        return owner is None or (owner.kind == kind and owner.group == group)

    return concerns


def alike(old: Pod, new: Pod) -> bool:
    """Two states of one pod with the same owners and labels: who looks for it by these finds it in the same places."""
    was, meta = old.metadata, new.metadata
    return was.labels is meta.labels and was.ownerReferences is meta.ownerReferences


def pod_key(pod: Pod) -> tuple[str]:
    return (pod.key,)


def controlled_by(kind: str, group: str = "") -> Callable[[Pod], Iterable[str]]:
    """Keys of a Pod's controlling owner when that is a `kind`, for Controller.watch."""

    def keys(pod: Pod) -> Iterable[str]:
        owner = pod.metadata.controller
        if owner is not None and owner.kind == kind and owner.group == group:
            return (key_of(pod.metadata.namespace, owner.name),)
        return ()

    return keys
