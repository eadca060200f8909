"""Where a webhook is and how to come in: the current context of a kubeconfig -> `Endpoint`. What is not known is refused."""

from __future__ import annotations

import base64
import binascii
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jota.pki import trust
from jota.pki.clientpair import load_pair

CLUSTER = {
    "server",
    "certificate-authority",
    "certificate-authority-data",
    "tls-server-name",
    "insecure-skip-tls-verify",
}
USER = {
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "token",
    "tokenFile",
    "username",
    "password",
}


@dataclass(slots=True, frozen=True)
class Endpoint:
    url: str
    context: ssl.SSLContext
    headers: tuple[tuple[str, str], ...] = ()
    server_name: str = ""
    """For TLS; "" for the URL's host."""


def endpoint(config: Any, folder: Path) -> Endpoint:
    """`folder`: what relative file names are relative to. Raises ValueError with what is wrong, OSError for files."""
    if not isinstance(config, dict):
        raise ValueError("not a kubeconfig")
    current = config.get("current-context")
    context = _named(config, "contexts", "context", current)
    cluster = _named(config, "clusters", "cluster", context.get("cluster"))
    user = _named(config, "users", "user", context["user"]) if context.get("user") else {}
    for unknown in sorted((cluster.keys() - CLUSTER) | (user.keys() - USER)):
        raise ValueError(f"{unknown!r} is not supported in a webhook's kubeconfig")
    url = cluster.get("server")
    if not isinstance(url, str) or not url.startswith("https://"):
        raise ValueError("the cluster's server must be an https URL")
    headers = []
    token = user.get("token") or _text(user.get("tokenFile"), folder)
    if token:
        headers.append(("Authorization", f"Bearer {token.strip()}"))
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        headers.append(("Authorization", "Basic " + base64.b64encode(pair).decode()))
    return Endpoint(url, _tls(cluster, user, folder), tuple(headers), str(cluster.get("tls-server-name") or ""))


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    try:
        authority = _pem(cluster, "certificate-authority", folder)
        tls = trust.context(authority)
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        certificate, key = _pem(user, "client-certificate", folder), _pem(user, "client-key", folder)
        if certificate:
            load_pair(tls, certificate, key)
    except ssl.SSLError as error:
        raise ValueError(f"a certificate or key cannot be used: {error}") from None
    return tls


def _named(config: dict[str, Any], listed: str, part: str, name: Any) -> dict[str, Any]:
    for item in config.get(listed) or ():
        if isinstance(item, dict) and item.get("name") == name and isinstance(item.get(part), dict):
            return dict(item[part])
    raise ValueError(f"no {part} named {name!r}")


def _pem(source: dict[str, Any], field: str, folder: Path) -> str:
    data = source.get(f"{field}-data")
    if data:
        try:
            return base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError, TypeError):
            raise ValueError(f"{field}-data is not base64") from None
    return _text(source.get(field), folder)


def _text(name: Any, folder: Path) -> str:
    return (folder / name).read_text() if isinstance(name, str) and name else ""
