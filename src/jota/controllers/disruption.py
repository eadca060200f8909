"""Why a pod is about to be deleted by the control plane: the condition DisruptionTarget, set before the delete."""

from __future__ import annotations

from jota.client.client import Client
from jota.client.informer import split_key
from jota.controllers import conditions
from jota.controllers.views import Pod
from jota.meta.errors import not_found
from jota.meta.resource import PODS


async def mark(client: Client, pod: Pod, reason: str, message: str, now: float, *, failed: bool = False) -> None:
    """Set the condition (and phase Failed). Raises ApiError, 404 also when the name belongs to another pod by now."""
    namespace, name = split_key(pod.key)
    current = await client.get(PODS, name, namespace)
    if current["metadata"]["uid"] != pod.metadata.uid:
        raise not_found("pods", name)
    status = current.get("status") or {}
    conds = conditions.put(status.get("conditions") or [], "DisruptionTarget", "True", reason, message, now)
    wanted = {**status, "conditions": conds, **({"phase": "Failed"} if failed else {})}
    if wanted != status:
        await client.update(PODS, {**current, "status": wanted}, "status")
