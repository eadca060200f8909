"""Values sealed for the disk: AES-256-GCM, several keys, the first of which seals. In: key file. Out: a store Cipher.

The key file, in the pki directory with mode 0600, has one key a line, `<name> <base64 of 32 bytes>`; `#` begins a comment.
To rotate: put a new line on top and restart the server, which seals everything anew; then remove the old line.

A sealed value is `k8s:enc:aesgcm:v1:<key name>:` + 12 bytes of nonce + ciphertext and tag (upstream's prefix). The store's
key is authenticated with it, so that a value cannot be moved to another name. Plain values begin with "{".
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK = b"k8s:enc:aesgcm:v1:"
SECRETS = ("/core/secrets/",)
"""Storage prefixes that are sealed by default."""
_NONCE = 12
_LINE = re.compile(r"([A-Za-z0-9._-]{1,63})\s+(\S+)")


class BadKeyFile(ValueError):
    """The key file cannot be read as one; the text names the line."""


class Envelope:
    """store.protocol.Cipher over the keys of one file."""

    def __init__(
        self,
        keys: list[tuple[str, bytes]],
        *,
        prefixes: tuple[str, ...] = SECRETS,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`keys`: (name, 32 bytes), the first seals. Raises BadKeyFile without any, or for a key of another length."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not keys:
            raise BadKeyFile("there is no key in it")
        self.prefixes = prefixes
        self._random = random
        self._keys: dict[str, AESGCM] = {}
        for name, key in keys:
            if len(key) != 32:
                raise BadKeyFile(f"the key {name} has {len(key)} bytes, it must have 32")
            self._keys[name] = AESGCM(key)
        self._first = keys[0][0]
        self._head = MARK + self._first.encode() + b":"

    def seal(self, key: str, value: bytes) -> bytes:
        """The bytes for the disk."""
        nonce = self._random(_NONCE)
        return self._head + nonce + self._keys[self._first].encrypt(nonce, value, key.encode())

    def open(self, key: str, value: bytes) -> bytes:
        """The value that was sealed, or `value` itself when it is plain. Raises ValueError with the cause."""
        if not value.startswith(MARK):
            return value
        name, _, rest = value[len(MARK) :].partition(b":")
        cipher = self._keys.get(name.decode(errors="replace"))
        if cipher is None:
            known = ", ".join(self._keys)
            raise ValueError(f"it is sealed with the key {name.decode(errors='replace')}, the key file has {known}")
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(rest[:_NONCE], rest[_NONCE:], key.encode())
        except InvalidTag:
            text = (
                f"the key {name.decode()} of the key file does not open it: another key of that name, or damaged bytes"
            )
            raise ValueError(text) from None

    def stale(self, value: bytes) -> bool:
        """Plain, or sealed with a key that seals no longer."""
        return not value.startswith(self._head)


def parse(text: str) -> list[tuple[str, bytes]]:
    """The keys of a key file, in order. Raises BadKeyFile."""
    keys: list[tuple[str, bytes]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadKeyFile(f'line {number} is not "<name> <base64 key>"')
        try:
            keys.append((found[1], base64.b64decode(found[2], validate=True)))
        except binascii.Error:
            raise BadKeyFile(f"line {number}: the key is not base64") from None
    return keys


def new_line(random: Callable[[int], bytes] = os.urandom) -> str:
    """A line with a new key; its name is new too, so that a lost key is never mistaken for it."""
    return f"key-{random(4).hex()} {base64.b64encode(random(32)).decode()}\n"
