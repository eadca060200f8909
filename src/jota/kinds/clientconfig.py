"""Rules of a WebhookClientConfig, which admission webhooks and conversion share (upstream's apiserver/pkg/util/webhook).

In: url or service as written, and the field's path. Out: errors.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from jota.kinds.shape import Object
from jota.meta.errors import FieldError, invalid, required


def client_config(config: Object, at: str) -> list[FieldError]:
    """url or service, one of them."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(at, "exactly one of url or service is required")]
    if url is not None:
        return _url(str(url), f"{at}.url")
    service = service if isinstance(service, dict) else {}
    errors = [
        required(f"{at}.service.{key}", f"service {key} is required")
        for key in ("name", "namespace")
        if not service.get(key)
    ]
    port = service.get("port", 443)
    if not isinstance(port, int) or not 0 < port < 65536:
        errors.append(invalid(f"{at}.service.port", port, "port is not valid: must be between 1 and 65535, inclusive"))
    return errors


def _url(url: str, at: str) -> list[FieldError]:
    form = "; desired format: https://host[/path]"
    try:
        found = urlsplit(url)
        host, _ = found.hostname, found.port
    except ValueError as e:
        return [required(at, f"url must be a valid URL: {e}{form}")]
    errors = []
    if found.scheme != "https":
        errors.append(invalid(at, found.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not host:
        errors.append(invalid(at, "", f"host must be specified{form}"))
    if found.username is not None:
        errors.append(invalid(at, found.username, "user information is not permitted in the URL"))
    if found.fragment:
        errors.append(invalid(at, found.fragment, "fragments are not permitted in the URL"))
    if found.query:
        errors.append(invalid(at, found.query, "query parameters are not permitted in the URL"))
    return errors
