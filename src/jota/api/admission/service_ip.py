"""Cluster IPs and node ports of Services: handed out when a Service is written, free again when it goes.

What is taken is a mirror of the stored Services, so nothing can leak; what was handed out to writes that are not yet
visible is kept beside it under the Service's own key. The choice is pure: `Taken` and the wanted values in, values out.
"""

from __future__ import annotations

import ipaddress
from random import Random

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.config import ApiConfig
from jota.kinds.core.service import needs_cluster_ip, needs_health_port, needs_node_port
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta.errors import FieldError, internal, invalid, invalid_object
from jota.meta.resource import SERVICES

TRIES = 64
"""Random picks before the range is searched in order."""


class Taken:
    """Values in use, each with the key of its Service ("namespace/name")."""

    def __init__(self) -> None:
        self.stored: dict[str | int, str] = {}
        self.pending: dict[str | int, str] = {}

    def free(self, value: str | int, key: str) -> bool:
        """Whether the Service `key` may have it (it may when it has it already)."""
        return self.stored.get(value, key) == key and self.pending.get(value, key) == key


class ServiceAddresses(Plugin):
    def __init__(self, config: ApiConfig) -> None:
        network = ipaddress.ip_network(config.service_cidr)
        self._network = network
        self._first = int(network.network_address) + 1
        self._size = max(network.num_addresses - 2, 1)
        self._ports = config.node_ports
        self._taken = Taken()
        self._mirrored = False

    def handles(self, kind: Kind) -> bool:
        return kind.resource == SERVICES

    def allocate(self, attrs: AdmissionAttributes) -> None:
        if attrs.object is None or attrs.operation == "DELETE" or attrs.subresource:
            return
        self._catch_up(attrs)
        service, key = attrs.object, f"{attrs.namespace}/{attrs.name}"
        errors: list[FieldError] = []
        got: list[str | int] = []
        spec = part(service, "spec")
        self._address(spec, key, attrs.random, errors, got)
        self._node_ports(spec, key, attrs.random, errors, got)
        if errors:
            raise invalid_object("Service", attrs.name, errors)
        if not attrs.dry_run:
            for value in got:
                self._taken.pending[value] = key

    # -- what is taken

    def _catch_up(self, attrs: AdmissionAttributes) -> None:
        if not self._mirrored:
            self._mirrored = True
            attrs.registry.mirror(SERVICES, self._changed)
        attrs.registry.catch_up()

    def _changed(self, new: Object | None, old: Object | None) -> None:
        for service in (old, new):
            if service is None:
                continue
            meta = service["metadata"]
            key = f"{meta['namespace']}/{meta['name']}"
            for value in used(service):
                self._taken.pending.pop(value, None)
                if service is new:
                    self._taken.stored[value] = key
                elif self._taken.stored.get(value) == key:
                    del self._taken.stored[value]

    # -- choosing

    def _address(self, spec: Object, key: str, random: Random, errors: list[FieldError], got: list[str | int]) -> None:
        if not needs_cluster_ip(spec):
            return
        family = f"IPv{self._network.version}"
        wanted = text(spec, "clusterIP") or next(iter(texts(spec, "clusterIPs")), "")
        if not wanted:
            wanted = self._pick_address(key, random)
            got.append(wanted)
        elif wanted != "None":
            problem = self._judge(wanted, key)
            if problem:
                errors.append(invalid("spec.clusterIPs", [wanted], problem))
            got.append(wanted)
        spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]
        spec.setdefault("ipFamilies", [family])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec["ipFamilies"] != [family]:
            detail = f"this cluster has {family} service addresses only"
            errors.append(invalid("spec.ipFamilies", spec["ipFamilies"], detail))

    def _judge(self, wanted: str, key: str) -> str:
        try:
            inside = ipaddress.ip_address(wanted) in self._network
        except ValueError:
            return "must be a valid IP address"
        if not inside:
            valid = f"The range of valid IPs is {self._network}"
            return f"failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. {valid}"
        if not self._taken.free(wanted, key):
            return f"failed to allocate IP {wanted}: provided IP is already allocated"
        return ""

    def _pick_address(self, key: str, random: Random) -> str:
        """From the upper part of the range: the lower is left to those who ask for fixed addresses (KEP-3070)."""
        low = min(max(16, self._size // 16), 256) if self._size >= 32 else 0
        span = self._size - low
        for _ in range(TRIES):
            value = self._text(low + random.randrange(span))
            if self._taken.free(value, key):
                return value
        for at in [*range(low, self._size), *range(1, low)]:
            value = self._text(at)
            if self._taken.free(value, key):
                return value
        raise internal("failed to allocate a serviceIP: range is full")

    def _text(self, at: int) -> str:
        address = self._first + at
        return str(ipaddress.IPv4Address(address) if self._network.version == 4 else ipaddress.IPv6Address(address))

    def _node_ports(
        self, spec: Object, key: str, random: Random, errors: list[FieldError], got: list[str | int]
    ) -> None:
        """Ports of one Service may share a number when their protocols differ."""
        mine: set[tuple[int, str]] = set()
        if needs_node_port(spec):
            for i, port in enumerate(parts(spec, "ports")):
                number, protocol = port.get("nodePort") or 0, text(port, "protocol")
                if not number:
                    number = self._pick_port(key, random, {n for n, _ in mine})
                    port["nodePort"] = number
                else:
                    problem = self._judge_port(number, key, (number, protocol) in mine)
                    if problem:
                        errors.append(invalid(f"spec.ports[{i}].nodePort", number, problem))
                mine.add((number, protocol))
        if needs_health_port(spec):
            number = spec.get("healthCheckNodePort") or self._pick_port(key, random, {n for n, _ in mine})
            problem = self._judge_port(number, key, False)
            if problem:
                errors.append(invalid("spec.healthCheckNodePort", number, problem))
            spec["healthCheckNodePort"] = number
            mine.add((number, "health"))
        got.extend({n for n, _ in mine})

    def _judge_port(self, number: int, key: str, twice: bool) -> str:
        first, last = self._ports
        if not first <= number <= last:
            return f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
        if twice or not self._taken.free(number, key):
            return "provided port is already allocated"
        return ""

    def _pick_port(self, key: str, random: Random, mine: set[int]) -> int:
        first, last = self._ports
        taken = self._taken
        for _ in range(TRIES):
            number = random.randint(first, last)
            if number not in mine and number not in taken.stored and number not in taken.pending:
                return number
        for number in range(first, last + 1):
            if number not in mine and number not in taken.stored and number not in taken.pending:
                return number
        raise internal("failed to allocate a nodePort: range is full")


def used(service: Object) -> list[str | int]:
    """The addresses and ports that a Service holds."""
    spec = part(service, "spec")
    found: list[str | int] = [
        ip for ip in texts(spec, "clusterIPs") or [text(spec, "clusterIP")] if ip not in ("", "None")
    ]
    found += [p["nodePort"] for p in parts(spec, "ports") if p.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        found.append(spec["healthCheckNodePort"])
    return found
