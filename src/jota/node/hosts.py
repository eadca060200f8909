"""The files that every container gets from the node: /etc/hosts, /etc/resolv.conf, /etc/hostname. Pure: text in, text out.

Next: start.py writes them into the pod's directory and mounts them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jota.node.model import Object

HEADER = "# Kubernetes-managed hosts file.\n"
HOST_HEADER = "# Kubernetes-managed hosts file (host network).\n"
MAX_NAME = 63
MAX_SEARCH = 32


def hostname(pod: Object) -> str:
    """spec.hostnameOverride as it is; else spec.hostname or the pod's name, cut to what the kernel takes."""
    spec = pod["spec"]
    if override := spec.get("hostnameOverride"):
        return str(override)
    name = spec.get("hostname") or pod["metadata"]["name"]
    return str(name)[:MAX_NAME].rstrip("-.")


def domain(pod: Object, cluster_domain: str) -> str:
    """The pod's domain under its subdomain; "" without one, and for a name that overrides all of it."""
    subdomain = pod["spec"].get("subdomain") if not pod["spec"].get("hostnameOverride") else ""
    return f"{subdomain}.{pod['metadata']['namespace']}.svc.{cluster_domain}" if subdomain else ""


def node_hostname(pod: Object, own: str, cluster_domain: str) -> str:
    """What `hostname` prints inside: the node's with hostNetwork; the full name with setHostnameAsFQDN."""
    if pod["spec"].get("hostNetwork"):
        return own
    name, zone = hostname(pod), domain(pod, cluster_domain)
    return f"{name}.{zone}" if zone and pod["spec"].get("setHostnameAsFQDN") else name


def hosts_file(pod: Object, ips: list[str], cluster_domain: str, host_file: str = "") -> str:
    """The content of /etc/hosts; `host_file` is the node's own, which hostNetwork pods see."""
    aliases = _aliases(pod)
    if pod["spec"].get("hostNetwork"):
        return HOST_HEADER + host_file + aliases
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    name, zone = hostname(pod), domain(pod, cluster_domain)
    for ip in ips:
        lines.append(f"{ip}\t{name}.{zone}\t{name}" if zone else f"{ip}\t{name}")
    return HEADER + "\n".join(lines) + "\n" + aliases


def _aliases(pod: Object) -> str:
    entries = pod["spec"].get("hostAliases") or []
    if not entries:
        return ""
    lines = ["", "# Entries added by HostAliases."]
    lines += [f"{a['ip']}\t" + "\t".join(a.get("hostnames") or []) for a in entries]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Resolver:
    """resolv.conf as parts."""

    servers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def render(self) -> str:
        lines = []
        if self.searches:
            lines.append("search " + " ".join(self.searches[:MAX_SEARCH]))
        lines += [f"nameserver {s}" for s in self.servers[:3]]
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "\n".join(lines) + "\n" if lines else ""


def parse_resolver(text: str) -> Resolver:
    out = Resolver()
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            out.servers.append(words[1])
        elif words[0] in ("search", "domain"):
            out.searches = words[1:]
        elif words[0] == "options":
            out.options = words[1:]
    return out


def resolver(pod: Object, host: Resolver, cluster_dns: str, cluster_domain: str) -> Resolver:
    """resolv.conf by dnsPolicy, then dnsConfig on top."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        out = Resolver()
    elif policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster_dns:
        namespace = pod["metadata"].get("namespace", "default")
        zones = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        out = Resolver([cluster_dns], zones + [s for s in host.searches if s not in zones], ["ndots:5"])
    else:
        out = Resolver(list(host.servers), list(host.searches), list(host.options))
    _configure(out, spec.get("dnsConfig") or {})
    return out


def _configure(out: Resolver, config: Object) -> None:
    out.servers += [s for s in config.get("nameservers") or [] if s not in out.servers]
    out.searches += [s for s in config.get("searches") or [] if s not in out.searches]
    wanted = {o["name"]: o.get("value") for o in config.get("options") or []}
    kept = [o for o in out.options if o.split(":")[0] not in wanted]
    out.options = kept + [f"{k}:{v}" if v not in (None, "") else k for k, v in wanted.items()]
