"""Validation of containers: names, images, ports, environment, mounts (ValidateContainers and friends).

In: a defaulted pod spec. Out: errors, appended to a list that is passed along, since a pod with none is the usual case.
Next: probes.py, resources.py, security.py.
"""

from __future__ import annotations

from typing import NamedTuple

from jota.kinds import names
from jota.kinds.core.pod.env import validate_env
from jota.kinds.core.pod.localpath import local_path
from jota.kinds.core.pod.probes import validate_lifecycle, validate_probes
from jota.kinds.core.pod.resources import validate_resources
from jota.kinds.core.pod.security import validate_security
from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

PULL_POLICIES = ["Always", "IfNotPresent", "Never"]
PROTOCOLS = ["SCTP", "TCP", "UDP"]
MESSAGE_POLICIES = ["FallbackToLogsOnError", "File"]
PROPAGATIONS = ["Bidirectional", "HostToContainer", "None"]
RESTARTS = ["Always", "Never", "OnFailure"]
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
NOT_EPHEMERAL = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy")


class Surroundings(NamedTuple):
    """What containers of one pod share while they are checked."""

    volumes: frozenset[str]
    grace: int
    host_network: bool
    names: set[str]
    host_ports: set[tuple[str, str, int]]
    host_users: bool


def validate_containers(spec: Object, path: str, volumes: frozenset[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    grace = spec.get("terminationGracePeriodSeconds")
    around = Surroundings(
        volumes,
        grace if type(grace) is int else 30,
        spec.get("hostNetwork") is True,
        set(),
        set(),
        spec.get("hostUsers") is not False,
    )
    containers = parts(spec, "containers")
    if not containers:
        errors.append(required(f"{path}.containers"))
    for i, container in enumerate(containers):
        where = f"{path}.containers[{i}]"
        _container(container, where, around, errors)
        _ports(parts(container, "ports"), f"{where}.ports", around, errors, around.host_ports)
    for i, container in enumerate(parts(spec, "initContainers")):
        where = f"{path}.initContainers[{i}]"
        _container(container, where, around, errors)
        _ports(parts(container, "ports"), f"{where}.ports", around, errors, set())
        _init_only(container, where, errors)
    for i, container in enumerate(parts(spec, "ephemeralContainers")):
        where = f"{path}.ephemeralContainers[{i}]"
        _container(container, where, around, errors)
        _ephemeral_only(container, where, errors)
    return errors


def _container(container: Object, path: str, around: Surroundings, errors: list[FieldError]) -> None:
    name = text(container, "name")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        for problem in names.dns_label(name):
            errors.append(invalid(f"{path}.name", name, problem))
        if name in around.names:
            errors.append(duplicate(f"{path}.name", name))
        around.names.add(name)
    _image(container, path, errors)
    if container.get("env") or container.get("envFrom"):
        validate_env(container, path, errors)
    if container.get("volumeMounts") or container.get("volumeDevices"):
        _mounts(container, path, around.volumes, errors)
    if container.get("resources"):
        validate_resources(part(container, "resources"), f"{path}.resources", errors)
    if container.get("securityContext"):
        context, where = part(container, "securityContext"), f"{path}.securityContext"
        validate_security(context, where, errors, host_users=around.host_users)
    for key in PROBES:
        if key in container:
            validate_probes(container, key, path, around.grace, errors)
    if "lifecycle" in container:
        validate_lifecycle(part(container, "lifecycle"), f"{path}.lifecycle", around.grace, errors)
    restart = container.get("restartPolicy")
    if restart is not None and restart not in RESTARTS:
        errors.append(not_supported(f"{path}.restartPolicy", restart, RESTARTS))


def _image(container: Object, path: str, errors: list[FieldError]) -> None:
    image = text(container, "image")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = text(container, "imagePullPolicy")
    if policy not in PULL_POLICIES:
        missing = required(f"{path}.imagePullPolicy")
        errors.append(not_supported(f"{path}.imagePullPolicy", policy, PULL_POLICIES) if policy else missing)
    message = text(container, "terminationMessagePolicy")
    if message not in MESSAGE_POLICIES:
        where = f"{path}.terminationMessagePolicy"
        errors.append(not_supported(where, message, MESSAGE_POLICIES) if message else required(where))


def _ports(
    ports: list[Object],
    path: str,
    around: Surroundings,
    errors: list[FieldError],
    taken: set[tuple[str, str, int]],
) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        where, name, number, host = f"{path}[{i}]", text(port, "name"), port.get("containerPort"), port.get("hostPort")
        if name:
            problems = names.port_name(name)
            errors += [invalid(f"{where}.name", name, problem) for problem in problems]
            if not problems and name in seen:
                errors.append(duplicate(f"{where}.name", name))
            seen.add(name)
        if not number:
            errors.append(required(f"{where}.containerPort"))
        else:
            errors += [invalid(f"{where}.containerPort", number, problem) for problem in names.port_number(number)]
        protocol = text(port, "protocol")
        if protocol not in PROTOCOLS:
            unknown = not_supported(f"{where}.protocol", protocol, PROTOCOLS)
            errors.append(unknown if protocol else required(f"{where}.protocol"))
        if host:
            errors += [invalid(f"{where}.hostPort", host, problem) for problem in names.port_number(host)]
            key = (protocol, text(port, "hostIP"), host if type(host) is int else 0)
            if key in taken:
                errors.append(duplicate(f"{where}.hostPort", f"{protocol}/{key[1]}/{host}"))
            taken.add(key)
        if around.host_network and host and host != number:
            detail = "must match `hostPort` when `hostNetwork` is true"
            errors.append(invalid(f"{where}.containerPort", number, detail))


def _mounts(container: Object, path: str, volumes: frozenset[str], errors: list[FieldError]) -> None:
    paths: set[str] = set()
    for i, mount in enumerate(parts(container, "volumeMounts")):
        where, name, target = f"{path}.volumeMounts[{i}]", text(mount, "name"), text(mount, "mountPath")
        if not name:
            errors.append(required(f"{where}.name"))
        elif name not in volumes:
            errors.append(_not_found(f"{where}.name", name))
        if not target:
            errors.append(required(f"{where}.mountPath"))
        elif target in paths:
            errors.append(invalid(f"{where}.mountPath", target, "must be unique"))
        paths.add(target)
        _sub_paths(mount, where, errors)
        propagation = mount.get("mountPropagation")
        if propagation is not None:
            _propagation(propagation, container, f"{where}.mountPropagation", errors)
        if mount.get("recursiveReadOnly") not in (None, "Disabled") and mount.get("readOnly") is not True:
            detail = "may only be specified when readOnly is true"
            errors.append(forbidden_field(f"{where}.recursiveReadOnly", detail))
    for i, device in enumerate(parts(container, "volumeDevices")):
        where, name, target = f"{path}.volumeDevices[{i}]", text(device, "name"), text(device, "devicePath")
        if not name:
            errors.append(required(f"{where}.name"))
        elif name not in volumes:
            errors.append(_not_found(f"{where}.name", name))
        if not target:
            errors.append(required(f"{where}.devicePath"))
        elif target in paths:
            errors.append(invalid(f"{where}.devicePath", target, "must not already exist in volumeMounts"))
        paths.add(target)


def _not_found(path: str, name: str) -> FieldError:
    return FieldError("FieldValueNotFound", path, f'Not found: "{name}"')


def _sub_paths(mount: Object, path: str, errors: list[FieldError]) -> None:
    sub, expression = text(mount, "subPath"), text(mount, "subPathExpr")
    if sub and expression:
        detail = "subPathExpr and subPath are mutually exclusive"
        errors.append(invalid(f"{path}.subPathExpr", expression, detail))
    for field, value in (("subPath", sub), ("subPathExpr", expression)):
        if value:
            local_path(value, f"{path}.{field}", errors)


def _propagation(value: object, container: Object, path: str, errors: list[FieldError]) -> None:
    if value not in PROPAGATIONS:
        errors.append(not_supported(path, value, PROPAGATIONS))
    elif value == "Bidirectional" and part(container, "securityContext").get("privileged") is not True:
        detail = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden_field(path, detail))


def _init_only(container: Object, path: str, errors: list[FieldError]) -> None:
    """Init containers end before the pod is ready, so nothing may watch them, unless they are sidecars."""
    if container.get("restartPolicy") == "Always":
        return
    for key in ("lifecycle", *PROBES):
        if isinstance(container.get(key), dict):
            detail = "may not be set for init containers without restartPolicy=Always"
            errors.append(forbidden_field(f"{path}.{key}", detail))


def _ephemeral_only(container: Object, path: str, errors: list[FieldError]) -> None:
    for key in NOT_EPHEMERAL:
        if container.get(key):
            errors.append(forbidden_field(f"{path}.{key}", "cannot be set for an Ephemeral Container"))
    for i, mount in enumerate(parts(container, "volumeMounts")):
        for key in ("subPath", "subPathExpr"):
            if text(mount, key):
                where = f"{path}.volumeMounts[{i}].{key}"
                errors.append(forbidden_field(where, "cannot be set for an Ephemeral Container"))
