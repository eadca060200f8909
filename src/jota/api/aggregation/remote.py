"""One group version that a Service in the cluster answers for: requests pass through, availability and documents are kept.

In: requests that chain.py has let in, as their user. Out: the extension server's answers, byte for byte. The user travels in
X-Remote-* headers, which the extension server believes because of our front-proxy certificate. Next: availability.py,
documents.py.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import orjson
from msgspec.structs import replace

from jota.aio.clock import rfc3339
from jota.aio.told import told
from jota.aio.waiting import wait_event
from jota.api import backends
from jota.api.aggregation import availability, documents
from jota.api.aggregation.tls import BadBundle, Contexts
from jota.api.filters.attributes import AGGREGATOR, COMPONENT, User
from jota.kinds.apiregistration.apiservice import APISERVICES, AVAILABLE, is_available, service_of
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, parts, text
from jota.meta import conditions
from jota.meta.resource import SERVICES
from jota.wire.dial import BadGateway, forward, whole
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from ssl import SSLContext

    from jota.api.server import Api

log = logging.getLogger("jota.api.aggregation")
PERIOD = 30.0
"""Seconds between looks at a server that answers."""
FIRST_RETRY = 0.5
SETTLE = 0.1
"""Seconds in which further changes of endpoints gather."""
PROBE_TIMEOUT = 5.0
LARGEST = 64 << 20
"""Bytes of a document that is kept."""
_REMOTE = "x-remote-"
_PRIVATE = ("authorization", "impersonate-", _REMOTE)
"""Headers that end here: the client's credentials, and what would pass for ours."""
_UNRESERVED = "!#$&'*+-.^_`|~"
"""What a header's name may hold beside letters and digits; the rest of an extra key is escaped (upstream's rule)."""


class Answer(NamedTuple):
    """A whole answer to a request of our own."""

    status: int
    headers: dict[str, str]
    body: bytes


def identity(user: User) -> list[tuple[str, str]]:
    """The headers that tell an extension server who asks; one per group and per value."""
    found = [("X-Remote-User", user.name)]
    if user.uid:
        found.append(("X-Remote-Uid", user.uid))
    found += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        found += [(f"X-Remote-Extra-{quote(key, safe=_UNRESERVED)}", value) for value in values]
    # header values are bytes: another alphabet must not be flattened into somebody else's name
    return [(name, value.encode().decode("latin-1")) for name, value in found]


