"""What is known about objects by their bytes alone: a ReplicaSet's pods share one template, so it is judged once.

In: the encoded fields beside metadata. Out: "found valid before", and the managedFields of a creation. Bounded, least
recently used first out. Only kinds whose rules look at nothing but those bytes may be kept here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from jota.meta.resource import PODS, Resource

BY_BYTES: frozenset[Resource] = frozenset({PODS})
"""Kinds whose `validate` reads no metadata."""
MOST = 512


class Shape:
    """`fields`: fieldsV1 of everything but metadata, once somebody created an object of this shape."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[str, Any] | None = None


class Shapes:
    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Shape] = OrderedDict()

    def find(self, tail: bytes) -> Shape | None:
        """The shape of an object that was valid; None when it is new."""
        found = self._kept.get(tail)
        if found is not None:
            self._kept.move_to_end(tail)
        return found

    def keep(self, tail: bytes) -> Shape:
        """Remember a valid one."""
        shape = self._kept[tail] = Shape()
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return shape
