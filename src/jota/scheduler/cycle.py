"""One scheduling decision: (nodes, shape, how many) -> slots. Pure but for the snapshot, where placed pods are assumed.

The result is always that of placing the pods one by one with every node looked at. What makes it cheap:
- what a node's own accounts say is kept and follows the changes (standing.py);
- masks that depend on other nodes (spread, affinity) are computed for each pod, from counts that are kept (counts.py), and
  only for shapes that they concern; such scores follow the pods of a batch (related.py);
- pods that change what their own node is worth, and nothing else (whether it has room for more volumes, too), are placed many at
  a time, and those that would have gone elsewhere are taken back; so are, by classes of nodes (classes.py), those that are spread
  softly;
- a pod that names its node is judged on that node alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.framework import Coupled, Easing, Filter, Narrow, Own, OwnFilter, Related, Score
from jota.scheduler.plugins.resources_fit import ResourcesFit
from jota.scheduler.pod import Placement, Shape
from jota.scheduler.profile import Profile
from jota.scheduler.related import Asked, Following
from jota.scheduler.snapshot import Column, Mask, Snapshot, all_of
from jota.scheduler.standing import Standing, Standings
from jota.scheduler.victims import Victims

Slots = NDArray[np.intp]
_MOST_MEMOISED = 4096
_FIRST_AHEAD = 32
"""Pods that are placed ahead to see whether that is of any use."""
_ABOUT_THE_POD = ("persistentvolumeclaim ", "pod has ", 'resourceclaim "', "resourceclaim of ")
"""Reasons that no node is to blame for are told without a number (upstream's PreFilter messages)."""


class Cycle:
    few = 24
    """With so many pods left, or fewer, it is cheaper to place each by itself."""

    def __init__(self, profile: Profile, nodes: Snapshot, seed: int) -> None:
        self._profile, self._nodes = profile, nodes
        self._static = [p for p in profile.filters if p.static]
        self._own = [p for p in profile.filters if not p.static and isinstance(p, OwnFilter)]
        self._wide = [p for p in profile.filters if not p.static and p not in self._own]
        """Filters that look beyond one node's accounts."""
        self._couples = [(p, p.couples if isinstance(p, Coupled) else _always) for p in self._wide]
        self._narrow = {p.name: p for p in self._wide if isinstance(p, Narrow)}
        self._scores = [
            (p, w, partial(Following, p, w, nodes) if isinstance(p, Related) else partial(Asked, p, w, nodes))
            for p, w in profile.scores
            if not (isinstance(p, Own) and p.own)
        ]
        self._masks: dict[int, tuple[Placement, Mask]] = {}
        self._generation = -1
        self.victims = Victims(nodes)
        """Kept here for preemption.py."""
        self._standings = Standings(profile, nodes, self.allowed, np.random.default_rng(seed))

    def feasible(self, shape: Shape) -> Mask:
        """Where the pod may go now."""
        passed = self.allowed(shape).copy()
        for plugin in self._profile.filters:
            if not plugin.static:
                mask = plugin.mask(self._nodes, shape)
                if mask is not None:
                    passed &= mask
        return passed

    def place(self, shape: Shape, count: int, within: Mask | None = None, extra: Column | None = None) -> list[int]:
        """Slots for up to `count` pods of one shape, best first; fewer when the nodes are full. Assumes them.

        `within`: only there, if given. `extra`: added to the scores, for one pod.
        """
        return self.place_each([shape] * count, within, extra)

    def place_each(self, shapes: Sequence[Shape], within: Mask | None = None, extra: Column | None = None) -> list[int]:
        """The same for pods of one kin, of whose volumes nothing matters but their number (VolumeBinder.alike)."""
        chosen: list[int] = []
        try:
            if shapes[0].placement.node and within is None:
                self._place_named(shapes, chosen)
            else:
                self._place_best(shapes, within, extra, chosen)
        except BaseException:  # a plugin's mistake must not leave pods in the accounts that nobody will bind
            for slot, shape in zip(chosen, shapes, strict=False):
                self._nodes.remove_pod(self._nodes.names[slot], shape)
            raise
        return chosen

    def _place_named(self, shapes: Sequence[Shape], chosen: list[int]) -> None:
        nodes, shape = self._nodes, shapes[0]
        slot = nodes.slots.get(shape.placement.node)
        if slot is None or not self._fits_static(shape, slot):
            return
        for each in shapes:
            if not self._fits_moving(each, slot):
                return
            nodes.add_pod(nodes.names[slot], each)
            chosen.append(slot)

    def _place_best(
        self, shapes: Sequence[Shape], within: Mask | None, extra: Column | None, chosen: list[int]
    ) -> None:
        nodes, shape, count = self._nodes, shapes[0], len(shapes)
        standing = self._standings.of(shape)
        fixed, narrow, moving = self._fixed(shape, within)
        alone, related = self._shared_scores(shape)
        value = standing.value if fixed is None else np.where(fixed, standing.value, -np.inf)
        if extra is not None:
            value = value + extra
        value, alone = self._with_scores(value, shape, alone)
        batch = _Batch(standing, shapes, fixed, narrow, alone)
        masked, nowhere = False, np.full(value.size, -np.inf) if moving else value
        apart = not moving and not related
        by_class = not moving and len(related) == 1
        while value.size:
            each = shapes[len(chosen)]
            masks = [mask for p in moving if (mask := p.mask(nodes, each)) is not None]
            row = np.where(masks[0] if len(masks) == 1 else all_of(masks), value, nowhere) if masks else value
            for score in related:
                if masks or masked:
                    score.forget()
                row = score.added_to(row)
            masked = bool(masks)
            slot = int(row.argmax())
            if row[slot] == -np.inf:
                return
            nodes.add_pod(nodes.names[slot], each)
            chosen.append(slot)
            if len(chosen) == count:
                return
            was = value[slot]
            value = self._followed(batch, [slot], value, len(chosen))
            if apart and count - len(chosen) > self.few and value[slot] < value.max():
                apart = False  # tried once: where nodes are packed it comes to nothing
                value = self._place_apart(batch, value, chosen)
                if len(chosen) == count:
                    return
            for score in related:
                score.placed(slot)
                if value[slot] == -np.inf:  # the node is full: others are the best and the worst now
                    score.forget()
            if by_class and count - len(chosen) > self.few:
                by_class = False
                if value[slot] < was:
                    value = self._place_ahead(batch, related[0], value, chosen)
                if len(chosen) < count:
                    value = self._place_by_class(batch, related[0], value, chosen)
                if len(chosen) == count:
                    return

    def _fixed(self, shape: Shape, within: Mask | None) -> tuple[Mask | None, list[Narrow], list[Filter]]:
        """(what holds for the whole batch, but for nodes that get a pod; filters that must be asked about these; filters that
        must be asked for each pod)."""
        fixed = within
        narrow: list[Narrow] = []
        moving: list[Filter] = []
        for plugin, couples in self._couples:
            closely = self._narrow.get(plugin.name)
            coupled = couples(self._nodes, shape)
            if coupled and closely is None:
                moving.append(plugin)
                continue
            mask = plugin.mask(self._nodes, shape)
            if mask is not None:
                fixed = mask if fixed is None else fixed & mask
                if coupled and closely is not None:
                    narrow.append(closely)
        return fixed, narrow, moving

    def _shared_scores(self, shape: Shape) -> tuple[list[tuple[Score, float]], list[Following | Asked]]:
        """(scores that a pod changes on its own node alone, scores that depend on other nodes)."""
        alone: list[tuple[Score, float]] = []
        related: list[Following | Asked] = []
        for score, weight, follow in self._scores:
            one = score.score_one(self._nodes, shape, 0)
            if one is None:
                related.append(follow(shape))
            else:
                alone.append((score, weight))
        return alone, related

    def _with_scores(
        self, row: Column, shape: Shape, scores: list[tuple[Score, float]]
    ) -> tuple[Column, list[tuple[Score, float]]]:
        """(the sum, in a column of its own if there is any; the scores that have a say)."""
        feasible = row != -np.inf
        saying = []
        for score, weight in scores:
            column = score.score(self._nodes, shape, feasible)
            if column is not None:
                column = weight * column
                row = np.add(row, column, out=column)
                saying.append((score, weight))
        return row, saying

    def _place_apart(self, batch: _Batch, value: Column, chosen: list[int]) -> Column:
        """One pod each for the best nodes, as far as placing them one by one would give the same; what nodes are worth then.

        A pod changes what its own node is worth, and nothing else: so the next best node is next, until one that has its pod is
        worth more still."""
        nodes, shapes = self._nodes, batch.shapes
        best = _best(value, len(shapes) - len(chosen))
        was = value[best]
        self._add(best.tolist(), shapes[len(chosen) :])
        chosen += best.tolist()
        value = self._followed(batch, best.tolist(), value, len(chosen))
        better = np.flatnonzero(np.maximum.accumulate(value[best])[:-1] > was[1:])
        if not len(better):
            return value
        back = best[better[0] + 1 :].tolist()
        for slot in reversed(back):
            chosen.pop()
            nodes.remove_pod(nodes.names[slot], shapes[len(chosen)])
        return self._followed(batch, back, value, len(chosen))

    def _add(self, slots: list[int], shapes: Sequence[Shape]) -> None:
        """The first of these pods to these nodes, no two of which are the same."""
        mine = shapes[: len(slots)]
        if all(each is mine[0] for each in mine):
            self._nodes.add_alike(slots, mine[0])
            return
        for slot, each in zip(slots, mine, strict=True):
            self._nodes.add_pod(self._nodes.names[slot], each)

    def _place_ahead(self, batch: _Batch, score: Following | Asked, value: Column, chosen: list[int]) -> Column:
        """As many as the nodes' classes tell of without a look at what nodes are worth that got a pod; these are looked at
        together then, and who would rather have gone there is taken back. What nodes are worth then, but for the score."""
        nodes, shapes, standing = self._nodes, batch.shapes, batch.standing
        classes = score.classes(value, len(shapes) - len(chosen))
        if classes is None:
            return value
        score.forget()
        most, right = _FIRST_AHEAD, True
        while right and (slots := classes.ahead(min(most, len(shapes) - len(chosen)))):
            begin = place = len(chosen)
            self._add(slots, shapes[begin:])
            chosen += slots
            for slot, own in zip(slots, self._standings.ahead(standing, shapes[begin], slots), strict=True):
                place += 1
                self._standings.keep(standing, slot, own)
                if value is not standing.value:
                    value[slot] = self._worth(batch, shapes[min(place, len(shapes) - 1)], slot)
                # when a node is full, what is said of the others changes
                right = value[slot] != -np.inf and classes.right(float(value[slot]))
                if not right:
                    break
            while len(chosen) > place:
                slot = chosen.pop()
                nodes.remove_pod(nodes.names[slot], shapes[len(chosen)])
            self._standings.caught_up(standing)
            most = len(shapes)
        return value

    def _place_by_class(self, batch: _Batch, score: Following | Asked, value: Column, chosen: list[int]) -> Column:
        """As many as the nodes' classes tell of; what nodes are worth then, but for the score."""
        count = len(batch.shapes)
        classes = score.classes(value, count - len(chosen))
        if classes is None:
            return value
        score.forget()
        while (slot := classes.best()) is not None:
            self._nodes.add_pod(self._nodes.names[slot], batch.shapes[len(chosen)])
            chosen.append(slot)
            if len(chosen) == count:
                break
            value = self._followed(batch, [slot], value, len(chosen))
            if value[slot] == -np.inf:  # the node is full: what is said of the others changes
                break
            classes.placed(float(value[slot]))
        return value

    def _followed(self, batch: _Batch, slots: list[int], value: Column, placed: int) -> Column:
        """What nodes are worth to a batch of which so many are placed, after the accounts of these have changed."""
        standing = batch.standing
        shape = batch.shapes[min(placed, len(batch.shapes) - 1)]
        shared = value is standing.value
        self._standings.follow(standing, shape)
        if shared:
            return standing.value
        for slot in slots:
            value[slot] = self._worth(batch, shape, slot)
        return value

    def _worth(self, batch: _Batch, shape: Shape, slot: int) -> float:
        """What a node is worth to the next pod of a batch."""
        nodes = self._nodes
        if batch.fixed is not None and not batch.fixed[slot]:
            return -np.inf
        if not all(p.room_at(nodes, shape, slot) for p in batch.narrow):
            return -np.inf
        value = float(batch.standing.value[slot])
        for score, weight in batch.alone:
            value += weight * (score.score_one(nodes, shape, slot) or 0.0)
        return value

    # -- explaining

    def explain(self, shape: Shape) -> str:
        """Upstream's FailedScheduling text: per reason how many nodes it kept out, each node by its first failing plugin."""
        return explanation(self.refusals(shape), int(self._nodes.live.sum()))

    def refusals(self, shape: Shape, within: Mask | None = None) -> dict[str, dict[str, int]]:
        """Plugin -> reason -> number of nodes."""
        nodes = self._nodes
        left = nodes.live.copy() if within is None else nodes.live & within
        found: dict[str, dict[str, int]] = {}
        for plugin in self._profile.filters:
            mask = plugin.mask(nodes, shape)
            if mask is None:
                continue
            refused = left & ~mask
            if refused.any():
                found[plugin.name] = plugin.tally(nodes, shape, refused)
            left &= mask
        return found

    def hopeless(self, shape: Shape) -> Mask:
        """True where the going of other pods would not help (upstream: UnschedulableAndUnresolvable)."""
        out = ~self.allowed(shape)
        for plugin in self._profile.filters:
            if (unresolvable := getattr(plugin, "unresolvable", None)) is not None:
                mask = unresolvable(self._nodes, shape)
                if mask is not None:
                    out |= mask
        return out

    def lacks_only_room(self, shape: Shape) -> Mask | None:
        """Where no filter but NodeResourcesFit refuses the pod, whichever pods go; None: that cannot be told at once."""
        passed = self.allowed(shape)
        for plugin, mask in self._minding(shape):
            if not (isinstance(plugin, Easing) and plugin.eases(self._nodes, shape)):
                return None
            if mask is not None:
                passed = passed & mask
        return passed

    def minds_only_room(self, shape: Shape) -> bool:
        """Where the pod may go, no pod but by the room it takes has a say in, and so it will be when more of its shape come."""
        return next(self._minding(shape), None) is None

    def _minding(self, shape: Shape) -> Iterator[tuple[Filter, Mask | None]]:
        """The filters but NodeResourcesFit that other pods may have a say in, and what they say now."""
        for plugin, couples in (*((p, None) for p in self._own), *self._couples):
            if isinstance(plugin, ResourcesFit):
                continue
            mask = plugin.mask(self._nodes, shape)
            if mask is not None or (couples is not None and couples(self._nodes, shape)):
                yield plugin, mask

    def wanted(self, shape: Shape) -> list[tuple[str, float]]:
        """What NodeResourcesFit looks for."""
        return [want for p in self._own if isinstance(p, ResourcesFit) for want in p.wanted(shape)]

    def fits(self, shape: Shape, slot: int) -> bool:
        """Whether the pod may go to this one node now."""
        if shape.placement.node:  # each daemon's pod is a placement of its own: columns for one entry would be a waste
            if not self._fits_static(shape, slot):
                return False
        elif not self.allowed(shape)[slot]:
            return False
        return self._fits_moving(shape, slot)

    def may_stay(self, shape: Shape, slot: int) -> bool:
        """Whether one that `minds_only_room`, and that the accounts have there already, `fits`."""
        nodes = self._nodes
        room = all(nodes.used_at(r, slot) <= nodes.allocatable_at(r, slot) for r, _ in self.wanted(shape))
        return room and bool(self.allowed(shape)[slot])

    def _fits_moving(self, shape: Shape, slot: int) -> bool:
        """The same for all filters but the static ones."""
        for own in self._own:
            if not own.fits(self._nodes, shape, slot):
                return False
        for plugin in self._wide:
            mask = plugin.mask(self._nodes, shape)
            if mask is not None and not mask[slot]:
                return False
        return True

    def _fits_static(self, shape: Shape, slot: int) -> bool:
        if not self._nodes.live[slot]:
            return False
        for plugin in self._static:
            if isinstance(plugin, OwnFilter):
                if not plugin.fits(self._nodes, shape, slot):
                    return False
            elif (mask := plugin.mask(self._nodes, shape)) is not None and not mask[slot]:
                return False
        return True

    def scorecard(self, shape: Shape, feasible: Mask) -> dict[str, Column]:
        """Plugin -> weighted score per node; plugins without a say are left out."""
        found = {}
        for plugin, weight in self._profile.scores:
            column = plugin.score(self._nodes, shape, feasible)
            if column is not None:
                found[plugin.name] = weight * column
        return found

    # -- parts

    def allowed(self, shape: Shape) -> Mask:
        """alive and every static filter; kept per Placement until a node's labels, taints or cordon change. Not to be changed."""
        nodes, placement = self._nodes, shape.placement
        if self._generation != nodes.generation or len(self._masks) > _MOST_MEMOISED:
            self._masks.clear()
            self._generation = nodes.generation
        kept = self._masks.get(id(placement))
        if kept is not None and kept[0] is placement:
            return kept[1]
        passed = nodes.live.copy()
        for plugin in self._static:
            mask = plugin.mask(nodes, shape)
            if mask is not None:
                passed &= mask
        self._masks[id(placement)] = (placement, passed)
        return passed


@dataclass(slots=True)
class _Batch:
    """Pods that are placed one after the other, and what they share."""

    standing: Standing
    shapes: Sequence[Shape]
    fixed: Mask | None
    """Where they may go; None: anywhere."""
    narrow: list[Narrow]
    """Filters that must be asked about nodes that got one of them."""
    alone: list[tuple[Score, float]]


def _best(value: Column, most: int) -> Slots:
    """Where a pod may go, best first."""
    found = np.argpartition(value, -most)[-most:] if most < len(value) else np.arange(len(value))
    found = found[np.argsort(-value[found])]
    fits: Slots = found[value[found] != -np.inf]
    return fits


def _always(nodes: Snapshot, shape: Shape) -> bool:
    """Whether a filter that does not say so couples."""
    return True


def explanation(refusals: dict[str, dict[str, int]], total: int) -> str:
    """`total`: nodes alive."""
    if not total:
        return "no nodes available to schedule pods"
    counts: Counter[str] = Counter()
    for tally in refusals.values():
        counts.update(tally)
    whole = sorted(reason for reason in counts if reason.startswith(_ABOUT_THE_POD))
    parts = ", ".join(whole + sorted(f"{n} {reason}" for reason, n in counts.items() if reason not in whole))
    return f"0/{total} nodes are available: {parts}."
