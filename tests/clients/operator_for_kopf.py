"""The operator that test_kopf.py runs: `kopf run` loads it. What it sees it writes into the cluster."""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config

config.load_kube_config()
GROUP = "kopf.jota.test"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = settings.posting.loggers = True
    settings.persistence.finalizer = "kopf.jota.test/finalizer"


@kopf.on.create("configmaps", labels={"watched": "yes"})
def created(name: str, namespace: str, body: kopf.Body, **_: Any) -> dict[str, Any]:
    """Makes a copy that the garbage collector takes along."""
    copy = {"metadata": {"name": f"{name}-copy"}, "data": dict(body.get("data") or {})}
    kopf.append_owner_reference(copy)
    client.CoreV1Api().create_namespaced_config_map(namespace, copy)
    kopf.info(body, reason="Copied", message="a copy was made")
    return {"copy": f"{name}-copy"}


@kopf.on.update("configmaps", labels={"watched": "yes"}, field="data")
def updated(name: str, namespace: str, diff: kopf.Diff, patch: kopf.Patch, **_: Any) -> None:
    patch.metadata.annotations["changed"] = str(len(diff))


@kopf.on.delete("configmaps", labels={"watched": "yes"})
def deleted(name: str, namespace: str, **_: Any) -> None:
    client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-farewell"}})


@kopf.on.create(GROUP, "v1", "gardens")
def planted(spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> dict[str, Any]:
    if spec.get("size", 0) > 100:
        raise kopf.PermanentError("too large")
    patch.status["flowers"] = spec["size"] * 2
    return {"done": True}


@kopf.timer(GROUP, "v1", "gardens", interval=0.5)
def grows(patch: kopf.Patch, status: kopf.Status, **_: Any) -> None:
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.on.field("apps", "v1", "deployments", field="spec.replicas")
def scaled(new: int, patch: kopf.Patch, **_: Any) -> None:
    patch.metadata.annotations["kopf.jota.test/replicas"] = str(new)
