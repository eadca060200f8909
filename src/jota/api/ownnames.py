"""The names that set an object apart from its like: those of a pod's claims, and its hostname (a StatefulSet's pods differ in
these alone); what a volume belongs to.

In: the JSON bytes of a spec. Out: the same without those names, which many objects share, and the names. Whatever is known of
the one is true of all: no rule looks at such a name but for its form, and only names of a form that is right everywhere are cut
out (`Kind.own_names`). Next: shapes.py and twins.py, which remember what is without names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain

from jota.api.gaps import Form, Names, Pattern
from jota.kinds.core import pod

_FORMS = {
    "label": re.compile(rb"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"),
    "address": re.compile(rb"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!$)|$)){4}"),
    "subdomain": re.compile(rb"(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"),
    "text": re.compile(rb"[ !#-\[\]-~]{1,253}"),
}


class OwnNames:
    """Of one kind."""

    def __init__(self, forms: Mapping[str, str]) -> None:
        """`forms`: as `Kind.own_names` has them."""
        self._keys = tuple(
            (b'"%b":"' % key.encode(), bytes([hole]), _FORMS[form].fullmatch)
            for hole, (key, form) in enumerate(forms.items())
        )
        """What stands before such a name, what takes its place (bytes that are never in JSON), and whether it is of the form."""
        self._forms = [of_the_form for _, _, of_the_form in self._keys]
        self._hole = re.compile(b"[%b-%b]" % (self._keys[0][1], self._keys[-1][1]) if self._keys else rb"(?!)")

    def cut(self, data: bytes) -> tuple[bytes, Names]:
        """(the bytes without the names, the names: those of the first key first). `data`: compact."""
        data, by_key = self.cut_by_key(data)
        return data, [*chain.from_iterable(by_key)]

    def cut_by_key(self, data: bytes) -> tuple[bytes, list[Names]]:
        """The same, with the names of each key by themselves."""
        found = []
        for key, hole, of_the_form in self._keys:
            names: Names = []
            found.append(names)
            if key not in data:
                continue
            parts = data.split(key)
            for place, part in enumerate(parts[1:], 1):
                name, quote, rest = part.partition(b'"')
                if of_the_form(name):
                    names.append(name)
                    parts[place] = hole + quote + rest
            data = key.join(parts)
        return data, found

    def pattern(self, cut: bytes) -> Pattern:
        """By which others are known that are cut to the same, and their names."""
        first, *pieces = self._hole.split(cut)
        return Pattern(first, [(self._forms[key], piece) for key, piece in zip(self.order(cut), pieces, strict=True)])

    def order(self, cut: bytes) -> list[int]:
        """Of which key each name is, as they stand in what `cut` gave."""
        return [hole[0] for hole in self._hole.findall(cut)]

    def form(self, cut: bytes, places: Sequence[int]) -> Form:
        """To fill in names that are listed in another order."""
        return Form(self._hole.split(cut), places)

    def fill(self, data: bytes, names: Names) -> bytes:
        """What `cut` was given."""
        left = iter(names)
        for _, hole, _ in self._keys if names else ():
            first, *rest = data.split(hole)
            if rest:
                data = first + b"".join([next(left) + part for part in rest])
        return data


_OF_PODS = OwnNames(pod.OWN_NAMES)
cut, fill = _OF_PODS.cut, _OF_PODS.fill
