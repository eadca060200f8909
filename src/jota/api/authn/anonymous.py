"""Where requests without credentials are let in. A file of its own: every server needs it, few need config.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Anonymous:
    enabled: bool = True
    paths: tuple[str, ...] = ()
    """Where anonymous requests are let in; () is everywhere."""

    read_only: bool = False
    """Only to read there."""

    def admits(self, method: str, path: str) -> bool:
        if self.read_only and method not in ("GET", "HEAD"):
            return False
        return self.enabled and (not self.paths or path in self.paths)


EVERYWHERE = Anonymous()
PUBLIC = Anonymous(
    paths=("/healthz", "/livez", "/readyz", "/version", "/api/v1/namespaces/kube-public/configmaps/cluster-info"),
    read_only=True,
)
"""What the bootstrap roles grant everybody: whether the server lives, and what a machine must know to join."""
