"""The names that set a pod apart from its like: those of its claims, and its hostname. A StatefulSet's pods differ in these alone.

In: the JSON bytes of a spec. Out: the same without those names, which many pods share, and the names. Whatever is known of the
one is true of all: no rule looks at such a name but for its form, and only names of one form that is right everywhere (labels
of DNS that begin with a letter) are cut out. Next: shapes.py, which remembers what is without names.
"""

from __future__ import annotations

import re

Names = list[bytes]
_HOLE = b"\0"
"""Never in JSON."""
_OWN = re.compile(rb'("(?:claimName|hostname)":")([a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)(?=")')


def cut(data: bytes) -> tuple[bytes, Names]:
    """(the bytes without the names, the names in their order). `data`: compact."""
    parts = _OWN.split(data)
    if len(parts) == 1:
        return data, []
    names = parts[2::3]
    parts[2::3] = [_HOLE] * len(names)
    return b"".join(parts), names


def fill(data: bytes, names: Names) -> bytes:
    """What `cut` was given."""
    if not names:
        return data
    parts = data.split(_HOLE)
    return b"".join([part for pair in zip(parts, names, strict=False) for part in pair]) + parts[-1]
