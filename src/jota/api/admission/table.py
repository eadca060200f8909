"""The admission plugins, in the order in which they see a write (as upstream orders its own)."""

from __future__ import annotations

from jota.api.admission.plugin import Plugin
from jota.api.config import ApiConfig


def plugins(config: ApiConfig) -> tuple[Plugin, ...]:
    return ()
