"""Services and the pods that they select: ports that no container has, selectors that miss by a letter.

A selector that matches nothing is silent, since Services often come first; unless a workload is there whose labels differ
only in how they are spelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from jota.api.hints.lookup import Lookup
from jota.kinds.kind import Object
from jota.kinds.shape import deep, meta, number, part, parts, strings, text
from jota.meta.resource import DEPLOYMENTS, PODS, Resource

MOST = 200
"""Objects of one kind that are looked at; where there are more, nothing is said."""
_WORKLOADS = (
    DEPLOYMENTS,
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
)


class _Pods(NamedTuple):
    """Pods of one template, or one pod."""

    owner: str
    labels: dict[str, str]
    spec: Object


def service(obj: Object, lookup: Lookup) -> Iterator[str]:
    spec = part(obj, "spec")
    selector = strings(spec, "selector")
    if not selector or text(spec, "type") == "ExternalName":
        return
    known = list(_candidates(lookup))
    chosen = [p for p in known if selector.items() <= p.labels.items()]
    if not chosen:
        yield from _misspelled(selector, known)
        return
    ports = [port for p in chosen for container in _containers(p.spec) for port in parts(container, "ports")]
    for i, port in enumerate(parts(spec, "ports")):
        yield from _port(port, f"spec.ports[{i}]", ports, chosen[0].owner)


def _candidates(lookup: Lookup) -> Iterator[_Pods]:
    for resource in _WORKLOADS:
        for obj in islice(lookup.registry.objects(resource, lookup.namespace), MOST):
            template = deep(obj, "spec", "template")
            yield _Pods(
                f"{resource.kind} {meta(obj).get('name')}", strings(meta(template), "labels"), part(template, "spec")
            )
    for obj in islice(lookup.registry.objects(PODS, lookup.namespace), MOST):
        yield _Pods(f"Pod {meta(obj).get('name')}", strings(meta(obj), "labels"), part(obj, "spec"))


def _containers(spec: Object) -> list[Object]:
    sidecars = [c for c in parts(spec, "initContainers") if text(c, "restartPolicy") == "Always"]
    return parts(spec, "containers") + sidecars


def _port(port: Object, path: str, ports: list[Object], owner: str) -> Iterator[str]:
    """A name must be declared; a number may be served all the same, so it counts only where others are declared."""
    target = port.get("targetPort", port.get("port"))
    protocol = text(port, "protocol") or "TCP"
    same = [p for p in ports if (text(p, "protocol") or "TCP") == protocol]
    declared = ", ".join(sorted({_shown(p) for p in same})) or "none"
    if isinstance(target, str) and target and not target.isdecimal():
        if not any(text(p, "name") == target for p in same):
            yield f'{path}.targetPort: no container of {owner} has a port named "{target}" (declared: {declared}): it leads nowhere'
    elif isinstance(target, int) and same and not any(number(p, "containerPort") == target for p in same):
        yield f"{path}.targetPort: no container of {owner} declares port {target} (declared: {declared})"


def _shown(port: Object) -> str:
    name = text(port, "name")
    return f"{number(port, 'containerPort')}" + (f" ({name})" if name else "")


def _misspelled(selector: dict[str, str], known: list[_Pods]) -> Iterator[str]:
    from difflib import SequenceMatcher

    for candidate in known:
        if not selector.keys() <= candidate.labels.keys():
            continue
        wrong = {k: v for k, v in selector.items() if candidate.labels[k] != v}
        if all(SequenceMatcher(None, v, candidate.labels[k]).ratio() >= 0.6 for k, v in wrong.items()):
            have = ",".join(f"{k}={candidate.labels[k]}" for k in wrong)
            want = ",".join(f"{k}={v}" for k, v in wrong.items())
            yield f"spec.selector: no pod has {want}; {candidate.owner} has {have}: did you mean that?"
            return
