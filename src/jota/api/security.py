"""Put identity and access in place on an Api: who may come in, what they may do, and the kinds that answer about both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson

from jota.api import bootstrap
from jota.api.admission.certificate_signers import CertificateSigners
from jota.api.admission.node_pod_certificates import NodePodCertificates
from jota.api.admission.policy_params import PolicyParameters
from jota.api.authn.anonymous import EVERYWHERE, Anonymous
from jota.api.authn.outside import TokenAuthenticator
from jota.api.authz.chain import DEFAULT, Chain
from jota.api.documents import Document
from jota.api.filters.authn import Authentication
from jota.api.filters.authz import ClusterAuthorizer, Rbac
from jota.api.filters.node import NodeAuthorizer
from jota.api.filters.requestheader import RequestHeader
from jota.api.rbac import bootstrap as roles
from jota.api.rbac.escalation import NoEscalation
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, RbacIndex
from jota.api.rbac.reconcile import repaired
from jota.api.rbac.rules import parse
from jota.api.reviews import access, identity
from jota.api.server import Api
from jota.api.tokens import ServiceAccountTokens
from jota.meta.errors import path_not_found
from jota.pki.jwt import TokenSigner
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.authz.config import Configured

_BY_PLURAL = {r.plural: r for r in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)}
_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


def secure(
    api: Api,
    signer: TokenSigner,
    issuer: str,
    outside: Sequence[TokenAuthenticator] = (),
    anonymous: Anonymous = EVERYWHERE,
    authorizers: Configured = DEFAULT,
) -> Callable[[Configured], None]:
    """Authenticate and authorize from now on. Call before `api.start()`; `write_roles` after it.

    `outside`: who knows tokens that are not the cluster's own (authn/). `authorizers`: who is asked, in order (authz/); the
    function that is returned puts others in force."""
    read, used = api.registry.get, api.legacy_uses.note
    tokens = ServiceAccountTokens(signer, issuer, api.registry.identity, lambda: str(uuid4()), read, used)
    authentication = Authentication(tokens, api.registry.get, api.clock, outside, anonymous)
    if api.config.front_proxy is not None:
        authentication.front_proxies = RequestHeader(api.config.front_proxy)
    index = RbacIndex(api.registry)
    nodes = NodeAuthorizer(api.registry, [parse(rule) for rule in roles.node_rules()])
    for resource in _BY_PLURAL.values():
        api.registry.subscribe(resource, api.lanes.forget)
    chain = Chain({"Node": nodes, "RBAC": Rbac(index)}, api.clock)
    authorizer = ClusterAuthorizer(tuple(chain.build(authorizers)))
    api.authenticator, api.authorizer = authentication, authorizer
    api.engine.tokens = tokens
    api.engine.add_plugin(NoEscalation(authorizer, index))
    api.engine.add_plugin(CertificateSigners(authorizer))
    api.engine.add_plugin(NodePodCertificates(authorizer))
    api.engine.add_plugin(PolicyParameters(authorizer, api.engine.webhooks.resource_of))
    api.answer(_AUTHENTICATION, "tokenreviews", identity.token(authentication))
    api.answer(_AUTHENTICATION, "selfsubjectreviews", identity.self_)
    api.answer(_AUTHORIZATION, "subjectaccessreviews", access.subject(authorizer))
    api.answer(_AUTHORIZATION, "localsubjectaccessreviews", access.local(authorizer))
    api.answer(_AUTHORIZATION, "selfsubjectaccessreviews", access.self_(authorizer))
    api.answer(_AUTHORIZATION, "selfsubjectrulesreviews", access.rules(authorizer))
    api.documents.handlers[".well-known"] = _page("/.well-known/openid-configuration", _discovery(issuer))
    api.documents.handlers["openid"] = _page("/openid/v1/jwks", tokens.jwks(), "application/jwk-set+json")

    def reconfigure(authorizers: Configured) -> None:
        authorizer.chain = tuple(chain.build(authorizers))
        api.lanes.forget()

    return reconfigure


async def write_roles(api: Api) -> None:
    """The bootstrap roles and bindings: made where they are missing, completed where they miss something.

    Raises RuntimeError when the server refuses its own objects.
    """
    for plural, obj in roles.objects():
        resource, meta = _BY_PLURAL[plural], obj["metadata"]
        existing = api.registry.get(resource, meta.get("namespace", ""), meta["name"])
        if existing is None:
            await bootstrap.ensure(api, resource, obj)
            continue
        new = repaired(existing, obj)
        if new is None:
            continue
        if new.get("roleRef") != existing.get("roleRef"):
            await bootstrap.remove(api, resource, existing)
            await bootstrap.ensure(api, resource, obj)
        else:
            await bootstrap.put(api, resource, new)


def _discovery(issuer: str) -> dict[str, object]:
    """The OpenID provider document that lets others verify our service account tokens."""
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def _page(path: str, value: object, content_type: str = "application/json") -> Document:
    headers = [("Content-Type", content_type), ("Cache-Control", "public, max-age=3600")]
    body = orjson.dumps(value)

    async def serve(request: Request) -> Response:
        if request.path.rstrip("/") != path:
            raise path_not_found()
        return Response(200, headers, body)

    return serve
