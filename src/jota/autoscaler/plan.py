"""The decision of one pass. In: an Observed, what is remembered, the time. Out: a Plan. No I/O, no clock, no chance.

Level-triggered: whatever an earlier pass began (machines without a node, nodes with the mark, Node objects without a
machine) is found again here and brought to its end. Next: autoscaler.py carries it out.
"""

from __future__ import annotations

from jota.aio.clock import parse_rfc3339
from jota.autoscaler import scaleup
from jota.autoscaler.actions import Adopt, Forget, Memory, Plan, Remove, Tell, Unmark
from jota.autoscaler.census import Census, Member, counts, take
from jota.autoscaler.scaledown import ScaleDown
from jota.autoscaler.settings import Options
from jota.autoscaler.simulation import Simulation
from jota.autoscaler.world import CORDONED, Node, Observed, Pod
from jota.scheduler.pod import Shapes

REPEAT = 300.0
"""Seconds after which a pod is told again that nothing is made for it."""
LOST = 60.0
"""Seconds that a Node without a machine must have been silent before its object is deleted."""


def plan(observed: Observed, memory: Memory, now: float, shapes: Shapes | None = None) -> Plan:
    """`memory` is brought up to date. `shapes`: a memo to keep between passes."""
    out, census = Plan(), take(observed, memory, now)
    out.counts = {v.name: counts(census, v) for v in observed.groups}
    _tidy(out, observed, census, memory, now)
    out.unhealthy = _unhealthy(observed, census)
    if out.unhealthy:
        return out
    if _at_rest(observed, census):
        memory.unneeded.clear()
        memory.told.clear()
        return out
    simulation = Simulation(observed, census.away(observed.nodes), shapes or Shapes())
    for member in census.members:
        if member.stage == "starting":
            simulation.add_node(member.machine.node_name, member.view)
    up = scaleup.least(simulation, census, observed, memory, now)
    unplaced = simulation.place(_pending(observed, simulation, now))
    needed, unplaced = _needed(simulation, census, unplaced)
    scaleup.grow(up, unplaced, simulation, census, observed, memory, now)
    _tell(out, up, simulation, census, observed, memory, now)
    out.actions += up.creates
    for create in up.creates:
        out.counts[create.group].scaling = True
    for view in observed.groups:
        starting = any(m.stage == "starting" for m in census.of(view))
        out.counts[view.name].scaling = out.counts[view.name].scaling or starting
    if up.creates:
        memory.added = now
    down = ScaleDown(observed, simulation, census, memory, now, out)
    down.go_on(needed)
    down.look(_may_begin(observed, memory, now))
    return out


def _at_rest(observed: Observed, census: Census) -> bool:
    """Nobody waits, nothing is under way, every group is at its minimum: the usual case needs no simulation."""
    if any(p.unschedulable and not p.spec.nodeName for p in observed.pods):
        return False
    if any(m.stage in ("starting", "going") for m in census.members):
        return False
    return all(census.size(v) == v.settings.min for v in observed.groups if not v.fault)


def _may_begin(observed: Observed, memory: Memory, now: float) -> bool:
    options = observed.options
    calm = now - memory.added >= options.scaleDownDelayAfterAdd
    return calm and now - memory.failed >= options.scaleDownDelayAfterFailure


def _tidy(out: Plan, observed: Observed, census: Census, memory: Memory, now: float) -> None:
    """What is left over from earlier: unlabelled nodes, machines that never became nodes, nodes without machines."""
    options = observed.options
    for member in census.members:
        if member.node is not None and member.node.group != member.view.name:
            out.actions.append(Adopt(member.node, member.view.name))
        if member.stage in ("late", "failed"):
            _broken(out, member, memory, now, options)
        elif member.machine.state == "deleting":  # until it is gone: who began may have died in the middle
            out.actions.append(Remove(member.view.name, member.machine.name, member.node))
    for node in census.gone:
        silent = not node.ready and now - node.unready_since >= LOST
        if (node.marked_at is not None or silent) and not node.metadata.deletionTimestamp:
            out.actions.append(Forget(node))
    known = {v.name for v in observed.groups}
    for node in observed.nodes:
        if node.marked_at is not None and _ours(node) and node.group not in known:
            out.actions.append(Unmark(node, f"the group {node.group} is no longer autoscaled", failed=False))


