"""Rules in CEL: what a unit of cost takes, and how long one hostile write keeps everybody else waiting.

The longest time between two turns of the server's loop while a custom resource is written whose rules cost all that they may
(1,000,000 units each; ten of them: the whole budget of a request), on the memory store, in process; the user CPU of families
of expressions, the best of three.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.figure import Figure
from jota.meta import cel
from jota.testing.cluster import ApiServer

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OBJECTS = "/apis/example.com/v1/namespaces/default/heavies"
COUNT = 300
NUMBERS: dict[str, Any] = {"type": "array", "maxItems": COUNT, "items": {"type": "integer"}}
TEXTS: dict[str, Any] = {"type": "array", "maxItems": COUNT, "items": {"type": "string", "maxLength": 12}}
HOSTILE = {
    "nested loops": "self.numbers.all(x, self.numbers.all(y, x + y >= 0))",
    "lists": "self.numbers.map(x, self.numbers.filter(y, x == y)).size() > 0",
    "texts": "self.texts.all(x, self.texts.all(y, x.substring(1) != y.upperAscii()))",
    "patterns": "self.texts.all(x, self.texts.all(y, x.matches('^[a-z]+[0-9]+$')))",
    "quantities": "self.texts.all(x, self.texts.all(y, quantity('1Gi').isGreaterThan(quantity('1Mi'))))",
    "networks": "self.texts.all(x, self.texts.all(y, cidr('10.0.0.0/24').containsIP('10.0.0.1')))",
}


def run() -> list[Figure]:
    figures = [Figure(name=f"one unit, {name}", value=_unit(rule), unit="us CPU") for name, rule in HOSTILE.items()]
    stall, busy, took, served = asyncio.run(_write())
    figures.append(Figure(name="longest stall of the loop during a write at the limit", value=stall, unit="ms"))
    figures.append(Figure(name="longest turn of the loop meanwhile", value=busy, unit="ms CPU"))
    figures.append(Figure(name="that write itself", value=took, unit="s", note=f"{served} reads of others answered"))
    return figures


def _unit(rule: str) -> float:
    """Microseconds of user CPU."""
    properties = {"numbers": NUMBERS, "texts": TEXTS}
    program, best = cel.compile(rule, {"self": {"type": "object", "properties": properties}}), float("inf")
    for _ in range(3):
        began = time.process_time()
        _, cost = program.measure({"self": _spec()})
        best = min(best, (time.process_time() - began) * 1e6 / cost)
    return best


def _spec() -> dict[str, Any]:
    return {"numbers": list(range(COUNT)), "texts": [f"name{i}" for i in range(COUNT)]}


def _definition() -> dict[str, Any]:
    spec = {
        "type": "object",
        "properties": {"numbers": NUMBERS, "texts": TEXTS},
        "x-kubernetes-validations": [{"rule": rule} for rule in HOSTILE.values()],
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    names = {"plural": "heavies", "singular": "heavy", "kind": "Heavy"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "heavies.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


async def _write() -> tuple[float, float, float, int]:
    """(longest time between two turns in ms, in ms of CPU, seconds of the write, reads of others meanwhile)."""
    async with ApiServer() as api:
        answer = await api.request("POST", CRDS, _definition())
        assert answer.status == 201, answer.body
        await api.settle()
        body = {"apiVersion": "example.com/v1", "kind": "Heavy", "metadata": {"name": "a"}, "spec": _spec()}
        began = last = time.perf_counter()
        work = asyncio.ensure_future(api.request("POST", OBJECTS, body))
        longest, busiest, served, worked = 0.0, 0.0, 0, time.process_time()
        while not work.done():
            await api.request("GET", "/api/v1/namespaces/default")
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last, served = max(longest, now - last), now, served + 1
            done = time.process_time()
            busiest, worked = max(busiest, done - worked), done
        assert work.result().status == 201, work.result().body
        return longest * 1000, busiest * 1000, time.perf_counter() - began, served
