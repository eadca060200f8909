"""What a write made of the state before it, as its writer knows it: who holds that state need not parse the new one.

A pod that was bound is the pod that it was, on a node; the next of a thousand twins is the first under another name. Within one
process an event of a watch brings this along, for readers that keep objects (client/reader.py). Whoever does not hold the state
that is meant decodes the new one. Made by api/twins.py, subresources/binding.py, apart.py, verbs/delete.py and (for what is
gone) verbs/watch.py; taken by client/pods.py. Next: watchevent.py.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Change(msgspec.Struct, gc=False):
    """All that is not named here is as it was, but for resourceVersion and managedFields."""

    since: str = ""
    """The resourceVersion of the state that was changed; "": the object is new."""
    twins: dict[Any, Any] | None = None
    """Of a new object: type of a reader -> any other one, as that type, of the same bytes but for `metadata` and `names`."""
    names: list[bytes] = []
    """Of a new object: the names that its spec has in place of its twins' (`Kind.own_names`), those of the first key first."""
    metadata: dict[str, Any] = {}
    """Fields of metadata and their new values."""
    node: str = ""
    """The new spec.nodeName."""
    status: bytes = b""
    """The new status, JSON."""
