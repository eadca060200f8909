"""Where a secret's value must never show: logs, refusals, metrics, events of the audit; what is on disk is tests/store's."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.meta.resource import SECRETS
from jota.pki.jwt import TokenSigner
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
