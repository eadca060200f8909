"""Configuration of authentication: an AuthenticationConfiguration (apiserver.config.k8s.io/v1) or the --oidc-* flags -> issuers.

What is not understood is refused, with the path of the field; nothing is read over.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jota.api.authn.anonymous import EVERYWHERE, Anonymous
from jota.api.authn.claims import Mapping, Rule, Source
from jota.api.authn.oidc import Issuer
from jota.api.configfile import BadConfiguration, Fields

if TYPE_CHECKING:
    from jota.meta.cel import Program

VERSIONS = tuple(f"apiserver.config.k8s.io/{v}" for v in ("v1", "v1beta1"))
MOST_ISSUERS = 64
_EXTRA_KEY = re.compile(r"[a-z0-9.-]+/[a-z0-9._~!$&'()*+,;=:@/%-]+")
_EMAIL, _VERIFIED = re.compile(r"claims\s*\.\s*email\b(?!_)"), re.compile(r"claims\s*\.\s*\??email_verified\b")


@dataclass(slots=True, frozen=True)
class Configuration:
    issuers: tuple[Issuer, ...] = ()
    anonymous: Anonymous = EVERYWHERE


def parse(document: Any, own_issuer: str = "") -> Configuration:
    """`own_issuer`: that of our service accounts, which nobody else may claim. Raises BadConfiguration."""
    top = Fields(document, "")
    if top.text("apiVersion") not in VERSIONS:
        raise top.fail("apiVersion", f"must be one of {', '.join(VERSIONS)}")
    if top.text("kind") != "AuthenticationConfiguration":
        raise top.fail("kind", "must be AuthenticationConfiguration")
    listed = top.objects("jwt")
    if len(listed) > MOST_ISSUERS:
        raise top.fail("jwt", f"must have at most {MOST_ISSUERS} items")
    issuers = tuple(_issuer(jwt) for jwt in listed)
    urls = [issuer.url for issuer in issuers]
    for url in urls:
        if urls.count(url) > 1:
            raise top.fail("jwt", f"duplicate value: the issuer {url}")
        if url == own_issuer:
            raise top.fail("jwt", f"the issuer {url} is this cluster's own")
    anonymous = top.object("anonymous")
    top.done()
    return Configuration(issuers, EVERYWHERE if anonymous is None else _anonymous(anonymous))


def _anonymous(given: Fields) -> Anonymous:
    enabled = given.flag("enabled", False)
    paths = []
    for condition in given.objects("conditions"):
        paths.append(condition.text("path"))
        condition.done()
    if paths and not enabled:
        raise given.fail("conditions", "must not be set when anonymous authentication is not enabled")
    given.done()
    return Anonymous(enabled, tuple(paths))


def _issuer(jwt: Fields) -> Issuer:
    given, mappings = jwt.object("issuer"), jwt.object("claimMappings")
    if given is None:
        raise jwt.fail("issuer", "is required")
    if mappings is None:
        raise jwt.fail("claimMappings", "is required")
    url = _https(given, "url", given.text("url"))
    discovery = given.text("discoveryURL", "")
    if discovery:
        _https(given, "discoveryURL", discovery)
        if discovery.rstrip("/") == url.rstrip("/"):
            raise given.fail("discoveryURL", "must be different from URL")
    audiences, policy = given.texts("audiences"), given.text("audienceMatchPolicy", "")
    if not audiences:
        raise given.fail("audiences", "at least one is required")
    if policy not in ("", "MatchAny") or (len(audiences) > 1 and not policy):
        raise given.fail("audienceMatchPolicy", "must be MatchAny for multiple audiences")
    authority = given.text("certificateAuthority", "")
    given.done()
    claim_rules = tuple(_claim_rule(rule) for rule in jwt.objects("claimValidationRules"))
    mapping = _mapping(mappings, claim_rules, tuple(_user_rule(rule) for rule in jwt.objects("userValidationRules")))
    jwt.done()
    return Issuer(url, audiences, mapping, discovery, authority)


def _https(given: Fields, name: str, url: str) -> str:
    parsed = urlsplit(url)
    if parsed.scheme != "https" or not parsed.hostname:
        raise given.fail(name, "must be a URL with the scheme https")
    if parsed.username is not None or parsed.query or parsed.fragment:
        raise given.fail(name, "must have no username, query or fragment")
    return url


def _mapping(given: Fields, claim_rules: tuple[Rule, ...], user_rules: tuple[Rule, ...]) -> Mapping:
    name = given.object("username")
    if name is None:
        raise given.fail("username", "is required")
    username = _source(name, prefixed=True, returns="string")
    if not username.given:
        raise given.fail("username", "claim or expression is required")
    groups_given, uid_given = given.object("groups"), given.object("uid")
    groups = Source() if groups_given is None else _source(groups_given, prefixed=True, returns="")
    uid = Source() if uid_given is None else _source(uid_given, prefixed=False, returns="string")
    extra: list[tuple[str, Program]] = []
    for item in given.objects("extra"):
        key = item.text("key")
        domain = key.partition("/")[0]
        if not _EXTRA_KEY.fullmatch(key) or key in dict(extra):
            raise item.fail("key", "must be a unique lower-case path with a domain, such as example.com/team")
        if any(domain == d or domain.endswith("." + d) for d in ("k8s.io", "kubernetes.io")):
            raise item.fail("key", "k8s.io and kubernetes.io and their subdomains are reserved")
        extra.append((key, _compile(item, "valueExpression", "claims", "")))
        item.done()
    given.done()
    _check_email(given, username, extra, claim_rules)
    return Mapping(username, groups, uid, tuple(extra), claim_rules, user_rules)


def _check_email(given: Fields, username: Source, extra: list[tuple[str, Program]], rules: tuple[Rule, ...]) -> None:
    """An expression that makes a name of an email must look at whether it is verified (upstream's rule)."""
    if username.expression is None or not _EMAIL.search(username.expression.source):
        return
    sources = [username.expression, *(p for _, p in extra), *(r.expression for r in rules)]
    if not any(p is not None and _VERIFIED.search(p.source) for p in sources):
        detail = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*]"
        raise given.fail(
            "username.expression",
            f"{detail}.valueExpression or claimValidationRules[*].expression when claims.email is used",
        )


