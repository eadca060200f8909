"""Configuration files of the API server's components, read strictly: fields are taken out by name and type, the rest is unknown.

Used by authn/config.py, authz/config.py and audit.py. Nothing that is not understood is read over.
"""

from __future__ import annotations

from typing import Any

from jota.meta import duration


class BadConfiguration(ValueError):
    """The text names the field and what is wrong with it."""


class Fields:
    """One object of the file: fields are taken out by name and type, what is left is unknown."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise BadConfiguration(f"{path or 'the file'}: must be an object")
        self._left, self._path = dict(value), path

    def at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def fail(self, name: str, detail: str) -> BadConfiguration:
        return BadConfiguration(f"{self.at(name)}: {detail}")

    def text(self, name: str, default: str | None = None) -> str:
        """`default` None: required."""
        value = self._left.pop(name, None)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or (default is None and not value):
            raise self.fail(name, "a text is required")
        return value

    def optional(self, name: str) -> str | None:
        """None when it is not given: that is not the same as ""."""
        return self.text(name, "") if self.has(name) else None

    def has(self, name: str) -> bool:
        return self._left.get(name) is not None

    def seconds(self, name: str, default: float | None = None) -> float:
        """A duration such as "3s". `default` None: required. Never negative."""
        value = self._left.pop(name, None)
        if value is None:
            if default is None:
                raise self.fail(name, "a duration is required")
            return default
        try:
            found = duration.parse(value) if isinstance(value, str) else -1.0
        except ValueError:
            found = -1.0
        if found < 0:
            raise self.fail(name, f"{value!r} is no duration such as 30s")
        return found

    def flag(self, name: str, default: bool) -> bool:
        value = self._left.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(name, "must be true or false")
        return value

    def texts(self, name: str, *, empty: bool = False) -> tuple[str, ...]:
        """`empty`: "" may be one of them."""
        value = self._left.pop(name, None) or []
        if not isinstance(value, list) or not all(isinstance(v, str) and (v or empty) for v in value):
            raise self.fail(name, "must be a list of texts")
        return tuple(value)

    def object(self, name: str) -> Fields | None:
        value = self._left.pop(name, None)
        return None if value is None else Fields(value, self.at(name))

    def objects(self, name: str) -> list[Fields]:
        value = self._left.pop(name, None) or []
        if not isinstance(value, list):
            raise self.fail(name, "must be a list")
        return [Fields(v, f"{self.at(name)}[{i}]") for i, v in enumerate(value)]

    def done(self) -> None:
        for name in self._left:
            raise self.fail(name, "unknown field")
