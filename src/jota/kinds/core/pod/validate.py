"""Validation of pods and pod templates (pkg/apis/core/validation), with upstream's paths, reasons and sentences.

In: a defaulted object. Out: errors. `validate_pod_spec` is shared with every workload's template. Its parts: containers.py,
validate_volumes.py, placement.py, security.py. Next: update.py.
"""

from __future__ import annotations

import ipaddress

from jota.kinds import labels, names
from jota.kinds.core.pod.containers import validate_containers
from jota.kinds.core.pod.placement import validate_placement
from jota.kinds.core.pod.security import MAX_ID, validate_pod_security
from jota.kinds.core.pod.validate_volumes import validate_volumes
from jota.kinds.core.pod.whole import validate_whole
from jota.kinds.lifecycle.participants import validate_responders
from jota.kinds.shape import Object, meta, part, parts, strings, text, texts
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required, too_long
from jota.meta.names import validate_annotations

MIRROR = "kubernetes.io/config.mirror"
"""Annotation of a pod that its node runs by itself and only shows (a static pod upstream, the agent here)."""
RESTART_POLICIES = ["Always", "Never", "OnFailure"]
DNS_POLICIES = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
PREEMPTION_POLICIES = ["Never", "PreemptLowerPriority"]
BAD_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
MOST_HOSTNAME = 64
"""Bytes that the kernel takes for a name."""
MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_BYTES = 3, 32, 2048


def validate_pod(pod: Object) -> list[FieldError]:
    errors = validate_pod_spec(part(pod, "spec"), "spec")
    if MIRROR in strings(meta(pod), "annotations") and not text(part(pod, "spec"), "nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(required(f"metadata.annotations[{MIRROR}]", detail))
    return errors


def validate_template(template: Object, path: str, extra_volumes: tuple[str, ...] = ()) -> list[FieldError]:
    """A workload's template; `extra_volumes` are names that mounts may use besides the template's own volumes."""
    own = meta(template)
    errors = labels.validate_labels(own.get("labels"), f"{path}.labels")
    if isinstance(own.get("annotations"), dict):
        errors += validate_annotations(own["annotations"], f"{path}.annotations")
    if parts(part(template, "spec"), "ephemeralContainers"):
        errors.append(
            forbidden_field(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")
        )
    return errors + validate_pod_spec(part(template, "spec"), f"{path}.spec", extra_volumes)


def validate_pod_spec(spec: Object, path: str, extra_volumes: tuple[str, ...] = ()) -> list[FieldError]:
    volumes, errors = validate_volumes(spec, path)
    if extra_volumes:
        volumes |= frozenset(extra_volumes)
    errors += validate_containers(spec, path, volumes)
    _policies(spec, path, errors)
    validate_placement(spec, path, errors)
    validate_pod_security(spec, path, errors)
    _names(spec, path, errors)
    if spec.get("resources"):
        validate_whole(spec, f"{path}.resources", errors)
    seconds = spec.get("activeDeadlineSeconds")
    if type(seconds) is int and not 1 <= seconds <= MAX_ID:
        detail = f"must be between 1 and {MAX_ID}, inclusive"
        errors.append(invalid(f"{path}.activeDeadlineSeconds", seconds, detail))
    for i, alias in enumerate(parts(spec, "hostAliases")):
        if not is_address(text(alias, "ip")):
            errors.append(invalid(f"{path}.hostAliases[{i}].ip", text(alias, "ip"), BAD_ADDRESS))
    for i, gate in enumerate(parts(spec, "readinessGates")):
        kind = text(gate, "conditionType")
        errors += [invalid(f"{path}.readinessGates[{i}].conditionType", kind, p) for p in names.qualified_name(kind)]
    if spec.get("schedulingGates"):
        _gates(spec, path, errors)
    if spec.get("evictionResponders"):
        errors += validate_responders(spec, path)
    return errors


def _policies(spec: Object, path: str, errors: list[FieldError]) -> None:
    restart, dns = text(spec, "restartPolicy"), text(spec, "dnsPolicy")
    if restart not in RESTART_POLICIES:
        where = f"{path}.restartPolicy"
        errors.append(not_supported(where, restart, RESTART_POLICIES) if restart else required(where))
    if dns not in DNS_POLICIES:
        where = f"{path}.dnsPolicy"
        errors.append(not_supported(where, dns, DNS_POLICIES) if dns else required(where))
    if dns == "None" or spec.get("dnsConfig"):
        _dns(spec, dns, f"{path}.dnsConfig", errors)
    preemption = spec.get("preemptionPolicy")
    if preemption is not None and preemption not in PREEMPTION_POLICIES:
        errors.append(not_supported(f"{path}.preemptionPolicy", preemption, PREEMPTION_POLICIES))


def _dns(spec: Object, policy: str, path: str, errors: list[FieldError]) -> None:
    if not isinstance(spec.get("dnsConfig"), dict):
        errors.append(required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
        return
    servers, searches = texts(spec["dnsConfig"], "nameservers"), texts(spec["dnsConfig"], "searches")
    if policy == "None" and not servers:
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        errors.append(required(f"{path}.nameservers", detail))
    if len(servers) > MAX_NAMESERVERS:
        detail = f"must not have more than {MAX_NAMESERVERS} nameservers"
        errors.append(invalid(f"{path}.nameservers", servers, detail))
    for i, server in enumerate(servers):
        if not is_address(server):
            errors.append(invalid(f"{path}.nameservers[{i}]", server, BAD_ADDRESS))
    if len(searches) > MAX_SEARCHES:
        detail = f"must not have more than {MAX_SEARCHES} search paths"
        errors.append(invalid(f"{path}.searches", searches, detail))
    if len(" ".join(searches)) > MAX_SEARCH_BYTES:
        detail = f"must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list"
        errors.append(invalid(f"{path}.searches", searches, detail))
    for i, option in enumerate(parts(spec["dnsConfig"], "options")):
        if not text(option, "name"):
            errors.append(required(f"{path}.options[{i}]", "must not be empty"))


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


_NAME_RULES = (
    ("hostname", names.dns_label),
    ("subdomain", names.dns_label),
    ("serviceAccountName", names.dns_subdomain),
    ("nodeName", names.dns_subdomain),
    ("priorityClassName", names.dns_subdomain),
    ("runtimeClassName", names.dns_subdomain),
)


def _names(spec: Object, path: str, errors: list[FieldError]) -> None:
    for field, rule in _NAME_RULES:
        value = spec.get(field)
        if value and isinstance(value, str):
            for problem in rule(value):
                errors.append(invalid(f"{path}.{field}", value, problem))
    if not text(spec, "schedulerName"):
        errors.append(required(f"{path}.schedulerName"))
    if spec.get("hostnameOverride") is not None:
        _override(spec, f"{path}.hostnameOverride", errors)


def _override(spec: Object, path: str, errors: list[FieldError]) -> None:
    for field in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(field) is True:
            errors.append(forbidden_field(path, f"may not be specified when {field} is true"))
    name = text(spec, "hostnameOverride")
    if len(name) > MOST_HOSTNAME:
        errors.append(too_long(path, MOST_HOSTNAME))
    errors += [invalid(path, name, problem) for problem in names.dns_subdomain(name)]


def _gates(spec: Object, path: str, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(parts(spec, "schedulingGates")):
        name, where = text(gate, "name"), f"{path}.schedulingGates[{i}]"
        errors += [invalid(f"{where}.name", name, problem) for problem in names.qualified_name(name)]
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
    if text(spec, "nodeName"):
        detail = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden_field(f"{path}.nodeName", detail))
