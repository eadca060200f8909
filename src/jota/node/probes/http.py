"""A tiny HTTP/1.1 client for probes and hooks: one GET, redirects to the same host, no certificate check. Out: (status, body)."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from urllib.parse import quote, urljoin, urlsplit

from jota.node.model import Object
from jota.node.probes.target import why

BODY_LIMIT = 10 << 10
"""Bytes of the answer that are read (upstream: 10 KiB)."""
HEAD_LIMIT = 64 << 10
REDIRECTS = 10
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, a token."""
_AS_THEY_ARE = "/?:@!$&'()*+,;=%[]"
"""Of an address; blanks and what is not ASCII are escaped."""
USER_AGENT = "kube-probe/1.37"


class Unreachable(ConnectionError):
    """No HTTP answer; the text is what the event shows."""


async def get(action: Object, host: str, port: int, timeout: float) -> tuple[int, str]:
    """GET what an httpGet action names. Raises Unreachable, TimeoutError (seconds).

    A redirect to another host is not followed: its status is the answer, as upstream treats it as a success.
    """
    scheme = str(action.get("scheme") or "HTTP").lower()
    name = f"[{host}]" if ":" in host else host
    url = urljoin(f"{scheme}://{name}:{port}/", "/" + str(action.get("path") or "/").lstrip("/"))
    headers = {h["name"]: h.get("value", "") for h in action.get("httpHeaders") or []}
    if bad := [header for header in headers if not _NAME.fullmatch(header)]:  # it could begin another request
        raise Unreachable(f'Get "{url}": net/http: invalid header field name {json.dumps(bad[0])}')
    async with asyncio.timeout(timeout):
        for _ in range(REDIRECTS):
            status, location, body = await _once(url, headers)
            if status not in (301, 302, 303, 307, 308) or not location:
                return status, body
            following = urljoin(url, location)
            if urlsplit(following).hostname != urlsplit(url).hostname:
                return status, body
            url = following
    raise Unreachable(f'Get "{url}": stopped after {REDIRECTS} redirects')


async def _once(url: str, extra: dict[str, str]) -> tuple[int, str, str]:
    parts = urlsplit(url)
    tls = _lenient() if parts.scheme == "https" else None
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=HEAD_LIMIT)
    except (OSError, ssl.SSLError) as e:
        raise Unreachable(f'Get "{url}": dial tcp {host}:{port}: connect: {why(e)}') from e
    try:
        target = quote(parts.path + (f"?{parts.query}" if parts.query else ""), safe=_AS_THEY_ARE)
        writer.write(_request(target, parts.netloc, extra))
        return await _answer(reader)
    except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
        raise Unreachable(f'Get "{url}": {why(e) if isinstance(e, OSError) else "EOF"}') from e
    finally:
        writer.close()


def _request(path: str, netloc: str, extra: dict[str, str]) -> bytes:
    headers = {"Host": netloc, "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    for name, value in extra.items():
        same = next((k for k in headers if k.lower() == name.lower()), name)
        headers[same] = value
    lines = [f"GET {path or '/'} HTTP/1.1", *(f"{k}: {_clean(v)}" for k, v in headers.items() if v), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _clean(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, rest = head[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Unreachable(f"malformed HTTP response {head[0][:64]!r}")
    fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
    length = fields.get("content-length", "")
    wanted = min(BODY_LIMIT, int(length)) if length.isdigit() else BODY_LIMIT
    body = b""
    while len(body) < wanted and (more := await reader.read(wanted - len(body))):
        body += more
    return int(rest[:3]), fields.get("location", ""), body.decode("utf-8", "replace")


def _lenient() -> ssl.SSLContext:
    """Probes ask whether something answers, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
