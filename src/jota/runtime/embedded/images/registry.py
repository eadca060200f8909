"""Pull from an OCI distribution registry: a reference and credentials come in, a registered Image goes out.

HTTP(S) by the standard library, on worker threads: the manifest first (by platform), then config and layers in parallel into
`content.py`; interrupted blobs are resumed by Range. Registries on localhost are spoken to in plain HTTP. Next: `library.py`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jota.runtime.embedded.images import reference as references
from jota.runtime.embedded.images.content import MAX_METADATA
from jota.runtime.embedded.images.library import Library
from jota.runtime.embedded.images.manifest import ACCEPT, pick_platform
from jota.runtime.embedded.images.reference import Reference
from jota.runtime.protocol import Image, RuntimeFault

PARALLEL = 3
"""Layers fetched at a time, as containerd's default."""
_TIMEOUT = 30
_ATTEMPTS = 4
_REDIRECTS = 5
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")


def pull(library: Library, text: str, auth: tuple[str, str] | None = None) -> Image:
    """Blocking. Raises RuntimeFault(InvalidImageName | ErrImagePull | RegistryUnavailable)."""
    wanted = references.parse(text)
    with library.content.guard():
        session = Session(wanted, auth)
        try:
            digest = _manifest(library, session, wanted)
            manifest = library.content.read_json(digest)
            blobs = _blobs(manifest, digest)
            missing = [blob for blob in blobs.items() if not library.content.has(blob[0])]
            with ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull") as pool:
                for done in [pool.submit(_blob, library, session, *blob) for blob in missing]:
                    done.result()
        except (OSError, http.client.HTTPException) as fault:
            detail = f'failed to pull and unpack image "{wanted}": {fault or type(fault).__name__}'
            raise RuntimeFault("RegistryUnavailable", detail) from fault
        except ValueError as fault:  # addresses and header fields that are none
            raise RuntimeFault("ErrImagePull", f'the registry of "{wanted}" answers nonsense: {fault}') from fault
        name = f"{wanted.name}:{wanted.tag}" if wanted.tag else ""
        return library.register(digest, [name] if name else [], f"{wanted.name}@{digest}")


def _blobs(manifest: dict[str, Any], digest: str) -> dict[str, int]:
    """The size of each blob."""
    try:
        found = [(each["digest"], each["size"]) for each in (manifest["config"], *manifest["layers"])]
    except (KeyError, TypeError) as fault:
        raise RuntimeFault("ErrImagePull", f"manifest {digest} has no config and layers (schema 1?)") from fault
    for blob, size in found:
        if not isinstance(blob, str) or not references.is_digest(blob):
            raise RuntimeFault("ErrImagePull", f"unsupported digest {blob!r} in manifest {digest}")
        if not isinstance(size, int):
            raise RuntimeFault("ErrImagePull", f"bad size {size!r} in manifest {digest}")
    return dict(found)


def _manifest(library: Library, session: Session, wanted: Reference) -> str:
    """Fetch the manifest for this platform; returns its digest."""
    digest = session.manifest(library, wanted.digest or wanted.tag, wanted.digest)
    value = library.content.read_json(digest)
    if "manifests" not in value:
        return digest
    chosen = str(pick_platform(value).get("digest"))
    if not references.is_digest(chosen):
        raise RuntimeFault("ErrImagePull", f"unsupported digest {chosen!r} in index {digest}")
    return session.manifest(library, chosen, chosen)


def _blob(library: Library, session: Session, digest: str, size: int) -> None:
    """One blob, resumed where a broken connection left it. What is longer than the manifest says would fill the disk before
    its digest is known to be wrong."""
    path, hasher, done = library.content.temporary(), hashlib.sha256(), 0
    try:
        with open(path, "xb") as out:
            for attempt in range(_ATTEMPTS):
                try:
                    with session.get(f"blobs/{digest}", {"Range": f"bytes={done}-"} if done else {}) as response:
                        if done and response.status != 206:
                            out.seek(0), out.truncate()
                            hasher, done = hashlib.sha256(), 0
                        while chunk := response.read(1 << 20):
                            out.write(chunk)
                            hasher.update(chunk)
                            done += len(chunk)
                            if done > size:
                                raise RuntimeFault("ErrImagePull", f"blob {digest} is larger than {size} bytes")
                        if response.length:
                            raise http.client.IncompleteRead(b"", response.length)
                    break
                except (OSError, http.client.HTTPException):
                    if attempt + 1 == _ATTEMPTS or _full(path):
                        raise
        library.content.adopt(path, f"sha256:{hasher.hexdigest()}", digest)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _full(path: str) -> bool:
    info = os.statvfs(os.path.dirname(path))
    return info.f_bavail * info.f_frsize < 1 << 20


