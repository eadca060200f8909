"""The Pod Security Standards: what the levels baseline and restricted forbid, in upstream's words and order. Pure.

Each check gives "" or its finding, "reason (detail)". `violations(level, pod metadata, pod spec)` joins what a level finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jota.kinds.shape import Object, number, part, parts, text, texts

LEVELS = ("privileged", "baseline", "restricted")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_BASE_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    )
)
_VOLUMES = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)
_SECCOMP = ("RuntimeDefault", "Localhost")


class _Pod:
    """A pod as the checks see it."""

    def __init__(self, metadata: Object, spec: Object) -> None:
        self.metadata, self.spec = metadata, spec
        self.context = part(spec, "securityContext")
        self.containers = [c for f in ("initContainers", "containers", "ephemeralContainers") for c in parts(spec, f)]
        self.windows = text(part(spec, "os"), "name") == "windows"

    def bad(self, wrong: Callable[[Object], object]) -> list[str]:
        """Names of the containers whose securityContext is wrong."""
        return [text(c, "name") for c in self.containers if wrong(part(c, "securityContext"))]


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f'"{v}"' for v in values)


def _of(what: str, names: list[str]) -> str:
    """'container "a"', 'containers "a", "b"'."""
    return f"{what}{'s' if len(names) > 1 else ''} {_quoted(names)}"


def _found(reason: str, *details: str) -> str:
    said = "; ".join(d for d in details if d)
    return f"{reason} ({said})" if said else ""


def _escalation(pod: _Pod) -> str:
    bad = [] if pod.windows else pod.bad(lambda c: c.get("allowPrivilegeEscalation") is not False)
    must = f"{_of('container', bad)} must set securityContext.allowPrivilegeEscalation=false" if bad else ""
    return _found("allowPrivilegeEscalation != false", must)


def _apparmor(pod: _Pod) -> str:
    wrong: list[str] = []
    if text(part(pod.context, "appArmorProfile"), "type") not in ("", *_SECCOMP):
        wrong.append(f'pod must not set AppArmor profile type to "{pod.context["appArmorProfile"]["type"]}"')
    bad = pod.bad(lambda c: text(part(c, "appArmorProfile"), "type") not in ("", *_SECCOMP))
    if bad:
        wrong.append(f'{_of("container", bad)} must not set AppArmor profile type to "Unconfined"')
    for key, value in sorted(part(pod.metadata, "annotations").items()):
        if key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/"):
            wrong.append(f'{key}="{value}"')
    return _found("forbidden AppArmor profile" + ("s" if len(wrong) > 1 else ""), *wrong)


def _added(pod: _Pod, allowed: frozenset[str]) -> str:
    def extra(context: Object) -> set[str]:
        return set(texts(part(context, "capabilities"), "add")) - allowed

    bad = pod.bad(extra)
    names = sorted({n for c in pod.containers for n in extra(part(c, "securityContext"))})
    return (
        f"{_of('container', bad)} must not include {_quoted(names)} in securityContext.capabilities.add" if bad else ""
    )


def _capabilities_baseline(pod: _Pod) -> str:
    return _found("non-default capabilities", _added(pod, _BASE_CAPABILITIES))


def _capabilities_restricted(pod: _Pod) -> str:
    if pod.windows:
        return ""
    bad = pod.bad(lambda c: "ALL" not in texts(part(c, "capabilities"), "drop"))
    drop = f'{_of("container", bad)} must set securityContext.capabilities.drop=["ALL"]' if bad else ""
    return _found("unrestricted capabilities", drop, _added(pod, frozenset(("NET_BIND_SERVICE",))))


def _host_namespaces(pod: _Pod) -> str:
    set_ = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(field) is True]
    return _found("host namespaces", ", ".join(set_))


def _host_paths(pod: _Pod) -> str:
    names = [text(v, "name") for v in parts(pod.spec, "volumes") if "hostPath" in v]
    return _found("hostPath volumes", _of("volume", names) if names else "")


def _host_ports(pod: _Pod) -> str:
    used = {text(c, "name"): [n for p in parts(c, "ports") if (n := number(p, "hostPort"))] for c in pod.containers}
    names = [name for name, ports in used.items() if ports]
    ports = sorted({p for found in used.values() for p in found})
    if not names:
        return ""
    verb, noun = ("use" if len(names) > 1 else "uses"), ("hostPorts" if len(ports) > 1 else "hostPort")
    return _found("hostPort", f"{_of('container', names)} {verb} {noun} {', '.join(map(str, ports))}")


def _probe_hosts(pod: _Pod) -> str:
    hosts: dict[str, list[str]] = {}
    for container in pod.containers:
        handlers = [part(container, p) for p in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [part(part(container, "lifecycle"), h) for h in ("postStart", "preStop")]
        found = {text(part(h, kind), "host") for h in handlers for kind in ("httpGet", "tcpSocket")} - {""}
        if found:
            hosts[text(container, "name")] = sorted(found)
    if not hosts:
        return ""
    named = sorted({h for found in hosts.values() for h in found})
    verb = "use" if len(hosts) > 1 else "uses"
    return _found("probe or lifecycle host", f"{_of('container', list(hosts))} {verb} {_of('host', named)}")


def _privileged(pod: _Pod) -> str:
    bad = pod.bad(lambda c: c.get("privileged") is True)
    return _found("privileged", f"{_of('container', bad)} must not set securityContext.privileged=true" if bad else "")


def _proc_mount(pod: _Pod) -> str:
    bad = pod.bad(lambda c: text(c, "procMount") not in ("", "Default"))
    must = f'{_of("container", bad)} must not set securityContext.procMount to "Unmasked"' if bad else ""
    return _found("procMount", must)


def _restricted_volumes(pod: _Pod) -> str:
    bad: dict[str, str] = {}
    for volume in parts(pod.spec, "volumes"):
        kinds = [key for key in volume if key != "name"]
        if any(kind not in _VOLUMES for kind in kinds):
            bad[text(volume, "name")] = next(kind for kind in kinds if kind not in _VOLUMES)
    if not bad:
        return ""
    kinds = sorted(set(bad.values()))
    verb = "use" if len(bad) > 1 else "uses"
    return _found(
        "restricted volume types", f"{_of('volume', list(bad))} {verb} {_of('restricted volume type', kinds)}"
    )


def _non_root(pod: _Pod) -> str:
    whole = pod.context.get("runAsNonRoot")
    explicit = pod.bad(lambda c: c.get("runAsNonRoot") is False)
    silent = [] if whole is True else pod.bad(lambda c: c.get("runAsNonRoot") is None)
    details = []
    if whole is False:
        details.append("pod must not set securityContext.runAsNonRoot=false")
    if explicit:
        details.append(f"{_of('container', explicit)} must not set securityContext.runAsNonRoot=false")
    if silent and not details:
        details.append(f"pod or {_of('container', silent)} must set securityContext.runAsNonRoot=true")
    return _found("runAsNonRoot != true", *details)


def _user(pod: _Pod) -> str:
    def root(context: Object) -> bool:
        return context.get("runAsUser") == 0 and context.get("runAsUser") is not False

    bad = pod.bad(root)
    whole = "pod must not set runAsUser=0" if root(pod.context) else ""
    return _found("runAsUser=0", whole, f"{_of('container', bad)} must not set runAsUser=0" if bad else "")


def _selinux(pod: _Pod) -> str:
    def wrong(context: Object) -> list[str]:
        options = part(context, "seLinuxOptions")
        said = [] if text(options, "type") in _SELINUX_TYPES else [f'type "{text(options, "type")}"']
        return said + [f"{field} may not be set" for field in ("user", "role") if text(options, field)]

    bad = pod.bad(wrong)
    who = " and ".join([*(["pod"] if wrong(pod.context) else []), *([_of("container", bad)] if bad else [])])
    contexts = [pod.context, *(part(c, "securityContext") for c in pod.containers)]
    said = list(dict.fromkeys(w for c in contexts for w in wrong(c)))
    return _found(
        "seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(said)}" if who else ""
    )


def _unconfined(pod: _Pod) -> list[str]:
    def wrong(context: Object) -> bool:
        return text(part(context, "seccompProfile"), "type") not in ("", *_SECCOMP)

    tail = 'must not set securityContext.seccompProfile.type to "Unconfined"'
    bad = pod.bad(wrong)
    return [*([f"pod {tail}"] if wrong(pod.context) else []), *([f"{_of('container', bad)} {tail}"] if bad else [])]


def _seccomp_baseline(pod: _Pod) -> str:
    return _found("seccompProfile", *_unconfined(pod))


def _seccomp_restricted(pod: _Pod) -> str:
    if pod.windows:
        return ""
    details = _unconfined(pod)
    if not part(pod.context, "seccompProfile"):
        silent = pod.bad(lambda c: not part(c, "seccompProfile"))
        if silent:
            must = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
            details.append(f"pod or {_of('container', silent)} {must}")
    return _found("seccompProfile", *details)


def _sysctls(pod: _Pod) -> str:
    names = [text(s, "name") for s in parts(pod.context, "sysctls")]
    return _found("forbidden sysctls", ", ".join(n for n in names if n not in SAFE_SYSCTLS))


def _host_process(pod: _Pod) -> str:
    def wrong(context: Object) -> bool:
        return part(context, "windowsOptions").get("hostProcess") is True

    tail, bad = "must not set securityContext.windowsOptions.hostProcess=true", pod.bad(wrong)
    whole = f"pod {tail}" if wrong(pod.context) else ""
    return _found("hostProcess", whole, f"{_of('container', bad)} {tail}" if bad else "")


_BASELINE = (
    _apparmor,
    _capabilities_baseline,
    _host_namespaces,
    _host_paths,
    _host_ports,
    _probe_hosts,
    _privileged,
    _proc_mount,
    _selinux,
    _seccomp_baseline,
    _sysctls,
    _host_process,
)
_RESTRICTED = (
    _escalation,
    _apparmor,
    _capabilities_restricted,
    _host_namespaces,
    _host_ports,
    _probe_hosts,
    _privileged,
    _proc_mount,
    _restricted_volumes,
    _non_root,
    _user,
    _selinux,
    _seccomp_restricted,
    _sysctls,
    _host_process,
)
_CHECKS: dict[str, tuple[Callable[[_Pod], str], ...]] = {"baseline": _BASELINE, "restricted": _RESTRICTED}


def violations(level: str, metadata: Object, spec: Object) -> str:
    """What a pod breaks of a level, joined by ", "; "" when nothing."""
    pod = _Pod(metadata, spec)
    return ", ".join(found for check in _CHECKS.get(level, ()) if (found := check(pod)))
