"""The mirror pod of the node agent: what it looks like, and which pods of a node are mirrors of nothing. Pure.

A kubelet shows what it runs by itself as mirror pods: pods that it writes, bound to itself and owned by its Node, which it
runs whether they are there or not (kubelet's static pods). Here the agent itself is the one thing that a node runs by itself.
Worked example, on node n1 with the agent's pod wanted:

    []                                   -> create kube-system/jota-agent-n1
    [jota-agent-n1 of this hash]         -> it stays; its status is written when it differs
    [jota-agent-n1 of another hash]      -> remove, create: another version runs now
    [jota-agent-n1, terminating]         -> remove, create: deleting it does not end the agent
    [another mirror pod]                 -> remove: this node runs nothing of the kind

Next: mirrorkeeper.py carries it out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from jota.node import status
from jota.node.itself import CONTAINER, Itself
from jota.node.model import Facts, Object, Observed
from jota.node.plan import Plan as PodPlan
from jota.runtime.protocol import Sandbox, SandboxSpec

NAMESPACE = "kube-system"
MIRROR, HASH = "kubernetes.io/config.mirror", "kubernetes.io/config.hash"
SOURCE = "kubernetes.io/config.source"
ORIGIN = "agent"
"""config.source: no file and no URL (upstream's "file", "http"), and above all not "api": the agent itself."""


def name_of(node: str) -> str:
    return f"jota-agent-{node}"


def is_mirror(pod: Object) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def is_own(pod: Object, node: str) -> bool:
    """The mirror pod of the agent of `node`."""
    meta = pod["metadata"]
    return (meta["namespace"], meta["name"]) == (NAMESPACE, name_of(node)) and is_mirror(pod)


def wanted(itself: Itself, node: str) -> Object:
    """The pod, but for its owner. No requests, no account, no command: it is told of, not run."""
    labels = {"app.kubernetes.io/name": "jota-agent", "component": "jota-agent", "tier": "node"}
    spec: Object = {
        "nodeName": node,
        "hostNetwork": True,
        "hostPID": True,
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,  # nothing ends when it is deleted, so nobody waits for it
        "containers": [
            {
                "name": CONTAINER,
                "image": itself.image,
                "imagePullPolicy": "Never",
                "securityContext": {"privileged": True},
            }
        ],
    }
    digest = hashlib.blake2b(orjson.dumps([labels, spec]), digest_size=16).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(node),
            "namespace": NAMESPACE,
            "labels": labels,
            "annotations": {MIRROR: digest, HASH: digest, SOURCE: ORIGIN},
        },
        "spec": spec,
    }


def owned(pod: Object, node: Object) -> Object:
    """With its owner: when the Node goes, the garbage collector takes the pod along."""
    meta = node["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {**pod, "metadata": {**pod["metadata"], "ownerReferences": [owner]}}


@dataclass(slots=True)
class Plan:
    remove: list[Object] = field(default_factory=list)
    own: Object | None = None
    """The agent's pod as it stands in the API, when it may stay."""
    create: bool = False


def plan(pods: Iterable[Object], want: Object | None) -> Plan:
    """`pods`: the mirror pods that are bound to this node. `want`: the agent's own, None when it shows none."""
    out = Plan()
    for pod in pods:
        if want is not None and _same(pod, want):
            out.own = pod
        else:
            out.remove.append(pod)
    out.create = want is not None and out.own is None
    return out


def _same(pod: Object, want: Object) -> bool:
    """By name and hash, and neither on its way out nor changed since in what may be changed of a pod."""
    meta, wish = pod["metadata"], want["metadata"]
    notes, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    return (
        (meta["namespace"], meta["name"]) == (wish["namespace"], wish["name"])
        and "deletionTimestamp" not in meta
        and all(notes.get(k) == v for k, v in wish["annotations"].items())
        and all(labels.get(k) == v for k, v in wish["labels"].items())
        and [c.get("image") for c in pod["spec"]["containers"]] == [c["image"] for c in want["spec"]["containers"]]
    )


def restarts(pod: Object, itself: Itself, known: int) -> int:
    """How often the agent has started again while the API showed it; `known`: what we counted ourselves (a new pod)."""
    shown = (pod.get("status") or {}).get("containerStatuses") or ()
    for one in shown:
        if one.get("containerID"):
            count = int(one.get("restartCount", 0))
            return max(known, count if one["containerID"] == status.ID_PREFIX + itself.id else count + 1)
    return known


def status_of(pod: Object, itself: Itself, count: int, *, ready: bool, host_ip: str, now: float) -> Object:
    """The status by the same rules as every pod's (status.py): one sandbox, the host's, and one running container.

    `ready`: of the node. While it is not, the condition Ready is the node lifecycle controller's: two writers would
    undo each other's word for ever.
    """
    meta = pod["metadata"]
    box = SandboxSpec(meta["uid"], meta["name"], meta["namespace"], host_network=True, host_pid=True)
    container = itself.container(meta["uid"], count)
    seen = Observed([Sandbox(container.sandbox_id, box, "ready", itself.started_at)], [container])
    facts = Facts(start_time=itself.started_at)
    out = status.build(pod, seen, facts, PodPlan(), host_ip=host_ip, now=now)
    if not ready:
        held = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
        out["conditions"] = [held.get("Ready", c) if c["type"] == "Ready" else c for c in out["conditions"]]
    return out
