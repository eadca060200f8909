"""Services and the pods that they select: ports that no container has, selectors that miss by a letter.

A selector that matches nothing is silent, since Services often come first; unless a workload is there whose labels differ
only in how they are spelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from jota.api import object as at_rest
from jota.api.hints.lookup import Lookup
from jota.kinds.kind import Object
from jota.kinds.shape import deep, number, part, parts, strings, text
from jota.meta.resource import DEPLOYMENTS, PODS, Resource
from jota.store.protocol import Entry

MOST = 200
"""Objects of one kind that are looked at; where there are more, nothing is said."""
_WORKLOADS = (
    DEPLOYMENTS,
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
)


class _Template(msgspec.Struct):
    metadata: _Labelled | None = None


class _Labelled(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Spec(msgspec.Struct):
    template: _Template | None = None


class _Workload(msgspec.Struct):
    spec: _Spec | None = None


_decode = msgspec.json.Decoder(_Workload).decode


class _Pods(NamedTuple):
    """Pods of one template, or one pod; only the labels are decoded."""

    resource: Resource
    entry: Entry
    labels: dict[str, str]

    @property
    def owner(self) -> str:
        return f"{self.resource.kind} {self.entry.key.rpartition('/')[2]}"

    def ports(self, lookup: Lookup) -> list[Object]:
        """What its containers declare."""
        obj = lookup.registry.decoded(self.resource, self.entry)
        spec = part(obj, "spec") if self.resource is PODS else part(deep(obj, "spec", "template"), "spec")
        return [port for container in _containers(spec) for port in parts(container, "ports")]


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
    # workloads come first: what they declare is what their pods do, which are looked at only when that is not enough
    declared: list[Object] = []
    said: list[str] = []
    for one in chosen:
        new = [port for port in one.ports(lookup) if port not in declared]
        declared += new
        if new or one is chosen[0]:
            said = [
                word
                for i, port in enumerate(parts(spec, "ports"))
                for word in _port(port, f"spec.ports[{i}]", declared, chosen[0].owner)
            ]
        if not said and declared:
            return
    yield from said


def _candidates(lookup: Lookup) -> Iterator[_Pods]:
    for resource in _WORKLOADS:
        for entry in lookup.registry.entries(resource, lookup.namespace, limit=MOST):
            yield _Pods(resource, entry, _template_labels(entry))
    for entry in lookup.registry.entries(PODS, lookup.namespace, limit=MOST):
        yield _Pods(PODS, entry, at_rest.labels(entry))


def _template_labels(entry: Entry) -> dict[str, str]:
    """Read past everything else: nothing is made of it."""
    value = entry.value or b""
    try:
        found = _decode(b"{" + value[value.index(at_rest.NEWLINE) + 2 :] + b"}")
    except (msgspec.MsgspecError, ValueError):  # an old or foreign writer left another type there
        return {}
    template = found.spec.template if found.spec is not None else None
    return (template.metadata.labels if template is not None and template.metadata is not None else None) or {}


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

    seen: set[tuple[str, ...]] = set()
    for candidate in known:
        if not selector.keys() <= candidate.labels.keys():
            continue
        values = tuple(candidate.labels[k] for k in selector)
        if values in seen:
            continue  # another pod of the same template
        seen.add(values)
        wrong = {k: v for k, v in selector.items() if candidate.labels[k] != v}
        likeness = (SequenceMatcher(None, v, candidate.labels[k]) for k, v in wrong.items())
        if all(m.real_quick_ratio() >= 0.6 and m.quick_ratio() >= 0.6 and m.ratio() >= 0.6 for m in likeness):
            have = ",".join(f"{k}={candidate.labels[k]}" for k in wrong)
            want = ",".join(f"{k}={v}" for k, v in wrong.items())
            yield f"spec.selector: no pod has {want}; {candidate.owner} has {have}: did you mean that?"
            return
