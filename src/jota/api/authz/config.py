"""Configuration of authorization: an AuthorizationConfiguration (apiserver.config.k8s.io/v1) or the --authorization-* flags ->
what the chain is made of.

What is not understood is refused, with the path of the field. Next: chain.py makes authorizers of it. Upstream:
apiserver/pkg/apis/apiserver/validation, ValidateAuthorizationConfiguration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jota.api.configfile import BadConfiguration, Fields
from jota.meta import names

if TYPE_CHECKING:
    from jota.api.authn.kubeconfig import Endpoint
    from jota.meta.cel import Program

VERSIONS = tuple(f"apiserver.config.k8s.io/{v}" for v in ("v1", "v1beta1"))
TYPES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
AUTHORIZED_TTL, UNAUTHORIZED_TTL = 300.0, 30.0
"""Seconds for which a yes, and any other answer, are remembered."""
LONGEST_TIMEOUT = 30.0
MOST_CONDITIONS = 64
Load = Callable[[str], "Endpoint"]
"""Reads a webhook's kubeconfig. Raises ValueError, OSError."""


@dataclass(slots=True, frozen=True)
class Webhook:
    name: str
    endpoint: Endpoint
    version: str
    """Of SubjectAccessReview on the wire: v1 or v1beta1."""
    timeout: float = LONGEST_TIMEOUT
    """Seconds."""
    authorized_ttl: float = AUTHORIZED_TTL
    unauthorized_ttl: float = UNAUTHORIZED_TTL
    deny_on_error: bool = False
    """failurePolicy Deny; NoOpinion otherwise."""
    conditions: tuple[Program, ...] = ()


Configured = tuple[str | Webhook, ...]
"""In order: the type of an authorizer that needs no more, or a webhook."""


def parse(document: Any, load: Load) -> Configured:
    """Raises BadConfiguration."""
    top = Fields(document, "")
    if top.text("apiVersion") not in VERSIONS:
        raise top.fail("apiVersion", f"must be one of {', '.join(VERSIONS)}")
    if top.text("kind") != "AuthorizationConfiguration":
        raise top.fail("kind", "must be AuthorizationConfiguration")
    found: list[str | Webhook] = []
    seen: set[str] = set()
    for given in top.objects("authorizers"):
        type_, name = given.text("type"), given.text("name")
        if type_ not in TYPES:
            known = ", ".join(f'"{t}"' for t in TYPES)
            raise given.fail("type", f'Unsupported value: "{type_}": supported values: {known}')
        if type_ in found:
            raise given.fail("type", f'Duplicate value: "{type_}"')
        if name in seen:
            raise given.fail("name", f'Duplicate value: "{name}"')
        if problems := names.dns_subdomain(name):
            raise given.fail("name", f"authorizer name is invalid: {', '.join(problems)}")
        seen.add(name)
        webhook = given.object("webhook")
        if type_ != "Webhook":
            if webhook is not None:
                raise given.fail("webhook", "may only be specified when type=Webhook")
            found.append(type_)
        elif webhook is None:
            raise given.fail("webhook", "required when type=Webhook")
        else:
            found.append(_webhook(webhook, name, load))
        given.done()
    if not found:
        raise top.fail("authorizers", "at least one authorization mode must be defined")
    top.done()
    return tuple(found)


def _webhook(given: Fields, name: str, load: Load) -> Webhook:
    timeout = given.seconds("timeout")
    if not 0 < timeout <= LONGEST_TIMEOUT:
        raise given.fail("timeout", "must be > 0s and <= 30s")
    lives = []
    for field, cached, default in (
        ("authorizedTTL", "cacheAuthorizedRequests", AUTHORIZED_TTL),
        ("unauthorizedTTL", "cacheUnauthorizedRequests", UNAUTHORIZED_TTL),
    ):
        seconds = given.seconds(field, default) or default
        lives.append(seconds if given.flag(cached, True) else 0.0)
    version, policy = given.text("subjectAccessReviewVersion"), given.text("failurePolicy")
    if version not in ("v1", "v1beta1"):
        raise given.fail("subjectAccessReviewVersion", "must be v1 or v1beta1")
    if policy not in ("NoOpinion", "Deny"):
        raise given.fail("failurePolicy", "must be NoOpinion or Deny")
    endpoint = _connection(given, load)
    conditions = given.objects("matchConditions")
    seen_as = given.text("matchConditionSubjectAccessReviewVersion", "")
    if seen_as not in ("", "v1") or (conditions and not seen_as):
        raise given.fail("matchConditionSubjectAccessReviewVersion", "must be v1; required with matchConditions")
    if len(conditions) > MOST_CONDITIONS:
        raise given.fail("matchConditions", f"must have at most {MOST_CONDITIONS} items")
    programs = _conditions(conditions)
    given.done()
    return Webhook(name, endpoint, version, timeout, lives[0], lives[1], policy == "Deny", programs)


