"""ComponentStatuses (`kubectl get cs`): the parts of the control plane and whether they work. Computed when asked for.

In: `Api.components`, name -> check; the composition root adds the scheduler and the controllers. Out: get and list, nothing else.
Upstream has deprecated the kind and warns; so does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jota.api import respond, table
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.served import Served, Verb
from jota.kinds.common import NAME, plain
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import parts, text
from jota.meta.errors import bad_request, not_found
from jota.meta.resource import Resource
from jota.meta.selectors import parse_fields, parse_labels
from jota.store.protocol import Unavailable
from jota.wire.message import Response

if TYPE_CHECKING:
    from jota.api.server import Api

COMPONENTS = Resource("", "v1", "componentstatuses", "ComponentStatus", False)


def _healthy(obj: Object, field: str) -> str:
    return next((text(c, field) for c in parts(obj, "conditions") if text(c, "type") == "Healthy"), "")


_STATUS = {"True": "Healthy", "False": "Unhealthy"}
KIND = Kind(
    COMPONENTS,
    schema="io.k8s.api.core.v1.ComponentStatus",
    singular="componentstatus",
    short_names=("cs",),
    verbs=("get", "list"),
    deprecated="v1 ComponentStatus is deprecated in v1.19+",
    columns=(
        NAME,
        plain("Status", lambda obj, _now: _STATUS.get(_healthy(obj, "status"), "Unknown")),
        plain("Message", lambda obj, _now: _healthy(obj, "message")),
        plain("Error", lambda obj, _now: _healthy(obj, "error")),
    ),
)


def install(api: Api) -> None:
    """Serve the kind."""
    served = Served(KIND, api.feed)
    served.reads = {"get": _get(api), "list": _list(api)}
    api.install(KIND, served)


def component(name: str, *, works: bool) -> Object:
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    if not works:
        condition = {"type": "Healthy", "status": "False", "message": "it does not run", "error": "stopped"}
    head = {"kind": COMPONENTS.kind, "apiVersion": COMPONENTS.api_version}
    return {**head, "metadata": {"name": name}, "conditions": [condition]}


async def components(api: Api) -> dict[str, bool]:
    """Name -> whether it works. The store goes by the name that clients look for."""
    try:
        await api.store.sync()
    except Unavailable:
        stores = False
    else:
        stores = True
    return {"etcd-0": stores} | {name: check() for name, check in api.components.items()}


def _get(api: Api) -> Verb:
    async def get(engine: Engine, call: Call) -> Response:
        works = (await components(api)).get(call.target.name)
        if works is None:
            raise not_found(COMPONENTS.plural, call.target.name)
        return respond.obj(call, component(call.target.name, works=works), engine.clock.now())

    return get


def _list(api: Api) -> Verb:
    async def list_(engine: Engine, call: Call) -> Response:
        found = sorted((await components(api)).items())
        items = [component(name, works=works) for name, works in found if _selected(call, name)]
        if call.accepted.form == "Table":
            now, included = engine.clock.now(), table.include(call)
            return respond.json(call, table.table(call, [table.row(call, i, now, included) for i in items], {}))
        head = {"kind": "ComponentStatusList", "apiVersion": COMPONENTS.api_version, "metadata": {}}
        return respond.json(call, {**head, "items": items})

    return list_


def _selected(call: Call, name: str) -> bool:
    """Raises ApiError 400."""
    labels, fields = call.params.get("labelSelector", ""), call.params.get("fieldSelector", "")
    if labels and not parse_labels(labels).matches({}):
        return False
    named = parse_fields(fields) if fields else None
    if named is None:
        return True
    for requirement in named.requirements:
        if requirement.field != "metadata.name":
            raise bad_request(f"field label not supported: {requirement.field}")
    return named.matches(lambda _: name)
