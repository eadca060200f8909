"""clusterTrustBundle volumes: which bundles a source means, what its file says, and that it follows them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta.resource import CLUSTER_TRUST_BUNDLES, PODS
from jota.node.volumes.trustbundles import anchors, select
from jota.node.volumes.volume import VolumeFault
from jota.pki import pem

from .signer import authority
from .world import World, container, pod

ROOTS = [authority(f"root {n}", 1_800_000_000.0) for n in range(4)]


def bundle(name: str, *roots: str, signer: str = "", **labels: str) -> dict[str, Any]:
    spec = {"trustBundle": "".join(roots), **({"signerName": signer} if signer else {})}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


BUNDLES = [
    bundle("plain", ROOTS[0]),
    bundle("a.b:c:1", ROOTS[1], signer="a.b/c", live="yes"),
    bundle("a.b:c:2", ROOTS[2], signer="a.b/c"),
    bundle("a.b:d:1", ROOTS[3], signer="a.b/d", live="yes"),
]
LIVE = {"matchLabels": {"live": "yes"}}
ODD = {"matchExpressions": [{"key": "live", "operator": "DoesNotExist"}]}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({"name": "plain"}, ["plain"]),
        ({"name": "a.b:c:1"}, ["a.b:c:1"]),
        ({"name": "none", "optional": True}, []),
        ({"name": "none"}, 'clustertrustbundle.certificates.k8s.io "none" not found'),
        ({"signerName": "a.b/c", "labelSelector": {}}, ["a.b:c:1", "a.b:c:2"]),
        ({"signerName": "a.b/c", "labelSelector": LIVE}, ["a.b:c:1"]),
        ({"signerName": "a.b/c", "labelSelector": ODD}, ["a.b:c:2"]),
        ({"signerName": "a.b/c", "optional": True}, []),
        ({"signerName": "a.b/c"}, "combination of signerName and labelSelector matched zero ClusterTrustBundles"),
        ({"signerName": "a.b/c", "labelSelector": {"matchLabels": {"x": "y"}}}, "matched zero ClusterTrustBundles"),
        ({"signerName": "x.y/z", "labelSelector": {}, "optional": False}, "matched zero ClusterTrustBundles"),
    ],
)
def test_which_bundles_a_source_means(source: dict[str, Any], found: list[str] | str) -> None:
    if isinstance(found, str):
        with pytest.raises(VolumeFault, match=found.replace(".", r"\.")):
            select(source, BUNDLES)
    else:
        assert [b["metadata"]["name"] for b in select(source, BUNDLES)] == found


@given(st.permutations(ROOTS), st.lists(st.sampled_from(ROOTS), max_size=3))
def test_a_file_has_every_anchor_once_whatever_the_order(roots: list[str], again: list[str]) -> None:
    one = anchors([bundle("1", *roots)], "salt")
    assert one == anchors([bundle("2", *again, "words between\n"), bundle("3", *reversed(roots))], "salt")
    assert sorted(b.der for b in pem.blocks(one.decode())) == sorted(b.der for b in pem.blocks("".join(ROOTS)))
    assert one.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert b"words" not in one


def test_nobody_can_rely_on_the_order() -> None:
    assert len({anchors([bundle("1", *ROOTS)], f"pod {n}") for n in range(30)}) > 1
    assert anchors([], "pod") == b""


def projecting(*sources: dict[str, Any], name: str = "web") -> dict[str, Any]:
    volume = {"name": "v", "projected": {"sources": [{"clusterTrustBundle": s} for s in sources]}}
    return pod(name, container(volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume])


async def file(w: World, path: str, name: str = "web") -> str:
    uid = (await w.get(name))["metadata"]["uid"]
    return Path(w.config.volatile_dir, uid, "kubernetes.io~projected", "v", path).read_text()


def test_a_pod_waits_for_its_bundle_and_follows_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            client = w.api.client
            await w.create(projecting({"name": "plain", "path": "ca.crt"}))
            await w.until_phase("Pending")
            await w.advance(90)
            told = (
                'MountVolume.SetUp failed for volume "v" : while getting ClusterTrustBundle: '
                'clustertrustbundle.certificates.k8s.io "plain" not found'
            )
            assert set(await w.events("FailedMount")) == {told}
            await client.create(CLUSTER_TRUST_BUNDLES, bundle("plain", ROOTS[0]))
            # at once: the pod hears of it, though its next attempt is up to a minute away
            await w.until(lambda: w.runtime.made, within=2)
            assert await file(w, "ca.crt") == ROOTS[0]
            await client.patch(CLUSTER_TRUST_BUNDLES, "plain", "", {"spec": {"trustBundle": ROOTS[1]}})
            await w.advance(1)
            assert await file(w, "ca.crt") == ROOTS[1]
            # one that is gone does not take what is mounted with it
            await client.delete(CLUSTER_TRUST_BUNDLES, "plain")
            await w.advance(1)
            assert await file(w, "ca.crt") == ROOTS[1]
            assert (await w.status())["phase"] == "Running"

    asyncio.run(story())


def test_a_pod_follows_what_its_signer_publishes(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            client = w.api.client
            await w.create(projecting({"signerName": "a.b/c", "labelSelector": {}, "path": "p/ca", "optional": True}))
            await w.until_phase("Running")
            assert await file(w, "p/ca") == ""
            for made in BUNDLES:
                await client.create(CLUSTER_TRUST_BUNDLES, made)
            await w.advance(1)
            text = await file(w, "p/ca")
            assert {b.der for b in pem.blocks(text)} == {b.der for b in pem.blocks(ROOTS[1] + ROOTS[2])}
            await client.delete(CLUSTER_TRUST_BUNDLES, "a.b:c:2")
            await w.advance(1)
            assert await file(w, "p/ca") == ROOTS[1]

    asyncio.run(story())


def test_one_watch_serves_all_pods_and_only_those_concerned_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            for made in BUNDLES:
                await w.api.client.create(CLUSTER_TRUST_BUNDLES, made)
            sources = [{"name": b["metadata"]["name"], "path": f"f{n}"} for n, b in enumerate(BUNDLES)]
            await w.create(projecting(*sources[:2]))
            await w.create(projecting(*sources[2:], name="other"))
            for name in ("web", "other"):
                await w.until_phase("Running", name)
            assert await file(w, "f1") == ROOTS[1]
            read: list[str] = []
            bundles = w.agent.kit.bundles
            real = bundles.anchors

            async def noted(uid: str, *rest: Any) -> bytes:
                read.append(uid)
                return await real(uid, *rest)

            monkeypatch.setattr(bundles, "anchors", noted)
            await w.api.client.patch(CLUSTER_TRUST_BUNDLES, "a.b:d:1", "", {"metadata": {"labels": {"x": "y"}}})
            await w.advance(1)
            assert set(read) == {(await w.get("other"))["metadata"]["uid"]}
            await w.api.client.delete(PODS, "other", "default", grace=0)
            await w.until_gone("other")
            await w.until(lambda: len(w.agent.workers) == 1)
            read.clear()
            await w.api.client.delete(CLUSTER_TRUST_BUNDLES, "a.b:d:1")
            await w.advance(1)
            assert read == []

    asyncio.run(story())