def _connection(webhook: Fields, load: Load) -> Endpoint:
    given = webhook.object("connectionInfo")
    if given is None:
        raise webhook.fail("connectionInfo", "is required")
    type_ = given.text("type")
    if type_ == "InClusterConfig":
        raise given.fail(
            "type", "InClusterConfig is not supported: this server does not run in a pod; use KubeConfigFile"
        )
    if type_ != "KubeConfigFile":
        raise given.fail("type", "must be KubeConfigFile")
    name = given.text("kubeConfigFile")
    if not name.startswith("/"):
        raise given.fail("kubeConfigFile", "must be an absolute path")
    given.done()
    try:
        return load(name)
    except (ValueError, OSError) as error:
        raise given.fail("kubeConfigFile", f"{name}: {error}") from None


def _conditions(given: Sequence[Fields]) -> tuple[Program, ...]:
    if not given:
        return ()
    # the CEL engine costs some 20 ms to load: only who uses expressions pays
    from jota.api.authz.review import REVIEW
    from jota.meta.cel import CelCompileError, compile

    programs: list[Program] = []
    for condition in given:
        expression = condition.text("expression")
        if any(p.source == expression for p in programs):
            raise condition.fail("expression", "Duplicate value")
        try:
            programs.append(compile(expression, {"request": REVIEW}, returns="bool"))
        except CelCompileError as error:
            raise condition.fail("expression", str(error)) from None
        condition.done()
    return tuple(programs)


# -- flags


@dataclass(slots=True)
class Flags:
    """kube-apiserver's --authorization-mode and --authorization-webhook-*."""

    modes: tuple[str, ...] = ("Node", "RBAC")
    webhook: str = ""
    """Its kubeconfig."""
    version: str = "v1beta1"
    authorized_ttl: float = AUTHORIZED_TTL
    unauthorized_ttl: float = UNAUTHORIZED_TTL


def from_flags(flags: Flags, load: Load) -> Configured:
    """Raises BadConfiguration."""
    for mode in flags.modes:
        if mode == "ABAC":
            raise BadConfiguration("--authorization-mode: ABAC is not supported; use RBAC or a webhook")
        if mode not in TYPES:
            raise BadConfiguration(f'--authorization-mode: "{mode}" is not a valid mode')
        if flags.modes.count(mode) > 1:
            raise BadConfiguration(f'--authorization-mode: "{mode}" has mode specified more than once')
    if not flags.modes:
        raise BadConfiguration("--authorization-mode: at least one authorization mode must be passed")
    if ("Webhook" in flags.modes) != bool(flags.webhook):
        raise BadConfiguration("--authorization-mode=Webhook and --authorization-webhook-config-file need each other")
    if flags.version not in ("v1", "v1beta1"):
        raise BadConfiguration("--authorization-webhook-version: must be v1 or v1beta1")
    found: list[str | Webhook] = []
    for mode in flags.modes:
        if mode != "Webhook":
            found.append(mode)
            continue
        try:
            endpoint = load(flags.webhook)
        except (ValueError, OSError) as error:
            raise BadConfiguration(f"--authorization-webhook-config-file {flags.webhook}: {error}") from None
        lives = flags.authorized_ttl, flags.unauthorized_ttl
        found.append(Webhook("default", endpoint, flags.version, LONGEST_TIMEOUT, *lives))
    return tuple(found)
