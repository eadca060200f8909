"""What filters/authn.py asks about a bearer token that is not the cluster's own: the contract, and the memory of answers."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Protocol

from jota.api.filters.attributes import User

Found = tuple[User, list[str]]
"""(user, the audiences that matched)."""
_MOST = 8192


class TokenAuthenticator(Protocol):
    async def authenticate(self, token: str, audiences: tuple[str, ...]) -> Found | None:
        """The token's user; None when this is not its kind of token. `audiences` empty: the API server's own.

        Raises BadToken for one of its kind that does not count."""
        ...


class Remembered:
    """Answers by token for a while, bounded. Tokens themselves are not kept, only their digests."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, tuple[float, Found | None]] = OrderedDict()

    @staticmethod
    def key(token: str, audiences: tuple[str, ...]) -> bytes:
        return hashlib.sha256("\0".join((token, *audiences)).encode(errors="replace")).digest()

    def get(self, key: bytes, now: float) -> tuple[bool, Found | None]:
        """(whether there is an answer, the answer); None: not authenticated. `now` monotonic."""
        until, found = self._answers.get(key, (0.0, None))
        return until > now, found

    def put(self, key: bytes, found: Found | None, until: float) -> None:
        self._answers[key] = (until, found)
        self._answers.move_to_end(key)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)
