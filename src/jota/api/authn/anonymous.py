"""Where requests without credentials are let in. A file of its own: every server needs it, few need config.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Anonymous:
    enabled: bool = True
    paths: tuple[str, ...] = ()
    """Where anonymous requests are let in; () is everywhere."""

    def admits(self, path: str) -> bool:
        return self.enabled and (not self.paths or path in self.paths)


EVERYWHERE = Anonymous()
