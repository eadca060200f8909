"""pods/eviction: delete a pod if its PodDisruptionBudget has room for one more disruption. 201, or 429 with the cause.

Rules of upstream's EvictionREST: pods that do not count (terminal, pending, terminating) go without asking the budget; one
budget per pod; a granted eviction is written into the budget's status before the pod is touched.
"""

from __future__ import annotations

from typing import Any

from jota.aio.clock import rfc3339
from jota.api import respond
from jota.api.call import Call
from jota.api.resource import SEEN, Engine
from jota.api.subresources import body
from jota.api.subresources.binding import no_more_rules
from jota.api.verbs.delete import Options, remove
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, parts, text
from jota.meta import conditions
from jota.meta.errors import ApiError, FieldError, bad_request, internal, too_many_requests
from jota.meta.resource import Resource
from jota.meta.selectors import from_object
from jota.wire.message import Response

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
_DEFINITION = "io.k8s.api.policy.v1.Eviction"
MAX_DISRUPTED = 2000
"""Entries of status.disruptedPods beyond which evictions wait for the controller (upstream's bound)."""


async def create(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 409, 429, 500."""
    eviction, target = body.read(call, _DEFINITION, "Eviction"), call.target
    if body.part(eviction, "metadata").get("name", target.name) != target.name:
        raise bad_request("name in URL does not match name in Eviction object")
    _propagate_dry_run(call, eviction)
    await body.admit(engine, call, eviction, _DEFINITION, "policy/v1", "Eviction")
    options = _options(eviction)
    pod = call.served.object_of(engine.stored(call.served, target.namespace, target.name))
    if not _free_to_go(pod):
        await _ask_budget(engine, call, pod)
    await _mark(engine, call, pod)
    await remove(engine, call, target.namespace, target.name, options, shown=False)
    return respond.json(call, body.CREATED, 201)


def _propagate_dry_run(call: Call, eviction: Object) -> None:
    """kubectl drain says it in the deleteOptions alone. Raises ApiError 400, 422."""
    wanted = body.part(eviction, "deleteOptions").get("dryRun") or []
    if not wanted:
        return
    if call.dry_run and wanted != ["All"]:
        raise bad_request(f"Non-matching dry-run options in request and content: [All] and [{' '.join(wanted)}]")
    call.params["dryRun"] = next((one for one in wanted if one != "All"), "All")


def _options(eviction: Object) -> Options:
    """deleteOptions of the Eviction. Raises ApiError 400."""
    sent = body.part(eviction, "deleteOptions")
    pre = body.part(sent, "preconditions")
    return Options(
        sent.get("gracePeriodSeconds"),
        sent.get("propagationPolicy") or "",
        pre.get("uid") or "",
        pre.get("resourceVersion") or "",
    )


def _free_to_go(pod: Object) -> bool:
    phase = text(part(pod, "status"), "phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(pod["metadata"].get("deletionTimestamp"))


async def _ask_budget(engine: Engine, call: Call, pod: Object) -> None:
    """Take one disruption from the pod's budget, if it has one. Raises ApiError 429, 500."""
    if engine.registry.kind(BUDGETS.group, BUDGETS.plural) is None:
        return
    labels = pod["metadata"].get("labels")
    found = [
        budget
        for budget in engine.registry.objects(BUDGETS, call.target.namespace)
        if from_object(part(budget, "spec").get("selector")).matches(labels)
    ]
    if len(found) > 1:
        text_ = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", text_)
    if not found:
        return
    if _unready_may_go(found[0], pod):
        return
    on_budgets = Call(call.request, call.target, call.params, call.user, engine.kind(BUDGETS), call.accepted)
    now = rfc3339(engine.clock.now())
    name = pod["metadata"]["name"]

    def change(budget: Object) -> Object:
        return take(budget, name, now)

    budget_name = found[0]["metadata"]["name"]
    await engine.update(
        on_budgets, budget_name, call.target.namespace, change, subresource="status", finish=no_more_rules, form=SEEN
    )


def _unready_may_go(budget: Object, pod: Object) -> bool:
    """spec.unhealthyPodEvictionPolicy: a pod that is not ready does not count towards a healthy budget."""
    if conditions.is_true(parts(part(pod, "status"), "conditions"), "Ready"):
        return False
    if text(part(budget, "spec"), "unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = part(budget, "status")
    healthy, desired = number(status, "currentHealthy"), number(status, "desiredHealthy")
    return healthy >= desired > 0


def take(budget: Object, pod: str, now: str) -> Object:
    """The budget with one disruption less (the argument, changed in place). Raises ApiError 429."""
    status: dict[str, Any] = budget.setdefault("status", {})
    name = budget["metadata"]["name"]
    if number(status, "observedGeneration") < number(budget["metadata"], "generation"):
        detail = f"The disruption budget {name} is still being processed by the server."
        raise _refused(detail, retry_after=10)
    allowed, disrupted = number(status, "disruptionsAllowed"), part(status, "disruptedPods")
    if allowed < 0:
        raise internal(f"pdb disruptions allowed is negative: {name}")
    if len(disrupted) > MAX_DISRUPTED:
        raise _refused(f"The disruption budget {name} has too many evictions under way.")
    if allowed == 0:
        needs, has = number(status, "desiredHealthy"), number(status, "currentHealthy")
        raise _refused(f"The disruption budget {name} needs {needs} healthy pods and has {has} currently")
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, pod: now}
    return budget


def _refused(detail: str, retry_after: int = 0) -> ApiError:
    cause = FieldError("DisruptionBudget", "", detail)
    text_ = "Cannot evict pod as it would violate the pod's disruption budget."
    return too_many_requests(text_, retry_after, [cause])


async def _mark(engine: Engine, call: Call, pod: Object) -> None:
    """Say on the pod why it goes (condition DisruptionTarget)."""
    if pod["metadata"].get("deletionTimestamp") or call.dry_run:
        return
    now = rfc3339(engine.clock.now())

    def change(found: Object) -> Object:
        status = found.setdefault("status", {})
        status["conditions"] = conditions.set(
            status.get("conditions"),
            "DisruptionTarget",
            "True",
            now=now,
            reason="EvictionByEvictionAPI",
            message="Eviction API: evicting",
        )
        return found

    target = call.target
    where = target.namespace
    await engine.update(call, target.name, where, change, subresource="status", finish=no_more_rules, form=SEEN)


VERBS = {"create": create}
