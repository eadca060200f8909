"""podCertificate volumes: one request at a time, its answer as files, renewal, refusal, loss, and a new agent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from jota.meta.resource import NODES, POD_CERTIFICATE_REQUESTS, PODS, SERVICEACCOUNTS
from jota.node.volumes.podcertificates import JITTER, OVERDUE, RETRY, Held, Pending, Refusal, alarms, next_look, settle
from jota.node.volumes.volume import Credential

from .signer import SIGNER, authority, end, issue
from .world import World, container, pod

NOW = 1_800_000_000.0
LEAF = authority("leaf", NOW)
HAS = Credential(b"key", b"chain", NOW + 100, NOW + 1000)
ASKED = Pending("req-1", 50, b"new key")


def ended(type_: str, **status: Any) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": type_, "reason": "R", "message": "M"}], **status}}


ISSUED = ended(
    "Issued",
    certificateChain=f"words\n{LEAF}",
    beginRefreshAt="2027-01-15T09:00:00Z",
    notAfter="2027-01-15T10:00:00Z",
)
GIVEN = Credential(b"new key", LEAF.encode(), NOW + 3600 + 7, NOW + 7200)


@pytest.mark.parametrize(
    ("held", "request_", "revision", "wanted"),
    [
        (Held(), None, 99, Held()),
        (Held(HAS), None, 99, Held(HAS)),
        # not seen yet, still open, lost
        (Held(None, ASKED), None, 49, Held(None, ASKED)),
        (Held(None, ASKED), {"status": {}}, 50, Held(None, ASKED)),
        (Held(None, ASKED), {}, 50, Held(None, ASKED)),
        (Held(None, ASKED), None, 50, Held(not_before=NOW + RETRY)),
        (Held(HAS, ASKED), None, 60, Held(HAS, not_before=NOW + RETRY)),
        # ended
        (Held(None, ASKED), ISSUED, 51, Held(GIVEN)),
        (Held(HAS, ASKED, None, NOW), ISSUED, 51, Held(GIVEN)),
        (Held(None, ASKED), ended("Denied"), 51, Held(refusal=Refusal("Denied", "R", "M"))),
        (Held(HAS, ASKED), ended("Failed"), 51, Held(refusal=Refusal("Failed", "R", "M"))),
    ],
)
def test_what_an_answer_makes_of_it(held: Held, request_: Any, revision: int, wanted: Held) -> None:
    assert settle(held, request_, revision, NOW, 7.0) == wanted


@pytest.mark.parametrize(
    ("held", "after", "asks"),
    [
        (Held(), 0, True),
        (Held(None, ASKED), 0, False),
        (Held(not_before=NOW + 60), 59, False),
        (Held(not_before=NOW + 60), 60, True),
        (Held(HAS), 99, False),
        (Held(HAS), 100, True),
        (Held(HAS, ASKED), 100, False),
        (Held(HAS, not_before=NOW + 160), 100, False),
        (Held(refusal=Refusal("Denied", "R", "M")), 9999, False),
    ],
)
def test_when_it_is_time_to_ask(held: Held, after: float, asks: bool) -> None:
    assert held.asks(NOW + after) is asks


def test_what_is_told_of_a_certificate_that_nobody_renews() -> None:
    def reasons(after: float) -> list[str]:
        return [reason for reason, _ in alarms(HAS, NOW + after)]

    assert [reasons(t) for t in (0, 100 + OVERDUE, 101 + OVERDUE, 1001)] == [
        [],
        [],
        ["CertificateOverdueForRefresh"],
        ["CertificateOverdueForRefresh", "CertificateExpired"],
    ]


def test_when_to_look_though_nothing_is_heard() -> None:
    waiting = Held(HAS, ASKED)
    assert next_look(Held(None, ASKED), NOW) == 0
    assert next_look(Held(HAS), NOW) == HAS.refresh_at
    assert next_look(Held(HAS, not_before=NOW + 160), NOW + 100) == NOW + 160
    times = [next_look(waiting, NOW + t) for t in (0, 100, 101 + OVERDUE, 1001)]
    assert times == [NOW + 101 + OVERDUE, NOW + 101 + OVERDUE, NOW + 1001, 0]
    assert alarms(HAS, times[0]) != []


# --- stories -------------------------------------------------------------------------------------------------------------


def certified(name: str = "web", **source: Any) -> dict[str, Any]:
    given = {
        "signerName": SIGNER,
        "keyType": "ECDSAP256",
        "credentialBundlePath": "both.pem",
        "keyPath": "key.pem",
        "certificateChainPath": "chain.pem",
        **source,
    }
    volume = {"name": "v", "projected": {"sources": [{"podCertificate": given}]}}
    return pod(name, container(volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume])


def told(body: Callable[[World], Awaitable[None]], tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
            await body(w)

    asyncio.run(story())


async def requests(w: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await w.api.client.list(POD_CERTIFICATE_REQUESTS, "default"))["items"]
    return found


async def asked(w: World, before: tuple[str, ...] = ()) -> dict[str, Any]:
    """The one request that is not among `before`."""

    async def new() -> list[dict[str, Any]]:
        return [r for r in await requests(w) if r["metadata"]["name"] not in before]

    await w.until(new, within=600, step=1)
    (request,) = await new()
    return request


async def files(w: World, name: str = "web") -> dict[str, bytes]:
    uid = (await w.get(name))["metadata"]["uid"]
    volume = Path(w.config.volatile_dir, uid, "kubernetes.io~projected", "v")
    return {f: (volume / f).read_bytes() for f in os.listdir(volume) if not f.startswith("..")}


def match(key: bytes, chain: bytes) -> bool:
    certificate = x509.load_pem_x509_certificate(chain)
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form) == load_pem_private_key(key, None).public_key().public_bytes(
        *form
    )


def test_a_pod_gets_a_key_and_the_certificate_for_it(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.create(certified(maxExpirationSeconds=7200, userAnnotations={"a.b/c": "d"}))
        request = await asked(w)
        made, client = await w.get(), w.api.client
        meta, spec = request["metadata"], request["spec"]
        assert meta["name"].startswith("req-")
        assert [(o["kind"], o["uid"]) for o in meta["ownerReferences"]] == [("Pod", made["metadata"]["uid"])]
        uids = [(await client.get(*ref))["metadata"]["uid"] for ref in ((NODES, "n1"), (PODS, "web", "default"))]
        account = await client.get(SERVICEACCOUNTS, "default", "default")
        assert {k: v for k, v in spec.items() if k != "stubPKCS10Request"} == {
            "signerName": SIGNER,
            "podName": "web",
            "podUID": uids[1],
            "serviceAccountName": "default",
            "serviceAccountUID": account["metadata"]["uid"],
            "nodeName": "n1",
            "nodeUID": uids[0],
            "maxExpirationSeconds": 7200,
            "unverifiedUserAnnotations": {"a.b/c": "d"},
        }
        await w.advance(120)
        assert len(await requests(w)) == 1
        texts = await w.events("FailedMount")
        assert set(texts) == {'MountVolume.SetUp failed for volume "v" : credential bundle is not issued yet'}
        assert w.runtime.made == {}
        await issue(client, request, w.clock.now(), refresh=3600, seconds=7200)
        await w.until(lambda: w.runtime.made, within=2)
        found = await files(w)
        assert found["both.pem"] == found["key.pem"] + found["chain.pem"]
        assert found["chain.pem"].startswith(b"-----BEGIN CERTIFICATE-----\n")
        assert match(found["key.pem"], found["chain.pem"])

    told(body, tmp_path)


def test_a_certificate_is_renewed_with_a_new_key(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.create(certified(keyType="ED25519"))
        first = await asked(w)
        born = w.clock.now()
        await issue(w.api.client, first, born, refresh=7200)
        await w.until_phase("Running")
        before = await files(w)
        await w.advance(7100)
        assert len(await requests(w)) == 1
        await w.advance(JITTER + 110)
        second = await asked(w, (first["metadata"]["name"],))
        # the old one stays until the new one is there
        assert await files(w) == before
        await issue(w.api.client, second, w.clock.now(), refresh=7200)
        await w.advance(2)
        after = await files(w)
        assert match(after["key.pem"], after["chain.pem"])
        assert after["key.pem"] != before["key.pem"]
        assert (await w.status())["containerStatuses"][0]["restartCount"] == 0
        assert await w.events("CertificateOverdueForRefresh") == []

    told(body, tmp_path)


def test_a_certificate_that_nobody_renews_is_told_and_stays(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.create(certified())
        first = await asked(w)
        await issue(w.api.client, first, w.clock.now(), refresh=3600, seconds=7200)
        await w.until_phase("Running")
        before = await files(w)
        await w.advance(3600 + JITTER + OVERDUE + 60)
        assert await w.events("CertificateOverdueForRefresh") == ["PodCertificate refresh overdue"]
        assert await w.events("CertificateExpired") == []
        await w.advance(3600)
        assert await w.events("CertificateExpired") == ["PodCertificate expired"]
        assert await files(w) == before
        assert len(await requests(w)) == 2

    told(body, tmp_path)


@pytest.mark.parametrize(("how", "verb"), [("Denied", "was denied"), ("Failed", "failed")])
def test_a_refusal_is_for_good(tmp_path: Path, how: str, verb: str) -> None:
    async def body(w: World) -> None:
        await w.create(certified())
        request = await asked(w)
        await end(w.api.client, request, w.clock.now(), how)
        await w.advance(180)
        name = f"default/{request['metadata']['name']}"
        why = 'reason="Because", message="of it"'
        assert await w.events(how) == [f"PodCertificateRequest {name} {verb}, {why}"]
        text = f'MountVolume.SetUp failed for volume "v" : PodCertificateRequest was permanently {how.lower()}: {why}'
        assert text in await w.events("FailedMount")
        assert len(await requests(w)) == 1
        assert w.runtime.made == {}
        await w.api.client.delete(PODS, "web", "default", grace=0)
        await w.until(lambda: not w.agent.workers)

    told(body, tmp_path)


def test_a_request_that_is_deleted_is_made_again_but_not_at_once(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.create(certified())
        first = (await asked(w))["metadata"]["name"]
        await w.advance(5)
        await w.api.client.delete(POD_CERTIFICATE_REQUESTS, first, "default")
        await w.advance(RETRY - 5)
        assert await requests(w) == []
        second = await asked(w, (first,))
        await issue(w.api.client, second, w.clock.now(), refresh=3600)
        await w.until_phase("Running")

    told(body, tmp_path)


def test_asking_that_fails_is_tried_again(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.api.client.delete(SERVICEACCOUNTS, "default", "default")
        await w.create(certified())
        await w.advance(10)
        text = 'while creating PodCertificateRequest: serviceaccounts "default" not found'
        assert any(text in message for message in await w.events("FailedMount"))
        await w.api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
        first = await asked(w)
        await issue(w.api.client, first, w.clock.now(), refresh=3600)
        await w.until_phase("Running")
        # and a renewal, while what is mounted stays
        before = await files(w)
        await w.api.client.delete(SERVICEACCOUNTS, "default", "default")
        await w.advance(3600 + JITTER + 30)
        assert len(await requests(w)) == 1
        assert await files(w) == before
        await w.api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
        await asked(w, (first["metadata"]["name"],))

    told(body, tmp_path)


def test_an_answer_that_comes_while_others_mount_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(w: World) -> None:
        certificates = w.agent.kit.certificates
        real = certificates.credential

        async def slowly(*args: Any) -> Any:
            try:
                return await real(*args)
            finally:  # another volume of the pod takes its time
                await w.clock.sleep(30)

        monkeypatch.setattr(certificates, "credential", slowly)
        await w.create(certified())
        request = await asked(w)
        await issue(w.api.client, request, w.clock.now(), refresh=3600)
        await w.advance(28)
        monkeypatch.setattr(certificates, "credential", real)
        await w.advance(2.5)
        assert w.runtime.made != {}

    told(body, tmp_path)


def test_a_new_agent_asks_anew_and_leaves_what_is_mounted(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.create(certified())
        first = await asked(w)
        await issue(w.api.client, first, w.clock.now(), refresh=3600)
        await w.until_phase("Running")
        before = await files(w)
        await w.kill()
        await w.boot()
        second = await asked(w, (first["metadata"]["name"],))
        assert await files(w) == before
        await issue(w.api.client, second, w.clock.now(), refresh=3600)
        await w.advance(2)
        assert await files(w) != before
        assert (await w.status())["containerStatuses"][0]["restartCount"] == 0
        assert len(w.runtime.made) == 1

    told(body, tmp_path)


def test_nothing_is_kept_of_a_pod_that_is_gone(tmp_path: Path) -> None:
    async def body(w: World) -> None:
        await w.create(certified())
        await issue(w.api.client, await asked(w), w.clock.now(), refresh=3600)
        await w.until_phase("Running")
        held: Any = w.agent.kit.certificates
        assert len(held._held) == 1
        await w.api.client.delete(PODS, "web", "default", grace=0)
        await w.until(lambda: not w.agent.workers)
        assert held._held == {}
        assert held._cache._followers == {}

    told(body, tmp_path)
