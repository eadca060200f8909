"""KubeSchedulerConfiguration's `extenders`: the upstream format in, ExtenderConfigs out. What is not understood is refused.

Certificates are read here, once. Next: extender.py, who asks.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jota.meta import duration, names
from jota.pki import trust
from jota.pki.clientpair import load_pair


class BadConfiguration(ValueError):
    """The message names the field and what is wrong with it."""


@dataclass(slots=True, frozen=True)
class ExtenderConfig:
    url: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 1
    timeout: float = 5.0
    """Seconds for one question."""
    node_cache: bool = False
    """nodeCacheCapable: it is told names, not whole nodes."""
    managed: frozenset[str] = frozenset()
    """Resources; it is asked about pods that request any of them; empty: about all pods."""
    ignorable: bool = False
    """Whether pods are scheduled without it when it fails."""
    tls: ssl.SSLContext | None = None
    """For https URLs."""
    server_name: str = ""
    unchecked: frozenset[str] = frozenset()
    """Resources that NodeResourcesFit leaves to it (ignoredByScheduler)."""


_VERBS = {"filterVerb": "filter_verb", "prioritizeVerb": "prioritize_verb", "preemptVerb": "preempt_verb"}
_KNOWN = {*_VERBS, "bindVerb", "urlPrefix", "weight", "enableHTTPS", "tlsConfig", "httpTimeout", "nodeCacheCapable",
          "managedResources", "ignorable"}  # fmt: skip
_TLS = {"insecure", "serverName", "certFile", "keyFile", "caFile", "certData", "keyData", "caData"}


def parse(given: Any) -> tuple[ExtenderConfig, ...]:
    """Raises BadConfiguration."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise BadConfiguration("extenders: must be a list")
    found: list[ExtenderConfig] = []
    managed: set[str] = set()
    for n, entry in enumerate(given):
        path = f"extenders[{n}]"
        extender = _extender(_mapping(entry, path), path)
        if twice := managed & extender.managed:
            raise BadConfiguration(f"{path}.managedResources: duplicate extender managed resource name {min(twice)}")
        if extender.bind_verb and any(e.bind_verb for e in found):
            raise BadConfiguration(f"{path}.bindVerb: only one extender can implement bind")
        managed |= extender.managed
        found.append(extender)
    return tuple(found)


def _extender(given: Mapping[str, Any], path: str) -> ExtenderConfig:
    for key in given:
        if key not in _KNOWN:
            raise BadConfiguration(f"{path}.{key}: not supported")
    url = _text(given, "urlPrefix", path)
    secure = _flag(given, "enableHTTPS", path)
    try:
        parsed = urlsplit(url)
        good = parsed.scheme in ("http", "https") and bool(parsed.hostname) and (parsed.port is None or parsed.port > 0)
    except ValueError:
        good = False
    if not good or parsed.query or parsed.fragment:
        raise BadConfiguration(f"{path}.urlPrefix: {url!r} is no http or https URL")
    weight = given.get("weight", 0)
    if type(weight) is not int or (given.get("prioritizeVerb") and weight <= 0):
        raise BadConfiguration(f"{path}.weight: must have a positive weight applied to it")
    managed, unchecked = _managed(given.get("managedResources") or (), f"{path}.managedResources")
    tls = _mapping(given.get("tlsConfig") or {}, f"{path}.tlsConfig")
    return ExtenderConfig(
        url,
        **{field: _text(given, verb, path) for verb, field in _VERBS.items()},
        bind_verb=_text(given, "bindVerb", path),
        weight=weight,
        timeout=_timeout(given.get("httpTimeout"), f"{path}.httpTimeout"),
        node_cache=_flag(given, "nodeCacheCapable", path),
        managed=managed,
        ignorable=_flag(given, "ignorable", path),
        tls=_context(tls, secure, f"{path}.tlsConfig") if parsed.scheme == "https" else None,
        server_name=_text(tls, "serverName", f"{path}.tlsConfig"),
        unchecked=unchecked,
    )


def _managed(given: Any, path: str) -> tuple[frozenset[str], frozenset[str]]:
    found: list[str] = []
    unchecked: list[str] = []
    for n, entry in enumerate(given if isinstance(given, Sequence) else ()):
        here = f"{path}[{n}]"
        resource = _mapping(entry, here)
        if more := set(resource) - {"name", "ignoredByScheduler"}:
            raise BadConfiguration(f"{here}.{min(more)}: not supported")
        name = _text(resource, "name", here)
        domain = name.partition("/")[0]
        if (
            "/" not in name
            or names.qualified_name(name)
            or domain == "kubernetes.io"
            or domain.endswith(".kubernetes.io")
        ):
            raise BadConfiguration(f"{here}.name: {name!r} is an invalid extended resource name")
        if name in found:
            raise BadConfiguration(f"{here}.name: duplicate extender managed resource name {name}")
        found.append(name)
        if _flag(resource, "ignoredByScheduler", here):
            unchecked.append(name)
    return frozenset(found), frozenset(unchecked)


def _timeout(given: Any, path: str) -> float:
    """Seconds; none is 5 (upstream's default)."""
    try:
        seconds = duration.parse(given) if given else 0.0
    except (ValueError, TypeError, AttributeError):
        raise BadConfiguration(f"{path}: {given!r} is no duration such as 5s") from None
    if seconds < 0:
        raise BadConfiguration(f"{path}: must not be negative")
    return seconds or 5.0


def _context(given: Mapping[str, Any], secure: bool, path: str) -> ssl.SSLContext:
    """Without a CA, enableHTTPS means not to verify (upstream's rule); otherwise the machine's roots count."""
    for key in given:
        if key not in _TLS:
            raise BadConfiguration(f"{path}.{key}: not supported")
    try:
        authority = _pem(given, "ca", path)
        insecure = _flag(given, "insecure", path)
        if insecure and authority:
            raise BadConfiguration(f"{path}: a root certificate with the insecure flag is not allowed")
        tls = trust.context(authority)
        if insecure or (secure and not authority):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        certificate, key = _pem(given, "cert", path), _pem(given, "key", path)
        if bool(certificate) != bool(key):
            raise BadConfiguration(f"{path}: a certificate and its key need each other")
        if certificate:
            load_pair(tls, certificate, key)
    except ssl.SSLError as error:
        raise BadConfiguration(f"{path}: a certificate or key cannot be used: {error}") from None
    return tls


def _pem(given: Mapping[str, Any], what: str, path: str) -> str:
    data, name = _text(given, f"{what}Data", path), _text(given, f"{what}File", path)
    try:
        if data:
            return base64.b64decode(data, validate=True).decode()
        return Path(name).read_text() if name else ""
    except (binascii.Error, UnicodeDecodeError):
        raise BadConfiguration(f"{path}.{what}Data: is not base64") from None
    except OSError as error:
        raise BadConfiguration(f"{path}.{what}File: {name}: {error.strerror}") from None


def _mapping(given: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise BadConfiguration(f"{path}: must be a mapping")
    return given


def _text(given: Mapping[str, Any], name: str, path: str) -> str:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise BadConfiguration(f"{path}.{name}: must be a text")
    return value or ""


def _flag(given: Mapping[str, Any], name: str, path: str) -> bool:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadConfiguration(f"{path}.{name}: must be true or false")
    return bool(value)
