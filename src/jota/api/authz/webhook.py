"""Authorization webhook: a SubjectAccessReview (authorization.k8s.io) is posted to a service that knows who may what, and its
answer is remembered.

In: a question that the authorizers before it did not settle. Out: its decision. Remembered answers, and questions that its
matchConditions leave out, are settled at once; for others somebody waits (Undecided). A service that fails has no opinion, or
denies (failurePolicy): never does it allow. Upstream: apiserver/plugin/pkg/authorizer/webhook.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from functools import partial
from typing import Any

import orjson

from jota.aio.clock import Clock
from jota.api.authn import fetch
from jota.api.authz import selectors
from jota.api.authz.config import Webhook
from jota.api.filters.attributes import NO_OPINION, Attributes, Decision, Undecided, User
from jota.kinds.kind import Object

log = logging.getLogger("jota.api")
GROUP = "authorization.k8s.io"
AT_ONCE = 100
"""Questions at work; more wait for their turn, within the webhook's timeout."""
LARGEST = 10_000
"""Bytes of what the asker chose: longer questions are not remembered (upstream's bound)."""
_MOST = 8192
NO_RULES = "webhook authorizer does not support user rule resolution"


class WebhookAuthorizer:
    """An Authorizer (attributes.py)."""

    def __init__(self, given: Webhook, clock: Clock) -> None:
        self._given, self._clock = given, clock
        self._answers: OrderedDict[bytes, tuple[float, Decision]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[Decision]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        spec = spec_of(user, attributes)
        if self._given.conditions:
            try:
                if not self._matches(spec):
                    return NO_OPINION
            except _Unclear as problem:
                return self._failed(str(problem))
        key = hashlib.sha256(orjson.dumps(spec)).digest()
        until, known = self._answers.get(key, (0.0, NO_OPINION))
        if until > self._clock.monotonic():
            return known
        raise Undecided(partial(self._answer, key, spec))

    def rules(self, user: User, namespace: str) -> tuple[list[Any], str]:
        return [], NO_RULES

    def _matches(self, spec: Object) -> bool:
        """All conditions must be true; one that is false settles it. Raises _Unclear when one fails and none is false."""
        from jota.meta.cel import CelError

        problems = []
        for condition in self._given.conditions:
            try:
                if condition.evaluate({"request": spec}) is not True:
                    return False
            except CelError as error:
                problems.append(
                    f"cel evaluation error: expression '{condition.source.strip()}' resulted in error: {error}"
                )
        if problems:
            raise _Unclear("; ".join(problems))
        return True

    def _failed(self, error: str) -> Decision:
        return Decision(False, "", self._given.deny_on_error, error)

    async def _answer(self, key: bytes, spec: Object) -> Decision:
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask(key, spec))
            asking.add_done_callback(lambda done: self._answered(key, done))
        # shielded: who asked first may go away, others wait for the same answer
        return await asyncio.shield(asking)

    def _answered(self, key: bytes, done: asyncio.Future[Decision]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # those who asked have it, if they are still there

    async def _ask(self, key: bytes, spec: Object) -> Decision:
        given = self._given
        sent = spec
        if given.version == "v1beta1":
            sent = {"group" if name == "groups" else name: value for name, value in spec.items()}
        review = {"apiVersion": f"{GROUP}/{given.version}", "kind": "SubjectAccessReview", "spec": sent}
        try:
            async with asyncio.timeout(given.timeout), self._turns:
                answer = await fetch.json(
                    "POST",
                    given.endpoint.url,
                    given.endpoint.context,
                    body=review,
                    headers=given.endpoint.headers,
                    server_name=given.endpoint.server_name,
                    timeout=given.timeout,
                )
            decision = decision_of(answer)
        except (fetch.FetchFailed, TimeoutError) as error:
            said = str(error) or f"no answer within {given.timeout:g} s"
            log.warning("the authorization webhook %s failed: %s", given.name, said)
            return self._failed(said)
        life = given.authorized_ttl if decision.allowed else given.unauthorized_ttl
        if life > 0 and not decision.error and _size(spec) < LARGEST:
            self._remember(key, decision, self._clock.monotonic() + life)
        return decision

    def _remember(self, key: bytes, decision: Decision, until: float) -> None:
        self._answers[key] = (until, decision)
        self._answers.move_to_end(key)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)


class _Unclear(Exception):
    """Whether the webhook is to be asked cannot be told; the text is the cause."""


def spec_of(user: User, asked: Attributes) -> Object:
    """A SubjectAccessReviewSpec (v1)."""
    spec: Object = {}
    if asked.resource:
        named = {
            "namespace": asked.namespace,
            "verb": asked.verb,
            "group": asked.group,
            "version": asked.version,
            "resource": asked.resource,
            "subresource": asked.subresource,
            "name": asked.name,
        }
        about: Object = {name: value for name, value in named.items() if value}
        if asked.fields and (fields := selectors.field_requirements(asked.fields)):
            about["fieldSelector"] = {"requirements": fields}
        if asked.labels and (labels := selectors.label_requirements(asked.labels)):
            about["labelSelector"] = {"requirements": labels}
        spec["resourceAttributes"] = about
    else:
        named = {"path": asked.path, "verb": asked.verb}
        spec["nonResourceAttributes"] = {name: value for name, value in named.items() if value}
    who = {"user": user.name, "groups": list(user.groups), "extra": user.extra, "uid": user.uid}
    return spec | {name: value for name, value in who.items() if value}


def _size(spec: Object) -> int:
    """Bytes of what the asker chose: all but who it is."""
    return len(orjson.dumps([spec.get("resourceAttributes"), spec.get("nonResourceAttributes")]))


def decision_of(answer: Any) -> Decision:
    """What a SubjectAccessReview's status says. Raises FetchFailed for what is none."""
    if not isinstance(answer, dict) or answer.get("kind") != "SubjectAccessReview":
        raise fetch.FetchFailed("the authorization webhook's answer is no SubjectAccessReview")
    status = answer.get("status")
    if not isinstance(status, dict) or not isinstance(status.get("allowed", False), bool):
        raise fetch.FetchFailed("the authorization webhook's answer has no usable status")
    allowed, denied = status.get("allowed") is True, status.get("denied", False)
    if not isinstance(denied, bool):
        raise fetch.FetchFailed("the authorization webhook's answer has no usable status")
    said = status.get("reason")
    reason = said if isinstance(said, str) else ""
    if allowed and denied:
        return Decision(False, reason, True, "webhook subject access review returned both allow and deny response")
    return Decision(allowed, reason, denied)
