"""Do: give running containers, and the pod around them, what is allocated to them. In: a worker. Out: the runtime changed.

First the pod is made wide enough for both, then each container is changed, then the pod is drawn in: at no moment is a container
without room. A memory limit is never set below what is used. Each step is idempotent; a new agent reads from the labels how
far the last one came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from jota.meta.quantity import parse
from jota.node.model import RESOURCES, Object, Part, Resizing, parts
from jota.node.plan import needs_restart, unsized
from jota.node.resizes import generation, summary
from jota.node.resources import container_resources, effective, given_text, pod_resources, whole_label, widest
from jota.runtime.protocol import Container, Resources, RuntimeFault, Sandbox

if TYPE_CHECKING:
    from jota.node.worker import PodWorker

ERROR = "Error"


async def resize(worker: PodWorker) -> None:
    pod, runtime = worker.allocated, worker.kit.runtime
    box = worker.seen.sandbox()
    if box is None:
        return
    wrong = [(p, c) for p in parts(pod) for c in _running(worker, p) if unsized(pod, p, c)]
    todo = [(p, c) for p, c in wrong if not needs_restart(pod, p, c)]
    bounds = pod_resources(pod)
    try:
        if problem := await _too_small(worker, box, bounds, todo):
            failed(worker, problem)
            return
        await make_room(worker, box)
        for p, c in todo:
            wanted = container_resources(pod, p.spec, worker.kit.machine.memory_total)
            await runtime.update_resources(c.id, wanted, {RESOURCES: given_text(pod, p.spec)})
        if len(todo) == len(wrong):
            await runtime.update_sandbox(box.id, bounds, whole_label(pod))
    except (RuntimeFault, OSError) as e:
        failed(worker, str(e))
        return
    worker.facts.resize_failure = None


async def make_room(worker: PodWorker, box: Sandbox) -> None:
    """Widen the pod's own bounds for a container that gets more than the pod had when its sandbox was made. Raises
    RuntimeFault."""
    bounds = worker.facts.bounds
    if bounds is None or box.spec.resources == bounds:
        return
    wide = widest(box.spec.resources, bounds)
    if wide != box.spec.resources:
        await worker.kit.runtime.update_sandbox(box.id, wide)


def failed(worker: PodWorker, problem: str) -> None:
    """Say why, once per spec, and try again when it is time."""
    facts, pod = worker.facts, worker.allocated
    now = worker.kit.clock.now()
    before = facts.progress
    facts.resize_failure = worker.fail(ERROR, problem, facts.resize_failure)
    told = before is not None and before.reason == ERROR
    number = before.generation if before is not None else generation(pod)
    facts.progress = Resizing(ERROR, problem, number, before.since if told and before is not None else now)
    if not told:
        worker.events.warning("ResizeError", summary("Pod resize error", pod, number, problem))


def _running(worker: PodWorker, p: Part) -> list[Container]:
    return [c for c in worker.seen.of(p.name)[:1] if c.state == "running"]


async def _too_small(worker: PodWorker, box: Sandbox, bounds: Resources, todo: list[tuple[Part, Container]]) -> str:
    """What uses more memory than it is to have; "" when nothing does."""
    pod = worker.allocated
    lowered = {c.id: (p.name, limit) for p, c in todo if (limit := _lowered(pod, p, c))}
    whole = bounds.memory_limit or 0
    had = box.spec.resources.memory_limit
    if had is not None and whole >= had:
        whole = 0
    if not lowered and not whole:
        return ""
    mine = {c.id for c in worker.seen.alive()}
    used = {s.container_id: s.memory_usage for s in await worker.kit.runtime.stats() if s.container_id in mine}
    problems = []
    if whole and (total := sum(used.values())) >= whole:
        problems.append(f"attempting to set pod memory limit ({whole}) below current usage ({total})")
    for cid, (name, limit) in lowered.items():
        if used.get(cid, 0) >= limit:
            text = f'attempting to set container "{name}" memory limit ({limit}) below current usage ({used[cid]})'
            problems.append(text)
    if not problems:
        return ""
    return "cannot decrease memory limits: " + (problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _lowered(pod: Object, p: Part, c: Container) -> int:
    """The memory limit in bytes that is to be set, where it is new or below that which the container has; else 0."""
    wanted = (effective(pod, p.spec).get("limits") or {}).get("memory")
    if not wanted or not (limit := parse(wanted).value):
        return 0
    had = (orjson.loads(c.labels[RESOURCES]).get("limits") or {}).get("memory")
    return limit if not had or limit < parse(had).value else 0
