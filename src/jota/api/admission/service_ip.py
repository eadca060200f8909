"""Cluster IPs and node ports of Services: handed out when a Service is written, free again when it goes.

The one truth about who has an address is the stored Services: what is taken is a mirror of them, so nothing can leak; what
was handed out to writes that are not yet visible is kept beside it under the Service's own key. IPAddress objects follow:
they are stored and removed in the same commit as the Service whose addresses they are. Those of others keep an address
from being handed out. The choice is pure: `Taken` and the wanted values in, values out. Next: service_ranges.py.
"""

from __future__ import annotations

import ipaddress
from random import Random

from jota.aio.clock import rfc3339
from jota.api import metadata
from jota.api import object as at_rest
from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.admission.service_ranges import TRIES, Ranges
from jota.api.config import ApiConfig
from jota.api.registry import Registry
from jota.api.registry import key as storage_key
from jota.kinds.core.service import needs_cluster_ip, needs_health_port, needs_node_port
from jota.kinds.kind import Kind, Object
from jota.kinds.networking.ipaddress import labelled, of_service, service_of
from jota.kinds.shape import meta, part, parts, text, texts
from jota.meta.errors import FieldError, already_exists, internal, invalid, invalid_object
from jota.meta.resource import IP_ADDRESSES, SERVICE_CIDRS, SERVICES

OTHERS = ""
"""Whom an IPAddress belongs to that refers to no Service."""


class Pending:
    """Values of writes that are let in and not yet visible, each with its holder and the number of those writes."""

    def __init__(self) -> None:
        self._held: dict[str | int, tuple[str, int]] = {}

    def add(self, value: str | int, key: str) -> None:
        self._held[value] = key, self._held.get(value, (key, 0))[1] + 1

    def drop(self, value: str | int, key: str) -> None:
        """One of the writes came to nothing."""
        holder, count = self._held.get(value, (key, 0))
        if holder == key and count > 1:
            self._held[value] = key, count - 1
        elif holder == key:
            self._held.pop(value, None)

    def settle(self, value: str | int) -> None:
        """It is visible now."""
        self._held.pop(value, None)

    def free(self, value: str | int, key: str) -> bool:
        held = self._held.get(value)
        return held is None or held[0] == key


class Taken:
    """Values in use, each with the key of its Service ("namespace/name")."""

    def __init__(self) -> None:
        self.stored: dict[str | int, str] = {}
        self.pending = Pending()
        self.named: dict[str, str] = {}
        """Addresses of stored IPAddresses, with the Service that they refer to, or OTHERS."""
        self.naming = Pending()

    def free(self, value: str | int, key: str) -> bool:
        """Whether the Service `key` may have it (it may when it has it already)."""
        if not (self.stored.get(value, key) == key and self.pending.free(value, key)):
            return False
        return isinstance(value, int) or (self.named.get(value, key) == key and self.naming.free(value, key))


