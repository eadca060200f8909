"""Validation of security contexts, of containers and of the whole pod."""

from __future__ import annotations

import re

from jota.kinds.core.pod.localpath import local_path
from jota.kinds.shape import Object, part, parts, text, texts
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

MAX_ID = 2**31 - 1
ID_RANGE = f"must be between 0 and {MAX_ID}, inclusive"
SECCOMP_TYPES = ["Localhost", "RuntimeDefault", "Unconfined"]
CHANGE_POLICIES = ["Always", "OnRootMismatch"]
SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([\./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*\Z")
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def validate_security(context: Object, path: str, errors: list[FieldError], *, host_users: bool) -> None:
    """A container's securityContext. `host_users`: the pod has no user namespace of its own."""
    ids(context, ("runAsUser", "runAsGroup"), path, errors)
    _profiles(context, path, errors)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged") is True:
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid(path, context, detail))
        if "CAP_SYS_ADMIN" in texts(part(context, "capabilities"), "add"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid(path, context, detail))
    mount = context.get("procMount")
    if mount is not None and mount not in ("Default", "Unmasked"):
        errors.append(not_supported(f"{path}.procMount", mount, ["Default", "Unmasked"]))
    elif mount == "Unmasked" and host_users:
        errors.append(invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))


def validate_pod_security(spec: Object, path: str, errors: list[FieldError]) -> None:
    """The pod's own securityContext and the namespaces that it shares with the host."""
    context, where = part(spec, "securityContext"), f"{path}.securityContext"
    if spec.get("hostPID") is True and spec.get("shareProcessNamespace") is True:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.shareProcessNamespace", True, detail))
    if spec.get("hostUsers") is False:
        _host_users(spec, path, errors)
    if not context:
        return
    ids(context, ("runAsUser", "runAsGroup", "fsGroup"), where, errors)
    groups = context.get("supplementalGroups")
    for i, group in enumerate(groups if isinstance(groups, list) else ()):
        if type(group) is not int or not 0 <= group <= MAX_ID:
            errors.append(invalid(f"{where}.supplementalGroups[{i}]", group, ID_RANGE))
    _profiles(context, where, errors)
    policy = context.get("fsGroupChangePolicy")
    if policy is not None and policy not in CHANGE_POLICIES:
        errors.append(not_supported(f"{where}.fsGroupChangePolicy", policy, CHANGE_POLICIES))
    _sysctls(spec, parts(context, "sysctls"), f"{where}.sysctls", errors)


def _host_users(spec: Object, path: str, errors: list[FieldError]) -> None:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field) is True:
            detail = "when `hostUsers` is false"
            errors.append(forbidden_field(f"{path}.{field}", detail))


def ids(context: Object, fields: tuple[str, ...], path: str, errors: list[FieldError]) -> None:
    for field in fields:
        value = context.get(field)
        if type(value) is int and not 0 <= value <= MAX_ID:
            errors.append(invalid(f"{path}.{field}", value, ID_RANGE))


def _profiles(context: Object, path: str, errors: list[FieldError]) -> None:
    for key in ("seccompProfile", "appArmorProfile"):
        profile = context.get(key)
        if not isinstance(profile, dict):
            continue
        where, type, local = f"{path}.{key}", text(profile, "type"), text(profile, "localhostProfile")
        if not type:
            errors.append(required(f"{where}.type"))
        elif type not in SECCOMP_TYPES:
            errors.append(not_supported(f"{where}.type", type, SECCOMP_TYPES))
        if type == "Localhost" and not local:
            detail = "must be set when seccomp type is Localhost" if key == "seccompProfile" else ""
            errors.append(
                required(f"{where}.localhostProfile", detail or "must be set when AppArmor type is Localhost")
            )
        elif type != "Localhost" and local:
            what = "seccomp" if key == "seccompProfile" else "AppArmor"
            detail = f"can only be set when {what} type is Localhost"
            errors.append(invalid(f"{where}.localhostProfile", local, detail))
        elif local and key == "seccompProfile":
            local_path(local, f"{where}.localhostProfile", errors)


def shared_namespace(spec: Object, sysctl: str) -> str:
    """The field by which a pod shares the namespace of the host that a sysctl belongs to: it would set the host's own."""
    name = sysctl.replace("/", ".")
    if spec.get("hostNetwork") is True and name.startswith("net."):
        return "hostNetwork"
    if spec.get("hostIPC") is True and (name == "kernel.sem" or name.startswith(_IPC_SYSCTLS)):
        return "hostIPC"
    return ""


def _sysctls(spec: Object, sysctls: list[Object], path: str, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        name, where = text(sysctl, "name"), f"{path}[{i}].name"
        if not name:
            errors.append(required(where))
        elif len(name) > 253 or not SYSCTL.match(name):
            detail = f"must have at most 253 characters and match regex {SYSCTL.pattern}"
            errors.append(invalid(where, name, detail))
        elif name in seen:
            errors.append(duplicate(where, name))
        elif shared := shared_namespace(spec, name):
            errors.append(invalid(where, name, f"may not be specified when '{shared}' is true"))
        seen.add(name)