class Session:
    """Talks to one repository: remembers the token; each thread has a connection of its own."""

    def __init__(self, wanted: Reference, auth: tuple[str, str] | None) -> None:
        self.wanted, self._auth = wanted, auth
        host = "registry-1.docker.io" if wanted.registry == "docker.io" else wanted.registry
        self._base = f"{'http' if _LOCAL.fullmatch(host) else 'https'}://{host}/v2/{wanted.repository}/"
        self._authorization = ""
        self._lock = threading.Lock()

    def manifest(self, library: Library, which: str, digest: str) -> str:
        with self.get(f"manifests/{which}", {"Accept": ACCEPT}) as response:
            data = response.read(MAX_METADATA + 1)
        if len(data) > MAX_METADATA:
            raise RuntimeFault("ErrImagePull", f"manifest of {self.wanted} is larger than {MAX_METADATA} bytes")
        import io

        return library.content.put(io.BytesIO(data), digest)

    def get(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """GET below the repository, authorised as the registry asks. Raises RuntimeFault, OSError, HTTPException."""
        url = self._base + path
        response = _request(url, {**headers, **self._header()})
        if response.status == 401:
            challenge = response.getheader("WWW-Authenticate") or ""
            response.close()
            with self._lock:
                self._authorise(challenge)
            response = _request(url, {**headers, **self._header()})
        trusted = True
        for _ in range(_REDIRECTS):
            if response.status not in (301, 302, 303, 307, 308):
                break
            location = urllib.parse.urljoin(url, response.getheader("Location") or "")
            response.close()
            trusted = trusted and _origin(location) == _origin(self._base)
            if urllib.parse.urlsplit(location).scheme not in ("http", "https"):
                raise RuntimeFault("ErrImagePull", f"the registry redirects to {location!r}")
            # Storage behind a registry must not see the registry's credentials, nor who listens where it was HTTPS; what a
            # stranger redirects to, back to the registry, is the stranger's wish.
            response = _request(location, {**headers, **(self._header() if trusted else {})})
            url = location
        if response.status not in (200, 206):
            self._refuse(response)
        return response

    def _header(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    def _authorise(self, challenge: str) -> None:
        """Answer a WWW-Authenticate challenge: Basic, or Bearer by the token service it names."""
        scheme = challenge.split(" ", 1)[0].lower()
        basic = ""
        if self._auth is not None:
            basic = "Basic " + base64.b64encode(":".join(self._auth).encode()).decode()
        if scheme == "basic" and basic:
            self._authorization = basic
            return
        fields = dict(_CHALLENGE.findall(challenge))
        if scheme != "bearer" or "realm" not in fields:
            raise RuntimeFault("ErrImagePull", f'failed to pull image "{self.wanted}": authentication required')
        query = {key: fields[key] for key in ("service", "scope") if key in fields}
        query.setdefault("scope", f"repository:{self.wanted.repository}:pull")
        url = f"{fields['realm']}{'&' if '?' in fields['realm'] else '?'}{urllib.parse.urlencode(query)}"
        with _request(url, {"Authorization": basic} if basic else {}) as response:
            data = response.read(MAX_METADATA)
            if response.status != 200:
                self._refuse(response, data)
        try:
            answer = json.loads(data)
            token = answer.get("token") or answer["access_token"]
        except (ValueError, KeyError, AttributeError) as fault:
            raise RuntimeFault("ErrImagePull", f"the token service of {self.wanted} answers nonsense") from fault
        self._authorization = f"Bearer {token}"

    def _refuse(self, response: http.client.HTTPResponse, data: bytes = b"") -> None:
        """Raise what a refused request means."""
        detail = (data or response.read(4096)).decode("utf-8", "replace").strip()
        response.close()
        with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
            detail = str(json.loads(detail)["errors"][0]["message"])
        if response.status == 404:
            text = f'failed to pull and unpack image "{self.wanted}": failed to resolve reference "{self.wanted}": not found'
            raise RuntimeFault("ErrImagePull", text)
        if response.status in (401, 403):
            text = (
                f'failed to pull image "{self.wanted}": pull access denied, repository does not exist or may require '
            )
            raise RuntimeFault("ErrImagePull", f"{text}authorization: {detail}")
        reason = "RegistryUnavailable" if response.status >= 500 or response.status == 429 else "ErrImagePull"
        raise RuntimeFault(reason, f'failed to pull image "{self.wanted}": HTTP {response.status}: {detail[:300]}')


def _origin(url: str) -> tuple[str, str]:
    """Scheme and authority: who may see what was meant for one may not be who may see what was meant for another."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def _request(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """A GET on a connection of its own; closing the response closes it. Raises OSError, which says what was asked of whom."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    # "close" hands the socket's ownership to the response.
    try:
        connection.request("GET", target, headers={"User-Agent": "jota", "Connection": "close", **headers})
        return connection.getresponse()
    except OSError as fault:
        asked = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))  # a query may hold secrets
        raise ConnectionError(f'GET "{asked}": {_why(fault, parts.hostname or "")}') from fault


def _why(fault: OSError, host: str) -> str:
    """In the words that users know from other runtimes."""
    if isinstance(fault, socket.gaierror):
        unknown = fault.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        return f"lookup {host}: {'no such host' if unknown else fault.strerror}"
    if isinstance(fault, TimeoutError):
        return "i/o timeout"
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"failed to verify certificate: {fault.verify_message}"
    return (fault.strerror or str(fault) or type(fault).__name__).lower()
