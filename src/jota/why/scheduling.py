"""Why no node takes a pod: per node class, the nearest miss and the smallest fix. Pure: pod, nodes and their pods in."""

from __future__ import annotations

from jota.meta.quantity import canonical, milli, value
from jota.why.finding import Finding, Object, subject
from jota.why.neighbours import obstacles

_SHOWN = ("cpu", "memory", "ephemeral-storage", "pods")


def misses(pod: Object, nodes: list[Object], pods: list[Object]) -> list[Finding]:
    """What stands in the way, the smallest obstacle first; empty when nothing that is known here does."""
    about = subject(pod, "Pod")
    if not nodes:
        return [Finding(about, "no-nodes")]
    label = _missing_label(pod, nodes)
    if label:
        return [Finding(about, "no-label", {"label": label})]
    found: list[tuple[float, Finding]] = [(1.5, one) for one in obstacles(pod, nodes, pods)]
    open_nodes = []
    for node in nodes:
        barred = _barred(pod, node)
        if barred is not None:
            found.append((2.0, barred))
        else:
            open_nodes.append(node)
    wanted = requests(pod)
    found += [(share, f) for share, f in (_shortage(about, r, wanted, open_nodes, pods) for r in wanted) if f]
    return [finding for _, finding in sorted(found, key=lambda pair: pair[0])]


def requests(pod: Object) -> dict[str, int]:
    """Resource -> what the pod's app containers ask for; cpu in milli-units."""
    total: dict[str, int] = {"pods": 1}
    for container in pod["spec"].get("containers") or ():
        for name, quantity in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] = total.get(name, 0) + _amount(name, quantity)
    return total


def _amount(name: str, quantity: object) -> int:
    return milli(str(quantity)) if name == "cpu" else value(str(quantity))


def shown(name: str, amount: int) -> str:
    """As people write it: "500m", "3", "64Mi"."""
    if name == "cpu":
        return canonical(f"{amount}m")
    if name in ("memory", "ephemeral-storage") and amount >= 1 << 20:
        return f"{amount // (1 << 20)}Mi"
    return str(amount)


def _shortage(
    about: str, resource: str, wanted: dict[str, int], nodes: list[Object], pods: list[Object]
) -> tuple[float, Finding | None]:
    """The node that misses `resource` least, if none has enough: (missing share, finding)."""
    best: tuple[int, int, str] | None = None
    for node in nodes:
        name = node["metadata"]["name"]
        total = _amount(resource, (node.get("status", {}).get("allocatable") or {}).get(resource, 0))
        used = sum(requests(p).get(resource, 0) for p in pods if _occupies(p, name))
        if best is None or total - used > best[0]:
            best = (max(0, total - used), total, name)
    asked = wanted[resource]
    if best is None or best[0] >= asked:
        return 0.0, None
    largest = max(_amount(resource, (n.get("status", {}).get("allocatable") or {}).get(resource, 0)) for n in nodes)
    facts = {
        "resource": resource,
        "asked": shown(resource, asked),
        "node": best[2],
        "free": shown(resource, best[0]),
        "total": shown(resource, best[1]),
        "missing": shown(resource, asked - best[0]),
    }
    if asked > largest:
        return (asked - largest) / asked, Finding(about, "too-big", {**facts, "total": shown(resource, largest)})
    return (asked - best[0]) / asked, Finding(about, "short-of", facts)


def _occupies(pod: Object, node: str) -> bool:
    return pod["spec"].get("nodeName") == node and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _missing_label(pod: Object, nodes: list[Object]) -> str:
    for key, wanted in (pod["spec"].get("nodeSelector") or {}).items():
        if not any((n["metadata"].get("labels") or {}).get(key) == wanted for n in nodes):
            return f"{key}={wanted}"
    return ""


def _barred(pod: Object, node: Object) -> Finding | None:
    name = node["metadata"]["name"]
    if node["spec"].get("unschedulable"):
        return Finding(f"node/{name}", "cordoned", {"node": name})
    for taint in node["spec"].get("taints") or ():
        if taint.get("effect") != "PreferNoSchedule" and not any(
            _tolerates(t, taint) for t in pod["spec"].get("tolerations") or ()
        ):
            text = taint["key"] + (f"={taint['value']}" if taint.get("value") else "") + f":{taint['effect']}"
            return Finding(f"node/{name}", "tainted", {"node": name, "taint": text})
    return None


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")
