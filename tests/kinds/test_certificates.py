"""ClusterTrustBundles and PodCertificateRequests with real keys and certificates: what is refused, in upstream's words."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from kinds_build import changed, kind, shown

from jota.aio.clock import rfc3339
from jota.pki.ca import CertificateAuthority, Subject

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = CertificateAuthority(CertificateAuthority.create("root", days=1, now=NOW.timestamp()))
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])


def request_of(key: Any) -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    return base64.b64encode(csr.public_bytes(Encoding.DER)).decode()


def leaf(key: Any = KEY, begins: datetime = NOW, seconds: int = 86400, dns: str = "", mail: str = "") -> str:
    builder = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(seconds=seconds))
    )
    names: list[x509.GeneralName] = [x509.DNSName(dns)] if dns else []
    if mail:  # whatever others send
        names.append(x509.RFC822Name._init_without_validation(mail))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def pod_request(**spec: Any) -> dict[str, Any]:
    names = {"podName": "web", "podUID": "a", "serviceAccountName": "default", "serviceAccountUID": "b"}
    node = {"nodeName": "n1", "nodeUID": "c", "signerName": "example.com/pods", "stubPKCS10Request": request_of(KEY)}
    obj = {"metadata": {"name": "web", "namespace": "default"}, "spec": {**names, **node, **spec}}
    kind("podcertificaterequests").default(obj)
    return obj


def created(obj: dict[str, Any]) -> list[str]:
    of = kind(
        "podcertificaterequests" if "podName" in obj["spec"] or "podUID" in obj["spec"] else "clustertrustbundles"
    )
    return shown(of.validate(obj) + of.validate_create(obj))


@pytest.mark.parametrize(
    "key",
    [KEY, ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["P256", "P521", "Ed25519"],
)
def test_keys_that_may_be_certified(key: Any) -> None:
    assert created(pod_request(stubPKCS10Request=request_of(key))) == []


def tampered() -> str:
    der = bytearray(base64.b64decode(request_of(KEY)))
    der[-1] ^= 1
    return base64.b64encode(der).decode()


STUB = "spec.stubPKCS10Request: Invalid value: "


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"signerName": ""}, ["spec.signerName: Required value"]),
        (
            {"signerName": "plain"},
            [
                'spec.signerName: Invalid value: "plain": must be a fully qualified domain and path of the form '
                "'example.com/signer-name'"
            ],
        ),
        (
            {"signerName": "plain/x"},
            [
                'spec.signerName: Invalid value: "plain": should be a domain with at least two segments separated by dots'
            ],
        ),
        ({"podUID": ""}, ['spec.podUID: Invalid value: "": must not be empty']),
        ({"nodeUID": "x" * 129}, ["spec.nodeUID: Too long: may not be more than 128 bytes"]),
        (
            {"maxExpirationSeconds": 3599},
            ["spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]"],
        ),
        (
            {"maxExpirationSeconds": 86401, "signerName": "kubernetes.io/kube-apiserver-client-pod"},
            ["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"],
        ),
        (
            {"unverifiedUserAnnotations": {"plain": "x"}},
            [
                'spec.unverifiedUserAnnotations: Invalid value: "plain": must be a domain-prefixed key (such as '
                '"acme.io/foo")'
            ],
        ),
        ({"stubPKCS10Request": "AAAA"}, [STUB + "must be a valid PKCS#10 certificate signing request"]),
        ({"stubPKCS10Request": "?"}, [STUB + "must be a valid PKCS#10 certificate signing request"]),
        ({"stubPKCS10Request": tampered()}, [STUB + "could not verify the signature of the request"]),
        (
            {"stubPKCS10Request": request_of(ec.generate_private_key(ec.SECP256K1()))},
            [STUB + "elliptic public keys must use curve P256, P384, or P521"],
        ),
        (
            {"stubPKCS10Request": request_of(rsa.generate_private_key(65537, 2048))},
            [STUB + "RSA keys must have modulus size 3072 or 4096"],
        ),
    ],
)
def test_new_requests(spec: dict[str, Any], wanted: list[str]) -> None:
    assert created(pod_request(**spec)) == wanted


def test_what_is_asked_for_never_changes() -> None:
    old = pod_request()
    new = changed(old, "spec.podName", "other")
    (error,) = shown(kind("podcertificaterequests").validate_update(new, old))
    assert error.startswith("spec: Invalid value: ")
    assert error.endswith("field is immutable")


def condition(type_: str, status: str = "True") -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": rfc3339(0)}


def at(seconds: float) -> str:
    return rfc3339(NOW.timestamp() + seconds)


def issued(**status: Any) -> dict[str, Any]:
    times = {"notBefore": at(0), "notAfter": at(86400), "beginRefreshAt": at(43200)}
    return {"conditions": [condition("Issued")], "certificateChain": leaf(), **times, **status}


CHAIN = "status.certificateChain: Invalid value: "


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (issued(), ""),
        (issued(certificateChain=leaf() + ROOT.certificate_pem.decode()), ""),
        ({"conditions": [condition("Denied")]}, ""),
        (
            {"conditions": [condition("Denied"), condition("Failed")]},
            'status.conditions[1].type: Invalid value: "Failed": There may be at most one condition with type "Issued", '
            '"Denied", or "Failed"',
        ),
        (
            {"conditions": [condition("Odd")]},
            'status.conditions[0].type: Unsupported value: "Odd": supported values: "Issued", "Denied", "Failed"',
        ),
        (
            {"conditions": [condition("Issued", "False")]},
            'status.conditions[0].status: Unsupported value: "False": supported values: "True"',
        ),
        (
            {"conditions": [condition("Denied")], "certificateChain": leaf()},
            "status: Invalid value: non-condition status fields must be empty when denying or failing the "
            "PodCertificateRequest",
        ),
        (
            {"notBefore": at(0)},
            'status: Invalid value: status is immutable unless transitioning to "Issued", "Denied", or "Failed"',
        ),
        (issued(certificateChain=""), CHAIN + '"": issued certificate chain must contain at least one certificate'),
        (
            issued(certificateChain=leaf().replace("CERTIFICATE", "KEY")),
            "issued certificate chain must consist entirely of CERTIFICATE PEM blocks",
        ),
        (
            issued(certificateChain=leaf(ec.generate_private_key(ec.SECP256R1()))),
            "leaf certificate was not issued to the requested public key",
        ),
        (issued(notAfter=None), "status.notAfter: Required value: must be present and consistent with"),
        (issued(beginRefreshAt=None), "must be present and in the range [notbefore+10min, notafter-10min]"),
        (issued(notBefore=at(1)), "must be set to the NotBefore time encoded in the leaf certificate"),
        (issued(notAfter=at(1)), "must be set to the NotAfter time encoded in the leaf certificate"),
        (
            issued(certificateChain=leaf(seconds=3000), notAfter=at(3000)),
            CHAIN + '"3000s": leaf certificate lifetime must be >= 1 hour',
        ),
        (
            issued(certificateChain=leaf(seconds=90000), notAfter=at(90000)),
            "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)",
        ),
        (issued(beginRefreshAt=at(599)), "must be at least 10 minutes after status.notBefore"),
        (issued(beginRefreshAt=at(86400 - 599)), "must be at least 10 minutes before status.notAfter"),
        (issued(certificateChain=leaf(dns="a..b")), "leaf certificate's DNSName should not contain '..'"),
        (issued(certificateChain=leaf(mail="a@b.c")), ""),
        (
            issued(certificateChain=leaf(mail="a b@c")),
            CHAIN + '"a b@c": leaf certificate should not contain invalid EmailAddress',
        ),
        (
            issued(certificateChain=leaf() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "intermediate certificate does not parse as valid X.509",
        ),
    ],
)
def test_the_status_ends_once_and_says_what_was_issued(status: dict[str, Any], wanted: str) -> None:
    of, old = kind("podcertificaterequests"), pod_request()
    new = {**old, "status": {k: v for k, v in status.items() if v is not None}}
    errors = shown(of.validate_status(new, old))
    if not wanted:
        assert errors == []
        later = {**new, "status": {**new["status"], "notAfter": at(5)}}
        assert shown(of.validate_status(later, new)) == [
            "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"
        ]
        return
    assert len(errors) == 1, errors
    assert wanted in errors[0]


def test_states() -> None:
    def state(*conditions: dict[str, Any]) -> Any:
        column = next(c for c in kind("podcertificaterequests").columns if c.name == "State")
        return column.cell({"status": {"conditions": list(conditions)}}, 0)

    assert [state(), state(condition("Issued")), state(condition("Denied", "False"))] == [
        "Pending",
        "Issued",
        "Pending",
    ]


# --- trust bundles -------------------------------------------------------------------------------------------------------


def bundle(text: str, name: str = "roots", signer: str = "") -> dict[str, Any]:
    spec = {"trustBundle": text, **({"signerName": signer} if signer else {})}
    return {"metadata": {"name": name}, "spec": spec}


PEM = ROOT.certificate_pem.decode()
OMITTED = 'spec.trustBundle: Invalid value: "<value omitted>": '


@pytest.mark.parametrize(
    ("obj", "wanted"),
    [
        (bundle(PEM), []),
        (bundle("what stands between does not count\n" + PEM, "example.com:s:a", "example.com/s"), []),
        (bundle(""), [OMITTED + "at least one trust anchor must be provided"]),
        (bundle(PEM * 2), [OMITTED + "duplicate trust anchor (indices [0 1])"]),
        (bundle(leaf()), [OMITTED + "entry 0 does not have the CA bit set"]),
        (bundle(PEM.replace("CERTIFICATE", "KEY")), [OMITTED + "entry 0 has bad block type: KEY"]),
        (bundle(PEM.replace("-----\n", "-----\nA: b\n\n", 1)), [OMITTED + "entry 0 has PEM block headers"]),
        (
            bundle("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            [OMITTED + "entry 0 does not parse as X.509"],
        ),
        (bundle(PEM + "x" * (1 << 20)), ["spec.trustBundle: Too long: may not be more than 1048576 bytes"]),
        (
            bundle(PEM, "a:b"),
            [
                'metadata.name: Invalid value: "a:b": ClusterTrustBundle without signer name must not have ":" in its name'
            ],
        ),
        (
            bundle(PEM, "roots", "example.com/s"),
            [
                'metadata.name: Invalid value: "roots": ClusterTrustBundle for signerName example.com/s must be named with '
                "prefix example.com:s:"
            ],
        ),
    ],
)
def test_trust_bundles(obj: dict[str, Any], wanted: list[str]) -> None:
    assert created(obj) == wanted


def test_a_bundle_is_read_again_only_when_it_changes() -> None:
    of, odd = kind("clustertrustbundles"), bundle("from another time")
    assert of.validate_update(odd, odd) == []
    assert len(of.validate_update(bundle("other"), odd)) == 1
    moved = bundle(PEM, "example.com:s:a", "example.com/s")
    (error,) = shown(of.validate_update({**moved, "spec": {**moved["spec"], "signerName": "example.com/t"}}, moved))
    assert error == 'spec.signerName: Invalid value: "example.com/t": field is immutable'


def test_authorities_of_the_kit_are_authorities() -> None:
    pair = ROOT.issue(Subject("x", (), ()), days=1, client=True, server=False, now=NOW.timestamp())
    assert created(bundle(pair.certificate.decode())) == [OMITTED + "entry 0 does not have the CA bit set"]
