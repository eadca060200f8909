"""Where a secret's value must never show: logs, refusals, metrics, events of the audit; what is on disk is tests/store's."""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.audit import Audit
from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.meta.resource import SECRETS, SERVICEACCOUNTS
from jota.pki.envelope import Envelope
from jota.pki.jwt import TokenSigner
from jota.store.drivers.sqlite import SqliteStore
from jota.testing.cluster import ApiServer

HIDDEN = "correct-horse-battery"
ENCODED = base64.b64encode(HIDDEN.encode()).decode()
PATH = "/api/v1/namespaces/default/secrets"


@pytest.mark.parametrize("user", [User("system:apiserver", groups=("system:masters",)), User("eve")])
def test_no_log_line_metric_or_refusal_holds_a_secret(user: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story() -> bytes:
        server = ApiServer()
        secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
        said: list[bytes] = []
        async with server:
            await write_roles(server.api)
            body = {"metadata": {"name": "s"}, "data": {"k": ENCODED}, "type": "Opaque"}
            await server.client.create(SECRETS, {**body, "immutable": True}, "default")
            for method, path, sent in (
                ("POST", PATH, body),
                ("PUT", f"{PATH}/s", {**body, "data": {"k": ENCODED + "AAAA"}}),
                ("PATCH", f"{PATH}/s", {"data": {"k": ENCODED}, "type": "another"}),
                ("POST", PATH, {**body, "metadata": {"name": "No Name"}}),
                ("POST", PATH, {**body, "data": {"no key": ENCODED}}),
                ("POST", PATH, {**body, "type": "kubernetes.io/tls", "metadata": {"name": "t"}}),
                ("GET", "/metrics", {}),
                ("GET", f"{PATH}?fieldSelector=data.k={HIDDEN}", {}),
            ):
                patch = {"content_type": "application/merge-patch+json"} if method == "PATCH" else {}
                answer = await server.request(method, path, sent, user=user, **patch)
                assert answer.status != 500
                content = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
                said.append(content if answer.status >= 400 or path == "/metrics" else b"")
        return b"".join(said).replace(f"data.k={HIDDEN}".encode(), b"")  # what the caller wrote in a URL is his own

    refusals = asyncio.run(story())
    for text in (caplog.text.encode(), refusals):
        assert HIDDEN.encode() not in text
        assert ENCODED.encode() not in text


class Kept:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, found: list[bytes]) -> None:
        self.lines += found


def test_every_way_to_write_a_secret_leaves_it_sealed_and_unspoken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On the disk (the database, its log, after a restart and a compaction), in the fullest audit trail, in logs at their
    most talkative, in metrics: neither the value nor its base64, by whichever verb it came, nor the tokens given out."""
    caplog.set_level(logging.DEBUG)
    trail, where = Kept(), str(tmp_path / "db")
    hidden = [f"{HIDDEN}-{n}" for n in range(8)]
    encoded = [base64.b64encode(text.encode()).decode() for text in hidden]
    tokens: list[str] = []

    async def put(server: ApiServer) -> None:
        async def ask(method: str, path: str, body: object, media: str = "application/json") -> None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            answer = await server.request(method, path, data, content_type=media)
            assert answer.status < 300, (method, path, answer.body)

        last = orjson.dumps({"data": {"k": encoded[1]}}).decode()
        annotated = {"name": "b", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last}}
        await ask("POST", PATH, {"metadata": {"name": "a"}, "stringData": {"k": hidden[0]}})
        await ask("POST", PATH, {"metadata": annotated, "data": {"k": encoded[1]}})
        await ask("PUT", f"{PATH}/a", {"metadata": {"name": "a"}, "data": {"k": encoded[2]}})
        await ask("PATCH", f"{PATH}/a", {"data": {"m": encoded[3]}}, "application/merge-patch+json")
        await ask("PATCH", f"{PATH}/a", {"stringData": {"s": hidden[4]}}, "application/strategic-merge-patch+json")
        step = [{"op": "add", "path": "/data/j", "value": encoded[5]}]
        await ask("PATCH", f"{PATH}/a", step, "application/json-patch+json")
        applied = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: c}}\nstringData: {{k: {hidden[6]}}}\n".encode()
        await ask("PATCH", f"{PATH}/c?fieldManager=m", applied, "application/apply-patch+yaml")
        await ask("POST", f"{PATH}?dryRun=All", {"metadata": {"name": "dry"}, "data": {"k": encoded[7]}})
        await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
        made = await server.client.create(SERVICEACCOUNTS, {"spec": {}}, "default", "token", "robot")
        tokens.append(made["status"]["token"])
        reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
        await ask("POST", reviews, {"spec": {"token": tokens[0]}})
        await ask("DELETE", f"{PATH}/b", b"")
        await ask("DELETE", f"{PATH}?labelSelector=none%3Dsuch", b"")
        for form in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
            answer = await server.request("GET", PATH, accept=form)
            assert answer.status == 200
        metrics = await server.request("GET", "/metrics")
        said.append(metrics.body if isinstance(metrics.body, bytes) else b"".join(metrics.body))

    said: list[bytes] = []

    async def story() -> None:
        for round_ in range(2):
            store = SqliteStore(where, Envelope([("key", b"k" * 32)]))
            server = ApiServer(store=store, clock=SystemClock())
            secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
            async with server:
                server.api.audit = Audit({"rules": [{"level": "RequestResponse"}]}, trail, server.clock)
                if round_ == 0:
                    await put(server)
                    said.append(b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir())))
                    await store.compact(store.revision)
                else:
                    kept = await server.client.get(SECRETS, "a", "default")
                    assert set(kept["data"].values()) == {encoded[n] for n in (2, 3, 4, 5)}
            said.append(b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir())))

    asyncio.run(story())
    assert len(trail.lines) > 20
    everywhere = b"".join((*said, *trail.lines, caplog.text.encode()))
    for text in (*hidden, *encoded, *(t.rpartition(".")[2] for t in tokens)):
        assert text.encode() not in everywhere, text
    assert b"robot" in everywhere, "the search finds what is not hidden"
