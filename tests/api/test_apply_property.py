"""Property: several managers apply, update and patch one object at random; nobody loses a field without being told.

- An apply that is repeated changes nothing.
- Right after an apply the object says all that was applied.
- A field leaves a manager's set only when its value changed or went; an apply without force takes nothing from anybody.
- Whatever somebody owns is there.

On a built-in kind (typed lists by several keys, sets, atomic parts) and on a custom resource with its own list types.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.testing.cluster import ApiServer

Object = dict[str, Any]
Path = tuple[str, ...]
MANAGERS = ("ann", "ben", "col")
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json")
MISSING = object()
EMPTY = {("f:metadata", "f:annotations"), ("f:metadata", "f:labels")}
GADGETS = {
    "metadata": {"name": "gadgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer"},
                                    "color": {"type": "string", "default": "red"},
                                    "tags": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "set",
                                        "items": {"type": "string"},
                                    },
                                    "whole": {"type": "array", "items": {"type": "string"}},
                                    "atom": {
                                        "type": "object",
                                        "x-kubernetes-map-type": "atomic",
                                        "additionalProperties": {"type": "string"},
                                    },
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}


def some(random: Random, **choices: Any) -> Object:
    """A random part of what there is; callables make their value."""
    out = {}
    for key, choice in choices.items():
        if random.random() < 0.5:
            out[key] = choice() if callable(choice) else random.choice(choice)
    return out


def picked(random: Random, values: list[Any]) -> list[Any]:
    return random.sample(values, random.randrange(len(values) + 1))


def gadget(random: Random) -> Object:
    def parts() -> list[Object]:
        return [{"name": n, **some(random, n=(1, 2))} for n in picked(random, ["p", "q", "r"])]

    spec = some(
        random,
        size=(1, 2),
        color=("red", "blue"),
        tags=lambda: picked(random, ["x", "y", "z"]),
        whole=lambda: picked(random, ["1", "2"]),
        atom=lambda: some(random, a="12", b="12"),
        free=lambda: some(random, deep=lambda: some(random, er=(1, 2)), list=lambda: picked(random, [1, 2])),
        parts=parts,
    )
    return {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": meta(random), "spec": spec}


def meta(random: Random) -> Object:
    own = some(random, labels=lambda: some(random, a="xy", b="xy"), annotations=lambda: some(random, n="12"))
    return {"name": "o", **own}


def deployment(random: Random) -> Object:
    def container(name: str) -> Object:
        more = some(
            random,
            args=lambda: picked(random, ["1", "2"]),
            env=lambda: [{"name": n, "value": random.choice("12")} for n in picked(random, ["E", "F"])],
            ports=lambda: [{"containerPort": 80, **some(random, protocol=("TCP", "UDP"))} for _ in picked(random, [1])],
        )
        return {"name": name, "image": random.choice("ij"), **more}

    pod: Object = {"containers": [container(n) for n in ("c", *picked(random, ["d"]))]}
    pod |= some(
        random,
        nodeSelector=lambda: some(random, k="12"),
        tolerations=lambda: [{"key": random.choice("kl"), "operator": "Exists"}],
    )
    spec = some(random, replicas=(1, 2), minReadySeconds=(1, 2), paused=(True, False))
    spec |= {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(random), "spec": spec}


KINDS = {
    "deployments": ("/apis/apps/v1/namespaces/default/deployments", deployment),
    "gadgets": ("/apis/example.com/v1/namespaces/default/gadgets", gadget),
}


# -- what managedFields say


def owned(obj: Object) -> dict[tuple[str, str], set[Path]]:
    """(manager, operation) -> paths. "." is the item or map itself."""
    return {
        (entry["manager"], entry["operation"]): set(paths(entry["fieldsV1"]))
        for entry in obj["metadata"].get("managedFields", ())
    }


def paths(tree: Object, at: Path = ()) -> Iterator[Path]:
    for key, below in tree.items():
        if key == ".":
            yield at
        elif below:
            yield from paths(below, (*at, key))
        else:
            yield (*at, key)


def look(obj: Any, path: Path) -> Any:
    """The value at a path, or MISSING."""
    for part in path:
        kind, _, rest = part.partition(":")
        if kind == "f":
            obj = obj.get(rest, MISSING) if isinstance(obj, dict) else MISSING
        elif kind == "v":
            wanted = orjson.loads(rest)
            obj = wanted if isinstance(obj, list) and wanted in obj else MISSING
        else:
            keys = orjson.loads(rest)
            found = [item for item in obj if all(item.get(k, "TCP") == v for k, v in keys.items())]
            obj = found[0] if found else MISSING
        if obj is MISSING:
            return MISSING
    return obj


def holds(obj: Any, wanted: Any) -> bool:
    """`obj` says all that `wanted` says; lists of objects by name, others as a whole or as a part (sets)."""
    if isinstance(wanted, dict):
        # what is empty may be left out (omitempty)
        return isinstance(obj, dict) and all(
            v in ({}, []) or (k in obj and holds(obj[k], v)) for k, v in wanted.items()
        )
    if isinstance(wanted, list):
        return all(any(holds(have, item) for have in obj) for item in wanted)
    return bool(obj == wanted)


# -- the play


class Play:
    def __init__(self, api: ApiServer, random: Random, plural: str) -> None:
        self.api, self.random = api, random
        self.where, self.make = KINDS[plural]
        self.custom = plural == "gadgets"

    async def ask(self, method: str, path: str, body: Any = b"", media: str = "application/json") -> tuple[int, Object]:
        response = await self.api.request(method, path, body, content_type=media)
        data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return response.status, orjson.loads(data)

    async def live(self) -> Object | None:
        status, obj = await self.ask("GET", f"{self.where}/o")
        return obj if status == 200 else None

    async def apply(self, manager: str) -> None:
        before, applied, force = await self.live(), self.make(self.random), self.random.random() < 0.5
        query = f"fieldManager={manager}&force={'true' if force else 'false'}&fieldValidation=Strict"
        media = "application/apply-patch+yaml"
        status, after = await self.ask("PATCH", f"{self.where}/o?{query}", applied, media)
        if status in (409, 422):
            # a conflict; or what is left of an item that another keeps lacks what this manager took along
            assert status == 422 or not force
            assert after["details"]["causes"], after
            assert await self.live() == before
            return
        assert status in (200, 201), (after, applied)
        assert holds(after, applied), (applied, after)
        self.judge(before, after, (manager, "Apply"), gentle=not force)
        again = await self.ask("PATCH", f"{self.where}/o?{query}", applied, media)
        assert again == (200, after), "an apply that is repeated changes nothing"
        unforced = await self.ask("PATCH", f"{self.where}/o?fieldManager={manager}", applied, media)
        assert unforced == (200, after)

    async def update(self, manager: str) -> None:
        before = await self.live()
        if before is None:
            return
        wanted = copy.deepcopy(before)
        self.change(wanted)
        status, after = await self.ask("PUT", f"{self.where}/o?fieldManager={manager}", wanted)
        assert status == 200, after
        self.judge(before, after, (manager, "Update"))

    def change(self, obj: Object) -> None:
        """Something here and there becomes as another configuration has it, or goes."""
        other = self.make(self.random)
        for key in ("labels", "annotations"):
            if self.random.random() < 0.4:
                obj["metadata"][key] = other["metadata"].get(key, {})
        for key in {*obj["spec"], *other["spec"]} - {"selector"}:
            if self.random.random() < 0.4:
                if key in other["spec"]:
                    obj["spec"][key] = other["spec"][key]
                elif key != "template":
                    obj["spec"].pop(key)

    async def patch(self, manager: str) -> None:
        before = await self.live()
        if before is None:
            return
        media = self.random.choice([m for m in PATCHES if not (self.custom and "strategic" in m)])
        other = self.make(self.random)
        body: Any = {"metadata": {k: v for k, v in other["metadata"].items() if k != "name"}, "spec": other["spec"]}
        body["spec"].pop("selector", None)
        if "json-patch" in media:
            body = [
                {"op": "add", "path": f"/spec/{k}", "value": v} for k, v in other["spec"].items() if k != "template"
            ]
        status, after = await self.ask("PATCH", f"{self.where}/o?fieldManager={manager}", body, media)
        assert status == 200, after
        self.judge(before, after, (manager, "Update"))

    def judge(self, before: Object | None, after: Object, who: tuple[str, str], *, gentle: bool = False) -> None:
        had, has = owned(before) if before is not None else {}, owned(after)
        for manager, fields in has.items():
            for path in fields:
                # an empty map of metadata is left out, whoever owns it
                assert look(after, path) is not MISSING or path in EMPTY, ("owned and not there", manager, path)
        for manager, fields in had.items():
            if manager == who:
                continue
            for path in fields:
                kept = path in has.get(manager, ())
                same = look(before, path) == look(after, path)
                # an owner of an empty map that is left out has nothing to lose
                absent = path in EMPTY and look(before, path) is MISSING
                assert kept or not same or absent, ("lost silently", manager, path)
                assert kept or not gentle, ("taken without force", manager, path)
                leaf = not any(other != path and other[: len(path)] == path for other in fields)
                assert same or not gentle or not leaf or isinstance(look(before, path), dict | list), (manager, path)

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            manager = self.random.choice(MANAGERS)
            step = self.random.choice((self.apply, self.apply, self.apply, self.update, self.patch))
            await step(manager)


@pytest.mark.parametrize("plural", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), steps=st.integers(1, 14))
def test_nobody_loses_a_field_silently(plural: str, seed: int, steps: int) -> None:
    async def main() -> None:
        async with ApiServer(seed=seed) as api:
            if plural == "gadgets":
                await api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", GADGETS)
                await api.until(lambda: ("example.com", "v1", "gadgets") in api.api.served)
            await Play(api, Random(seed), plural).run(steps)

    asyncio.run(main())
