"""Why no node takes a pod because of what else is there: node affinity, ports of the host, pods it wants near or far, spreading.

Pure: pod, nodes and all pods in, the obstacles that stand on every node out. What depends on the labels of namespaces is left to
the scheduler's own words. Next: scheduling.py puts them beside the others.
"""

from __future__ import annotations

from jota.meta.selectors import from_node_terms, from_object
from jota.why.finding import Finding, Object, subject

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def obstacles(pod: Object, nodes: list[Object], pods: list[Object]) -> list[Finding]:
    about, spec = subject(pod, "Pod"), pod["spec"]
    placed = [p for p in pods if p["spec"].get("nodeName") and _alive(p)]
    out: list[Finding] = []
    terms = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED, {}).get("nodeSelectorTerms") or ()
    if terms and not any(_matches(term, node) for term in terms for node in nodes):
        out.append(Finding(about, "no-affine-node", {"terms": " | ".join(map(_said, terms))}))
    for port in _host_ports(pod):
        if nodes and all(any(port in _host_ports(p) for p in placed if _on(p, n)) for n in nodes):
            out.append(Finding(about, "host-port", {"port": f"{port[1]}/{port[0]}"}))
    for kind, code in (("podAffinity", "affinity-nobody"), ("podAntiAffinity", "anti-affinity")):
        for term in ((spec.get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or ():
            found = _meant(pod, term, placed)
            if found is None:
                continue
            facts = {"labels": str(from_object(term.get("labelSelector"))) or "*", "key": term["topologyKey"]}
            taken = {_label(n, term["topologyKey"]) for n in nodes for p in found if _on(p, n)} - {None}
            if kind == "podAffinity":
                alone = not found and not from_object(term.get("labelSelector")).matches(_labels(pod))
            else:
                alone = bool(taken) and all(_label(n, term["topologyKey"]) in taken for n in nodes)
            if alone:
                out.append(Finding(about, code, facts))
    for constraint in spec.get("topologySpreadConstraints") or ():
        hard = constraint.get("whenUnsatisfiable") == "DoNotSchedule"
        if hard and not any(_label(n, constraint["topologyKey"]) is not None for n in nodes):
            out.append(Finding(about, "no-topology", {"key": constraint["topologyKey"]}))
    return out


def _alive(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _on(pod: Object, node: Object) -> bool:
    return bool(pod["spec"].get("nodeName") == node["metadata"]["name"])


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _label(node: Object, key: str) -> str | None:
    return _labels(node).get(key)


def _host_ports(pod: Object) -> set[tuple[str, int]]:
    """On all addresses of the node; those on one address may well go together."""
    return {
        (port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort") and port.get("hostIP") in (None, "", "0.0.0.0")
    }


def _meant(pod: Object, term: Object, placed: list[Object]) -> list[Object] | None:
    """The pods that a term of pod affinity selects; None when that depends on namespaces' labels."""
    if term.get("namespaceSelector") or term.get("matchLabelKeys") or term.get("mismatchLabelKeys"):
        return None
    where = (
        None if term.get("namespaceSelector") == {} else set(term.get("namespaces") or [pod["metadata"]["namespace"]])
    )
    wanted = from_object(term.get("labelSelector"))
    return [p for p in placed if (where is None or p["metadata"]["namespace"] in where) and wanted.matches(_labels(p))]


def _matches(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    named = {"metadata.name": node["metadata"]["name"]}
    here = from_node_terms(expressions).matches(_labels(node)) and from_node_terms(fields).matches(named)
    return bool(expressions or fields) and here  # an empty term matches nothing


def _said(term: Object) -> str:
    return str(from_node_terms([*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]))
