"""The names that set a pod apart from its like: those of its claims, and its hostname. A StatefulSet's pods differ in these alone.

In: the JSON bytes of a spec. Out: the same without those names, which many pods share, and the names. Whatever is known of the
one is true of all: no rule looks at such a name but for its form, and only names of one form that is right everywhere (labels
of DNS that begin with a letter) are cut out. Next: shapes.py, which remembers what is without names.
"""

from __future__ import annotations

import re

Names = list[bytes]
_KEYS = (b'"claimName":"', b"\0"), (b'"hostname":"', b"\1")
"""What stands before such a name, and what takes its place: bytes that are never in JSON."""
_of_the_form = re.compile(rb"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?").fullmatch


def cut(data: bytes) -> tuple[bytes, Names]:
    """(the bytes without the names, the names: those of claims first). `data`: compact."""
    names: Names = []
    for key, hole in _KEYS:
        if key not in data:
            continue
        parts = data.split(key)
        for place, part in enumerate(parts[1:], 1):
            name, quote, rest = part.partition(b'"')
            if _of_the_form(name):
                names.append(name)
                parts[place] = hole + quote + rest
        data = key.join(parts)
    return data, names


def fill(data: bytes, names: Names) -> bytes:
    """What `cut` was given."""
    left = iter(names)
    for _, hole in _KEYS if names else ():
        first, *rest = data.split(hole)
        data = first + b"".join([next(left) + part for part in rest])
    return data
