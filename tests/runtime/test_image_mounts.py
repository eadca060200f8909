"""Images as volumes: their files are seen, cannot be changed or run, lead nowhere else, and stay as long as they are used."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from jota.runtime import sys as kernel
from jota.runtime.protocol import Image, Mount, RuntimeFault
from jota.testing.images import LayerBuilder, image_archive

pytestmark = pytest.mark.kernel


async def data_image(w) -> Image:
    """Two layers: the upper changes a file of the lower; `out` and `etc/link` point to where the host has other things."""
    lower = LayerBuilder().add("etc", kind=tarfile.DIRTYPE).add("etc/a", b"old").add("run.sh", b"#!/bin/sh\necho ran\n")
    lower.add("out", kind=tarfile.SYMTYPE, link="/proc/self").add("etc/link", kind=tarfile.SYMTYPE, link="/etc/a")
    upper = LayerBuilder().add("etc", kind=tarfile.DIRTYPE).add("etc/a", b"new")
    path = str(w.directory / "data.tar")
    image_archive(path, "jota.test/data:1", [lower.bytes(), upper.bytes()], {})
    (image,) = await w.runtime.images.load(path)
    return image


def test_an_image_is_a_volume(story):
    async def body(w):
        image = await data_image(w)
        mounts = [
            Mount("", "/all", read_only=True, image=image.id),
            Mount("etc", "/some", read_only=True, image=image.id),
            Mount("etc/link", "/one", read_only=True, image=image.id),
        ]
        script = "cat /all/etc/a /some/a /one; echo; touch /all/x || echo ro; /all/run.sh || echo noexec"
        _, text = await w.run(script, mounts=mounts)
        assert text.splitlines()[0] == "newnewnew"
        assert [line for line in text.splitlines() if line in ("ro", "noexec", "ran")] == ["ro", "noexec"]

    story(body)


@pytest.mark.parametrize("path", ["none", "out", "../../../etc/passwd"])
def test_a_path_that_the_image_does_not_have_is_refused(story, path):
    async def body(w):
        image = await data_image(w)
        with pytest.raises(RuntimeFault, match="in the image") as refused:
            await w.create(await w.sandbox(), "true", mounts=[Mount(path, "/v", read_only=True, image=image.id)])
        assert refused.value.reason == "CreateContainerError"
        assert not [p for p in kernel.mounts_below(str(w.directory)) if "/images/" in p]
        await w.runtime.images.remove(image.id)  # nothing holds it

    story(body)


def test_it_stays_as_long_as_a_container_uses_it(story):
    async def body(w):
        image = await data_image(w)
        mounts = [Mount("", target, read_only=True, image=image.id) for target in ("/v", "/w")]
        id = await w.start(await w.sandbox(), "sleep 100", mounts=mounts)
        with pytest.raises(RuntimeFault, match="is used"):
            await w.runtime.images.remove(image.id)
        await w.runtime.stop_container(id, 0)
        await w.runtime.remove_container(id)
        await w.runtime.images.remove(image.id)
        assert await w.runtime.images.get("jota.test/data:1") is None

    story(body)


def test_what_a_killed_agent_left_is_swept(story):
    async def body(w):
        image = await data_image(w)
        id = await w.create(await w.sandbox(), "true", mounts=[Mount("", "/v", read_only=True, image=image.id)])
        w.runtime.state.forget_container(id)  # as if it had died before it wrote the record
        leases = Path(w.runtime.library.content.root, "leases", w.runtime.name)
        await w.runtime.close()
        w.runtime = w.make()
        await w.runtime.start()
        assert list(leases.iterdir()) == []
        assert not [p for p in kernel.mounts_below(str(w.directory)) if "/images/" in p]

    story(body)
