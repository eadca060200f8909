"""API errors, built in one place: every error on the wire is a `v1 Status` whose HTTP code equals its `code`.

Reasons, codes and message forms are Kubernetes' (apimachinery `StatusReason`); clients match on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, frozen=True)
class FieldError:
    """One cause of an Invalid: `reason` is FieldValueInvalid, FieldValueRequired, FieldValueNotSupported, ..."""

    reason: str
    field: str
    message: str
    """As shown after "field: ", e.g. 'Invalid value: "x": must be positive'."""


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {_show(value)}: {detail}")


def not_supported(field: str, value: Any, allowed: list[str]) -> FieldError:
    choices = ", ".join(f'"{a}"' for a in allowed)
    return FieldError(
        "FieldValueNotSupported", field, f"Unsupported value: {_show(value)}: supported values: {choices}"
    )


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {_show(value)}")


def too_long(field: str, limit: int) -> FieldError:
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, most: int) -> FieldError:
    return FieldError("FieldValueTooMany", field, f"Too many: {count}: must have at most {most} items")


def _show(value: Any) -> str:
    import json

    if isinstance(value, str | dict | list) or value is None:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value).lower() if isinstance(value, bool) else str(value)


class ApiError(Exception):
    """An error with a wire form. Raise one of the constructors below."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        name: str = "",
        group: str = "",
        kind: str = "",
        uid: str = "",
        causes: list[FieldError] | None = None,
        retry_after: int = 0,
        continue_token: str = "",
        allow: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.name, self.group, self.kind, self.uid = name, group, kind, uid
        self.causes = causes or []
        self.retry_after = retry_after
        self.continue_token = continue_token
        self.allow = allow
        """Of a 405, the methods that are served there (RFC 9110 15.5.6)."""
        self.warnings: list[str] = []
        """Texts for Warning headers that help with this error."""

    def status(self) -> dict[str, Any]:
        """The `v1 Status` object, its fields in upstream's order: clients show, and their tests compare, the bytes."""
        details: dict[str, Any] = {}
        for key, value in (("name", self.name), ("group", self.group), ("kind", self.kind), ("uid", self.uid)):
            if value:
                details[key] = value
        if self.causes:
            details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        out: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if details:
            out["details"] = details
        out["code"] = self.code
        return out


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, name: str, group: str = "") -> ApiError:
    return ApiError(
        404, "NotFound", f'{_qualified(plural, group)} "{name}" not found', name=name, group=group, kind=plural
    )


def path_not_found() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, name: str, group: str = "", retry_after: int = 0) -> ApiError:
    text = f'{_qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", text, name=name, group=group, kind=plural, retry_after=retry_after)


def conflict(plural: str, name: str, detail: str, group: str = "", causes: list[FieldError] | None = None) -> ApiError:
    text = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {detail}'
    return ApiError(409, "Conflict", text, name=name, group=group, kind=plural, causes=causes)


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(plural: str, name: str, detail: str, group: str = "", causes: list[FieldError] | None = None) -> ApiError:
    qualified = _qualified(plural, group)
    text = f'{qualified} "{name}" is forbidden: {detail}' if name else f"{qualified} is forbidden: {detail}"
    return ApiError(403, "Forbidden", text, name=name, group=group, kind=plural, causes=causes)


def invalid_object(kind: str, name: str, causes: list[FieldError], group: str = "") -> ApiError:
    """422 with every cause; `kind` is the Kind, not the resource (as upstream)."""
    lines = [f"{c.field}: {c.message}" for c in causes]
    body = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    text = f'{_qualified(kind, group)} "{name}" is invalid: {body}'
    return ApiError(422, "Invalid", text, name=name, group=group, kind=kind, causes=causes)


class Undecodable(ApiError):
    """400: what came is no object of its kind. `detail` is what the decoder says, without whose it is."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(400, "BadRequest", message)
        self.detail = detail


def bad_request(detail: str) -> ApiError:
    return ApiError(400, "BadRequest", detail)


def unauthorized(detail: str = "Unauthorized") -> ApiError:
    return ApiError(401, "Unauthorized", detail)


def method_not_allowed(plural: str, verb: str, group: str = "") -> ApiError:
    text = f'{verb} is not supported on resources of kind "{_qualified(plural, group)}"'
    return ApiError(405, "MethodNotAllowed", text, group=group, kind=plural)


def only_read() -> ApiError:
    """Of paths that are no resources."""
    text = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", text, allow=("GET", "HEAD"))


def not_acceptable(accepted: list[str]) -> ApiError:
    return ApiError(406, "NotAcceptable", "only the following media types are accepted: " + ", ".join(accepted))


def unsupported_media_type(accepted: list[str]) -> ApiError:
    text = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", text)


def expired(detail: str, continue_token: str = "") -> ApiError:
    return ApiError(410, "Expired", detail, continue_token=continue_token)


def too_large(limit: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def too_many_requests(detail: str, retry_after: int = 1, causes: list[FieldError] | None = None) -> ApiError:
    return ApiError(429, "TooManyRequests", detail, retry_after=retry_after, causes=causes)


def too_large_resource_version(revision: int, current: int) -> ApiError:
    cause = FieldError("ResourceVersionTooLarge", "", "Too large resource version")
    text = f"Timeout: Too large resource version: {revision}, current: {current}"
    return ApiError(504, "Timeout", text, causes=[cause], retry_after=1)


def unavailable(detail: str, retry_after: int = 1) -> ApiError:
    return ApiError(503, "ServiceUnavailable", detail, retry_after=retry_after)


def internal(detail: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {detail}")