class Remote:
    def __init__(self, api: Api, name: str, apiservice: Object) -> None:
        self._api, self.name = api, name
        self.tls = Contexts(api.config.front_proxy)
        self.available = False
        self.documents = documents.Documents()
        self._spec: Object = {}
        self._look = asyncio.Event()
        self._backoff = FIRST_RETRY
        self.update(apiservice)

    def update(self, apiservice: Object) -> None:
        """The APIService changed."""
        spec = part(apiservice, "spec")
        found = conditions.find(parts(part(apiservice, "status"), "conditions"), AVAILABLE) or {}
        # what was said of this server itself says nothing of the one that has taken over
        self.available = is_available(apiservice) and found.get("reason") != "Local"
        if spec != self._spec:
            self._spec = spec
            self.look()

    def look(self) -> None:
        """Something that availability depends on may have changed."""
        self._look.set()

    @property
    def group_version(self) -> tuple[str, str]:
        return text(self._spec, "group"), text(self._spec, "version")

    @property
    def root(self) -> str:
        """The path of the group version."""
        group, version = self.group_version
        return f"/apis/{group}/{version}" if group else f"/api/{version}"

    @property
    def service(self) -> Object:
        return service_of({"spec": self._spec})

    def shown(self) -> Object:
        """APIVersionDiscovery; Stale while the server does not answer."""
        return self.documents.discovery(self.group_version[1], fresh=self.available)

    # -- requests

    async def serve(self, request: Request, user: User) -> Response:
        """Pass a request on. Raises nothing but what the answer's own stream raises."""
        target = self._endpoint() if self.available else None
        if target is None:
            return _plain(503, "service unavailable")
        try:
            context = self.tls.context(text(self._spec, "caBundle"), insecure=self._insecure)
            path = f"{request.path}?{request.query}" if request.query else request.path
            response = await self._send(request, target, path, user, context)
        except (OSError, TimeoutError) as problem:  # first: a certificate that does not hold is a ValueError, too
            log.info("APIService %s: %s %s: %s", self.name, request.method, request.path, problem)
            self.look()
            return _plain(503, f"error trying to reach service: {told(problem)}")
        except (BadBundle, ValueError) as problem:
            return _plain(500, str(problem))
        response.headers = [(k, v) for k, v in response.headers if k.lower() != "audit-id"]
        return response

    async def fetch(self, path: str, accept: str, etag: str = "") -> Answer:
        """A document of the server, as the aggregator. Raises OSError or TimeoutError."""
        target = self._endpoint()
        if target is None:
            raise BadGateway("no endpoints are available")
        try:
            context = self.tls.context(text(self._spec, "caBundle"), insecure=self._insecure)
        except BadBundle as problem:
            raise BadGateway(str(problem)) from None
        return await self._get(target, path, context, {"accept": accept, **({"if-none-match": etag} if etag else {})})

    async def _get(self, target: tuple[str, int], path: str, context: SSLContext, headers: dict[str, str]) -> Answer:
        request = Request("GET", path, headers=headers)
        async with asyncio.timeout(PROBE_TIMEOUT):
            response = await self._send(request, target, path, AGGREGATOR, context)
            body = await whole(response, LARGEST)
        return Answer(response.status, {k.lower(): v for k, v in response.headers}, body)

    async def _send(
        self, request: Request, target: tuple[str, int], path: str, user: User, context: SSLContext
    ) -> Response:
        """Raises OSError, TimeoutError; ValueError for a user whose name holds a line break."""
        service, (host, port) = self.service, target
        server = f"{text(service, 'name')}.{text(service, 'namespace')}.svc"
        # to servers that follow CGI, a_b is the same as a-b
        kept = {k: v for k, v in request.headers.items() if not k.replace("_", "-").startswith(_PRIVATE)}
        headers = [("Host", f"{server}:{number(service, 'port', 443)}"), *identity(user)]
        if request.peer.address:
            before = kept.pop("x-forwarded-for", "")
            headers.append(("X-Forwarded-For", f"{before}, {request.peer.address}" if before else request.peer.address))
        bare = replace(request, headers=kept)
        return await forward(
            bare, host=host, port=port, path=path, ssl=context, headers=headers, server_hostname=server
        )

    @property
    def _insecure(self) -> bool:
        return self._spec.get("insecureSkipTLSVerify") is True

    def _service(self) -> tuple[Object | None, list[Object]]:
        """(the Service, its EndpointSlices)."""
        reference, registry = self.service, self._api.registry
        namespace, name = text(reference, "namespace"), text(reference, "name")
        return registry.get(SERVICES, namespace, name), backends.slices(registry, namespace, name)

    def _endpoint(self) -> tuple[str, int] | None:
        """One that is ready, by chance."""
        choices = self._endpoints(*self._service())
        return self._api.random.choice(choices) if choices else None

    def _endpoints(self, service: Object | None, slices: list[Object]) -> list[tuple[str, int]]:
        if service is None:
            return []
        port = number(self.service, "port", 443)
        if text(part(service, "spec"), "type") == "ExternalName":
            return [(text(part(service, "spec"), "externalName"), port)]
        declared = backends.service_port(service, port)
        return backends.ready(slices, text(declared, "name")) if declared is not None else []

    # -- availability

    async def keep(self) -> None:
        """Look at the server until cancelled: at once when something changed, else from time to time."""
        clock = self._api.clock
        while True:
            self._look.clear()
            try:
                pause = await self._check()
            except Exception:  # a mistake about one server must not stop this one; it is logged with its trace
                log.exception("APIService %s", self.name)
                pause = PERIOD
            if await wait_event(self._look, clock, pause):
                await clock.sleep(SETTLE)

    async def _check(self) -> float:
        """Judge, write the condition, bring the documents up to date. Returns seconds until the next look."""
        spec, (service, slices) = self._spec, self._service()
        verdict = availability.judge(self.service, service, slices)
        if verdict is None:
            verdict = await self._probe(self._endpoints(service, slices))
        if spec is not self._spec or not await self._tell(verdict):
            return FIRST_RETRY
        if verdict.status != "True":
            self._backoff, pause = min(2 * self._backoff, PERIOD), self._backoff
            return pause
        self._backoff = FIRST_RETRY
        try:
            if await self.documents.refresh(self):
                self._api.documents.forget()
        except (OSError, TimeoutError) as problem:
            log.info("APIService %s: its documents cannot be read: %s", self.name, told(problem))
        return PERIOD

    async def _probe(self, endpoints: list[tuple[str, int]]) -> availability.Verdict:
        """Ask several for their discovery document; one that answers is enough. Who they are is not asked (upstream)."""
        context = self.tls.context("", insecure=True)
        chosen = endpoints if len(endpoints) <= 5 else self._api.random.sample(endpoints, 5)
        found = await asyncio.gather(*(self._ask(e, context) for e in chosen))
        problems = [problem for problem in found if problem]
        return availability.PASSED if len(problems) < len(found) else availability.failed_discovery(problems[-1])

    async def _ask(self, endpoint: tuple[str, int], context: SSLContext) -> str:
        """What is wrong; "" when it answers."""
        url = f"https://{endpoint[0]}:{endpoint[1]}{self.root}"
        try:
            answer = await self._get(endpoint, self.root, context, {"accept": "application/json"})
        except TimeoutError:
            return f'failing or missing response from {url}: Get "{url}": context deadline exceeded'
        except (OSError, ssl.SSLError) as problem:
            return f'failing or missing response from {url}: Get "{url}": {told(problem)}'
        if 200 <= answer.status < 300:
            return ""
        return f"failing or missing response from {url}: bad status from {url}: {answer.status}"

    async def _tell(self, verdict: availability.Verdict) -> bool:
        """Write the condition where it differs. False: somebody else wrote meanwhile, look again."""
        api = self._api
        found = api.registry.get(APISERVICES, "", self.name)
        if found is None:
            return True
        status, now = part(found, "status"), rfc3339(api.clock.now())
        old = parts(status, "conditions")
        reason, message = verdict.reason, verdict.message
        new = conditions.set(old, AVAILABLE, verdict.status, now=now, reason=reason, message=message)
        if new is old:
            return True
        body = orjson.dumps({**found, "status": {**status, "conditions": new}})
        path = APISERVICES.path(name=self.name, subresource="status")
        agent = {"user-agent": "apiserver", "content-type": "application/json"}
        response = await api.handle(Request("PUT", path, headers=agent, body=body, user=COMPONENT))
        api.registry.catch_up()
        log.info("APIService %s is available: %s (%s)", self.name, verdict.status, reason)
        return response.status in (200, 404)


def _plain(code: int, message: str) -> Response:
    """As upstream's proxy answers for itself: text, no Status."""
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    return Response(code, headers, f"{message}\n".encode())