def _ours(node: Node) -> bool:
    return CORDONED in (node.metadata.annotations or {})


def _broken(out: Plan, member: Member, memory: Memory, now: float, options: Options) -> None:
    group, name = member.view.name, member.machine.name
    if member.stage == "failed":
        text, code = member.machine.message or "the machine failed", "machineFailed"
    else:
        text = f"Nodes added to group {group} failed to register within {options.maxNodeProvisionTime:.0f}s"
        out.tells.append(Tell(None, "ScaleUpTimedOut", text, "Warning"))
        code = "timeout"
    memory.provider_failed(group, code, text, now, options)
    out.actions.append(Remove(group, name, None, broken=text))


def _unhealthy(observed: Observed, census: Census) -> str:
    """Too much is broken to believe what we see (upstream: ok-total-unready-count, max-total-unready-percentage)."""
    starting = {m.machine.node_name for m in census.members if m.stage == "starting"}
    bad = sum(not n.ready and n.name not in starting for n in observed.nodes)
    options = observed.options
    if bad > options.okTotalUnreadyCount and bad * 100 > options.maxTotalUnreadyPercentage * len(observed.nodes):
        return f"{bad} of {len(observed.nodes)} nodes are not ready"
    return ""


def _pending(observed: Observed, simulation: Simulation, now: float) -> list[Pod]:
    """Pods that the scheduler could not place. Who waits for a preemption is put where it will go."""
    options, found = observed.options, []
    for pod in observed.pods:
        if pod.spec.nodeName or pod.finished or pod.terminating or pod.stays or not pod.unschedulable:
            continue
        if pod.spec.priority < options.expendablePodsPriorityCutoff:
            continue
        nominated = pod.status.nominatedNodeName
        if nominated and nominated in simulation.rehearsal.nodes.slots:
            simulation.put_on(pod, nominated)
            continue
        stamp = pod.metadata.creationTimestamp
        if options.newPodScaleUpDelay and stamp and now - parse_rfc3339(stamp) < options.newPodScaleUpDelay:
            continue
        found.append(pod)
    return sorted(found, key=lambda p: (p.metadata.creationTimestamp, p.key))


def _needed(simulation: Simulation, census: Census, unplaced: list[Pod]) -> tuple[list[str], list[Pod]]:
    """Nodes that are being drained and would do for pods that fit nowhere: cheaper than a new machine."""
    names = []
    for member in census.members:
        node = member.node
        if (
            not unplaced
            or node is None
            or node.marked_at is None
            or not node.ready
            or member.machine.state == "deleting"
        ):
            continue
        mark = simulation.mark()
        simulation.bring_back(node)
        still = simulation.place(unplaced)
        if len(still) == len(unplaced):
            simulation.undo(mark)
            continue
        names.append(node.name)
        unplaced = still
    return names, unplaced


def _tell(
    out: Plan,
    up: scaleup.ScaleUp,
    simulation: Simulation,
    census: Census,
    observed: Observed,
    memory: Memory,
    now: float,
) -> None:
    """Events about pods that are helped, and about those that are not."""
    for view in observed.groups:
        made = sum(c.group == view.name for c in up.creates)
        if not made:
            continue
        before = census.size(view)
        what = f"{view.name} {before}->{before + made} (max: {view.settings.max})"
        size = f"size to {before + made} instead of {before} (max: {view.settings.max})"
        out.tells.append(Tell(None, "ScaledUpGroup", f"Scale-up: setting group {view.name} {size}"))
        for pod in up.helped.get(view.name, ()):
            out.tells.append(Tell(pod, "TriggeredScaleUp", f"pod triggered scale-up: [{{{what}}}]"))
    kept = {p.metadata.uid: memory.told[p.metadata.uid] for p in up.unhelped if p.metadata.uid in memory.told}
    for pod, text in scaleup.explain(up.unhelped, up, simulation, census, observed, memory, now):
        last = kept.get(pod.metadata.uid)
        if last is None or last[0] != text or now - last[1] >= REPEAT:
            out.tells.append(Tell(pod, "NotTriggerScaleUp", text))
            kept[pod.metadata.uid] = text, now
    memory.told = kept
