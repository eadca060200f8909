"""The way of a command to a cluster: the user's kubeconfig, as kubectl reads it; no knowledge of this host's instances."""

from __future__ import annotations

import argparse
import base64
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from jota.client.client import Client
from jota.client.https import Https
from jota.run import kubeconfig
from jota.run.instance import Refused


def add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", help="file with the credentials (default: $KUBECONFIG or ~/.kube/config)")
    parser.add_argument("--context", help="which of its contexts (default: the current one)")
    parser.add_argument("-n", "--namespace", help="namespace (default: the context's, else default)")


def connect(args: argparse.Namespace) -> tuple[Client, str]:
    """(client, namespace). Raises Refused when the kubeconfig does not lead to a cluster."""
    path = kubeconfig.target(args.kubeconfig)
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise Refused(f"{path} does not exist; start a cluster (jota up) or give --kubeconfig") from None
    except yaml.YAMLError as error:
        raise Refused(f"{path} is not YAML: {error}") from error
    context = _named(config, "contexts", args.context or config.get("current-context", ""), path).get("context") or {}
    cluster = _named(config, "clusters", context.get("cluster", ""), path).get("cluster") or {}
    user = _named(config, "users", context.get("user", ""), path).get("user") or {}
    client = Client(_transport(cluster, user), user_agent="jota")
    return client, args.namespace or context.get("namespace") or "default"


def _named(config: dict[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    for entry in config.get(section) or ():
        if entry.get("name") == name:
            return dict(entry)
    raise Refused(f'{path} has no entry "{name}" in {section}')


def _transport(cluster: dict[str, Any], user: dict[str, Any]) -> Https:
    ca = _pem(cluster, "certificate-authority")
    verify = not cluster.get("insecure-skip-tls-verify")
    token = user.get("token")
    if user.get("exec") or user.get("auth-provider"):
        raise Refused("this kubeconfig asks a helper program for credentials, which is not supported here; use a token")
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if not certificate:
        return Https(cluster["server"], ca=ca, token=(lambda: str(token)) if token else None, verify=verify)
    # TLS contexts load from files only; these live for a moment and are readable by nobody else.
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / "crt", Path(directory) / "key"]
        for place, pem in zip(paths, (certificate, key), strict=True):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
        return Https(cluster["server"], ca=ca, certificate=paths[0], key=paths[1], verify=verify)


def _pem(entry: dict[str, Any], name: str) -> bytes:
    """`<name>-data` (base64), else the file `<name>`; b"" when neither is given."""
    if data := entry.get(f"{name}-data"):
        return base64.b64decode(data)
    return Path(entry[name]).read_bytes() if entry.get(name) else b""
