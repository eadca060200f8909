"""The API over TLS: GET, LIST, POST and PATCH against a real server process

`jota up --nodes 0 --audit-log FILE`: API, store, controllers and scheduler in one process. An ordinary user asks (of the
administrator neither RBAC nor flow control asks anything): every request is authenticated by its client certificate, queued
by priority and fairness, authorised by RBAC, admitted, owned field by field (managedFields) and noted in the audit log, reads
too (but where it says otherwise); writes are acknowledged after the fsync. Pods take about 3.9 KB at rest and name a scheduler
that is not there, so that nothing but their creation is measured. The peer of the reads is the least that an HTTPS server in
Python can do (bench/bare.py: the same loop and parser, one fixed answer of the same bytes, no API): it tells what this machine
gives.
"""

from __future__ import annotations

import json
import ssl
import time
from typing import Any

from bench import load
from bench.bare import NAME as BARE
from bench.bare import bare
from bench.cluster import Cluster, directory, jota
from bench.figure import Figure, median
from jota.wire.answer import PIECE

PODS = 5_000
_ONE = (
    "one process on one core decodes, authorises, admits, encodes and encrypts every request; several edge processes in "
    "front of one store would mend it on a machine with more cores"
)
_HALF = (
    "one time in a hundred a dozen requests are read in one turn of the loop and begun, 0.2 ms each, before the commit that "
    "they share; priority and fairness keep nobody waiting at half load, whoever asks. Several edge processes would mend it"
)
_WRITES_ONLY = """
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: None, verbs: [get, list, watch]}, {level: Metadata}]
"""


def run() -> list[Figure]:
    with directory() as made:
        made.up(0, "--audit-log", str(made.directory / "audit.log"))
        user = made.as_user("bench", "edit")
        figures = [*_create(user), *_update(user), *_list(user), *_get(user)]
        jota("down", "--name", made.name)
        policy = made.directory / "policy.yaml"
        policy.write_text(_WRITES_ONLY)
        made.up(0, "--audit-policy", str(policy), "--audit-log", str(made.directory / "audit.log"))
        busy = _load(user, "GET", _one_pod(user), connections=32, seconds=4)
        return [*figures, _rate("the same, when the audit policy leaves reads out", busy, 30_000)]


def _create(made: Cluster) -> list[Figure]:
    maps = _load(made, "POST", _path("configmaps"), body=_text(_configmap()), connections=64, seconds=4)
    paced = _load(made, "POST", _path("configmaps"), body=_text(_configmap()), connections=10, seconds=2, first=10**7)
    pods = _load(made, "POST", _path("pods"), body=_text(_pod()), connections=64, total=PODS, first=10**8)
    return [
        _rate("POST ConfigMap (1 KB), 64 clients", maps, 2_000),
        Figure(
            name="POST ConfigMap (1 KB), 10 clients, p95",
            value=paced["p95"],
            unit="ms",
            peer="kube-apiserver on etcd, rancher/dartboard",
            peer_value=15,
            published=True,
        ),
        _rate("POST Pod (3.9 KB at rest), 64 clients", pods, 3_000),
        _at_half_load(made, maps["rate"]),
    ]


def _update(made: Cluster) -> list[Figure]:
    """Objects that `_create` made, each once: replaced whole, and patched (as agents, controllers and `kubectl label` do)."""
    map_ = _text({**_configmap(), "data": {"text": "y" * 1000}})
    label = _text({"metadata": {"labels": {"bench": "n#"}}})
    maps = _load(made, "PUT", _path("configmaps/c#"), body=map_, connections=64, total=PODS, first=0)
    pods = _load(made, "PATCH", _path("pods/p#"), body=label, connections=64, total=PODS, first=10**8)
    return [_rate("PUT ConfigMap (1 KB), 64 clients", maps), _rate("PATCH Pod (a label), 64 clients", pods)]


def _at_half_load(made: Cluster, most: float) -> Figure:
    """One client's creates while 32 others of the same user, paced, create half of what the server can."""
    pause = 32 / (most / 2)
    where = {"config": made.config, "work": str(made.directory), "mode": "rate"}
    path, body = _path("configmaps"), _text(_configmap())
    common = {"method": "POST", "path": path, "body": body, **where}
    others = load.start({**common, "connections": 32, "seconds": 5, "first": 2 * 10**8, "pause": pause})
    try:
        time.sleep(0.5)
        one = _load(made, "POST", path, body=body, connections=1, seconds=3, first=3 * 10**8)
        rate = load.result(others)["rate"]
    finally:
        if others.poll() is None:
            others.kill()
            others.wait()
    return Figure(
        name="POST ConfigMap (1 KB), one client at half load, p99",
        value=one["p99"],
        unit="ms",
        target=5,
        note=f"p50 {one['p50']:.2f} ms; the others made {rate:,.0f} a second",
        why=_HALF,
    )


