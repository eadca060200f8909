"""Everything that is not a resource: /version, health, /metrics, the list of paths, discovery and OpenAPI."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from jota.api import respond
from jota.api.discovery_pages import DiscoveryPages
from jota.api.filters.attributes import User
from jota.api.openapi_pages import OpenApiPages
from jota.api.path import Target
from jota.meta.errors import only_read, path_not_found
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.server import Api

TEXT = ("Content-Type", "text/plain; charset=utf-8")
METRICS = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
HEALTH = ("healthz", "livez", "readyz")
Document = Callable[[Request], Awaitable[Response]]


class Documents:
    def __init__(self, api: Api) -> None:
        self._api = api
        self.handlers: dict[str, Document] = {}
        """First path segment ("api", "apis", "openapi", ".well-known") -> who serves what is under it."""
        self.checks: dict[str, Callable[[], bool]] = {"ping": lambda: True, "log": lambda: True}
        """Health checks by name: of /healthz, /livez and /readyz alike."""
        self.stopping = False
        """What /readyz's own check `shutdown` tells."""
        self._discovery = DiscoveryPages(api)
        self._openapi = OpenApiPages(api)
        self.handlers["api"] = self.handlers["apis"] = self._discovery.serve
        self.handlers["openapi"] = self._openapi.serve

    def forget(self) -> None:
        """The set of kinds changed: documents about it are made anew."""
        self._discovery.forget()
        self._openapi.forget()

    async def serve(self, request: Request, target: Target, user: User) -> Response:
        """Raises ApiError 404, 405."""
        first, _, rest = target.path.lstrip("/").partition("/")
        handler = self.handlers.get(first)
        if handler is not None:
            return await handler(request)
        if request.method not in ("GET", "HEAD"):
            raise only_read()
        if first in HEALTH:
            return self._health(first, rest, request)
        if first == "version" and not rest:
            return Response(200, respond.headers(), orjson.dumps(self.version()))
        if first == "metrics" and not rest:
            return Response(200, [METRICS], self._api.metrics.text())
        if (first, rest) == ("metrics", "slis"):
            return Response(200, [METRICS], self._indicators())
        if not first:
            return Response(200, respond.headers(), orjson.dumps({"paths": self.paths()}))
        raise path_not_found()

    def version(self) -> dict[str, str]:
        """version.Info of apimachinery. `gitVersion` is the Kubernetes release that clients may count on."""
        text = self._api.config.version
        major, minor = text.lstrip("v").split(".")[:2]
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
            "gitVersion": text,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "go0.0",
            "compiler": f"cpython {platform.python_version()}",
            "platform": f"linux/{machine}",
        }

    def paths(self) -> list[str]:
        found = {"/healthz", "/livez", "/metrics", "/metrics/slis", "/readyz", "/version", "/api", "/apis"}
        for group, version, _ in self._api.served:
            found |= {f"/apis/{group}", f"/apis/{group}/{version}"} if group else {f"/api/{version}"}
        for group, version in self._api.aggregation.remotes:
            found |= {f"/apis/{group}", f"/apis/{group}/{version}"} if group else {f"/api/{version}"}
        found |= {f"/{first}" for first in self.handlers}
        return sorted(found)

    def _checks(self, kind: str) -> dict[str, Callable[[], bool]]:
        return {**self.checks, "shutdown": lambda: not self.stopping} if kind == "readyz" else dict(self.checks)

    def _indicators(self) -> bytes:
        """/metrics/slis: the health checks as they are now, for whoever computes an availability from them."""
        lines = ["# HELP kubernetes_healthcheck Result of a health check: 1 is good, 0 is not."]
        lines.append("# TYPE kubernetes_healthcheck gauge")
        for kind in HEALTH:
            for name, holds in self._checks(kind).items():
                lines.append(f'kubernetes_healthcheck{{name="{name}",type="{kind}"}} {int(holds())}')
        return ("\n".join(lines) + "\n").encode()

    def _health(self, kind: str, name: str, request: Request) -> Response:
        query = parse_qs(request.query, keep_blank_values=True)
        checks = self._checks(kind)
        if name:
            if name not in checks:
                raise path_not_found()
            checks = {name: checks[name]}
        excluded = set(query.get("exclude", ()))
        lines, good = [], True
        for check, holds in checks.items():
            if check in excluded:
                lines.append(f"[+]{check} excluded: ok")
            elif holds():
                lines.append(f"[+]{check} ok")
            else:
                good = False
                lines.append(f"[-]{check} failed: reason withheld")
        if unknown := sorted(excluded - checks.keys()):
            names = ",".join(f'"{n[:64]}"' for n in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        if good and "verbose" not in query:
            return Response(200, [TEXT], b"ok")
        lines.append(f"{kind} check {'passed' if good else 'failed'}")
        return Response(200 if good else 500, [TEXT], ("\n".join(lines) + "\n").encode())
