"""Warnings about pods: deprecated fields and specs that are likely not meant (pkg/api/pod/warnings.go, and a few of our own)."""

from __future__ import annotations

from jota.kinds.shape import Object, meta, number, part, parts, strings, text

DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}
DEPRECATED_VOLUMES = {
    "gitRepo": "deprecated in v1.11, and the feature is disabled by default",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
    "flexVolume": "deprecated in v1.23; use csi instead",
}


def warnings(pod: Object) -> list[str]:
    return template_warnings(pod, "")


def template_warnings(template: Object, path: str) -> list[str]:
    """Of a pod, or of a template whose path ends in "." (for example "spec.template.")."""
    spec, where, found = part(template, "spec"), f"{path}spec", []
    for key in strings(spec, "nodeSelector"):
        if key in DEPRECATED_LABELS:
            better = DEPRECATED_LABELS[key]
            found.append(f'{where}.nodeSelector[{key}]: deprecated since v1.14; use "{better}" instead')
    for i, volume in enumerate(parts(spec, "volumes")):
        for source in volume:
            if source in DEPRECATED_VOLUMES:
                found.append(f"{where}.volumes[{i}].{source}: {DEPRECATED_VOLUMES[source]}")
    for i, alias in enumerate(parts(spec, "hostAliases")):
        if not text(alias, "hostnames") and not alias.get("hostnames"):
            found.append(f"{where}.hostAliases[{i}]: no hostnames: the entry has no effect")
    grace = spec.get("terminationGracePeriodSeconds")
    if type(grace) is int and grace < 0:
        found.append(
            f"{where}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    for key in ("containers", "initContainers"):
        for i, container in enumerate(parts(spec, key)):
            found += _container_warnings(container, f"{where}.{key}[{i}]")
    annotations = strings(meta(template), "annotations")
    for key in annotations:
        if key.startswith(("seccomp.security.alpha.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/")):
            better = 'use the "seccompProfile" field instead'
            found.append(f"{path}metadata.annotations[{key}]: non-functional in v1.27+; {better}")
    return found


def _container_warnings(container: Object, path: str) -> list[str]:
    found, ports, seen = [], set(), set()
    for j, port in enumerate(parts(container, "ports")):
        key = (number(port, "containerPort"), text(port, "protocol"), number(port, "hostPort"), text(port, "hostIP"))
        if key in ports:
            found.append(f"{path}.ports[{j}]: duplicate port definition")
        ports.add(key)
    for j, variable in enumerate(parts(container, "env")):
        name = text(variable, "name")
        if name in seen:
            found.append(
                f'{path}.env[{j}]: hides previous definition of "{name}", which may be dropped when using apply'
            )
        seen.add(name)
    for side in ("limits", "requests"):
        amounts = part(part(container, "resources"), side)
        for name in ("memory", "ephemeral-storage"):
            if isinstance(amounts.get(name), str) and amounts[name].endswith("m"):
                found.append(
                    f'{path}.resources.{side}[{name}]: fractional byte value "{amounts[name]}" is invalid, must be an integer'
                )
    return found