class ServiceAddresses(Plugin):
    def __init__(self, config: ApiConfig) -> None:
        self._default = ipaddress.ip_network(config.service_cidr)
        self._ranges = Ranges(self._default.version, (self._default,))
        self._ports = config.node_ports
        self._taken = Taken()
        self._mirrored = False

    def handles(self, kind: Kind) -> bool:
        return kind.stored in (SERVICES, IP_ADDRESSES)

    def allocate(self, attrs: AdmissionAttributes) -> None:
        if attrs.object is None or attrs.operation == "DELETE" or attrs.subresource:
            return
        self._catch_up(attrs.registry)
        if attrs.kind.stored == IP_ADDRESSES:
            self._name(attrs, attrs.object)
            return
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
                self._taken.pending.add(value, key)

    def release(self, attrs: AdmissionAttributes) -> None:
        if attrs.object is None or attrs.subresource or attrs.dry_run:
            return
        if attrs.kind.stored == IP_ADDRESSES:
            if attrs.operation == "CREATE":
                self._taken.naming.drop(attrs.name, service_of(attrs.object))
            return
        for value in used(attrs.object):
            self._taken.pending.drop(value, f"{attrs.namespace}/{attrs.name}")

    def beside(self, attrs: AdmissionAttributes) -> dict[str, bytes | None]:
        """The IPAddresses of a Service come and go in the commit in which it gets and loses its addresses."""
        registry = attrs.registry
        if attrs.kind.stored != SERVICES or registry.kind(IP_ADDRESSES.group, IP_ADDRESSES.plural) is None:
            return {}
        had = addresses(attrs.old) if attrs.old is not None else []
        has = addresses(attrs.object) if attrs.object is not None else []
        if had == has:
            return {}
        of = meta(attrs.object or attrs.old or {})
        namespace, name = of["namespace"], of["name"]
        out: dict[str, bytes | None] = {}
        for address in {*had, *has}:
            current = registry.look(IP_ADDRESSES, "", address)
            ours = current is not None and service_of(current) == f"{namespace}/{name}"
            # of a new Service's own there can be none but that of a namesake, whose removal is not visible yet
            kept = attrs.old is not None and ours and current is not None and labelled(current)
            if address in has and not kept:
                out[storage_key(IP_ADDRESSES, "", address)] = _stored(attrs, of_service(address, namespace, name))
            elif address not in has and ours:
                out[storage_key(IP_ADDRESSES, "", address)] = None
        return out

    # -- what is taken

    def _catch_up(self, registry: Registry) -> None:
        if not self._mirrored:
            self._mirrored = True
            registry.mirror(SERVICES, self._changed)
            if registry.kind(IP_ADDRESSES.group, IP_ADDRESSES.plural) is not None:
                registry.mirror(IP_ADDRESSES, self._named)
            if registry.kind(SERVICE_CIDRS.group, SERVICE_CIDRS.plural) is not None:
                self._ranges = Ranges(self._default.version)
                registry.mirror(SERVICE_CIDRS, self._ranges.change)
        registry.catch_up()

    def _changed(self, new: Object | None, old: Object | None) -> None:
        for service in (old, new):
            if service is None:
                continue
            key = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
            for value in used(service):
                self._taken.pending.settle(value)
                if service is new:
                    self._taken.stored[value] = key
                elif self._taken.stored.get(value) == key:
                    del self._taken.stored[value]

    def _named(self, new: Object | None, old: Object | None) -> None:
        name = meta(new or old or {})["name"]
        self._taken.naming.settle(name)
        if new is None:
            self._taken.named.pop(name, None)
        else:
            self._taken.named[name] = service_of(new)

    def _name(self, attrs: AdmissionAttributes, obj: Object) -> None:
        """An IPAddress that someone else makes must not meet a Service that is about to get the address."""
        key = service_of(obj)
        if attrs.operation != "CREATE":
            return
        if not self._taken.pending.free(attrs.name, key) or not self._taken.naming.free(attrs.name, key):
            raise already_exists(IP_ADDRESSES.plural, attrs.name, IP_ADDRESSES.group)
        if not attrs.dry_run:
            self._taken.naming.add(attrs.name, key)

    # -- choosing

    def _address(self, spec: Object, key: str, random: Random, errors: list[FieldError], got: list[str | int]) -> None:
        if not needs_cluster_ip(spec):
            return
        family = f"IPv{self._default.version}"
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
        if self._taken.stored.get(wanted) == key:
            return ""  # it keeps what it has, also when the range went
        try:
            ipaddress.ip_address(wanted)
        except ValueError:
            return "must be a valid IP address"
        if not self._ranges.has(wanted):
            return f"failed to allocate IP {wanted}: the provided network does not match the current range"
        if not self._taken.free(wanted, key):
            return f"failed to allocate IP {wanted}: provided IP is already allocated"
        return ""

    def _pick_address(self, key: str, random: Random) -> str:
        for value in self._ranges.candidates(random):
            if self._taken.free(value, key):
                return value
        name = key.partition("/")[2]
        raise internal(f'failed to allocate a serviceIP for Service "{name}": range is full')

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
            if number not in mine and number not in taken.stored and taken.pending.free(number, key):
                return number
        for number in range(first, last + 1):
            if number not in mine and number not in taken.stored and taken.pending.free(number, key):
                return number
        raise internal("failed to allocate a nodePort: range is full")


def used(service: Object) -> list[str | int]:
    """The addresses and ports that a Service holds."""
    spec = part(service, "spec")
    found: list[str | int] = list(addresses(service))
    found += [p["nodePort"] for p in parts(spec, "ports") if p.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        found.append(spec["healthCheckNodePort"])
    return found


def addresses(service: Object) -> list[str]:
    """The cluster IPs that a Service holds."""
    spec = part(service, "spec")
    return [ip for ip in texts(spec, "clusterIPs") or [text(spec, "clusterIP")] if ip not in ("", "None")]


def _stored(attrs: AdmissionAttributes, obj: Object) -> bytes:
    """A new object at rest."""
    metadata.begin(obj["metadata"], uid=metadata.uid(attrs.random), now=rfc3339(attrs.now), generation=False)
    return at_rest.encode(obj)
