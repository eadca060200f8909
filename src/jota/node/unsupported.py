"""What a pod asks for and this node does not do: told once per pod in a Warning event, never silently ignored. Pure.

Volume types are not here: a pod with an unknown volume does not start at all (volumes/keeper.py).
"""

from __future__ import annotations

from jota.node.model import Object, parts

_CONTEXT = {
    "seLinuxOptions": "SELinux labels",
    "windowsOptions": "Windows options",
    "appArmorProfile": "AppArmor profiles",
}


def complaints(pod: Object) -> list[str]:
    """One text per unsupported wish, with its field path."""
    spec = pod["spec"]
    out = []
    if spec.get("hostUsers") is False:
        out.append("spec.hostUsers: user namespaces are not supported; the pod uses the host's")
    out += _context("spec.securityContext", spec.get("securityContext") or {})
    for p in parts(pod):
        where = f"container {p.name}"
        context = p.spec.get("securityContext") or {}
        out += _context(f"{where}: securityContext", context)
        if context.get("procMount") == "Unmasked":
            out.append(f"{where}: securityContext.procMount: Unmasked needs user namespaces; /proc stays masked")
    for v in spec.get("volumes") or []:
        if any(_names_users(v.get(kind) or {}) for kind in ("configMap", "secret", "downwardAPI", "projected")):
            out.append(f'volume "{v["name"]}": users of single files are not supported')
    return out


def _names_users(source: Object) -> bool:
    """`defaultUser`, or `user` of a file or a projection (upstream's AtomicWriteVolumeUserFields, alpha)."""
    if source.get("defaultUser") is not None:
        return True
    projections = [p for s in source.get("sources") or [] for p in s.values()]
    items = [item for s in (source, *projections) for item in s.get("items") or []]
    return any(given.get("user") is not None for given in (*projections, *items))


def _context(path: str, context: Object) -> list[str]:
    out = []
    for field, what in _CONTEXT.items():
        value = context.get(field)
        if value and (field != "appArmorProfile" or value.get("type") == "Localhost"):
            out.append(f"{path}.{field}: {what} are not supported")
    return out
