"""managedFields: note on each write which manager set which fields. The arithmetic is `meta/apply.py`'s."""

from __future__ import annotations

from jota.api.call import Call
from jota.kinds.kind import Object


def track(call: Call, new: Object, old: Object | None, subresource: str, now: str) -> None:
    """Bring new's managedFields up to date with what this write changed; `now` is RFC 3339."""
