"""securityContext of pod and container -> runtime.Security. Pure; what cannot be granted is refused with upstream's words."""

from __future__ import annotations

from typing import Any

from jota.kinds.core.pod.security import shared_namespace
from jota.kinds.core.pod.standards import SAFE_SYSCTLS
from jota.node.env import ConfigError
from jota.node.model import Object, full_name
from jota.runtime.protocol import Image, Security


def merged(pod: Object, container: Object) -> dict[str, Any]:
    """The effective context: the pod's values where the container is silent."""
    outer = pod["spec"].get("securityContext") or {}
    inner = container.get("securityContext") or {}
    shared = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile")
    base = {k: outer[k] for k in shared if outer.get(k) is not None}
    return base | {k: v for k, v in inner.items() if v is not None}


def security(pod: Object, container: Object, image: Image, *, seccomp_dir: str = "") -> Security:
    """What the container runs as. Raises ConfigError for runAsNonRoot without a non-root user."""
    context = merged(pod, container)
    outer = pod["spec"].get("securityContext") or {}
    uid, user_name = context.get("runAsUser"), ""
    if uid is None:
        uid, user_name = _image_user(image)
    _check_non_root(pod, container, context, uid, user_name, image)
    groups = [int(g) for g in outer.get("supplementalGroups") or []]
    if (fs_group := outer.get("fsGroup")) is not None and fs_group not in groups:
        groups.append(int(fs_group))
    capabilities = context.get("capabilities") or {}
    privileged = bool(context.get("privileged"))
    seccomp, path = _seccomp(context, privileged, seccomp_dir)
    return Security(
        uid=int(uid) if uid is not None else None,
        gid=int(context["runAsGroup"]) if "runAsGroup" in context else None,
        groups=groups,
        strict_groups=outer.get("supplementalGroupsPolicy") == "Strict",
        user_name=user_name,
        privileged=privileged,
        add_capabilities=[_capability(c) for c in capabilities.get("add") or []],
        drop_capabilities=[_capability(c) for c in capabilities.get("drop") or []],
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        seccomp=seccomp,
        seccomp_path=path,
        # procMount: Unmasked is for user namespaces: in the host's, /proc/sys and sysrq-trigger are the host's.
        masked_paths=not privileged,
    )


def _image_user(image: Image) -> tuple[int | None, str]:
    """(uid, "") for a numeric USER, (None, name) otherwise. "uid:gid" goes by name so that its group is kept."""
    user = image.user
    if user.isdigit():
        return int(user), user
    return None, user


def _check_non_root(
    pod: Object, container: Object, context: dict[str, Any], uid: int | None, user_name: str, image: Image
) -> None:
    if not context.get("runAsNonRoot"):
        return
    where = f'(pod: "{full_name(pod)}", container: {container["name"]})'
    number = uid
    if number is None and user_name.split(":")[0].isdigit():
        number = int(user_name.split(":")[0])
    if context.get("runAsUser") == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if number == 0 or (number is None and user_name in ("", "root")):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if number is None:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({user_name}), cannot verify user is non-root"
            f" {where}"
        )


def _capability(name: str) -> str:
    """As the kernel's tools spell it: CAP_NET_ADMIN; ALL stays ALL."""
    upper = name.upper()
    return upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"


def _seccomp(context: dict[str, Any], privileged: bool, directory: str) -> tuple[Any, str]:
    """Upstream's default without a profile is Unconfined; so is every privileged container."""
    profile = context.get("seccompProfile") or {}
    kind = profile.get("type", "Unconfined")
    if privileged:
        return "Unconfined", ""
    if kind == "Localhost":
        name = profile.get("localhostProfile") or ""
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
        return "Localhost", f"{directory}/{name}"
    return kind, ""


def sysctls(pod: Object) -> dict[str, str]:
    """The sysctls of the sandbox, names with dots."""
    context = pod["spec"].get("securityContext") or {}
    return {s["name"].replace("/", "."): str(s["value"]) for s in context.get("sysctls") or []}


def forbidden_sysctls(pod: Object, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Names that are neither safe nor allowed on this node: the pod is rejected with SysctlForbidden."""
    return [name for name in sysctls(pod) if name not in SAFE_SYSCTLS and name not in allowed]


def host_sysctls(pod: Object) -> list[tuple[str, str]]:
    """(sysctl, "net" or "ipc") of those that would be the node's own: the pod shares that namespace. Rejected likewise."""
    kinds = {"hostNetwork": "net", "hostIPC": "ipc"}
    return [(name, kinds[field]) for name in sysctls(pod) if (field := shared_namespace(pod["spec"], name))]
