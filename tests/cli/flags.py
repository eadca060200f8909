"""A command line as `jota` reads it."""

from __future__ import annotations

import argparse


def parsed(module: object, *arguments: str) -> argparse.Namespace:
    """`module`: of the command, with its `add`."""
    parser = argparse.ArgumentParser()
    module.add(parser)  # type: ignore[attr-defined]
    return parser.parse_args(arguments)
