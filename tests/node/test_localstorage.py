"""Who uses too much of the node's disk: the rules as a table, measuring on real files, and an eviction from end to end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.node.world import World, container, pod

from jota.node.config import NodeConfig
from jota.node.localstorage import Use, is_limited, judge, measure, pod_limit
from jota.runtime.protocol import Container

Object = dict[str, Any]
MI = 1 << 20


def limited(name: str, limit: str, **fields: Any) -> Object:
    return container(name, resources={"limits": {"ephemeral-storage": limit}}, **fields)


def empty(name: str, **source: Any) -> Object:
    return {"name": name, "emptyDir": source}


@pytest.mark.parametrize(
    ("obj", "use", "message"),
    [
        (pod("p", limited("c", "5Mi")), Use({"c": 5 * MI}), None),
        (pod("p", limited("c", "5Mi")), Use({"c": 6 * MI}), "the total limit of containers 5Mi. "),
        # one has no limit: what it uses counts against what the others have
        (pod("p", limited("c", "5Mi"), container("d")), Use({"c": 0, "d": 6 * MI}), "total limit of containers 5Mi. "),
        (pod("p", limited("c", "5Mi")), Use({"c": 0}, {"v": 6 * MI}), "the total limit of containers 5Mi. "),
        (
            pod("p", limited("c", "5Mi"), limited("d", "1Gi")),
            Use({"c": 6 * MI, "d": 0}),
            'Container c exceeded its local ephemeral storage limit "5Mi". ',
        ),
        (
            pod("p", volumes=[empty("v", sizeLimit="1Mi")]),
            Use({"c": 0}, {"v": 2 * MI}),
            'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ',
        ),
        (pod("p", volumes=[empty("v", sizeLimit="1Mi")]), Use({"c": 0}, {"v": MI}), None),
        (pod("p", volumes=[empty("v", sizeLimit="0")]), Use({"c": 0}, {"v": MI}), None),
        (pod("p", volumes=[empty("v", sizeLimit="1Mi", medium="Memory")]), Use({}, {"v": 2 * MI}), None),
        (pod("p"), Use({"c": 1 << 40}, {"v": 1 << 40}), None),
    ],
)
def test_the_first_limit_that_is_exceeded_is_named(obj: Object, use: Use, message: str | None) -> None:
    verdict = judge(obj, use)
    if message is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert verdict.reason == "Evicted"
        assert verdict.message.endswith(message)


def test_init_containers_run_alone_and_sidecars_beside_the_others() -> None:
    inits = [limited("i", "8Mi"), limited("s", "2Mi", restartPolicy="Always")]
    assert pod_limit(pod("p", limited("c", "5Mi"), initContainers=inits)) == "8Mi"
    assert pod_limit(pod("p", limited("c", "7Mi"), initContainers=inits)) == "9Mi"
    assert pod_limit(pod("p", initContainers=inits)) == "8Mi"
    assert pod_limit(pod("p")) is None


def test_only_pods_with_limits_are_measured_and_critical_ones_never() -> None:
    assert is_limited(pod("p", limited("c", "5Mi")))
    assert is_limited(pod("p", volumes=[empty("v", sizeLimit="1Mi")]))
    assert not is_limited(pod("p", volumes=[empty("v"), empty("m", sizeLimit="1Mi", medium="Memory")]))
    assert not is_limited(pod("p", limited("c", "5Mi"), priority=2_000_000_000))


def test_what_was_written_is_measured_once_and_links_are_not_followed(tmp_path: Path) -> None:
    config = NodeConfig(name="n1", address="", data_dir=str(tmp_path / "data"), log_dir=str(tmp_path / "logs"))
    obj = pod("p", volumes=[empty("v")])
    obj["metadata"]["uid"] = "u"
    old, new = tmp_path / "old", tmp_path / "new"
    logs = Path(config.log_directory("default", "p", "u"), "c")
    volume = Path(config.pod_dir("u"), "volumes/kubernetes.io~empty-dir/v")
    for directory in (old, new, logs, volume / "deep"):
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(os.urandom(MI))
    os.link(new / "file", new / "again")
    (new / "outside").symlink_to("/usr")
    with (volume / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)

    def run(attempt: int, path: Path) -> Container:
        return Container(f"c{attempt}", "s", "u", "c", attempt, "i", "i", "running", float(attempt), writable=str(path))

    use = measure(obj, [run(1, new), run(0, old)], config)
    assert 2 * MI <= use.containers["c"] < 2.1 * MI
    assert MI <= use.volumes["v"] < 1.1 * MI
    assert measure(obj, [run(2, tmp_path / "gone")], config).containers["c"] < 1.1 * MI


def test_a_pod_that_writes_too_much_is_evicted(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod("modest", limited("c", "2Mi")))
            await w.create(pod("greedy", limited("c", "2Mi")))
            await w.until_phase("Running", "modest")
            made = await w.until_phase("Running", "greedy")
            uid = next(
                c.pod_uid for c in w.runtime.made.values() if w.runtime.boxes[c.sandbox_id].spec.name == "greedy"
            )
            Path(w.config.log_directory("default", "greedy", uid), "c").mkdir(parents=True, exist_ok=True)
            Path(w.config.log_directory("default", "greedy", uid), "c", "0.log").write_bytes(b"x" * 3 * MI)
            made = await w.until_phase("Failed", "greedy")
            assert made["reason"] == "Evicted"
            assert made["message"] == "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
            assert len(await w.events("Evicted")) == 1
            assert "DisruptionTarget" not in {c["type"] for c in made["conditions"]}, "its own doing"
            await w.until_phase("Running", "modest")

    asyncio.run(story())
