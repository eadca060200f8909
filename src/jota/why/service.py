"""Why a service does not answer: its endpoints, its selector against the pods' labels, its ports, the pods behind it."""

from __future__ import annotations

from jota.meta.resource import ENDPOINTSLICES, PODS
from jota.meta.selectors import from_map
from jota.why import pod as pods
from jota.why.finding import Finding, Object, subject
from jota.why.world import World


async def explain(world: World, service: Object) -> list[Finding]:
    about, spec, name = subject(service, "Service"), service["spec"], service["metadata"]["name"]
    if spec.get("type") == "ExternalName":
        return [Finding(about, "healthy", {"state": f"CNAME {spec.get('externalName')}"}, "good")]
    slices = await world.list(ENDPOINTSLICES, labels=f"kubernetes.io/service-name={name}")
    ready = sum(
        (e.get("conditions") or {}).get("ready") is not False
        for s in slices
        if s.get("ports")
        for e in s.get("endpoints") or ()
    )
    if ready:
        return [Finding(about, "endpoints", {"count": ready, "address": spec.get("clusterIP", "")}, "good")]
    selector = spec.get("selector")
    if not selector:
        return [Finding(about, "no-selector")]
    everyone = await world.list(PODS)
    matching = [p for p in everyone if from_map(selector).matches(p["metadata"].get("labels"))]
    if not matching:
        return [_no_match(about, selector, everyone)]
    port = _nameless_port(about, spec, matching[0])
    if port is not None:
        return [port]
    found = [Finding(about, "none-ready", {"count": len(matching)})]
    for pod in matching:
        if not pods.is_ready(pod):
            return [*found, *await pods.explain(world, pod)]
    return found


def _no_match(about: str, selector: dict[str, str], everyone: list[Object]) -> Finding:
    """The pod that shares most of the selector, were it only by the values."""
    text = _text(selector)

    def likeness(pod: Object) -> int:
        labels = pod["metadata"].get("labels") or {}
        return sum(2 * (labels.get(k) == v) + (k in labels) + (v in labels.values()) for k, v in selector.items())

    best = max(everyone, key=likeness, default=None)
    if best is None or not likeness(best):
        return Finding(about, "no-match", {"selector": text})
    facts = {"selector": text, "near": subject(best, "Pod"), "labels": _text(best["metadata"].get("labels") or {})}
    return Finding(about, "no-match-near", facts)


def _nameless_port(about: str, spec: Object, pod: Object) -> Finding | None:
    names = {p.get("name") for c in pod["spec"].get("containers") or () for p in c.get("ports") or ()}
    for port in spec.get("ports") or ():
        target = port.get("targetPort")
        if isinstance(target, str) and not target.isdigit() and target not in names:
            return Finding(about, "no-port", {"port": target, "pod": subject(pod, "Pod")})
    return None


def _text(labels: dict[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
