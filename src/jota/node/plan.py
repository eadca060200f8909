"""Decide: what one pod needs next. In: spec, Observed, Facts, now. Out: Plan(actions, waiting reasons, when to look again).

Pure: no I/O, no clock, nothing changed. The worker (`worker.py`) carries actions out and asks again; an operation in
flight is named in `facts.busy`, and the planner never touches its subject twice. A worked example, a pod of one init
container "i" and one container "c":

    nothing exists              -> MountVolumes, MakeSandbox, EnsureImage(i)          (side by side)
    sandbox, volumes, image     -> StartContainer(i)
    i exited 0                  -> EnsureImage(c), then StartContainer(c)
    c exited 1 for the 3rd time -> nothing; waiting[c] = CrashLoopBackOff, wake in 2 s
    deletionTimestamp           -> KillContainer(c), then TearDown, then RemovePod
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from jota.aio.clock import parse_rfc3339
from jota.node.config import Curve
from jota.node.model import (
    BACKOFF_STEP,
    RESOURCES,
    SPEC_HASH,
    Facts,
    Failure,
    Object,
    Observed,
    Part,
    Stop,
    Verdict,
    full_name,
    parts,
    spec_hash,
)
from jota.node.resources import COMPUTE, SIDES, effective, given_text, whole_label
from jota.runtime.protocol import Container, Sandbox

SHOW_ERR = 0.3
"""Seconds that ErrImagePull is shown before it becomes ImagePullBackOff."""
LEAST_GRACE = 1.0
"""Seconds that a container is always given between SIGTERM and SIGKILL."""
DEFAULT_GRACE = 30
MOMENT = 1.0
"""Seconds after the end of a container that is being replaced in which its successor is expected to run."""


class MountVolumes(NamedTuple):
    pass


class MakeSandbox(NamedTuple):
    attempt: int


class AttachNetwork(NamedTuple):
    """A sandbox without an address: the agent died between the two steps."""

    sandbox: Sandbox


class StopSandbox(NamedTuple):
    """A sandbox that is not the pod's current one."""

    id: str
    remove: bool


class EnsureImage(NamedTuple):
    name: str
    attempt: int


class StartContainer(NamedTuple):
    name: str
    attempt: int
    step: int
    """Position on the backoff curve, kept on the container."""


class RunPostStart(NamedTuple):
    name: str
    id: str


class KillContainer(NamedTuple):
    name: str
    id: str
    deadline: float
    event: str
    hook: bool
    """Run preStop first."""


class Resize(NamedTuple):
    """Give the running containers, and the pod around them, the resources that are allocated to them now."""


class RemoveContainer(NamedTuple):
    name: str
    id: str


class TearDown(NamedTuple):
    """Nothing runs any more: release sandbox, network and volumes; keep what logs and status need."""


class RemovePod(NamedTuple):
    """Remove the last traces and the API object."""


Action = (
    MountVolumes
    | MakeSandbox
    | AttachNetwork
    | StopSandbox
    | EnsureImage
    | StartContainer
    | RunPostStart
    | KillContainer
    | Resize
    | RemoveContainer
    | TearDown
    | RemovePod
)


