"""How a node gets its identity: URL and join token -> CA, client certificate and serving certificate, over HTTPS alone.

1. Fetch ConfigMap kube-public/cluster-info without trusting anybody; believe its CA only if its hash is the token's.
2. With the bootstrap token, ask for a client certificate (CertificateSigningRequest, kube-apiserver-client-kubelet).
3. As that node, ask for a serving certificate (kubelet-serving).

The result lies in the node's directory; a restarted agent finds it there and needs no token. Certificates past two thirds
of their life are renewed with the node's own identity (TLS bootstrapping of the kubelet).
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.https import Https
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, CSRS
from jota.run.instance import Refused, write_file
from jota.run.tokens import JoinToken

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
_PATIENCE = 30.0
"""Seconds to wait for a signature."""


@dataclass(slots=True, frozen=True)
class Identity:
    """Files in the node's directory."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def client(self) -> tuple[Path, Path]:
        return self.directory / "client.crt", self.directory / "client.key"

    @property
    def serving(self) -> tuple[Path, Path]:
        return self.directory / "serving.crt", self.directory / "serving.key"

    @property
    def complete(self) -> bool:
        return all(p.exists() for p in (self.ca, *self.client, *self.serving))

    def transport(self, url: str) -> Https:
        return Https(url, ca=self.ca, certificate=self.client[0], key=self.client[1])

    def serving_context(self) -> ssl.SSLContext:
        """TLS of the kubelet API: a client certificate is optional, and of the cluster's CA (`node/access.py`)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.serving)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


async def join(
    url: str, token: JoinToken | None, node: str, addresses: list[str], directory: Path, clock: Clock
) -> Identity:
    """Make or renew the node's identity. Raises Refused when the server, the CA or the token is wrong."""
    identity = Identity(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not identity.ca.exists():
        if token is None:
            raise Refused(f"node {node} has no identity yet: give it a token (jota token create, on the server)")
        write_file(identity.ca, await _trusted_ca(url, token), 0o644)
    elif token is not None and _hash(identity.ca) != token.ca_hash:
        raise Refused(
            f"node {node} belongs to another cluster than the token (its CA differs); use that cluster's token, or "
            f"make it a new node: stop it with jota agent --remove, or choose another --data-dir"
        )
    if not _fresh(identity.client[0], clock.now()):
        await _client_certificate(url, token, node, identity, clock)
    if not _fresh(identity.serving[0], clock.now()) or not _covers(identity.serving[0], addresses):
        await _serving_certificate(url, node, addresses, identity, clock)
    return identity


async def _trusted_ca(url: str, token: JoinToken) -> bytes:
    from jota.pki.ca import fingerprint

    transport = Https(url, verify=False)  # nothing is believed before its hash matches the token's
    try:
        info = await Client(transport).get(CONFIGMAPS, "cluster-info", "kube-public")
        config = yaml.safe_load(info["data"]["kubeconfig"])
        ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
        found = fingerprint(ca)
    except (OSError, TimeoutError) as error:
        raise Refused(f"cannot reach {url}: {error or 'timed out'}; is the server up, and the port open?") from error
    except (ApiError, KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Refused(f"{url} does not answer like a jota server: {error}") from error
    finally:
        await transport.close()
    if found != token.ca_hash:
        raise Refused(
            f"{url} is not the cluster that the token was made for (its CA differs); check the URL and the token"
        )
    return ca


async def _client_certificate(url: str, token: JoinToken | None, node: str, identity: Identity, clock: Clock) -> None:
    from jota.pki.ca import Subject, create_csr

    if all(p.exists() for p in identity.client) and _valid(identity.client[0], clock.now()):
        transport = identity.transport(url)
    elif token is not None:
        transport = Https(url, ca=identity.ca, token=lambda: token.bearer)
    else:
        raise Refused(
            f"the certificate of node {node} has expired: give it a new token (jota token create, on the server)"
        )
    request, key = create_csr(Subject(f"system:node:{node}", ("system:nodes",)))
    await _sign(transport, "node-csr-", CLIENT_SIGNER, request, key, ["client auth"], identity.client, clock)


async def _serving_certificate(url: str, node: str, addresses: list[str], identity: Identity, clock: Clock) -> None:
    from jota.pki.ca import Subject, create_csr

    subject = Subject(f"system:node:{node}", ("system:nodes",), (node,), tuple(addresses))
    request, key = create_csr(subject)
    transport = identity.transport(url)
    await _sign(transport, "csr-", SERVING_SIGNER, request, key, ["server auth"], identity.serving, clock)


async def _sign(
    transport: Https,
    prefix: str,
    signer: str,
    request: bytes,
    key: bytes,
    usages: list[str],
    place: tuple[Path, Path],
    clock: Clock,
) -> None:
    client = Client(transport)
    body: dict[str, Any] = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": prefix},
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": signer,
            "usages": ["digital signature", "key encipherment", *usages],
        },
    }
    try:
        made = await client.create(CSRS, body)
        certificate = await _issued(client, made, clock)
    except ApiError as error:
        remedy = "; make a new token with: jota token create" if error.code == 401 else ""
        raise Refused(f"the server refused this node: {error.message}{remedy}") from error
    except (OSError, TimeoutError) as error:
        raise Refused(f"lost the server while joining: {error or 'timed out'}") from error
    finally:
        await transport.close()
    write_file(place[1], key, 0o600)
    write_file(place[0], certificate, 0o644)


async def _issued(client: Client, made: dict[str, Any], clock: Clock) -> bytes:
    """Wait for the signer; asks again with growing pauses (a watch would need a second connection for one event)."""
    name, pause, deadline = made["metadata"]["name"], 0.005, clock.monotonic() + _PATIENCE
    while True:
        certificate = (made.get("status") or {}).get("certificate")
        if certificate:
            return base64.b64decode(certificate)
        for condition in (made.get("status") or {}).get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                raise Refused(f"the request {name} was refused: {condition.get('message', condition['type'])}")
        if clock.monotonic() > deadline:
            raise Refused(
                f"nobody signed {name} in {_PATIENCE:.0f} s; approve it with: kubectl certificate approve {name}"
            )
        await clock.sleep(pause)
        pause = min(pause * 1.5, 1.0)
        made = await client.get(CSRS, name)


def _hash(certificate: Path) -> str:
    """As `pki.ca.fingerprint`, without the cryptography import: this runs at every start."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


def _fresh(certificate: Path, now: float) -> bool:
    """Exists and is before two thirds of its life (a leaf lives a year; a third is 120 days)."""
    return _left(certificate, now) > 120 * 86400


def _valid(certificate: Path, now: float) -> bool:
    return _left(certificate, now) > 60


def _left(certificate: Path, now: float) -> float:
    """Seconds until notAfter; the standard library reads it, so that a plain restart needs no cryptography import."""
    if not certificate.exists() or not certificate.with_suffix(".key").exists():
        return 0.0
    decoded = _decoded(certificate)
    return ssl.cert_time_to_seconds(str(decoded["notAfter"])) - now


def _covers(certificate: Path, addresses: list[str]) -> bool:
    names = {value for kind, value in _decoded(certificate).get("subjectAltName", ()) if kind == "IP Address"}
    return set(addresses) <= names


def _decoded(certificate: Path) -> dict[str, Any]:
    decode: Callable[[str], dict[str, Any]] = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
    return decode(str(certificate))
