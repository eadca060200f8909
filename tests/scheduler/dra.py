"""Short forms of objects of resource.k8s.io."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
DRIVER = "gpu.example.com"


def device(name: str, **given: Any) -> Object:
    """Attributes as keywords (str, int, bool); memory="8Gi" as capacity; taints=[...] and the like under `more`."""
    more = given.pop("more", {})
    made: Object = {"name": name, **more}
    if "memory" in given:
        made["capacity"] = {"memory": {"value": given.pop("memory")}}
    kinds = {str: "string", bool: "bool", int: "int"}
    made["attributes"] = {k: {kinds[type(v)]: v} for k, v in given.items()}
    return made


def slice_(node: str, *devices: Object, **given: Any) -> Object:
    """`node` "": everywhere, unless given a nodeSelector."""
    pool = {"name": given.pop("pool", node or "shared"), "generation": given.pop("generation", 1)}
    pool["resourceSliceCount"] = given.pop("slices", 1)
    name = given.pop("name", f"{pool['name']}-{pool['generation']}")
    where: Object = {"nodeName": node} if node else {} if "nodeSelector" in given else {"allNodes": True}
    spec = {"driver": given.pop("driver", DRIVER), "pool": pool, "devices": list(devices), **where, **given}
    return {"metadata": {"name": name}, "spec": spec}


def device_class(name: str = "gpu", *expressions: str, **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": e}} for e in expressions], **spec},
    }


def request(name: str = "r", device_class: str = "gpu", *expressions: str, **given: Any) -> Object:
    selectors = [{"cel": {"expression": e}} for e in expressions]
    exactly = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": 1, **given}
    if given.get("allocationMode") == "All":
        del exactly["count"]
    return {"name": name, "exactly": exactly | ({"selectors": selectors} if selectors else {})}


def claim_spec(
    *requests: Object, constraints: list[Object] | None = None, config: list[Object] | None = None
) -> Object:
    devices: Object = {"requests": list(requests)}
    if constraints:
        devices["constraints"] = constraints
    if config:
        devices["config"] = config
    return {"devices": devices}


def claim(name: str, *requests: Object, **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": claim_spec(*(requests or (request(),)), **more)}


def uses(*claims: str, template: str = "") -> Object:
    """A pod's part: entries c0, c1, ... by claim, or one entry t from a template."""
    entries: list[Object] = [{"name": f"c{n}", "resourceClaimName": c} for n, c in enumerate(claims)]
    if template:
        entries.append({"name": "t", "resourceClaimTemplateName": template})
    return {"resourceClaims": entries}
