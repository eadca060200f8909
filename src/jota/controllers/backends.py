"""Which pods stand behind a service, on which ports, and which of them changed: shared by endpointslice.py and endpoints.py.

In: services, pods and their changes. Out: pods, port lists, "does this change matter". Reads caches, and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jota.client.informer import Informer
from jota.client.pods import ADDRESSES, CONDITIONS, DELETION, FINISHED, LABELS, PLACED
from jota.controllers.controller import own
from jota.controllers.views import ByLabels, Pod, alike, index_by_labels
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


class ServicesOf(ByLabels):
    """Keys of the services that select a pod: asked at every event of every pod, and quick however many of both a namespace has."""

    def __init__(self, services: Informer[Any]) -> None:
        super().__init__(self._select)
        self._services = services
        services.add_index(_SELECTED, _first_pair)
        services.add_handler(lambda old, new: self.forget())

    def _select(self, namespace: str, labels: dict[str, str]) -> list[str]:
        return [
            own(service)[0]
            for key, value in labels.items()
            for service in self._services.by_index(_SELECTED, _pair(namespace, key, value))
            if _selector(service).matches(labels)
        ]


class Changes:
    """The pods that changed since a service's endpoints were last looked at: who looks at these alone finds what a look at all
    would. Every change wakes the keys of the services that it concerns."""

    def __init__(self, services: Informer[Any], pods: Informer[Pod], wake: Callable[[str], None]) -> None:
        self.services_of = ServicesOf(services)
        self._wake = wake
        self._names: dict[str, set[str]] = {}
        """Service -> names of pods."""
        pods.add_handler(self._on_pod, LOOKED_AT, of=self.services_of)
        services.add_handler(lambda old, new: pods.reconsider())

    def take(self, key: str) -> set[str]:
        """Names of the pods that changed, or do not belong to the service any more, since the last call. The first look at a
        service, and any after it has changed, must be at all."""
        return self._names.pop(key, set())

    def note(self, pod: Pod) -> None:
        """Something about this pod that it does not say itself has changed."""
        for key in self.services_of(pod):
            self._note(key, pod)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and alike(old, new):
            found = self.services_of(new)  # most often nobody: that is known before what `matters` looks at
            if found and matters(old, new):
                for key in found:
                    self._note(key, new)
        elif matters(old, new):
            for pod in (old, new):
                if pod is not None:
                    self.note(pod)

    def _note(self, key: str, pod: Pod) -> None:
        names = self._names.get(key)
        if names is None:
            names = self._names[key] = set()
        names.add(pod.metadata.name)
        self._wake(key)


def pods_of(service: Object, pods: Informer[Pod]) -> list[Pod]:
    """The pods that the service selects."""
    index_by_labels(pods)
    matches = _selector(service).matches
    groups = pods.groups("labels", service["metadata"]["namespace"])
    return [pod for group in groups if matches(group.first.metadata.labels) for pod in group]


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


def address_of(addresses: Iterable[str], family: str) -> str | None:
    """The first address of a pod that is of this family ("IPv4" or "IPv6")."""
    v6 = family == "IPv6"
    for address in addresses:
        if (":" in address) == v6:
            return address
    return None


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
