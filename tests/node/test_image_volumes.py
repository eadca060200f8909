"""Image volumes: had on the node by their pull policy, mounted by the runtime, whole or in part."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jota.meta.resource import PODS
from jota.runtime.protocol import Mount

from .doubles import image
from .world import World, container, pod

Object = dict[str, Any]


def with_image(policy: str = "", **mount: Any) -> Object:
    source = {"reference": "data:1", **({"pullPolicy": policy} if policy else {})}
    labels = {"name": "l", "downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
    mounts = [{"name": "v", "mountPath": "/v", **mount}, {"name": "l", "mountPath": "/l"}]
    return pod("web", container(volumeMounts=mounts), volumes=[{"name": "v", "image": source}, labels])


def mounted(w: World) -> Mount:
    (spec,) = w.runtime.specs.values()
    return next(m for m in spec.mounts if m.target == "/v")


def test_it_is_pulled_once_and_mounted_for_ever(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            w.runtime.images.remote["data:1"] = image("data:1")
            await w.create(with_image("Always"))
            await w.until_phase("Running")
            assert mounted(w) == Mount("", "/v", read_only=True, image="sha256:data:1")
            await w.api.client.patch(PODS, "web", "default", {"metadata": {"labels": {"new": "one"}}})
            await w.advance(5)  # the other volume is written again
            assert [reference for reference, _ in w.runtime.images.pulls if reference == "data:1"] == ["data:1"]

    asyncio.run(story())


def test_a_part_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            w.runtime.images.local["data:1"] = image("data:1")
            await w.create(with_image(subPath="etc/a"))
            await w.until_phase("Running")
            assert mounted(w) == Mount("etc/a", "/v", read_only=True, image="sha256:data:1")

    asyncio.run(story())


def test_one_that_is_not_there_is_told_and_comes_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(with_image("Never"))
            await w.until(lambda: w.events("FailedMount"))
            (first, *_) = await w.events("FailedMount")
            assert 'volume "v" : ErrImageNeverPull: Container image "data:1" is not present' in first
            w.runtime.images.local["data:1"] = image("data:1")
            await w.until_phase("Running", within=300)

    asyncio.run(story())
