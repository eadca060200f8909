"""Which pods stand behind a service, on which ports: shared by endpointslice.py and endpoints.py. Pure.

In: services and pods. Out: port lists and "does this change matter".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jota.client.informer import Informer
from jota.client.pods import ADDRESSES, CONDITIONS, DELETION, FINISHED, LABELS, PLACED
from jota.client.sharing import MOST
from jota.controllers.controller import own
from jota.controllers.views import Pod
from jota.meta.selectors import LabelSelector, from_map

Object = dict[str, Any]
LOOKED_AT = ADDRESSES | CONDITIONS | FINISHED | DELETION | LABELS | PLACED
"""What of a pod counts for endpoints (client/pods.py)."""


_SELECTED = "selected pair"


def _first_pair(service: Object) -> Iterable[str]:
    """One pair that every pod behind the service has."""
    for key, value in (service["spec"].get("selector") or {}).items():
        return (_pair(service["metadata"]["namespace"], key, value),)
    return ()


def _pair(namespace: str, key: str, value: str) -> str:
    return f"{namespace}/{key}={value}"


class ServicesOf:
    """Keys of the services that select a pod: asked at every event of every pod, and quick however many of both a namespace has.
    Pods of one template share their labels: the answer is remembered for these until a service changes."""

    def __init__(self, services: Informer[Any]) -> None:
        self._services = services
        services.add_index(_SELECTED, _first_pair)
        self._known: dict[tuple[str, int], tuple[dict[str, str] | None, list[str]]] = {}
        """(namespace, identity of labels) -> the labels, kept so that their identity stays theirs, and the answer."""
        services.add_handler(lambda old, new: self._known.clear())

    def __call__(self, pod: Pod) -> list[str]:
        meta = pod.metadata
        place = meta.namespace, id(meta.labels)
        found = self._known.get(place)
        if found is None:
            if len(self._known) >= MOST:
                self._known.clear()
            found = self._known[place] = meta.labels, self._look(meta.namespace, meta.labels or {})
        return found[1]

    def _look(self, namespace: str, labels: dict[str, str]) -> list[str]:
        return [
            own(service)[0]
            for key, value in labels.items()
            for service in self._services.by_index(_SELECTED, _pair(namespace, key, value))
            if _selector(service).matches(labels)
        ]


def pods_of(service: Object, pods: Informer[Pod]) -> list[Pod]:
    """The pods that the service selects."""
    matches = _selector(service).matches
    return [pod for pod in pods.list(service["metadata"]["namespace"]) if matches(pod.metadata.labels)]


def _selector(service: Object) -> LabelSelector:
    return from_map(service["spec"].get("selector"))


def matters(old: Pod | None, new: Pod | None) -> bool:
    """Endpoints could differ: any other change of a pod (most of them) wakes nobody."""
    return (
        old is None
        or new is None
        or old.spec.nodeName != new.spec.nodeName
        or old.ips != new.ips
        or old.ready != new.ready
        or old.finished != new.finished
        or old.terminating != new.terminating
        or old.metadata.labels != new.metadata.labels
        or old.metadata.uid != new.metadata.uid
    )


def ports_of(service: Object, pod: Pod) -> list[Object]:
    """The service's ports as this pod serves them; a named target port that the pod lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = target(port.get("targetPort", port["port"]), protocol, pod)
        if number is None:
            continue
        entry = {"name": port.get("name", ""), "port": number, "protocol": protocol}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def target(wanted: int | str, protocol: str, pod: Pod) -> int | None:
    """The port number; names are looked up in containers and in sidecars (init containers that keep running)."""
    if isinstance(wanted, int):
        return wanted
    sidecars = [c for c in pod.spec.initContainers or () if c.restartPolicy == "Always"]
    for container in (*pod.spec.containers, *sidecars):
        for port in container.ports or ():
            if port.name == wanted and (port.protocol or "TCP") == protocol:
                return port.containerPort
    return None


def hostname_of(service: Object, pod: Pod) -> str:
    """The pod's name in a headless service's zone."""
    spec = pod.spec
    return spec.hostname or "" if spec.hostname and spec.subdomain == service["metadata"]["name"] else ""


def headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")
