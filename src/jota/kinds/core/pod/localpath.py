"""Paths that stay below where they start (validateLocalDescendingPath): of volumes' files, sub-paths, seccomp profiles."""

from __future__ import annotations

from jota.meta.errors import FieldError, invalid


def local_path(value: str, path: str, errors: list[FieldError]) -> None:
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    no_backsteps(value, path, errors)


def no_backsteps(value: str, path: str, errors: list[FieldError]) -> None:
    if ".." in value and ".." in value.split("/"):
        errors.append(invalid(path, value, "must not contain '..'"))
