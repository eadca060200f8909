"""One request on its way through the engine: who asks for what, with which options. Built by chain.py, read by verbs/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from jota.api.filters.attributes import User
from jota.api.negotiate import Accepted
from jota.api.path import Target
from jota.meta.errors import ApiError, bad_request
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.flowcontrol.seat import Seat
    from jota.api.served import Served

FIELD_VALIDATION = ("Ignore", "Warn", "Strict")
MANAGER_LIMIT = 128


class Call(Struct, eq=False):
    request: Request
    target: Target
    params: dict[str, str]
    user: User
    served: Served
    accepted: Accepted
    warnings: list[str] = []
    """Texts for Warning headers."""
    audit: dict[str, str] = {}
    """Annotations of the audit event."""
    seat: Seat | None = None
    """What a watch holds until it has sent what it begins with; None for exempt requests."""

    @property
    def dry_run(self) -> bool:
        """Raises ApiError 422 for anything but All."""
        value = self.params.get("dryRun", "")
        if value in ("", "All"):
            return bool(value)
        raise ApiError(422, "Invalid", f'dryRun: Unsupported value: "{value[:64]}": supported values: "All"')

    @property
    def times(self) -> int:
        """How many of these are wanted in one go; 1, too, for an answer that has not the form of stored objects or their metadata."""
        plain = self.accepted.form != "Table" and not self.accepted.yaml
        return self.request.times if plain else 1

    @property
    def manager(self) -> str:
        """Who owns the fields that this write changes: fieldManager, else the User-Agent's first word."""
        given = self.params.get("fieldManager", "")
        if given:
            if len(given) > MANAGER_LIMIT or not given.isprintable():
                text = f"fieldManager: Invalid value: must be printable and no longer than {MANAGER_LIMIT} characters"
                raise ApiError(422, "Invalid", text)
            return given
        agent = self.request.headers.get("user-agent", "").partition("/")[0][:MANAGER_LIMIT]
        return agent if agent.isprintable() and agent else "unknown"

    @property
    def field_validation(self) -> str:
        """Ignore, Warn (the default) or Strict. Raises ApiError 422."""
        value = self.params.get("fieldValidation", "") or "Warn"
        if value not in FIELD_VALIDATION:
            choices = ", ".join(f'"{v}"' for v in FIELD_VALIDATION)
            raise ApiError(
                422, "Invalid", f'fieldValidation: Unsupported value: "{value[:64]}": supported values: {choices}'
            )
        return value

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def require_name(self) -> str:
        if not self.target.name:
            raise bad_request("name must be provided")
        return self.target.name
