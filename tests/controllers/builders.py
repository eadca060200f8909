"""Short forms of objects for the planners' tables."""

from __future__ import annotations

from typing import Any

import msgspec

from jota.aio.clock import rfc3339
from jota.controllers.views import Pod
from jota.pki.ca import CertificateAuthority

NOW = 1_800_000_000.0
AUTHORITY = CertificateAuthority(CertificateAuthority.create("test", days=9, now=NOW))
CA_PEM = AUTHORITY.certificate_pem.decode()


def pod(name: str = "p", **given: Any) -> Pod:
    """node, phase, ready (seconds since), age (seconds), labels, owner (uid), restarts, ip, terminating."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": given.get("namespace", "ns"),
        "uid": given.get("uid", "uid-" + name),
        "resourceVersion": "1",
        "labels": given.get("labels", {}),
        "annotations": given.get("annotations", {}),
        "creationTimestamp": rfc3339(NOW - given.get("age", 100)),
    }
    if "owner" in given:
        meta["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": given["owner"], "controller": True}
        ]
    if given.get("terminating"):
        meta["deletionTimestamp"] = rfc3339(NOW)
    status: dict[str, Any] = {"phase": given.get("phase", "Running")}
    if "ready" in given:
        ready = given["ready"]
        status["conditions"] = [
            {
                "type": "Ready",
                "status": "False" if ready is False else "True",
                "lastTransitionTime": rfc3339(NOW - (ready or 0)),
            }
        ]
    if "ip" in given:
        status |= {"podIP": given["ip"], "podIPs": [{"ip": given["ip"]}]}
    if "restarts" in given:
        status["containerStatuses"] = [{"restartCount": given["restarts"]}]
    spec: dict[str, Any] = {"containers": [{"name": "c", "ports": given.get("ports", [])}]}
    if given.get("node", "n1"):
        spec["nodeName"] = given.get("node", "n1")
    spec["tolerations"] = given.get("tolerations", [])
    return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, Pod)


def replica_set(name: str = "rs", replicas: int = 3, **given: Any) -> dict[str, Any]:
    labels = given.get("labels", {"app": "web"})
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": given.get("uid", "uid-" + name),
        "generation": 1,
        "creationTimestamp": rfc3339(NOW - given.get("age", 0)),
        "annotations": given.get("annotations", {}),
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"image": given.get("image", "v1")}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    ready = given.get("ready", 0)
    status = {"replicas": given.get("have", replicas), "readyReplicas": ready, "availableReplicas": ready}
    return {"metadata": meta, "spec": spec, "status": {**status, "observedGeneration": 1}}


def deployment(replicas: int = 3, image: str = "v1", **given: Any) -> dict[str, Any]:
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxSurge": given.get("surge", "25%"),
                "maxUnavailable": given.get("unavailable", "25%"),
            },
        },
        "revisionHistoryLimit": given.get("history", 10),
        "progressDeadlineSeconds": 600,
    }
    if given.get("recreate"):
        spec["strategy"] = {"type": "Recreate"}
    if given.get("paused"):
        spec["paused"] = True
    meta = {"name": "web", "namespace": "ns", "uid": "uid-web", "generation": 1, "annotations": {}}
    return {"metadata": meta, "spec": spec, "status": given.get("status", {})}
