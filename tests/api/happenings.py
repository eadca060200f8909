"""What may change for everybody between two requests: each of EVENTS happens to a server, or is undone when it happened before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tests.api.test_alikepatches import nobody_may_write
from tests.api.test_straight import Server

from jota.api.admission.policies import BINDINGS, POLICIES
from jota.api.admission.webhooks import VALIDATING as WEBHOOKS
from jota.api.flowcontrol.objects import FLOW_SCHEMAS, PRIORITY_LEVELS
from jota.api.rbac.index import CLUSTER_ROLES
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.core.quota import QUOTAS
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, Resource

Object = dict[str, Any]
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
PRIORITIES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
STORAGE = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)


def definition(n: Object) -> Object:
    spec = {"type": "object", "properties": {"n": n}}
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": spec}


async def _toggle(server: Server, resource: Resource, made: Object, namespace: str = "") -> None:
    """What is there goes, what is not there comes."""
    name = made["metadata"]["name"]
    try:
        await server.client.delete(resource, name, namespace)
    except ApiError as gone:
        assert gone.code == 404
        await server.client.create(resource, made, namespace)


async def _quota(server: Server) -> None:
    hard = {"count/configmaps": "9", "pods": "9", "count/widgets.example.com": "3"}
    await _toggle(server, QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}}, "default")


async def _limits(server: Server) -> None:
    limit = {"type": "Container", "default": {"cpu": "1"}}
    await _toggle(server, LIMIT_RANGES, {"metadata": {"name": "l"}, "spec": {"limits": [limit]}}, "default")


async def _priority(server: Server) -> None:
    await _toggle(server, PRIORITIES, {"metadata": {"name": "p"}, "value": 7, "globalDefault": True})


async def _storage_class(server: Server) -> None:
    note = {"storageclass.kubernetes.io/is-default-class": "true"}
    await _toggle(server, STORAGE, {"metadata": {"name": "s", "annotations": note}, "provisioner": "example.com/p"})


async def _policy(server: Server) -> None:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    checks = [{"expression": "!has(object.data) || !('k' in object.data) || object.data['k'] != 'w'"}]
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": checks, "failurePolicy": "Ignore"}
    if not (await server.client.list(POLICIES))["items"]:
        await server.client.create(POLICIES, {"metadata": {"name": "v"}, "spec": spec})
    bound = {"policyName": "v", "validationActions": ["Deny", "Warn"][:1]}
    await _toggle(server, BINDINGS, {"metadata": {"name": "v"}, "spec": bound})


async def _security(server: Server) -> None:
    space = await server.client.get(NAMESPACES, "default")
    found = space["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
    patch = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": None if found else "restricted"}}}
    await server.client.patch(NAMESPACES, "default", patch=patch)


async def _part(server: Server) -> None:
    """A part of the role that everything is allowed by leaves it, and comes back."""
    found = (await server.client.get(CLUSTER_ROLES, "part"))["metadata"]["labels"]["part"]
    patch = {"metadata": {"labels": {"part": "no" if found == "yes" else "yes"}}}
    await server.client.patch(CLUSTER_ROLES, "part", patch=patch)


async def _leave(server: Server) -> None:
    await server.client.delete(NAMESPACES, "leaving")


async def _schema(server: Server) -> None:
    """Another schema; or the whole definition, which comes back as another one."""
    found = await server.client.get(CRDS, "widgets.example.com")
    n = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["n"]
    found["spec"] = definition({"type": "integer", "maximum": 1} if "maximum" not in n else {"type": "integer"})["spec"]
    await server.client.update(CRDS, found)


async def _flow(server: Server) -> None:
    """Her requests are exempt."""
    await _toggle(server, FLOW_SCHEMAS, _schema_for("exempt"))


async def _shut(server: Server) -> None:
    """There is no seat for her, and nobody waits."""
    limited = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    level = {"metadata": {"name": "shut"}, "spec": {"type": "Limited", "limited": limited}}
    with suppress(ApiError):
        await server.client.create(PRIORITY_LEVELS, level)
    await _toggle(server, FLOW_SCHEMAS, _schema_for("shut"))


def _schema_for(level: str) -> Object:
    rule = {
        "subjects": [{"kind": "User", "user": {"name": "ada"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
    }
    spec = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 10, "rules": [rule]}
    return {"metadata": {"name": f"own-{level}"}, "spec": spec}


async def _refuse(server: Server) -> None:
    """The webhook that cannot be asked comes, or goes."""
    try:
        await server.client.delete(WEBHOOKS, "no")
    except ApiError:
        await nobody_may_write(server, "configmaps")


async def calm(server: Server) -> None:
    for resource, name in (BINDINGS, "v"), (WEBHOOKS, "no"), (QUOTAS, "q"), (FLOW_SCHEMAS, "own-shut"):
        with suppress(ApiError):
            await server.client.delete(resource, name, "default" if resource.namespaced else "")
    await server.client.patch(CLUSTER_ROLES, "part", patch={"metadata": {"labels": {"part": "yes"}}})
    patch = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": None}}}
    await server.client.patch(NAMESPACES, "default", patch=patch)


Event = Callable[[Server], Awaitable[None]]
EVENTS: list[Event] = [
    _quota,
    _limits,
    _priority,
    _storage_class,
    _policy,
    _security,
    _part,
    _leave,
    _schema,
    _flow,
    _shut,
    _refuse,
]