@dataclass(slots=True)
class Plan:
    actions: list[Action] = field(default_factory=list)
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Container name -> (reason, message) of state.waiting, where the default is not the whole truth."""
    wake: float = 0.0
    """Epoch seconds to plan again without an event; 0: never."""
    terminal: bool = False
    """Every container has ended for good."""
    verdict: Verdict | None = None
    """A decision about the phase that the worker must remember."""
    between: bool = False
    """A container of an old definition has just ended and its successor comes at once: nothing is told of the time between
    (kubelet's status, too, is of before or after)."""

    def at(self, when: float) -> None:
        if when > 0:
            self.wake = min(self.wake, when) if self.wake else when


def plan(pod: Object, seen: Observed, facts: Facts, now: float, curve: Curve) -> Plan:
    """The next steps of a bound pod."""
    out = Plan(verdict=facts.verdict)
    if facts.removed or facts.is_busy("teardown", "remove"):
        return out
    if out.verdict is None:
        out.verdict = _overdue(pod, facts, now, out)
    deleted = "deletionTimestamp" in pod["metadata"]
    if deleted or out.verdict is not None:
        _stop(pod, seen, facts, now, out, deleted)
        return out
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        # Terminal is for good, whoever said so, and whatever the runtime has forgotten.
        _complete(pod, seen, facts, now, out)
    else:
        _run(pod, seen, facts, now, curve, out)
    return out


def stop_of(pod: Object, facts: Facts, now: float, seen: Observed | None = None) -> Stop | None:
    """The stop order in force: set once when deletion or a verdict is first seen; only ever moved earlier."""
    meta = pod["metadata"]
    if "deletionTimestamp" not in meta and facts.verdict is None:
        return facts.stop
    grace = meta.get("deletionGracePeriodSeconds")
    if facts.verdict is not None and facts.verdict.grace is not None:
        grace = facts.verdict.grace if grace is None else min(grace, facts.verdict.grace)
    if grace is None:
        grace = pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    # Upstream never lets a container go with less than a second: SIGTERM should be seen.
    grace = LEAST_GRACE if facts.stop is None and seen and _barely_begun(pod, seen, now) else float(grace)
    deadline = now + max(LEAST_GRACE, grace)
    if facts.stop is None or facts.stop.deadline > deadline + 0.5:
        return Stop(deadline, facts.stop.event if facts.stop else "")
    return facts.stop


def _barely_begun(pod: Object, seen: Observed, now: float) -> bool:
    """The deletion overtook the start: who deleted saw nothing run. The kubelet cancels such a start and kills what came of it."""
    status = pod.get("status") or {}
    shown = {
        s["name"]
        for section in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for s in status.get(section) or []
        if "waiting" not in (s.get("state") or {"waiting": {}}) or s.get("restartCount")
    }
    hooked = {p.name for p in parts(pod) if "preStop" in (p.spec.get("lifecycle") or {})}
    alive = seen.alive()
    return bool(alive) and all(
        c.name not in shown and c.name not in hooked and c.started_at > now - LEAST_GRACE for c in alive
    )


def _overdue(pod: Object, facts: Facts, now: float, out: Plan) -> Verdict | None:
    limit = pod["spec"].get("activeDeadlineSeconds")
    if limit is None:
        return None
    started = pod.get("status", {}).get("startTime")
    end = (parse_rfc3339(started) if started else facts.start_time) + limit
    if now < end:
        out.at(end)
        return None
    return Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


# -- stopping


def _stop(pod: Object, seen: Observed, facts: Facts, now: float, out: Plan, deleted: bool) -> None:
    stop = facts.stop or stop_of(pod, facts, now) or Stop(now + 1)
    if _kill_all(pod, seen, facts, stop, out) or facts.busy:
        return
    _finish(facts, out, deleted)


def _kill_all(pod: Object, seen: Observed, facts: Facts, stop: Stop, out: Plan) -> bool:
    """Kill what runs: everything but sidecars at once, then sidecars in reverse order. True while something is left."""
    alive = seen.alive()
    sidecars = [p.name for p in parts(pod) if p.role == "sidecar"]
    main = [c for c in alive if c.name not in sidecars]
    if main:
        for c in main:
            _kill(c, stop.deadline, stop.event or f"Stopping container {c.name}", facts, out)
        return True
    for name in reversed(sidecars):
        for c in (c for c in alive if c.name == name):
            _kill(c, stop.deadline, stop.event or f"Stopping container {c.name}", facts, out)
            return True
    return bool(alive)


def _kill(c: Container, deadline: float, event: str, facts: Facts, out: Plan, hook: bool = True) -> None:
    key = f"kill:{c.name}"
    if key in facts.busy and facts.busy[key] <= deadline + 0.5:
        return
    out.actions.append(KillContainer(c.name, c.id, deadline, event, hook))


def _finish(facts: Facts, out: Plan, deleted: bool) -> None:
    out.terminal = True
    if not facts.torn_down:
        out.actions.append(TearDown())
    elif deleted:
        out.actions.append(RemovePod())


# -- running


def _run(pod: Object, seen: Observed, facts: Facts, now: float, curve: Curve, out: Plan) -> None:
    current = seen.sandbox()
    _stale_sandboxes(pod, seen, current, facts, out)
    if ended(pod, seen, current):
        _complete(pod, seen, facts, now, out)
        return
    if current is None:
        orphaned = seen.alive()
        for c in orphaned:
            _kill(c, now + 1, "Pod sandbox changed, it will be killed and re-created.", facts, out, hook=False)
        if orphaned or facts.is_busy("sandbox"):
            return
        _prepare(pod, seen, facts, now, out)
        _images_ahead(pod, seen, facts, now, out)
        return
    network = not pod["spec"].get("hostNetwork")
    if network and not seen.ip:
        if not facts.is_busy("sandbox") and _due(facts.sandbox_failure, now, out):
            out.actions.append(AttachNetwork(current))
        _mount(facts, now, out)
        _images_ahead(pod, seen, facts, now, out)
        return
    _mount(facts, now, out)
    _Containers(pod, seen, current, facts, now, curve, out).run()


def _stale_sandboxes(pod: Object, seen: Observed, current: Sandbox | None, facts: Facts, out: Plan) -> None:
    """Stop what crashed starts left behind; remove it once no container's history is needed from it."""
    for box in seen.sandboxes:
        if (current is not None and box.id == current.id) or f"box:{box.id}" in facts.busy:
            continue
        inside = [c for c in seen.containers if c.sandbox_id == box.id]
        superseded = all(any(o.attempt > c.attempt for o in seen.of(c.name)) for c in inside)
        if current is not None and superseded and not facts.is_busy("sandbox"):
            out.actions.append(StopSandbox(box.id, True))
        elif box.state == "ready" and current is not None:
            out.actions.append(StopSandbox(box.id, False))


def _prepare(pod: Object, seen: Observed, facts: Facts, now: float, out: Plan) -> None:
    _mount(facts, now, out)
    if _due(facts.sandbox_failure, now, out):
        attempt = max((s.spec.attempt for s in seen.sandboxes), default=-1) + 1
        out.actions.append(MakeSandbox(attempt))


def _mount(facts: Facts, now: float, out: Plan) -> None:
    if not facts.volumes_ready and not facts.is_busy("volumes") and _due(facts.volumes_failure, now, out):
        out.actions.append(MountVolumes())


def _due(failure: Failure | None, now: float, out: Plan) -> bool:
    if failure is None or failure.retry_at <= now:
        return True
    out.at(failure.retry_at)
    return False


def _images_ahead(pod: Object, seen: Observed, facts: Facts, now: float, out: Plan) -> None:
    """Pull for the containers that come first while sandbox and volumes are being made."""
    todo = list(parts(pod))
    first = [p for p in todo if p.role in ("init", "sidecar")][:1] or [p for p in todo if p.role == "app"]
    for p in first:
        fact, attempt = facts.images.get(p.name), next_attempt(pod, seen, p)
        if fact is None or fact.attempt != attempt:
            if not facts.is_busy(f"image:{p.name}"):
                out.actions.append(EnsureImage(p.name, attempt))
        elif fact.failure is not None:
            _image_failed(p, fact.failure, fact.attempt, facts, now, out)


def _image_failed(p: Part, failure: Failure, attempt: int, facts: Facts, now: float, out: Plan) -> None:
    """Show why, and try again when it is time."""
    message = failure.message
    if failure.reason in ("ErrImagePull", "RegistryUnavailable") and now >= failure.at + SHOW_ERR:
        text = f'Back-off pulling image "{p.spec.get("image", "")}": {failure.reason}: {message}'
        out.waiting[p.name] = ("ImagePullBackOff", text)
    else:
        out.waiting[p.name] = (failure.reason, message)
        out.at(failure.at + SHOW_ERR)
    if not facts.is_busy(f"image:{p.name}") and _due(failure, now, out):
        out.actions.append(EnsureImage(p.name, attempt))


def _complete(pod: Object, seen: Observed, facts: Facts, now: float, out: Plan) -> None:
    """All main containers are done: end the sidecars, then release everything."""
    grace = pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    stop = facts.stop or Stop(now + max(1.0, grace))
    if _kill_all(pod, seen, facts, stop, out) or facts.busy:
        return
    _finish(facts, out, deleted=False)


def should_restart(pod: Object, p: Part, c: Container) -> bool:
    """Whether a container that ended runs again."""
    return restarts(pod, p, c.exit_code)


def restarts(pod: Object, p: Part, exit_code: int) -> bool:
    """Whether a container that ended so runs again: container rules first, then the pod's policy."""
    if p.role == "sidecar":
        return True
    if p.role == "ephemeral":
        return False
    for rule in p.spec.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        if codes and (exit_code in codes.get("values", [])) == (codes.get("operator") == "In"):
            return bool(rule.get("action") == "Restart")
    policy = p.spec.get("restartPolicy") or pod["spec"].get("restartPolicy", "Always")
    if p.role == "init":
        # An init container that succeeded is done; one that failed follows the policy, Always meaning OnFailure.
        return bool(exit_code != 0 and policy != "Never")
    return bool(policy == "Always" or (policy == "OnFailure" and exit_code != 0))


def ended(pod: Object, seen: Observed, current: Sandbox | None) -> bool:
    """True when no main container runs or will run again: all have ended for good, or an init container failed for good."""
    apps: list[bool] = []
    for p in parts(pod):
        attempts = seen.of(p.name)
        last = attempts[0] if attempts else None
        done = last is not None and last.state in ("exited", "unknown") and not should_restart(pod, p, last)
        if p.role == "init" and done and last is not None and last.exit_code != 0:
            return True
        if p.role == "app":
            apps.append(done)
    return bool(apps) and all(apps)


class _Containers:
    """The part of the plan that walks over the containers of a pod whose sandbox stands."""

    def __init__(
        self, pod: Object, seen: Observed, box: Sandbox, facts: Facts, now: float, curve: Curve, out: Plan
    ) -> None:
        self.pod, self.seen, self.box, self.facts = pod, seen, box, facts
        self.now, self.curve, self.out = now, curve, out
        self.held = False
        """An earlier container is being pulled or started: later ones wait, as upstream starts them one by one."""
        self.unsized = False
        """A running container has other resources than are allocated to it, and may be given them as it runs."""

    def run(self) -> None:
        todo = list(parts(self.pod))
        inits = [p for p in todo if p.role in ("init", "sidecar")]
        apps = [p for p in todo if p.role == "app"]
        initialised = any(self.current(p) is not None for p in apps)
        ready = self.sidecars(inits) if initialised else self.inits(inits)
        for p in apps:
            if ready:
                self.advance(p)
        if ready:
            for p in (p for p in todo if p.role == "ephemeral"):
                self.held = False
                self.advance(p)
        for p in todo:
            self.collect(p)
        self.resize(todo)

    def current(self, p: Part) -> Container | None:
        """The newest attempt inside the current sandbox."""
        return next((c for c in self.seen.of(p.name) if c.sandbox_id == self.box.id), None)

    def sidecars(self, inits: list[Part]) -> bool:
        for p in inits:
            if p.role == "sidecar":
                self.advance(p)
        self.held = False
        return True

    def inits(self, inits: list[Part]) -> bool:
        """Walk the init containers in order; True once all are through."""
        passed = True
        for p in inits:
            c = self.current(p)
            if not passed:
                if p.role == "sidecar" and c is not None:
                    self.advance(p)
                continue
            if p.role == "init" and c is not None and c.state == "exited" and c.exit_code == 0:
                continue
            self.advance(p)
            if not (p.role == "sidecar" and c is not None and started(p, c, self.facts)):
                passed = False
        return passed

    def advance(self, p: Part) -> None:
        """Bring one container a step closer to running."""
        self.out.between |= self.replaced(p)
        keys = [f"{verb}:{p.name}" for verb in ("image", "start", "hook")]
        if self.facts.is_busy(*keys):
            c = self.current(p)
            if not (self.facts.is_busy(f"hook:{p.name}") and c is not None and c.state == "running"):
                self.held = True
                return
            self.held = True
        if self.facts.is_busy(f"kill:{p.name}", f"gc:{p.name}"):
            return
        c = self.current(p)
        if c is None:
            previous = self.seen.of(p.name)
            self.start(p, next_attempt(self.pod, self.seen, p), _step(previous[0]) + 1 if previous else 0)
        elif c.state == "running":
            self.check(p, c)
        elif c.state == "created":
            # The agent died between create and start, or the start failed: begin this attempt anew.
            if _due(self.facts.starts.get(p.name), self.now, self.out):
                self.out.actions.append(RemoveContainer(p.name, c.id))
            else:
                self.explain(p)
        elif should_restart(self.pod, p, c):
            self.restart(p, c)

    def replaced(self, p: Part) -> bool:
        """Ended for its old definition, a moment ago, and nothing went wrong since."""
        last = next((c for c in self.seen.of(p.name) if c.state != "created"), None)
        if last is None or last.state != "exited" or p.name in self.facts.starts or not outdated(p, last):
            return False
        image = self.facts.images.get(p.name)
        if image is not None and image.failure is not None:
            return False
        until = last.finished_at + MOMENT
        if self.now < until:
            self.out.at(until)
        return self.now < until

    def check(self, p: Part, c: Container) -> None:
        """A running container: does anything demand its end?"""
        probes, facts = self.facts.probes, self.facts
        grace = self.grace(p)
        if outdated(p, c) and p.role != "ephemeral":
            text = f"Container {p.name} definition changed, will be restarted"
            _kill(c, self.now + grace, text, facts, self.out)
        elif probes.get((c.id, "liveness")) is False:
            text = f"Container {p.name} failed liveness probe, will be restarted"
            _kill(c, self.now + self.grace(p, "livenessProbe"), text, facts, self.out)
        elif probes.get((c.id, "startup")) is False:
            text = f"Container {p.name} failed startup probe, will be restarted"
            _kill(c, self.now + self.grace(p, "startupProbe"), text, facts, self.out)
        elif facts.hooked.get(c.id):
            _kill(c, self.now + grace, "FailedPostStartHook", facts, self.out)
        elif post_start(p) and c.id not in facts.hooked and not facts.is_busy(f"hook:{p.name}"):
            self.out.actions.append(RunPostStart(p.name, c.id))
            self.held = True
        elif needs_restart(self.pod, p, c):
            _kill(c, self.now + grace, f"Container {p.name} resize requires restart", facts, self.out)
        elif unsized(self.pod, p, c):
            self.unsized = True

    def resize(self, todo: list[Part]) -> None:
        """In place, once no container is on its way out or in: what those hold, or will, is not theirs any more, or not yet."""
        facts = self.facts
        moving = any(isinstance(a, KillContainer | StartContainer) for a in self.out.actions)
        if moving or facts.is_busy("resize", *(f"{verb}:{p.name}" for p in todo for verb in ("kill", "start"))):
            return
        misfit = facts.bounds is not None and self.box.spec.resources != facts.bounds
        if (self.unsized or misfit or whole_differs(self.pod, self.box)) and _due(
            facts.resize_failure, self.now, self.out
        ):
            self.out.actions.append(Resize())

    def grace(self, p: Part, probe: str = "") -> float:
        own = (p.spec.get(probe) or {}).get("terminationGracePeriodSeconds") if probe else None
        return float(own if own is not None else self.pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE))

    def restart(self, p: Part, c: Container) -> None:
        ran = c.finished_at - c.started_at if c.started_at else 0.0
        step = 0 if ran >= self.curve.reset else _step(c)
        delay = 0.0 if outdated(p, c) else self.curve.delay(step)
        due = c.finished_at + delay
        if self.now + 0.001 < due:
            self.out.at(due)
            text = f"back-off {_duration(delay)} restarting failed container={p.name} pod={full_name(self.pod)}"
            if line := self.facts.last_lines.get(c.id):
                text += f"; last log line: {line}"
            self.out.waiting[p.name] = ("CrashLoopBackOff", text)
            return
        self.start(p, c.attempt + 1, step + 1)

    def start(self, p: Part, attempt: int, step: int) -> None:
        if self.held:
            return
        image = self.facts.images.get(p.name)
        fresh = image is not None and image.attempt == attempt and image.reference == p.spec.get("image", "")
        if image is None or not fresh:
            self.held = True
            self.out.actions.append(EnsureImage(p.name, attempt))
        elif image.failure is not None:
            _image_failed(p, image.failure, attempt, self.facts, self.now, self.out)
        elif not self.facts.volumes_ready:
            self.held = True
        elif _due(self.facts.starts.get(p.name), self.now, self.out):
            self.held = True
            self.out.actions.append(StartContainer(p.name, attempt, step))
        self.explain(p)

    def explain(self, p: Part) -> None:
        if failure := self.facts.starts.get(p.name):
            self.out.waiting[p.name] = (failure.reason, failure.message)

    def collect(self, p: Part) -> None:
        """Keep the newest two attempts of a container (current and previous); remove older ones."""
        if any(isinstance(a, RemoveContainer) and a.name == p.name for a in self.out.actions):
            return
        for c in self.seen.of(p.name)[2:]:
            if c.state != "running" and f"gc:{p.name}" not in self.facts.busy:
                self.out.actions.append(RemoveContainer(p.name, c.id))
                break


