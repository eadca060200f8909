"""What is wrong with a projected volume: trust bundles, pod certificates and paths that are taken, in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import kind, pod, shown

POD = kind("pods")
P = "spec.volumes[0].projected"
BUNDLE, CERT = f"{P}.sources[0].clusterTrustBundle", f"{P}.sources[0].podCertificate"
TYPES = '"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"'


def of(*sources: dict[str, Any]) -> list[str]:
    obj = pod(volumes=[{"name": "v", "projected": {"sources": list(sources)}}])
    POD.default(obj)
    return shown(POD.validate(obj))


def bundle(**fields: Any) -> dict[str, Any]:
    given = {"name": "roots", "path": "ca.crt", **fields}
    return {"clusterTrustBundle": {k: v for k, v in given.items() if v is not None}}


def signed(**fields: Any) -> dict[str, Any]:
    given = {"name": None, "signerName": "a.b/c", "labelSelector": {}, **fields}
    return bundle(**given)


def cert(**fields: Any) -> dict[str, Any]:
    given = {"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "key", **fields}
    return {"podCertificate": {k: v for k, v in given.items() if v is not None}}


@pytest.mark.parametrize(
    "source",
    [
        bundle(),
        bundle(name="a.b:c:roots", optional=True),
        signed(),
        signed(labelSelector=None),
        signed(labelSelector={"matchLabels": {"a": "b"}}),
        cert(),
        cert(keyType="RSA4096", maxExpirationSeconds=7862400, userAnnotations={"A.io/b": "c"}),
        cert(keyPath=None, credentialBundlePath="x"),
        cert(signerName="kubernetes.io/c", maxExpirationSeconds=86400, certificateChainPath="deep/er/x"),
    ],
)
def test_what_is_right(source: dict[str, Any]) -> None:
    assert of(source) == []


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (bundle(name=None), f"{BUNDLE}: Required value: either name or signerName must be specified"),
        (bundle(signerName="a.b/c"), "only one of name and signerName may be used"),
        (
            bundle(name="a.b:c:UP"),
            f'{BUNDLE}.name: Invalid value: "a.b:c:UP": not a valid clustertrustbundlename: a lowercase RFC 1123',
        ),
        (bundle(name="x_y"), f'{BUNDLE}.name: Invalid value: "x_y": not a valid clustertrustbundlename: '),
        (bundle(labelSelector={}), "labelSelector must be unset if name is specified"),
        (signed(signerName=""), f"{BUNDLE}.signerName: Required value"),
        (signed(signerName="plain"), "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        (
            signed(labelSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            f"{BUNDLE}.labelSelector.matchExpressions[0].values: Required value",
        ),
        (bundle(path=None), f"{BUNDLE}.path: Required value"),
        (bundle(path="/x"), f'{BUNDLE}.path: Invalid value: "/x": must be a relative path'),
        (bundle(path="a/../b"), f"{BUNDLE}.path: Invalid value: \"a/../b\": must not contain '..'"),
        (bundle(path="..data"), f"{BUNDLE}.path: Invalid value: \"..data\": must not start with '..'"),
        (cert(signerName=None), f"{CERT}.signerName: Required value"),
        (cert(keyType="RSA2048"), f'{CERT}.keyType: Unsupported value: "RSA2048": supported values: {TYPES}'),
        (cert(keyType=None), f'{CERT}.keyType: Unsupported value: "": supported values: {TYPES}'),
        (
            cert(maxExpirationSeconds=3599),
            f"{CERT}.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be >= 3600",
        ),
        (
            cert(maxExpirationSeconds=7862401),
            f"{CERT}.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be <= 7862400",
        ),
        (
            cert(signerName="x.kubernetes.io/c", maxExpirationSeconds=86401),
            "if provided, maxExpirationSeconds must be <= 86400",
        ),
        (cert(userAnnotations={"plain": "x"}), 'must be a domain-prefixed key (such as "acme.io/foo")'),
        (cert(userAnnotations={"a.b/c": "x" * (256 << 10)}), f"{CERT}.userAnnotations: Too long"),
        (
            cert(keyPath=None),
            f"{CERT}: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        ),
        (cert(keyPath="../x"), f"{CERT}.keyPath: Invalid value: \"../x\": must not contain '..'"),
        (cert(certificateChainPath="key"), f'{P}: Invalid value: "key": conflicting duplicate paths'),
    ],
)
def test_what_is_wrong(source: dict[str, Any], wanted: str) -> None:
    errors = of(source)
    assert len(errors) == 1, errors
    assert wanted in errors[0]


def test_a_path_is_taken_once() -> None:
    items = {"items": [{"key": "k", "path": "key"}, {"key": "l", "path": "free"}]}
    labels = {"path": "ca.crt", "fieldRef": {"fieldPath": "metadata.labels"}}
    everything = ({"configMap": {"name": "c", **items}}, {"downwardAPI": {"items": [labels]}}, cert(), bundle())
    assert of(*everything) == [f'{P}: Invalid value: "{p}": conflicting duplicate paths' for p in ("key", "ca.crt")]
    # a token may share a path, the last source wins; and volumes do not know of each other
    assert of({"serviceAccountToken": {"path": "key"}}, cert()) == []


def test_an_empty_name_is_missing_and_wrong() -> None:
    missing, wrong = of(bundle(name=""))
    assert missing == f"{BUNDLE}.name: Required value: must be a valid object name"
    assert wrong.startswith(f'{BUNDLE}.name: Invalid value: "": not a valid clustertrustbundlename: ')
