"""Formats of strings (OpenAPI's `format`): name and text in, whether it holds out. Unknown names hold for anything.

The list is kube-openapi's; those that this release ignores for CRDs are not here.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_HOST = re.compile(
    r"([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.?"
)
_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?([0-9a-f])[0-9a-f]{3}-?([0-9a-f])[0-9a-f]{3}-?[0-9a-f]{12}")
_DURATION = re.compile(r"[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w))+)")
_WORDY_DURATION = re.compile(
    r"(?i)\s*[0-9]+\s*(ns|nano|nanos|nanoseconds?|us|micros?|microseconds?|ms|millis?|milliseconds?|"
    r"s|sec|secs|seconds?|m|mins?|minutes?|h|hr|hours?|d|days?|w|weeks?)\s*"
)
_EMAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_MAC = re.compile(
    r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}(([:-][0-9a-fA-F]{2}){2})?([:-][0-9a-fA-F]{2}){0,12}"
    r"|[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2,3}"
)
_ISBN10, _ISBN13 = re.compile(r"[0-9]{9}[0-9X]"), re.compile(r"[0-9]{13}")
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_RGB = re.compile(r"rgb\(\s*(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\s*(,\s*(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\s*){2}\)")
_SSN = re.compile(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}")
_CARD = re.compile(r"[0-9]{13,19}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)


def holds(name: str, text: str) -> bool:
    """Whether `text` has the format. Raises nothing."""
    check = FORMATS.get(name)
    if check is None:
        return True
    try:
        return check(text)
    except (ValueError, OverflowError):
        return False


def _version(*numbers: str) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        found = _UUID.fullmatch(text)
        return found is not None and (not numbers or (found[1] in numbers and found[2].lower() in "89ab"))

    return check


def _full(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    datetime.fromisoformat(text[:10] + "T" + text[11:19].replace(":60", ":59"))
    return True


def _date(text: str) -> bool:
    return len(text) == 10 and bool(date.fromisoformat(text))


def _ip4(text: str) -> bool:
    ipaddress.IPv4Address(text)
    return True


def _ip6(text: str) -> bool:
    ipaddress.IPv6Address(text)
    return True


def _cidr(text: str) -> bool:
    ipaddress.ip_network(text, strict=False)
    return "/" in text


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True


def _uri(text: str) -> bool:
    """Go's url.ParseRequestURI: absolute, or a path from the root."""
    if not text or any(c.isspace() or ord(c) < 32 for c in text):
        return False
    return text.startswith("/") or bool(urlsplit(text).scheme)


def _isbn(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if _ISBN10.fullmatch(digits):
        total = sum((10 if c == "X" else int(c)) * (10 - i) for i, c in enumerate(digits))
        return total % 11 == 0
    if _ISBN13.fullmatch(digits):
        return sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(digits)) % 10 == 0
    return False


def _isbn_of(length: int) -> Callable[[str], bool]:
    return lambda text: _isbn(text) and len(text.replace("-", "").replace(" ", "")) == length


def _card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = (int(c) * (1 + i % 2) for i, c in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _full(_OBJECT_ID),
    "uri": _uri,
    "email": _full(_EMAIL),
    "hostname": lambda text: len(text) <= 255 and _HOST.fullmatch(text) is not None,
    "ipv4": _ip4,
    "ipv6": _ip6,
    "cidr": _cidr,
    "mac": _full(_MAC),
    "uuid": _version(),
    "uuid3": _version("3"),
    "uuid4": _version("4"),
    "uuid5": _version("5"),
    "isbn": _isbn,
    "isbn10": _isbn_of(10),
    "isbn13": _isbn_of(13),
    "creditcard": _card,
    "ssn": _full(_SSN),
    "hexcolor": _full(_HEX_COLOR),
    "rgbcolor": _full(_RGB),
    "byte": _byte,
    "password": lambda _: True,
    "date": _date,
    "duration": lambda text: _DURATION.fullmatch(text) is not None or _WORDY_DURATION.fullmatch(text) is not None,
    "datetime": _date_time,
    "date-time": _date_time,
    "k8s-short-name": lambda text: len(text) <= 63 and _LABEL.fullmatch(text) is not None,
    "k8s-long-name": lambda text: len(text) <= 253 and all(_LABEL.fullmatch(p) for p in text.split(".")),
}
