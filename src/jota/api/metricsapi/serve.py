"""PodMetrics and NodeMetrics (metrics.k8s.io/v1beta1): get and list, by namespace, name and label. Nothing is stored.

In: pods and nodes of the store, samples of scrape.py. Out: objects as metrics-server gives them, for `kubectl top` and the
HorizontalPodAutoscaler. `install` adds the two kinds to an API server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jota.aio.clock import rfc3339
from jota.api import respond, table
from jota.api.call import Call
from jota.api.metricsapi.samples import Use, use
from jota.api.metricsapi.scrape import Known, Scraper
from jota.api.path import integer
from jota.api.resource import Engine
from jota.api.served import Served, Verb
from jota.kinds.kind import Kind, Object
from jota.meta.errors import not_found
from jota.meta.resource import NODES, PODS, Resource
from jota.meta.selectors import EVERYTHING, FieldSelector, parse_fields, parse_labels
from jota.wire.message import Response

if TYPE_CHECKING:
    from jota.api.server import Api

GROUP = "metrics.k8s.io"
POD_METRICS = Resource(GROUP, "v1beta1", "pods", "PodMetrics")
NODE_METRICS = Resource(GROUP, "v1beta1", "nodes", "NodeMetrics", False)
_VERBS = ("get", "list")


def install(api: Api) -> None:
    """Serve both kinds."""
    scraper = Scraper(api.engine)
    for resource, verbs in (
        (POD_METRICS, {"get": _get_pod(scraper), "list": _list_pods(scraper)}),
        (NODE_METRICS, {"get": _get_node(scraper), "list": _list_nodes(scraper)}),
    ):
        kind = Kind(resource, singular=resource.plural.removesuffix("s"), verbs=_VERBS)
        served = Served(kind, api.feed)
        served.reads = verbs
        api.install(kind, served)


# -- nodes


def node_metrics(node: Object, known: Known | None) -> Object | None:
    """None while the node's use is not known."""
    found = use(known.before.node, known.latest.node) if known is not None else None
    if found is None:
        return None
    return {**_head(NODE_METRICS, node, found), "usage": _usage(found)}


def _get_node(scraper: Scraper) -> Verb:
    async def get(engine: Engine, call: Call) -> Response:
        name = call.target.name
        node = engine.registry.look(NODES, "", name)
        samples = await scraper.samples([name]) if node is not None else {}
        found = node_metrics(node, samples.get(name)) if node is not None else None
        if found is None:
            raise not_found("nodemetrics", name, GROUP)
        return respond.obj(call, found, engine.clock.now())

    return get


def _list_nodes(scraper: Scraper) -> Verb:
    async def list_(engine: Engine, call: Call) -> Response:
        every = list(engine.registry.look_over(NODES))
        scraper.forget({n["metadata"]["name"] for n in every})
        nodes = [n for n in every if _selected(call, n)]
        samples = await scraper.samples(n["metadata"]["name"] for n in nodes)
        found = [node_metrics(n, samples.get(n["metadata"]["name"])) for n in nodes]
        return _list(engine, call, [f for f in found if f is not None])

    return list_


# -- pods


def pod_metrics(pod: Object, known: Known | None) -> Object | None:
    """None while the use of one of its running containers is not known."""
    meta, containers = pod["metadata"], []
    if known is None:
        return None
    uses: list[Use] = []
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if "running" not in (status.get("state") or {}):
            continue
        whose = (meta["namespace"], meta["name"], status["name"])
        found = use(known.before.containers.get(whose), known.latest.containers.get(whose))
        if found is None:
            return None
        uses.append(found)
        containers.append({"name": status["name"], "usage": _usage(found)})
    if not uses:
        return None
    return {**_head(POD_METRICS, pod, max(uses, key=lambda u: u.at)), "containers": containers}


def _get_pod(scraper: Scraper) -> Verb:
    async def get(engine: Engine, call: Call) -> Response:
        target = call.target
        pod = engine.registry.get(PODS, target.namespace, target.name)
        found = None
        if pod is not None and (node := pod["spec"].get("nodeName")):
            found = pod_metrics(pod, (await scraper.samples([node])).get(node))
        if found is None:
            raise not_found("podmetrics", f"{target.namespace}/{target.name}", GROUP)
        return respond.obj(call, found, engine.clock.now())

    return get


def _list_pods(scraper: Scraper) -> Verb:
    async def list_(engine: Engine, call: Call) -> Response:
        pods = [
            p
            for p in engine.registry.objects(PODS, call.target.namespace)
            if p["spec"].get("nodeName") and p.get("status", {}).get("phase") == "Running" and _selected(call, p)
        ]
        samples = await scraper.samples(p["spec"]["nodeName"] for p in pods)
        found = [pod_metrics(p, samples.get(p["spec"]["nodeName"])) for p in pods]
        return _list(engine, call, [f for f in found if f is not None])

    return list_


# -- shared


def _head(resource: Resource, of: Object, found: Use) -> Object:
    meta = of["metadata"]
    shown: dict[str, Any] = {"name": meta["name"], "creationTimestamp": rfc3339(found.at)}
    shown |= {k: meta[k] for k in ("namespace", "labels") if meta.get(k)}
    head = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": shown}
    return {**head, "timestamp": rfc3339(found.at), "window": f"{found.window:.3f}s"}


def _usage(found: Use) -> dict[str, str]:
    return {"cpu": f"{int(found.cpu * 1e9)}n", "memory": f"{int(found.memory) // 1024}Ki"}


def _selected(call: Call, obj: Object) -> bool:
    labels, fields = call.params.get("labelSelector", ""), call.params.get("fieldSelector", "")
    if not (parse_labels(labels) if labels else EVERYTHING).matches(obj["metadata"].get("labels") or {}):
        return False
    return not fields or _by_name(parse_fields(fields), obj["metadata"])


def _by_name(selector: FieldSelector, meta: Object) -> bool:
    return selector.matches(lambda field: str(meta.get(field.removeprefix("metadata."), "")))


def _list(engine: Engine, call: Call, items: list[Object]) -> Response:
    for name in ("limit", "timeoutSeconds"):
        integer(call.params, name)  # a list is never long here; what cannot be read is refused as of any other
    if call.accepted.form == "Table":
        now, included = engine.clock.now(), table.include(call)
        return respond.json(call, table.table(call, [table.row(call, i, now, included) for i in items], {}))
    resource = call.served.resource
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": {}}
    return respond.json(call, {**head, "items": items})
