"""Keys and certificates of a control plane, in `<data dir>/pki`. Made once; leaf certificates are renewed at every start.

The identity of a cluster is its CA and its token key alone. Leaves are cheap (an EC key is a millisecond), so the serving
certificate is issued anew whenever the server starts and covers the host's addresses of today: a changed IP or an old
certificate never locks anybody out.
"""

from __future__ import annotations

import ssl
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from jota.pki import envelope
from jota.pki.ca import CertificateAuthority, Pair, Subject, create_rsa_key
from jota.pki.envelope import Envelope
from jota.pki.jwt import TokenSigner
from jota.run.instance import Refused, write_file

_CA_DAYS = 3650.0
_LEAF_DAYS = 365.0
_MASTERS = "system:masters"


@dataclass(slots=True)
class Material:
    """What a server needs; certificate pairs lie in files because TLS contexts load from files."""

    directory: Path
    authority: CertificateAuthority
    signer: TokenSigner
    made_admin: Future[Pair]
    front_proxy_ca: bytes
    """PEM of the CA whose certificates may speak for users in X-Remote-* headers."""
    envelope: Envelope
    """Seals Secrets in the database file."""
    names: frozenset[str]
    """What the server's certificate says: names and addresses by which clients know it."""

    @property
    def admin(self) -> Pair:
        """The administrator's certificate and key. Waits while they are being made; raises OSError."""
        return self.made_admin.result()

    @property
    def ca_pem(self) -> bytes:
        return self.authority.certificate_pem

    def pair(self, name: str) -> tuple[Path, Path]:
        """(certificate, key) files of one of our leaves: server, kubelet-client, front-proxy-client, admin."""
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def serving_context(self) -> ssl.SSLContext:
        """TLS for the API: our certificate; client certificates are optional and verified against our CAs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self.pair("server"))
        # who signed a certificate decides what it says: filters/requestheader.py
        context.load_verify_locations(cadata=(self.ca_pem + self.front_proxy_ca).decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        # of the ciphers, all of them good, the client knows best which is quick for it: those in Go take AES-128 where the
        # processor has AES, a fifth less work for both sides than AES-256, and ChaCha20 where it has not
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0  # a third of a handshake, for clients that come back with one: client-go never does
        return context

    def kubelet_client_context(self) -> ssl.SSLContext:
        """TLS from the API server to node agents, which know us by this client certificate."""
        context = ssl.create_default_context(cadata=self.ca_pem.decode())
        context.check_hostname = False  # nodes are dialled by address; their certificate must still be from our CA
        context.load_cert_chain(*self.pair("kubelet-client"))
        return context


def ensure(directory: Path, *, addresses: list[str], service_cidr: str, domain: str, now: float) -> Material:
    """Load or make the CA and the token key; issue today's leaves. `addresses`: IPs that clients may dial."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = CertificateAuthority(_authority(directory / "ca", "jota-ca", now))
    proxies = CertificateAuthority(_authority(directory / "front-proxy-ca", "front-proxy-ca", now))
    signer = TokenSigner(_token_key(directory))
    dns = (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{domain}",
    )
    ips = ("127.0.0.1", str(IPv4Network(service_cidr)[1]), *addresses)
    server = Subject("kube-apiserver", (), dns, tuple(dict.fromkeys(ips)))
    _leaf(directory / "server", authority.issue(server, days=_LEAF_DAYS, client=False, server=True, now=now))
    kubelet_client = Subject("kube-apiserver-kubelet-client", (_MASTERS,))
    pair = authority.issue(kubelet_client, days=_LEAF_DAYS, client=True, server=False, now=now)
    _leaf(directory / "kubelet-client", pair)
    beside = ThreadPoolExecutor(1, "admin-key")  # an RSA key takes a tenth of a second, in which the server can start
    admin = beside.submit(_admin, directory, authority, now)
    beside.shutdown(wait=False)
    front_proxy = proxies.issue(Subject("front-proxy-client", ()), days=_LEAF_DAYS, client=True, server=False, now=now)
    _leaf(directory / "front-proxy-client", front_proxy)
    envelope = _envelope(directory / "encryption.keys")
    names = frozenset((*server.dns_names, *server.ip_addresses))
    return Material(directory, authority, signer, admin, proxies.certificate_pem, envelope, names)


def _admin(directory: Path, authority: CertificateAuthority, now: float) -> Pair:
    who, key = Subject("kubernetes-admin", (_MASTERS,)), _admin_key(directory)
    admin = authority.issue(who, days=_LEAF_DAYS, client=True, server=False, now=now, key_pem=key)
    _leaf(directory / "admin", admin)
    return admin


def _admin_key(directory: Path) -> bytes:
    """RSA in PKCS#1, as in kubeadm's files: Java's clients read no EC key without further libraries. Kept, since it is
    slow to make."""
    path = directory / "admin.key"
    if path.exists() and (kept := path.read_bytes()).startswith(b"-----BEGIN RSA PRIVATE KEY-----"):
        return kept
    return create_rsa_key()


def _authority(stem: Path, name: str, now: float) -> Pair:
    certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    if not (certificate.exists() and key.exists()):
        _leaf(stem, CertificateAuthority.create(name, days=_CA_DAYS, now=now))
    return Pair(certificate.read_bytes(), key.read_bytes())


def _token_key(directory: Path) -> bytes:
    path = directory / "sa.key"
    if not path.exists():
        write_file(path, TokenSigner.create_key(), 0o600)
    return path.read_bytes()


def _envelope(path: Path) -> Envelope:
    """The keys that Secrets are sealed with on the disk; made at the first start. Raises Refused."""
    if not path.exists():
        write_file(path, envelope.new_line().encode(), 0o600)
    try:
        return Envelope(envelope.parse(path.read_text()))
    except (envelope.BadKeyFile, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {error}; restore the file from a backup") from None


def _leaf(stem: Path, pair: Pair) -> None:
    """The key first: a certificate without its key would look complete after a crash."""
    write_file(stem.with_suffix(".key"), pair.key, 0o600)
    write_file(stem.with_suffix(".crt"), pair.certificate, 0o644)