def outdated(p: Part, c: Container) -> bool:
    """Made from another definition than the pod's present one."""
    return c.labels.get(SPEC_HASH, "") not in ("", spec_hash(p.spec))


def unsized(pod: Object, p: Part, c: Container) -> tuple[str, ...]:
    """Of cpu and memory those that a running container has otherwise than they are allocated to it."""
    had = c.labels.get(RESOURCES, "")
    if p.role == "ephemeral" or had in ("", given_text(pod, p.spec)):
        return ()
    old, new = orjson.loads(had), effective(pod, p.spec)
    return tuple(
        name for name in COMPUTE if any((old.get(k) or {}).get(name) != (new.get(k) or {}).get(name) for k in SIDES)
    )


def whole_differs(pod: Object, box: Sandbox) -> bool:
    """Whether the pod has other resources of its own than are allocated to it."""
    return any(box.spec.labels.get(name, text) != text for name, text in whole_label(pod).items())


def resizes(pod: Object, seen: Observed) -> bool:
    """Whether something that runs has other resources than are allocated to it; what does not run has the right ones when
    it starts."""
    box = seen.sandbox()
    if box is not None and whole_differs(pod, box):
        return True
    newest = ((p, c) for p in parts(pod) for c in seen.of(p.name)[:1])
    return any(c.state == "running" and unsized(pod, p, c) for p, c in newest)


