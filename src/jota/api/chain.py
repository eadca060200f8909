"""The order in which a request passes the filters, on one screen. In: wire Request. Out: wire Response, never an exception.

read path and query -> authentication -> impersonation -> priority and fairness -> authorization -> verb -> gzip -> metrics
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jota.aio.deadline import within
from jota.api import auditmany, compress, negotiate, pretty_form, respond, several
from jota.api.admission import connect
from jota.api.call import Call
from jota.api.dispatch import find_verb
from jota.api.filters import deadline, impersonation
from jota.api.filters.attributes import Attributes, Undecided, User
from jota.api.filters.authn import Authentication, Lasting
from jota.api.filters.refusal import refused
from jota.api.flowcontrol.seat import Seat, seated
from jota.api.flowcontrol.width import seats
from jota.api.hints import choices, paths
from jota.api.lanes import Lane
from jota.api.path import Target, parameters, parse
from jota.api.way import own_lines
from jota.meta.errors import (
    ApiError,
    internal,
    not_acceptable,
    path_not_found,
    too_many_requests,
    unauthorized,
    unavailable,
)
from jota.meta.selectors import parse_fields
from jota.store.protocol import StoreError
from jota.wire.message import Request, Response, size

if TYPE_CHECKING:
    from jota.api.audit import Trail
    from jota.api.flowcontrol.level import Flow
    from jota.api.server import Api

log = logging.getLogger("jota.api")
LONG_RUNNING = {"exec", "attach", "portforward", "proxy", "log"}
_DOCUMENTS = "/openapi/"
"""Large, and known to clients by their bytes: never written anew."""
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


async def handle(api: Api, request: Request) -> Response:
    """Raises nothing but CancelledError."""
    began = api.clock.monotonic()
    target = trail = None
    headers, wire = request.headers, request.user is None
    audit_id = ""
    if wire or api.audit is not None:
        audit_id = _given_id(headers["audit-id"]) if "audit-id" in headers else ""
        audit_id = audit_id or next(api.audit_ids)
    try:
        params = parameters(request.query) if request.query else {}
        target = parse(request.method, request.path, params)
        if api.audit is not None:
            trail = auditmany.begin(api.audit, request, target, audit_id, api.audit_ids)
            if trail is None:
                if several.asked(request):
                    return several.nothing_begun(request)
                request.times = 1
                trail = api.audit.begin(request, target, audit_id)
            request.extra["audit"] = trail.annotations  # not the trail, which holds the request: nothing may go round
        response = await _filtered(api, request, target, params, trail)
    except Exception as problem:
        response = failed(request, problem)
    except CancelledError:
        if trail is not None:
            trail.finish(deadline.gone())
        raise
    if trail is not None:
        trail.finish(response)
    if "yaml" in request.extra and response.status < 300:
        response = await _in_yaml(response)
    if target is not None and negotiate.only_protobuf(headers.get("accept", "")):
        response = await _in_protobuf(api, target, response)
    if wire and target is not None and not request.path.startswith(_DOCUMENTS) and pretty_form.wanted(request):
        response = await _in_lines(api, target, response)
    if "accept-encoding" in headers and compress.wanted(request, response):
        response = await compress.compressed(response)
    if request.method == "HEAD" and response.stream is None:
        response = without_body(response)
    if wire:
        response.own = own_lines(request.extra.get("flow", b""), audit_id)
    api.metrics.observe(target, request.method, response.status, api.clock.monotonic() - began)
    return response


def failed(request: Request, problem: Exception) -> Response:
    """What is answered when something was raised on the way."""
    if isinstance(problem, ApiError):
        return respond.error(problem, problem.warnings)
    if isinstance(problem, StoreError):
        return respond.error(unavailable(f"the store cannot serve this now: {problem}"))
    if isinstance(problem, TimeoutError):
        return respond.error(deadline.exceeded())
    log.error("%s %s failed", request.method, request.path, exc_info=problem)
    return respond.error(internal(f"{type(problem).__name__}: {problem}"))


async def _in_yaml(response: Response) -> Response:
    from jota.api import yaml_form  # few ask for it

    return await yaml_form.answer(response)


async def _in_lines(api: Api, target: Target, response: Response) -> Response:
    if target.subresource in LONG_RUNNING or api.aggregation.route(target) is not None:
        return response
    return await pretty_form.answer(response)


async def _in_protobuf(api: Api, target: Target, response: Response) -> Response:
    if target.subresource in LONG_RUNNING or api.aggregation.route(target) is not None:
        return response
    # few clients take nothing else
    from jota.api import protobuf_form

    return await protobuf_form.answer(target, response)


def _given_id(text: str) -> str:
    """The client's own audit id, when it is one that fits (upstream's rule); else ""."""
    return text if len(text) <= 64 and text.isprintable() and text.isascii() else ""


async def _filtered(
    api: Api, request: Request, target: Target, params: dict[str, str], trail: Trail | None
) -> Response:
    alike = request.alike
    caller: Caller | None = alike.caller if alike is not None and request.user is None else None
    if caller is not None and caller.counts(api.clock.now()):
        user = caller.user
        if trail is not None:
            trail.known(user, user)
    else:
        user = await _who(api, request, trail)
    if api.closing and target.resource and (target.verb == "watch" or target.subresource in LONG_RUNNING):
        raise too_many_requests("The apiserver is shutting down, please try again later.", retry_after=5)
    lane = api.lanes.find(user, target, api.authorizer)
    if target.subresource in LONG_RUNNING and target.resource:
        await _permit(api, user, target, params, trail, lane)
        return await _dispatch(api, request, target, params, user, lane)
    seconds = api.config.request_timeout
    if "timeout" in params:
        seconds = deadline.allowed(params, seconds)
    flow, flows = lane.flow, api.flows
    if request.user is None:
        request.extra["flow"] = flow.lines
    began = api.clock.monotonic()
    if flow.exempt:
        flow.counts.answered(None)
        flows.enter(flow, 1, began)
        try:
            if not lane.allowed or params:
                await _permit(api, user, target, params, trail, lane)
            else:
                if trail is not None:
                    trail.decided(True)
                if lane.at_once is not None and (answer := _at_once(api, request, target, user, lane)) is not None:
                    return answer
            work = _dispatch(api, request, target, params, user, lane)
            return await (within(seconds, work) if target.verb != "watch" else work)
        finally:
            flows.give_back(flow, 1)
    width = _width(api, flow, target, params) if target.verb in ("list", "watch") else 1
    if not flows.enter(flow, width, began):
        width = await flows.wait(flow, width, seconds)
        began = api.clock.monotonic()
        lane = api.lanes.find(user, target, api.authorizer)  # what it follows from may have changed
    if target.verb == "watch":
        return await _watch(api, request, target, params, user, trail, lane, Seat(flows, flow, width, began))
    try:
        if not lane.allowed or params:
            await _permit(api, user, target, params, trail, lane)
        else:
            if trail is not None:
                trail.decided(True)
            if lane.at_once is not None and (answer := _at_once(api, request, target, user, lane)) is not None:
                return answer
        return await within(seconds, _dispatch(api, request, target, params, user, lane))
    finally:
        flows.leave(flow, width, began)


def _at_once(api: Api, request: Request, target: Target, user: User, lane: Lane) -> Response | None:
    """What `_dispatch` gives, when that needs no waiting and is asked for in the plain form; else None. Raises ApiError 404, 406."""
    served = lane.served
    if served is None or lane.at_once is None or api.aggregation.route(target) is not None:
        return None
    if negotiate.accept(request.headers.get("accept", "")) is not negotiate.PLAIN:
        return None
    return lane.at_once(api.engine, Call(request, target, {}, user, served, negotiate.PLAIN))


async def _watch(
    api: Api,
    request: Request,
    target: Target,
    params: dict[str, str],
    user: User,
    trail: Trail | None,
    lane: Lane,
    seat: Seat,
) -> Response:
    """A watch keeps its seats until it has sent what it begins with. It has no deadline but its own `timeoutSeconds`."""
    try:
        await _permit(api, user, target, params, trail, lane)
        return seated(await _dispatch(api, request, target, params, user, lane, seat), seat)
    except BaseException:
        seat.leave()
        raise


def _width(api: Api, flow: Flow, target: Target, params: dict[str, str]) -> int:
    served = api.served.get((target.group, target.version, target.resource))
    if served is None:
        return 1
    where = served.scope(target.namespace)
    return flow.level.width(seats(target, params, lambda: api.store.count(where)))


async def _permit(
    api: Api, user: User, target: Target, params: dict[str, str], trail: Trail | None, lane: Lane
) -> None:
    """Authorization, noted in the audit trail. Raises ApiError 400, 403, 500."""
    if not lane.allowed or "fieldSelector" in params:
        try:
            if api.authorizer is not None:
                asked = _question(user, target, params)
                try:
                    decision = api.authorizer.authorize(user, asked)
                except Undecided as question:
                    decision = await question.answer()
                if not decision.allowed:
                    raise refused(asked, decision)
        except ApiError:
            if trail is not None:
                trail.decided(False)
            raise
    if trail is not None:
        trail.decided(True)


@dataclass(slots=True, frozen=True)
class Caller:
    """Who sends all requests with the same headers from the same peer (`Request.alike`), as themselves."""

    user: User
    lasting: Lasting

    def counts(self, now: float) -> bool:
        """Still. `now`: epoch seconds."""
        until, lives = self.lasting
        return now <= until and (lives is None or lives(now))


async def _who(api: Api, request: Request, trail: Trail | None) -> User:
    """Authentication and impersonation: as whom to go on. A preset user (in-process transport) is trusted."""
    lasting = None
    if request.alike is not None and request.user is None and isinstance(api.authenticator, Authentication):
        lasting = api.authenticator.lasts(request)  # now: to authenticate may take something out of the headers
    real = user = request.user or await _authenticate(api, request)
    try:
        if impersonation.asked(request):
            user = await impersonation.impersonate(api.authorizer, user, request)
        elif request.alike is not None and lasting is not None:
            request.alike.caller = Caller(user, lasting)
    finally:
        if trail is not None:
            trail.known(real, user)
    return user


async def _authenticate(api: Api, request: Request) -> User:
    user = await api.authenticator.authenticate(request) if api.authenticator is not None else None
    if user is None:
        raise unauthorized()
    return user


def _question(user: User, target: Target, params: dict[str, str]) -> Attributes:
    """Raises ApiError 400 for a field selector that cannot be read."""
    name, fields, labels = target.name, "", ""
    if params and target.verb in ("list", "watch", "deletecollection"):
        fields, labels = params.get("fieldSelector", ""), params.get("labelSelector", "")
        if fields:  # who may see one named object may also list and watch it by a selector on its name (RequestInfo)
            name = parse_fields(fields).exact("metadata.name") or ""
    return Attributes(
        user,
        target.verb,
        target.group,
        target.version,
        target.resource,
        target.subresource,
        target.namespace,
        name,
        target.path,
        fields,
        labels,
    )


async def _dispatch(
    api: Api,
    request: Request,
    target: Target,
    params: dict[str, str],
    user: User,
    lane: Lane,
    seat: Seat | None = None,
) -> Response:
    remote = api.aggregation.route(target)
    if remote is not None:
        if seat is not None:
            seat.leave()  # what a watch elsewhere begins with is the other server's work, and may never come
        return await remote.serve(request, user)
    if not target.resource:
        return await api.documents.serve(request, target, user)
    served, verb = lane.served, lane.verb
    if not lane.allowed:  # who had to ask may have waited
        served, verb = api.served.get((target.group, target.version, target.resource)), None
    if served is None:
        raise _not_served(api, target)
    long_running = target.subresource in LONG_RUNNING
    accepted = negotiate.PLAIN
    if not long_running:
        accepted = negotiate.accept(request.headers.get("accept", ""), served.answer is None)
    if accepted.protobuf and not accepted.form:
        from jota.api import protobuf_form

        if not protobuf_form.can(served.kind):
            raise not_acceptable(negotiate.WITHOUT_PROTOBUF)
    call = Call(request, target, params, user, served, accepted, seat=seat)
    if "audit" in request.extra:
        call.audit = request.extra["audit"]
    if verb is None:
        verb = find_verb(served, target)
    if long_running:
        await connect.admit(api.engine, call)
    if request.times > 1 and target.name == several.ANY:
        return await written(call, several.serve(api.engine, call, allowed=lane.allowed))
    if target.verb not in WRITES or long_running:
        return await verb(api.engine, call)
    return await written(call, verb(api.engine, call))


async def written(call: Call, verb: Awaitable[Response]) -> Response:
    """The answer of a verb that writes, or the refusal with all that was warned of until then. Raises ApiError."""
    try:
        return await verb
    except ApiError as problem:
        if problem.code == 422:
            problem.warnings += choices.meant(problem)
        if call.warnings:
            return respond.error(problem, [*call.warnings, *problem.warnings])
        raise


def _not_served(api: Api, target: Target) -> ApiError:
    problem, near = path_not_found(), paths.meant(target, api.served)
    problem.warnings = [near] if near else []
    return problem


def without_body(response: Response) -> Response:
    """The answer to HEAD: what GET would say, with its length, and nothing more. Another server's answer has its own."""
    if any(name.lower() == "content-length" for name, _ in response.headers):
        return Response(response.status, response.headers)
    return Response(response.status, [*response.headers, ("Content-Length", str(size(response.body)))])
