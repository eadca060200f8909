"""`jota plan -f app.yaml`: where each pod of these manifests would go and why, or what is in the way. Writes nothing.

Every pod is sent through the API server as a dry run, so that defaults, priorities, admission and quota speak as they would;
then the real scheduler places it on a copy of the cluster's state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jota.cli.connection import add_connection, connect
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.run.instance import Refused

_REPLICATED = ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "Job", "DaemonSet")
_MOST = 10_000
"""Pods of one workload that are planned; more is refused rather than cut."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--filename", required=True, action="append", help='manifest file, or "-"')
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 when every pod finds a node, 1 when one does not."""
    documents = [d for name in args.filename for d in _read(name)]
    outcomes = asyncio.run(_plan(args, documents))
    if args.output == "json":
        print(json.dumps(outcomes, indent=2))
    else:
        _print(outcomes)
    return int(any(not o["node"] for o in outcomes))


def _read(name: str) -> list[dict[str, Any]]:
    import yaml

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        found = [d for d in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if d]
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Refused(f"{name} is not YAML: {error}") from error
    if any(not isinstance(d, dict) or not isinstance(d.get("metadata", {}), dict) for d in found):
        raise Refused(f"{name}: a document is not a Kubernetes object")
    return [i for d in found for i in (d.get("items") or [] if d.get("kind") == "List" else [d])]


async def _plan(args: argparse.Namespace, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    client, namespace = connect(args)
    try:
        return await plan(client, namespace, documents)
    except (OSError, TimeoutError) as error:
        raise Refused(f"the server does not answer: {error or 'timed out'}") from error
    except ApiError as error:
        raise Refused(error.message) from error
    finally:
        await client.close()


async def plan(client: Client, namespace: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One outcome per pod, in the order of the documents. Raises ApiError, Refused."""
    from jota.cli.planning import gather, least_of, rehearse_claims
    from jota.scheduler.podgroups import group_of

    rehearsal = await gather(client)
    outcomes: list[dict[str, Any]] = []
    gangs: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    rehearse_claims(rehearsal, namespace, documents)
    for document in documents:
        for owner, pod in _pods(document, list(rehearsal.nodes.slots)):
            where = pod["metadata"].get("namespace") or namespace
            made = await _stored(client, where, pod)
            outcome = await _one(client, rehearsal, made, documents)
            outcomes.append({"owner": owner, **outcome})
            if not isinstance(made, str) and (key := group_of(made)):
                gangs.setdefault(key, []).append((made, outcomes[-1]))
    for key, members in gangs.items():
        _together(rehearsal, key, members, await least_of(client, key, documents))
    return outcomes


def _together(rehearsal: Any, key: str, members: list[tuple[Any, dict[str, Any]]], least: int) -> None:
    """All or none, as the scheduler decides: a gang of which too few find a node finds none."""
    placed = [(pod, outcome) for pod, outcome in members if outcome["node"]]
    name = key.partition("/")[2]
    if least >= 0 and len(placed) >= least:
        return
    why = f'PodGroup "{name}": {len(placed)} of the {least} pods that must be placed together fit'
    first = next((o["message"] for _, o in members if not o["node"]), "more pods of it are needed")
    text = f"{why}: {first}" if least >= 0 else f'PodGroup "{name}" does not exist'
    for pod, outcome in placed:
        rehearsal.lift(pod, outcome["node"])
        outcome |= {"node": "", "message": text}


async def _stored(client: Client, namespace: str, pod: dict[str, Any]) -> Any:
    """The pod (scheduler/pod.py) as the API server would store it; a text when it would refuse it."""
    import msgspec
    import orjson

    from jota.scheduler.pod import Pod

    path = f"/api/v1/namespaces/{namespace}/pods"
    headers = {"content-type": "application/json", "accept": "application/json"}
    reply = await client.raw("POST", path, "dryRun=All", orjson.dumps(pod), headers)
    body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
    if reply.status >= 400:
        return f"{namespace}/{pod['metadata']['name']} {orjson.loads(body).get('message', '')}"
    return msgspec.json.decode(body, type=Pod)