def _source(given: Fields, *, prefixed: bool, returns: str) -> Source:
    claim = given.text("claim", "")
    prefix = given.optional("prefix") if prefixed else None
    expression = None
    if given.has("expression"):
        if claim or prefix:
            raise given.fail("expression", "claim and prefix must not be set together with it")
        expression = _compile(given, "expression", "claims", returns)
    elif claim and prefixed and prefix is None:
        raise given.fail("prefix", 'is required when claim is set; "" is none')
    given.done()
    return Source(claim, prefix or "", expression)


def _claim_rule(given: Fields) -> Rule:
    claim, value, message = given.text("claim", ""), given.text("requiredValue", ""), given.text("message", "")
    if claim:
        if given.has("expression") or message:
            raise given.fail("claim", "must not be set together with expression or message")
        given.done()
        return Rule(claim, value)
    rule = Rule(expression=_compile(given, "expression", "claims", "bool"), message=message)
    given.done()
    return rule


def _user_rule(given: Fields) -> Rule:
    rule = Rule(expression=_compile(given, "expression", "user", "bool"), message=given.text("message", ""))
    given.done()
    return rule


def _compile(given: Fields, field: str, variable: str, returns: str) -> Program:
    from jota.meta.cel import CelCompileError, compile

    try:
        return compile(given.text(field), {variable: None}, returns=returns)
    except CelCompileError as error:
        raise given.fail(field, str(error)) from None


# -- flags


@dataclass(slots=True)
class OidcFlags:
    """kube-apiserver's --oidc-*."""

    issuer_url: str = ""
    client_id: str = ""
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claim: tuple[str, ...] = ()
    ca_file: str = ""
    signing_algs: str = "RS256"


def from_flags(flags: OidcFlags, read: Callable[[str], str] = lambda name: Path(name).read_text()) -> Configuration:
    """Raises BadConfiguration; OSError for the CA file."""
    from jota.pki.jws import ALGORITHMS

    if not flags.issuer_url or not flags.client_id:
        raise BadConfiguration("--oidc-issuer-url and --oidc-client-id must be specified together")
    if urlsplit(flags.issuer_url).scheme != "https":
        raise BadConfiguration("--oidc-issuer-url: must be a URL with the scheme https")
    algorithms = tuple(a.strip() for a in flags.signing_algs.split(",") if a.strip())
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise BadConfiguration(f"--oidc-signing-algs: {algorithm} is not one of {', '.join(ALGORITHMS)}")
    prefix = flags.username_prefix
    if not prefix and flags.username_claim != "email":
        prefix = f"{flags.issuer_url}#"  # names of several issuers must not be confused (upstream's default)
    rules = []
    for pair in flags.required_claim:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise BadConfiguration(f"--oidc-required-claim: {pair!r} is not KEY=VALUE")
        rules.append(Rule(key, value))
    mapping = Mapping(
        Source(flags.username_claim, "" if prefix == "-" else prefix),
        Source(flags.groups_claim, flags.groups_prefix),
        claim_rules=tuple(rules),
    )
    authority = read(flags.ca_file) if flags.ca_file else ""
    return Configuration((Issuer(flags.issuer_url, (flags.client_id,), mapping, "", authority, algorithms),))
