"""What an error says, for messages to people."""

from __future__ import annotations


def told(error: BaseException) -> str:
    """Its text, or its name where it has none: a TimeoutError mostly says nothing. (No exception is false: `or` does not tell.)"""
    return str(error) or type(error).__name__
