"""One HTTPS call to a webhook: admission and conversion reviews go out, decoded answers come back.

In: a WebhookClientConfig (url, or service with namespace, name, port and path; caBundle). A service is resolved to one of its
ready endpoints, since this server is no member of the pod network's name space; its certificate must be for
`<service>.<namespace>.svc`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import posixpath
import ssl
from collections import OrderedDict
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from jota.aio.told import told
from jota.api import backends
from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, text
from jota.meta.resource import SERVICES
from jota.pki import trust
from jota.wire.dial import forward, whole
from jota.wire.message import Request

LARGEST = 8 << 20
"""Bytes of an answer."""
_CONTEXTS = 64
_IN_PATHS = "/%:@!$&'()*+,;=~"
"""What stays as it is in a path (RFC 3986 3.3), escapes that are there already included."""


def _clean(path: str) -> str:
    """As Go's path.Join with "/": client-go's requests go there, and a Go server redirects from //a to /a, which nobody follows."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


class WebhookFailed(Exception):
    """The call did not come about; the text is the cause."""


class WebhookClient:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def post(self, config: Object, body: Object, timeout: float, query: str = "") -> Any:
        """The decoded JSON answer. `timeout` in seconds is for everything. Raises WebhookFailed."""
        host, port, server, path, shown = self._where(config)
        request = Request("POST", path, body=orjson.dumps(body))
        headers = [
            ("Host", server if port == 443 else f"{server}:{port}"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("User-Agent", "kube-apiserver-admission"),
        ]
        cause = f'failed to call webhook: Post "{shown}{query}": '
        try:
            async with asyncio.timeout(timeout):
                context = self._context(text(config, "caBundle"))
                response = await forward(
                    request,
                    host=host,
                    port=port,
                    path=path + query,
                    ssl=context,
                    headers=headers,
                    server_hostname=server,
                )
                content = await whole(response, LARGEST)
        except TimeoutError:
            raise WebhookFailed(cause + "context deadline exceeded") from None
        except (OSError, ssl.SSLError) as error:
            raise WebhookFailed(f"{cause}{told(error)}") from None
        if response.status != 200:
            detail = content[:256].decode(errors="replace").strip()
            raise WebhookFailed(f"failed to call webhook: the server answered {response.status}: {detail}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise WebhookFailed(f"the answer is no JSON: {error}") from None

    def _where(self, config: Object) -> tuple[str, int, str, str, str]:
        """(address, port, server name, path, URL as shown). Raises WebhookFailed."""
        url = text(config, "url")
        if url:
            try:
                parsed = urlsplit(url)
                host, port = parsed.hostname or "", parsed.port or 443
            except ValueError as error:
                raise WebhookFailed(f'failed to call webhook: "{url}" is no URL: {error}') from None
            return host, port, host, quote(_clean(parsed.path), safe=_IN_PATHS), url
        service = part(config, "service")
        namespace, name, port = text(service, "namespace"), text(service, "name"), number(service, "port", 443)
        path = "/" + quote(text(service, "path").lstrip("/"), safe=_IN_PATHS)
        server = f"{name}.{namespace}.svc"
        address, target = self._endpoint(namespace, name, port)
        return address, target, server, path, f"https://{server}:{port}{path}"

    def _endpoint(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        service = self._registry.get(SERVICES, namespace, name)
        if service is None:
            raise WebhookFailed(f'failed to call webhook: service "{name}" not found')
        spec = part(service, "spec")
        if text(spec, "type") == "ExternalName":
            return text(spec, "externalName"), port
        wanted = backends.service_port(service, port)
        if wanted is None:
            raise WebhookFailed(f'failed to call webhook: service "{name}" has no port {port}')
        choices = backends.ready(backends.slices(self._registry, namespace, name), text(wanted, "name"))
        if not choices:
            raise WebhookFailed(f'failed to call webhook: no endpoints available for service "{name}"')
        return choices[0]

    def _context(self, bundle: str) -> ssl.SSLContext:
        """TLS that trusts the bundle alone, or the machine's roots without one. Raises WebhookFailed."""
        found = self._contexts.get(bundle)
        if found is None:
            try:
                pem = base64.b64decode(bundle).decode() if bundle else None
                found = trust.context(pem)
            except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError) as error:
                raise WebhookFailed(f"caBundle cannot be used: {error}") from None
            self._contexts[bundle] = found
            if len(self._contexts) > _CONTEXTS:
                self._contexts.popitem(last=False)
        return found