def _list(made: Cluster) -> list[Figure]:
    whole, page = _path("pods"), _path("pods") + "?limit=500"
    found = _ask(made, mode="drain", paths=[whole, page], times=15)
    took = [seconds for _, seconds in found[whole]]
    size = found[whole][0][0]
    encrypting = median(_ask(made, mode="encrypt", size=size, piece=PIECE, times=15)["seconds"])
    with made.http() as api:
        _, everything = api.send("GET", whole)
    with bare(made.directory, everything) as other:
        least = [seconds for _, seconds in _ask(other, mode="drain", paths=[whole], times=15)[whole]]
    return [
        Figure(
            name=f"LIST of {PODS:,} pods",
            value=1000 * median(took),
            unit="ms",
            target=15,
            peer=BARE,
            peer_value=1000 * median(least),
            note=(
                f"{size / 1e6:.1f} MB, best of 15: {1000 * min(took):.1f} ms; to encrypt as much and do nothing else takes "
                f"{' '.join(ssl.OPENSSL_VERSION.split()[:2])} {1000 * encrypting:.1f} ms on one core"
            ),
            why=(
                "one core joins the objects as they are at rest, encrypts them and hands them to the kernel; to encrypt is half "
                "of it (see the note), and the client, on the other core, keeps up. The figure has two values, half as much "
                "again apart, as has everything that only computes (the note's figure, too): a virtual processor changes its "
                "speed by that much, for tens of milliseconds or for minutes, while nothing else runs on this machine (its "
                "core's other thread is somebody else's, it seems). OpenSSL from 3.1 on encrypts in two thirds of the time "
                "where the processor has wide AES; TLS in a second thread would mend it on a machine with more cores. Clients "
                "that page (limit=500) wait an eighth of it for their first objects"
            ),
        ),
        Figure(
            name="LIST of 500 pods (limit=500)", value=1000 * median([seconds for _, seconds in found[page]]), unit="ms"
        ),
    ]


def _get(made: Cluster) -> list[Figure]:
    path = _one_pod(made)
    with made.http() as api:
        _, pod = api.send("GET", path)
    busy = _load(made, "GET", path, connections=32, seconds=4)
    alone = _load(made, "GET", path, connections=1, seconds=2)
    with bare(made.directory, pod) as other:
        least = _load(other, "GET", path, connections=32, seconds=4)
        least_alone = _load(other, "GET", path, connections=1, seconds=2)
    return [
        _rate("GET Pod (3.9 KB at rest), 32 clients", busy, 30_000, least),
        Figure(
            name="GET Pod (3.9 KB at rest), 1 client, p50",
            value=alone["p50"],
            unit="ms",
            peer=BARE,
            peer_value=least_alone["p50"],
            why=_ONE,
        ),
    ]


def _one_pod(made: Cluster) -> str:
    with made.http() as api:
        name = api.json("GET", _path("pods") + "?limit=1")["items"][0]["metadata"]["name"]
    return f"{_path('pods')}/{name}"


def _rate(name: str, found: dict[str, Any], target: float | None = None, peer: dict[str, Any] | None = None) -> Figure:
    failed = {code: count for code, count in found["codes"].items() if not code.startswith("2")}
    if failed:
        raise RuntimeError(f"{name}: answers that are no success: {failed}")
    note = f"p50 {found['p50']:.2f} ms, p99 {found['p99']:.2f} ms"
    return Figure(
        name=name,
        value=found["rate"],
        unit="requests/s",
        better="more",
        target=target,
        peer=BARE if peer else "",
        peer_value=peer["rate"] if peer else None,
        note=note,
        why=_ONE,
    )


def _load(made: Cluster, method: str, path: str, **options: Any) -> dict[str, Any]:
    return _ask(made, mode="rate", method=method, path=path, **options)


def _ask(made: Cluster, **options: Any) -> dict[str, Any]:
    return load.run(config=made.config, work=str(made.directory), **options)


def _path(plural: str) -> str:
    return f"/api/v1/namespaces/default/{plural}"


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _configmap() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c#"}, "data": {"text": "x" * 1000}}


def _pod() -> dict[str, Any]:
    """A web server's pod as teams write it: environment, a probe, resources, a volume."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    web = {
        "name": "web",
        "image": "registry.example.org/shop/web:1.42.0",
        "args": ["--listen=:8080"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"SETTING_{n}", "value": f"value-of-setting-{n}"} for n in range(3)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": probe,
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/web", "readOnly": True}],
    }
    spec = {
        "schedulerName": "nobody",
        "containers": [web],
        "volumes": [{"name": "settings", "configMap": {"name": "web-settings"}}],
    }
    meta = {"name": "p#", "labels": {"app": "web", "tier": "front", "pod-template-hash": "6d4b75cb6d"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
