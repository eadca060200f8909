"""One link of a causal chain: which object, what is the matter with it (a code of texts.py), and what would mend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Object = dict[str, Any]
Level = Literal["good", "wait", "bad"]


@dataclass(slots=True, frozen=True)
class Finding:
    subject: str
    """kind/name, e.g. "pod/web-1"."""
    code: str
    """Key into texts.TEXTS."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the text's placeholders stand for."""
    level: Level = "bad"


def subject(obj: Object, kind: str = "") -> str:
    return f"{(kind or obj.get('kind', 'object')).lower()}/{obj['metadata']['name']}"


def nearest(name: str, names: list[str]) -> str:
    """The most similar of some names, "" when none is similar: for "did you mean"."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, 1, 0.6)), "")
