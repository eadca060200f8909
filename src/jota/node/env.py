"""A container's environment, command and arguments, resolved. Pure: objects are looked up in what was fetched before.

In: pod, container, a lookup of ConfigMaps and Secrets, services. Out: (name, value) pairs. Next: start.py puts them into a
ContainerSpec. Order and precedence are the kubelet's: service links, then envFrom, then env; later wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jota.meta.resource import CONFIGMAPS, SECRETS, Resource
from jota.node.fields import Place, field_value, resource_value
from jota.node.model import Object, parts

Lookup = Callable[[Resource, str], Object | None]
"""(CONFIGMAPS | SECRETS, name) -> the object in the pod's namespace, or None."""

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_ENV_NAME = re.compile(r"[ -<>-~]+")
"""Printable ASCII but "="."""


class ConfigError(Exception):
    """A reference that cannot be resolved: the container waits with CreateContainerConfigError."""


def references(pod: Object) -> set[tuple[Resource, str]]:
    """Every ConfigMap and Secret that environments of this pod refer to."""
    out: set[tuple[Resource, str]] = set()
    for p in parts(pod):
        for source in p.spec.get("envFrom") or []:
            for key, resource in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)):
                if ref := source.get(key):
                    out.add((resource, ref.get("name", "")))
        for entry in p.spec.get("env") or []:
            for key, resource in (("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS)):
                if ref := (entry.get("valueFrom") or {}).get(key):
                    out.add((resource, ref.get("name", "")))
    return out


def environment(
    pod: Object, container: Object, lookup: Lookup, services: Iterable[Object], place: Place
) -> tuple[dict[str, str], list[str]]:
    """(variables in order, keys of envFrom that are no legal names). Raises ConfigError, UnknownField."""
    links = service_variables(pod, services)
    out: dict[str, str] = {}
    skipped: list[str] = []
    for source in container.get("envFrom") or []:
        for key, value in _from_source(pod, source, lookup).items():
            name = source.get("prefix", "") + key
            if _ENV_NAME.fullmatch(name):
                out[name] = value
            else:
                skipped.append(name)
    for entry in container.get("env") or []:
        resolved = _value(pod, container, entry, lookup, place, {**links, **out})
        if resolved is not None:
            out[entry["name"]] = resolved
    return {**{k: v for k, v in links.items() if k not in out}, **out}, skipped


def _from_source(pod: Object, source: Object, lookup: Lookup) -> dict[str, str]:
    for key, resource in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)):
        if (ref := source.get(key)) is not None:
            obj = lookup(resource, ref.get("name", ""))
            if obj is None and not ref.get("optional"):
                raise ConfigError(f'{resource.kind.lower()} "{ref.get("name", "")}" not found')
            return texts(resource, obj or {})
    return {}


def texts(resource: Resource, obj: Object) -> dict[str, str]:
    """The data of a ConfigMap or Secret as text (undecodable bytes become U+FFFD, as Go's string conversion shows them)."""
    if resource == CONFIGMAPS:
        return dict(obj.get("data") or {})
    return {k: v.decode("utf-8", "surrogateescape") for k, v in payload(resource, obj).items()}


def payload(resource: Resource, obj: Object) -> dict[str, bytes]:
    """The data of a ConfigMap (with binaryData) or Secret as bytes."""
    import base64

    data: Mapping[str, Any] = obj.get("data") or {}
    if resource == SECRETS:
        return {k: base64.b64decode(v or "") for k, v in data.items()}
    out = {k: str(v).encode() for k, v in data.items()}
    return out | {k: base64.b64decode(v or "") for k, v in (obj.get("binaryData") or {}).items()}


def _value(
    pod: Object, container: Object, entry: Object, lookup: Lookup, place: Place, known: Mapping[str, str]
) -> str | None:
    """The value of one env entry; None: optional and absent, so the variable is not set."""
    origin = entry.get("valueFrom")
    if not origin:
        return expand(str(entry.get("value") or ""), known)
    if ref := origin.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], place)
    if ref := origin.get("resourceFieldRef"):
        return resource_value(pod, ref, place, container["name"])
    for key, resource in (("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS)):
        if ref := origin.get(key):
            return _from_key(pod, ref, resource, lookup)
    raise ConfigError(f"env {entry['name']}: unsupported valueFrom: {', '.join(origin) or 'empty'}")


def _from_key(pod: Object, ref: Object, resource: Resource, lookup: Lookup) -> str | None:
    name, key, optional = ref.get("name", ""), ref["key"], ref.get("optional", False)
    obj = lookup(resource, name)
    if obj is None:
        if optional:
            return None
        raise ConfigError(f'{resource.kind.lower()} "{name}" not found')
    data = texts(resource, obj)
    if key in data:
        return data[key]
    if optional:
        return None
    raise ConfigError(f"couldn't find key {key} in {resource.kind} {pod['metadata']['namespace']}/{name}")


def expand(text: str, known: Mapping[str, str]) -> str:
    """$(NAME) becomes its value, $$ becomes $; an unknown name stays as written."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return known.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def command_line(container: Object, variables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(command, args) with references expanded."""
    command = [expand(c, variables) for c in container.get("command") or []]
    return command, [expand(a, variables) for a in container.get("args") or []]


# -- service links


def service_variables(pod: Object, services: Iterable[Object]) -> dict[str, str]:
    """{SVC}_SERVICE_HOST and the Docker-link forms of the namespace's services; of `kubernetes` always."""
    namespace = pod["metadata"].get("namespace", "")
    linked = pod["spec"].get("enableServiceLinks", True)
    out: dict[str, str] = {}
    for service in sorted(services, key=lambda s: str(s["metadata"]["name"])):
        meta = service["metadata"]
        master = meta["namespace"] == "default" and meta["name"] == "kubernetes"
        if master or (linked and meta["namespace"] == namespace):
            out.update(_link(service))
    return out


def _link(service: Object) -> dict[str, str]:
    spec, name = service["spec"], service["metadata"]["name"]
    ip, ports = spec.get("clusterIP", ""), spec.get("ports") or []
    if not ip or ip == "None" or not ports:
        return {}
    prefix = name.upper().replace("-", "_")
    host = f"[{ip}]" if ":" in ip else ip
    out = {f"{prefix}_SERVICE_HOST": ip, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            out[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for n, port in enumerate(ports):
        protocol = port.get("protocol", "TCP")
        url = f"{protocol.lower()}://{host}:{port['port']}"
        if n == 0:
            out[f"{prefix}_PORT"] = url
        stem = f"{prefix}_PORT_{port['port']}_{protocol}"
        out |= {
            stem: url,
            f"{stem}_PROTO": protocol.lower(),
            f"{stem}_PORT": str(port["port"]),
            f"{stem}_ADDR": ip,
        }
    return out
