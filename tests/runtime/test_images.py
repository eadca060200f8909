"""The image store: archives, names, removal, sharing between nodes, and a disk that is full."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
import threading

import pytest

from jota.runtime import sys as kernel
from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.images.library import Library
from jota.runtime.embedded.images.manifest import pick_platform
from jota.runtime.embedded.images.store import open_images
from jota.runtime.embedded.runtime import EmbeddedRuntime
from jota.runtime.protocol import ContainerSpec, RuntimeFault, SandboxSpec
from jota.testing.images import LayerBuilder, busybox_archive, digest, image_archive, image_blobs

pytestmark = pytest.mark.kernel


def small(path, name="jota.test/small:1", files=("a",), **config) -> str:
    layers = [LayerBuilder().add(file, file.encode()).bytes() for file in files]
    return image_archive(str(path), name, layers, {"Env": ["A=b"], "Cmd": ["/x"], **config})


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(Content(str(tmp_path / "store")))


def test_an_oci_archive(tmp_path, library):
    manifest = small(tmp_path / "a.tar", User="1000", Entrypoint=["/e"], StopSignal="SIGINT", WorkingDir="/w")
    (image,) = library.load(str(tmp_path / "a.tar"))
    assert image.tags == ["jota.test/small:1"]
    assert image.digests == [f"jota.test/small@{manifest}"]
    assert (image.user, image.entrypoint, image.cmd, image.stop_signal, image.working_dir) == (
        "1000",
        ["/e"],
        ["/x"],
        "SIGINT",
        "/w",
    )
    for name in ("jota.test/small:1", image.id, image.id.removeprefix("sha256:"), image.digests[0]):
        assert library.get(name) == image
    for name in ("jota.test/small", "jota.test/small:2", "sha256:" + "0" * 64, "NOT A NAME"):
        assert library.get(name) is None
    assert library.list() == [image]


def test_an_oci_layout_directory_and_a_gzipped_tar(tmp_path, library):
    import gzip

    small(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        tar.extractall(tmp_path / "layout")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    one = library.load(str(tmp_path / "layout"))
    assert library.load(str(tmp_path / "a.tar.gz")) == one


def test_a_docker_archive(tmp_path, library):
    layer = LayerBuilder().add("f", b"x").bytes()
    _, config, _ = image_blobs([layer], {"Cmd": ["/x"]})
    archive = LayerBuilder()
    archive.add("abc.json", config)
    archive.add("layer1/layer.tar", layer)
    archive.add(
        "manifest.json",
        json.dumps([{"Config": "abc.json", "RepoTags": ["small:2"], "Layers": ["layer1/layer.tar"]}]).encode(),
    )
    (tmp_path / "d.tar").write_bytes(archive.bytes())
    (image,) = library.load(str(tmp_path / "d.tar"))
    assert image.tags == ["docker.io/library/small:2"]
    assert image.id == digest(config)
    assert library.get("small:2") == image


def test_broken_archives_say_why(tmp_path, library):
    good = tmp_path / "good.tar"
    small(good)
    raw = good.read_bytes()
    cases = {
        "text": b"hello",
        "cut": raw[:3000],
        "no index": LayerBuilder().add("x", b"y").bytes(),
        "bad json": LayerBuilder().add("index.json", b"{").bytes(),
        "no manifests": LayerBuilder().add("index.json", b"{}").bytes(),
        "missing blob": LayerBuilder()
        .add("index.json", json.dumps({"manifests": [{"digest": digest(b"x")}]}).encode())
        .bytes(),
        "bad digest": LayerBuilder()
        .add("index.json", json.dumps({"manifests": [{"digest": "sha256:../../x"}]}).encode())
        .bytes(),
        "changed blob": raw.replace(b"A=b", b"A=c"),
    }
    for name, data in cases.items():
        path = tmp_path / "case.tar"
        path.write_bytes(data)
        with pytest.raises(RuntimeFault) as caught:
            library.load(str(path))
        assert caught.value.message, name
    with pytest.raises(RuntimeFault, match="No such file"):
        library.load(str(tmp_path / "nowhere.tar"))
    assert library.list() == []
    assert os.listdir(f"{library.content.root}/tmp") == [] or all(
        n.endswith(".lock") for n in os.listdir(f"{library.content.root}/tmp")
    )


def test_a_layer_that_is_not_what_the_config_says(tmp_path, library):
    layer = LayerBuilder().add("f", b"x").bytes()
    manifest, config, _ = image_blobs([layer], {})
    forged = config.replace(digest(layer).encode(), digest(b"other").encode())
    document = json.loads(manifest)
    document["config"].update(digest=digest(forged), size=len(forged))
    for blob in (layer, forged, data := json.dumps(document).encode()):
        library.content.put(io.BytesIO(blob))
    with pytest.raises(RuntimeFault, match="unpacks to"):
        library.register(digest(data), ["x:1"])
    assert os.listdir(f"{library.content.root}/layers") == []


@pytest.mark.parametrize(
    "config", [{"Env": "A=b"}, {"Cmd": [1]}, {"User": 5}, {"Entrypoint": {"a": 1}}, {"WorkingDir": ["/"]}], ids=str
)
def test_malformed_configs_are_refused(tmp_path, library, config):
    image_archive(str(tmp_path / "a.tar"), "x:1", [LayerBuilder().add("f").bytes()], config)
    with pytest.raises(RuntimeFault, match="malformed image config"):
        library.load(str(tmp_path / "a.tar"))
    assert library.list() == []


def test_a_tag_moves_to_the_new_image(tmp_path, library):
    small(tmp_path / "a.tar", files=("a",))
    small(tmp_path / "b.tar", files=("a", "b"))
    (old,) = library.load(str(tmp_path / "a.tar"))
    (new,) = library.load(str(tmp_path / "b.tar"))
    assert library.get("jota.test/small:1") == new
    assert library.get(old.id).tags == []


def test_removal_collects_what_nobody_else_needs(tmp_path, library):
    small(tmp_path / "a.tar", "x/one:1", files=("a", "b"))
    small(tmp_path / "b.tar", "x/two:1", files=("a", "c"))
    library.load(str(tmp_path / "a.tar")), library.load(str(tmp_path / "b.tar"))
    assert len(os.listdir(f"{library.content.root}/layers")) == 3
    library.remove("x/one:1")
    library.remove("x/one:1")
    assert len(os.listdir(f"{library.content.root}/layers")) == 2
    assert len(os.listdir(f"{library.content.root}/blobs/sha256")) == 4
    library.content.lease("node", "container", library.get("x/two:1").id)
    with pytest.raises(RuntimeFault, match="used by a container"):
        library.remove("x/two:1")
    library.content.release("node", "container")
    with library.content.guard():
        library.remove("x/two:1")
        assert len(os.listdir(f"{library.content.root}/layers")) == 2, "not while somebody pulls"
    library.collect()
    assert os.listdir(f"{library.content.root}/layers") == os.listdir(f"{library.content.root}/blobs/sha256") == []


def test_many_load_at_once(tmp_path):
    """Several nodes of one host, each with its own view of the same store."""
    for index in range(3):
        small(tmp_path / f"{index}.tar", f"x/{index}:1", files=("shared", str(index)))
    libraries = [Library(Content(str(tmp_path / "store"))) for _ in range(6)]
    faults: list[BaseException] = []

    def work(index: int) -> None:
        try:
            libraries[index].load(str(tmp_path / f"{index % 3}.tar"))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert {tag for image in libraries[0].list() for tag in image.tags} == {
        "docker.io/x/0:1",
        "docker.io/x/1:1",
        "docker.io/x/2:1",
    }
    assert len(os.listdir(tmp_path / "store/layers")) == 4


def test_a_command_line_shares_the_store(tmp_path):
    small(tmp_path / "a.tar")

    async def main() -> None:
        images = open_images(str(tmp_path / "store"))
        (image,) = await images.load(str(tmp_path / "a.tar"))
        assert await images.get("jota.test/small:1") == image
        assert await images.list() == [image]
        await images.remove(image.id)
        assert await images.list() == []

    asyncio.run(main())


def test_platforms():
    entries = [
        {"digest": "a", "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": "b", "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": "c", "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    assert pick_platform({"manifests": entries}, "amd64")["digest"] == "b"
    assert pick_platform({"manifests": [{"digest": "x"}]}, "amd64")["digest"] == "x"
    with pytest.raises(RuntimeFault, match="linux/riscv64 is wanted, offered: linux/amd64"):
        pick_platform({"manifests": entries}, "riscv64")


def test_two_runtimes_share_one_store(story, world, archive):
    async def body(w):
        root, images, name = str(w.directory / "root-b"), str(w.directory / "images"), f"{w.name}b"
        other = EmbeddedRuntime(root, images, name=name, cgroup_parent="jota-test", clock=w.runtime.clock)
        await other.start()
        try:
            image = await other.images.get("jota.test/busybox:1")
            assert image == w.image
            box = await other.run_sandbox(SandboxSpec("u", "p", "d"))
            id = await other.create_container(box.id, ContainerSpec("c", 0, image.id, command=["sleep", "100"]))
            await other.start_container(id)
            assert (await w.run("exit 2"))[0].exit_code == 2
            with pytest.raises(RuntimeFault, match="used by a container"):
                await w.runtime.images.remove("jota.test/busybox:1")
        finally:
            await other.shutdown()

    story(body)


def test_a_full_disk(tmp_path):
    """A load fails with the reason, leaves nothing half made, and succeeds once there is room."""
    busybox_archive(str(tmp_path / "b.tar"))
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    kernel.mount("tmpfs", str(tiny), "tmpfs", 0, "size=3m")
    try:
        library = Library(Content(str(tiny)))
        with pytest.raises(RuntimeFault, match="No space left"):
            library.load(str(tmp_path / "b.tar"))
        assert library.list() == []
        assert os.listdir(tiny / "layers") == []
        kernel.mount("tmpfs", str(tiny), "tmpfs", kernel.MS_REMOUNT, "size=30m")
        assert library.load(str(tmp_path / "b.tar"))[0].tags == ["jota.test/busybox:1"]
    finally:
        kernel.umount(str(tiny), kernel.MNT_DETACH)


def test_a_full_log_disk_does_not_stop_a_container(story, tmp_path):
    async def body(w):
        tiny = tmp_path / "tiny"
        tiny.mkdir()
        kernel.mount("tmpfs", str(tiny), "tmpfs", 0, "size=1m")
        try:
            box = await w.sandbox(log_directory=str(tiny / "logs"))
            container, _ = await w.run(
                "for i in $(seq 40000); do echo 0123456789012345678901234567890123456789; done; exit 5", box
            )
            assert container.exit_code == 5
            assert (await w.run("exit 3"))[0].exit_code == 3
        finally:
            kernel.umount(str(tiny), kernel.MNT_DETACH)

    story(body)


def test_slow_pulls_do_not_hold_up_containers(story, monkeypatch):
    from jota.runtime.embedded.images import registry

    gate = threading.Event()
    monkeypatch.setattr(registry, "pull", lambda *_: gate.wait(20))

    async def body(w):
        pulls = [asyncio.ensure_future(w.runtime.images.pull("x/y:1")) for _ in range(10)]
        try:
            async with asyncio.timeout(10):
                assert (await w.run("exit 3"))[0].exit_code == 3
                assert await w.runtime.images.get("jota.test/busybox:1") == w.image
        finally:
            gate.set()
        await asyncio.gather(*pulls)

    story(body)
