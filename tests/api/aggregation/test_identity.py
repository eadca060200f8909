"""Whom an extension server is told about, and whom we believe that speaks for others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jota.api.aggregation import remote
from jota.api.filters.attributes import User
from jota.client.client import Client
from jota.meta.resource import CONFIGMAPS, SERVICEACCOUNTS
from jota.pki.ca import CertificateAuthority, private_pem

from .world import Object, World, told


@told
async def test_front_proxies_may_speak_for_users_here(w: World) -> None:
    async def whoami(client: Client, **headers: str) -> tuple[int, Object]:
        path, named = (
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {k.replace("_", "-"): v for k, v in headers.items()},
        )
        answer = await client.raw("POST", path, body=b"{}", headers={"content-type": "application/json", **named})
        await client.close()
        return answer.status, orjson.loads(answer.body)

    claims = {
        "x_remote_user": "carol",
        "x_remote_group": "a, b",
        "x_remote_uid": "7",
        "x_remote_extra_example.com%2fkey": "v",
    }
    status, review = await whoami(w.client("front-proxy-client"), **claims)
    assert status == 201
    assert review["status"]["userInfo"] == {
        "username": "carol",
        "uid": "7",
        "groups": ["a, b", "system:authenticated"],
        "extra": {"example.com/key": ["v"]},
    }
    status, review = await whoami(w.client("alice"), **claims)
    assert (status, review["status"]["userInfo"]["username"]) == (201, "alice"), (
        "its own CA does not make it a front proxy"
    )
    assert (await whoami(w.client("stranger"), **claims))[0] == 401, "a name that no front proxy has"
    assert (await whoami(w.client("front-proxy-client")))[0] == 401, "a front proxy is nobody by itself"
    token = await _token(w)
    status, review = await whoami(w.client("front-proxy-client", token=lambda: token))
    assert review["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"


@told
async def test_a_certificate_of_an_intermediate_authority_names_nobody(w: World) -> None:
    """TLS trusts both CAs: what stands below the front proxies' must not pass for a user's certificate."""
    for root in ("proxies", "ours"):
        below(w.directory, f"below-{root}", w.authorities[root], "admin", "system:masters")
        for headers in ({}, {"x-remote-user": "carol"}):
            client = w.client(f"below-{root}")
            answer = await client.raw("GET", "/api/v1/namespaces", headers=headers)
            await client.close()
            assert (answer.status, b"not directly from a CA" in answer.body) == (401, True), root


def below(directory: Path, name: str, root: CertificateAuthority, common_name: str, organisation: str) -> None:
    """A client certificate from an intermediate CA of `root`, with the chain that proves it."""
    now = datetime.now(UTC)

    def made(subject: x509.Name, issuer: x509.Name, key: Any, signer: Any, ca: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(signer, hashes.SHA256())

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    middle = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")])
    leaf = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        ]
    )
    top = x509.load_pem_x509_certificate(root.certificate_pem).subject
    chain = [made(leaf, middle, keys[0], keys[1], False), made(middle, top, keys[1], root._key, True)]
    pem = serialization.Encoding.PEM
    (directory / f"{name}.crt").write_bytes(b"".join(c.public_bytes(pem) for c in chain))
    (directory / f"{name}.key").write_bytes(private_pem(keys[0]))


async def _token(w: World) -> str:
    await w.api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    body = {"spec": {"expirationSeconds": 600}}
    return str((await w.api.client.create(SERVICEACCOUNTS, body, "default", "token", "robot"))["status"]["token"])


@told
async def test_extension_servers_learn_whom_to_believe(w: World) -> None:
    data = (await w.api.client.get(CONFIGMAPS, "extension-apiserver-authentication", "kube-system"))["data"]
    assert data["client-ca-file"].startswith("-----BEGIN CERTIFICATE")
    assert data["requestheader-client-ca-file"] != data["client-ca-file"]
    assert {k: orjson.loads(v) for k, v in data.items() if not k.endswith("file")} == {
        "requestheader-allowed-names": ["front-proxy-client"],
        "requestheader-extra-headers-prefix": ["X-Remote-Extra-"],
        "requestheader-group-headers": ["X-Remote-Group"],
        "requestheader-uid-headers": ["X-Remote-Uid"],
        "requestheader-username-headers": ["X-Remote-User"],
    }


def test_names_travel_unharmed() -> None:
    assert remote.identity(User("x", extra={"a b/c": ["1", "2"]}))[-2:] == [
        ("X-Remote-Extra-a%20b%2Fc", "1"),
        ("X-Remote-Extra-a%20b%2Fc", "2"),
    ]
    assert remote.identity(User("조타"))[0][1].encode("latin-1").decode() == "조타"