async def _one(client: Client, rehearsal: Any, made: Any, documents: list[dict[str, Any]]) -> dict[str, Any]:
    """What the scheduler would do with the pod."""
    from jota.scheduler.rehearsal import Outcome

    if isinstance(made, str):
        name, _, message = made.partition(" ")
        return asdict(Outcome(name, message=f"the API server would refuse it: {message}"))
    name = made.key
    if made.spec.resourceClaims:
        from jota.cli.planning import rehearse_devices

        await rehearse_devices(client, rehearsal, made, documents)
    if made.spec.schedulingGates:
        gates = ", ".join(g.name for g in made.spec.schedulingGates)
        return asdict(Outcome(name, message=f"it waits for its scheduling gates: {gates}"))
    return asdict(rehearsal.try_pod(made))


def _pods(document: dict[str, Any], nodes: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """(owner, pod) for each pod that the document leads to. Raises Refused."""
    kind, meta, spec = document.get("kind", ""), document.get("metadata") or {}, document.get("spec") or {}
    owner = f"{kind}/{meta.get('name', '')}"
    if kind == "Pod":
        return [(owner, document)]
    if kind not in _REPLICATED:
        return []
    names = nodes if kind == "DaemonSet" else [str(n) for n in range(_count(kind, spec, owner))]
    return [(owner, _pod(kind, meta, spec, part)) for part in names]


def _count(kind: str, spec: dict[str, Any], owner: str) -> int:
    count = spec.get("replicas", 1)
    if kind == "Job":
        count = min(spec.get("parallelism", 1), spec.get("completions") or spec.get("parallelism", 1))
    if not isinstance(count, int) or not 0 <= count <= _MOST:
        raise Refused(f"{owner}: {count} pods; a plan takes 0 to {_MOST} of one workload")
    return count


def _pod(kind: str, meta: dict[str, Any], spec: dict[str, Any], part: str) -> dict[str, Any]:
    """The pod that the controller would make. Raises Refused when there is no template."""
    template = spec.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        raise Refused(f"{kind}/{meta.get('name', '')} has no pod template")
    made = json.loads(json.dumps(template))
    made |= {"apiVersion": "v1", "kind": "Pod"}
    inner = made.setdefault("metadata", {}) or {}
    inner |= {"name": f"{meta.get('name', 'x')}-{part}", "namespace": meta.get("namespace", "")}
    made["metadata"] = inner
    if kind == "DaemonSet":
        affinity = made["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
        only = [{"key": "metadata.name", "operator": "In", "values": [part]}]
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{"matchFields": only}]}
    if kind == "Job":
        made["spec"].setdefault("restartPolicy", "Never")
    if kind == "StatefulSet":
        for claim in spec.get("volumeClaimTemplates") or ():
            name = claim["metadata"]["name"]
            source = {"claimName": f"{name}-{inner['name']}"}
            made["spec"].setdefault("volumes", []).append({"name": name, "persistentVolumeClaim": source})
    return made  # type: ignore[no-any-return]


def _print(outcomes: list[dict[str, Any]]) -> None:
    if not outcomes:
        print("these manifests lead to no pods")
        return
    for o in outcomes:
        if o["node"]:
            best = ", ".join(f"{k} {v:g}" for k, v in sorted(o["scores"].items(), key=lambda i: -i[1])[:3])
            print(f"{o['pod']:<40} -> {o['node']}  (best of {o['feasible']} of {o['total']} nodes: {best})")
        else:
            print(f"{o['pod']:<40} -> nowhere: {o['message']}")
            if o["victims"]:
                print(f"{'':<43} it would displace {', '.join(o['victims'])}")
    placed = Counter(o["node"] for o in outcomes if o["node"])
    print(f"\n{sum(placed.values())} of {len(outcomes)} pods find a node, on {len(placed)} nodes; nothing was changed")
