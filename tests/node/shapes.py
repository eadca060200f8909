"""Short words for planner and status tests: pods, sandboxes and containers as plain values."""

from __future__ import annotations

from typing import Any

from jota.node.config import Curve
from jota.node.model import (
    BACKOFF_STEP,
    RESOURCES,
    SPEC_HASH,
    Facts,
    Failure,
    ImageFact,
    Observed,
    resources_text,
    spec_hash,
)
from jota.node.plan import Plan, plan
from jota.runtime.protocol import Container, Sandbox, SandboxSpec

NOW = 1_800_000_000.0
CURVE = Curve()
UID = "u1"


def pod(*names: str, inits: tuple[Any, ...] = (), **spec: Any) -> dict[str, Any]:
    containers = [{"name": n, "image": f"{n}:1"} for n in names or ("c",)]
    body = {"containers": containers, "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, **spec}
    if inits:
        body["initContainers"] = [i if isinstance(i, dict) else {"name": i, "image": f"{i}:1"} for i in inits]
    return {"metadata": {"name": "web", "namespace": "default", "uid": UID, "generation": 1}, "spec": body}


def sidecar(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": f"{name}:1", "restartPolicy": "Always", **fields}


def box(attempt: int = 0, state: Any = "ready") -> Sandbox:
    return Sandbox(
        f"box{attempt}", SandboxSpec(UID, "web", "default", attempt), state, NOW - 100, f"/run/netns/{attempt}"
    )


def made(
    name: str = "c", state: Any = "running", attempt: int = 0, *, exit: int = 0, ago: float = 50.0, **more: Any
) -> Container:
    """A container that started `ran` seconds before it ended, `ago` seconds ago (or that began `ago` seconds ago)."""
    ran = more.pop("ran", 5.0)
    step, sandbox, has = more.pop("step", attempt), more.pop("sandbox", "box0"), more.pop("has", None)
    image = more.pop("image", f"{name}:1")
    started, finished = (NOW - ago, 0.0) if state == "running" else (NOW - ago - ran, NOW - ago)
    labels = {SPEC_HASH: spec_hash({"name": name, "image": image}), BACKOFF_STEP: str(step)}
    if has is not None:
        labels[RESOURCES] = resources_text({"resources": has})
    return Container(
        f"{name}-{attempt}", sandbox, UID, name, attempt, f"sha256:{name}", f"{name}@sha256:0", state, started,
        0.0 if state == "created" else started, finished, exit, labels=labels, **more,
    )  # fmt: skip


def facts(*images: str, **fields: Any) -> Facts:
    """Volumes are mounted and the images of `images` ("c" or "c/2" for attempt 2) are there."""
    out = Facts(start_time=NOW - 200, volumes_ready=True, **fields)
    for text in images:
        name, _, attempt = text.partition("/")
        out.images[name] = ImageFact(int(attempt or 0), f"{name}:1", f"sha256:{name}")
    return out


def seen(*things: Sandbox | Container, ip: str = "10.42.0.1") -> Observed:
    return Observed([t for t in things if isinstance(t, Sandbox)], [t for t in things if isinstance(t, Container)], ip)


def failure(reason: str = "Broken", *, at: float = NOW, wait: float = 4.0) -> Failure:
    return Failure(reason, "it broke", at, at + wait)


def steps(obj: Any, observed: Observed, known: Facts, now: float = NOW) -> Plan:
    return plan(obj, observed, known, now, CURVE)


def words(result: Plan) -> list[str]:
    """Actions as text: "StartContainer c 1"."""
    out = []
    for a in result.actions:
        fields: dict[str, Any] = a._asdict()
        shown = [str(fields[k]) for k in ("name", "attempt", "id", "step") if k in fields]
        if "deadline" in fields:
            shown.append(f"in {fields['deadline'] - NOW:.0f}")
        out.append(" ".join([type(a).__name__, *shown]))
    return out
