"""One HTTPS call to a webhook: admission and conversion reviews go out, decoded answers come back.

In: a WebhookClientConfig (url, or service with namespace, name, port and path; caBundle). A service is resolved to one of its
ready endpoints, since this server is no member of the pod network's name space; its certificate must be for
`<service>.<namespace>.svc`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, parts, text
from jota.meta.resource import ENDPOINTSLICES, SERVICES
from jota.wire.dial import forward
from jota.wire.message import Request

LARGEST = 8 << 20
"""Bytes of an answer."""
_CONTEXTS = 64
_OF_SERVICE = "kubernetes.io/service-name"


class WebhookFailed(Exception):
    """The call did not come about; the text is the cause."""


class _Collector:
    """message.Writer that keeps what is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.buffered = 0
        self.closed = False

    def write(self, parts: Sequence[bytes]) -> None:
        self.parts += parts
        self.buffered += sum(map(len, parts))
        if self.buffered > LARGEST:
            raise WebhookFailed(f"the answer is longer than {LARGEST} bytes")

    async def drain(self) -> None:
        """Nothing waits."""


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
                content = response.body if isinstance(response.body, bytes) else b"".join(response.body)
                if response.stream is not None:
                    collector = _Collector()
                    await response.stream(collector)
                    content = b"".join(collector.parts)
        except TimeoutError:
            raise WebhookFailed(cause + "context deadline exceeded") from None
        except (OSError, ssl.SSLError) as error:
            raise WebhookFailed(f"{cause}{error or type(error).__name__}") from None
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
            parsed = urlsplit(url)
            host, port = parsed.hostname or "", parsed.port or 443
            return host, port, host, parsed.path or "/", url
        service = part(config, "service")
        namespace, name, port = text(service, "namespace"), text(service, "name"), number(service, "port", 443)
        path = "/" + text(service, "path").lstrip("/")
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
        wanted = next((p for p in parts(spec, "ports") if number(p, "port") == port), None)
        if wanted is None:
            raise WebhookFailed(f'failed to call webhook: service "{name}" has no port {port}')
        for piece in self._registry.objects(ENDPOINTSLICES, namespace):
            if part(piece["metadata"], "labels").get(_OF_SERVICE) != name:
                continue
            target = next((p for p in parts(piece, "ports") if text(p, "name") == text(wanted, "name")), {})
            for endpoint in parts(piece, "endpoints"):
                addresses = endpoint.get("addresses") or ()
                if part(endpoint, "conditions").get("ready") is not False and addresses and number(target, "port"):
                    return str(addresses[0]), number(target, "port")
        raise WebhookFailed(f'failed to call webhook: no endpoints available for service "{name}"')

    def _context(self, bundle: str) -> ssl.SSLContext:
        """TLS that trusts the bundle alone, or the machine's roots without one. Raises WebhookFailed."""
        found = self._contexts.get(bundle)
        if found is None:
            try:
                pem = base64.b64decode(bundle).decode() if bundle else None
                found = ssl.create_default_context(cadata=pem)
            except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError) as error:
                raise WebhookFailed(f"caBundle cannot be used: {error}") from None
            self._contexts[bundle] = found
            if len(self._contexts) > _CONTEXTS:
                self._contexts.popitem(last=False)
        return found