def needs_restart(pod: Object, p: Part, c: Container) -> bool:
    """Whether the resize policy of what differs asks for a restart; an init container that ends has none."""
    if p.role == "init" or not p.spec.get("resizePolicy"):
        return False
    hard = {r["resourceName"] for r in p.spec["resizePolicy"] if r.get("restartPolicy") == "RestartContainer"}
    return bool(hard) and not hard.isdisjoint(unsized(pod, p, c))


def post_start(p: Part) -> bool:
    return bool((p.spec.get("lifecycle") or {}).get("postStart"))


def started(p: Part, c: Container, facts: Facts) -> bool:
    """Running, its postStart hook done, and its startup probe, if any, passed."""
    if c.state != "running" or (post_start(p) and facts.hooked.get(c.id) != ""):
        return False
    return not p.spec.get("startupProbe") or facts.probes.get((c.id, "startup")) is True


def _step(c: Container) -> int:
    text = c.labels.get(BACKOFF_STEP, "0")
    return int(text) if text.isdigit() else 0


def next_attempt(pod: Object, seen: Observed, p: Part) -> int:
    """One more than the newest attempt; when the runtime knows none: 0, or one more than the status tells."""
    previous = seen.of(p.name)
    return previous[0].attempt + 1 if previous else _known_restarts(pod, p.name)


def _known_restarts(pod: Object, name: str) -> int:
    status: dict[str, Any] = pod.get("status") or {}
    for section in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for s in status.get(section) or []:
            if s["name"] == name and s.get("containerID"):
                return int(s.get("restartCount", 0)) + 1
    return 0


def _duration(seconds: float) -> str:
    """Go's spelling of whole seconds: 10s, 1m0s."""
    whole = round(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
