"""Values while an expression runs: Python's own where JSON has them; here is what CEL and Kubernetes add, and equality.

null, bool, int, double (float), string, bytes, list and map (dict) are Python's. Everything here is immutable.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult

from jota.aio import slices
from jota.meta.cel.errors import CelCostError, CelError

if TYPE_CHECKING:
    from jota.meta.cel.frame import Frame

T = TypeVar("T")
SECOND = 1_000_000_000
MIN_INT, MAX_INT, MAX_UINT = -(2**63), 2**63 - 1, 2**64 - 1
_MIN_TIME, _MAX_TIME = -62135596800 * SECOND, 253402300799 * SECOND + SECOND - 1
_MAX_DURATION = 2**63 - 1


class Uint(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()


@dataclass(slots=True, frozen=True, order=True)
class Timestamp:
    nanos: int
    """Since 1970, UTC."""

    def moment(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.nanos // 1000)


@dataclass(slots=True, frozen=True, order=True)
class Duration:
    nanos: int


@dataclass(slots=True, frozen=True)
class TypeValue:
    name: str


NOTHING: Any = object()


@dataclass(slots=True, frozen=True)
class Optional:
    value: Any = NOTHING

    @property
    def present(self) -> bool:
        return self.value is not NOTHING


NONE = Optional()


@dataclass(slots=True, frozen=True)
class Quantity:
    amount: Fraction


@dataclass(slots=True, frozen=True)
class Url:
    text: str
    parts: SplitResult = field(compare=False)


@dataclass(slots=True, frozen=True)
class Ip:
    address: IPv4Address | IPv6Address

    @property
    def text(self) -> str:
        """In its canonical form."""
        return str(self.address)


@dataclass(slots=True, frozen=True)
class Cidr:
    interface: IPv4Interface | IPv6Interface

    @property
    def text(self) -> str:
        return str(self.interface)


@dataclass(slots=True, frozen=True)
class Semver:
    text: str
    precedence: tuple[Any, ...] = field(compare=False)
    """(major, minor, patch, no pre-release, its parts), as they are compared."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self.text.partition("+")[0] == other.text.partition("+")[0]

    def __hash__(self) -> int:
        return hash(self.text.partition("+")[0])


@dataclass(slots=True, frozen=True)
class Format:
    name: str


class ObjectValue(dict[str, Any]):
    """What `Object.spec{...}` or `JSONPatch{...}` makes: the fields, and the name of the type."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.name = name


class SetList(list[Any]):
    """A list of x-kubernetes-list-type set: order does not count, `+` is the union."""


class MapList(list[Any]):
    """A list of x-kubernetes-list-type map: order does not count, `+` replaces items with the same keys."""

    def __init__(self, items: list[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def key(self, item: Any) -> tuple[Any, ...]:
        return tuple(item.get(k) for k in self.keys) if isinstance(item, dict) else (id(item),)


@dataclass(slots=True, frozen=True)
class AuthorizerValue:
    """`authorizer`: who asks, and the one who decides: (user, attributes as a dict) -> (allowed, reason, error)."""

    user: Any
    decide: Any = field(compare=False)


@dataclass(slots=True, frozen=True)
class PathCheck:
    authorizer: AuthorizerValue
    path: str


@dataclass(slots=True, frozen=True)
class GroupCheck:
    authorizer: AuthorizerValue
    group: str


@dataclass(slots=True, frozen=True)
class ResourceCheck:
    authorizer: AuthorizerValue
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    labels: str = ""


@dataclass(slots=True, frozen=True)
class Decision:
    allowed: bool
    reason: str
    error: str = ""


class _Work(threading.local):
    """Items that one evaluation may still go through inside single operations.

    cel-go's units do not see them: comparing, joining and printing values whose parts are shared many times over takes
    exponential time there. Of the evaluations of one thread, only the innermost is at work, so one counter is enough.
    """

    LIMIT = 1_000_000
    left = LIMIT
    frame: Frame | None = None
    """The evaluation."""

    def spend(self, items: int) -> None:
        """Raises CelCostError. Others may have their turn here (aio/slices.py)."""
        self.left -= items
        if self.left < 0:
            raise CelCostError
        slices.spend(items // _ITEMS_PER_UNIT)


_ITEMS_PER_UNIT = 4
"""Items that take about as long as one unit of cost."""
_CHUNK = 4096
work = _Work()


def counted(items: Collection[T]) -> Iterable[T]:
    """The items, which count as work. Of many, others may have their turn between them."""
    if len(items) <= _CHUNK:
        work.spend(len(items))
        return items
    return _in_chunks(list(items))


def _in_chunks(items: list[T]) -> Iterable[T]:
    for at in range(0, len(items), _CHUNK):
        chunk = items[at : at + _CHUNK]
        work.spend(len(chunk))
        yield from chunk


NUMBERS = (int, float, Uint)
_LISTS = (list, SetList, MapList)
_MAPS = (dict, ObjectValue)


def equal(a: Any, b: Any) -> bool:
    """CEL's `==`: numbers compare across their types, everything else only within its own."""
    kind, other = type(a), type(b)
    if kind is other and kind not in _LISTS and kind not in _MAPS:
        return bool(a == b)
    if kind in NUMBERS and other in NUMBERS:
        return bool(a == b)
    if kind in _LISTS and other in _LISTS:
        return len(a) == len(b) and _equal_lists(a, b)
    if kind in _MAPS and other in _MAPS:
        return len(a) == len(b) and _equal_maps(a, b)
    if kind is Optional and other is Optional:
        return a.present == b.present and (not a.present or equal(a.value, b.value))
    return False


def _equal_lists(a: list[Any], b: list[Any]) -> bool:
    """Of the same length."""
    keyed = a if type(a) is MapList else b if type(b) is MapList else None
    if keyed is not None:
        others = {keyed.key(item): item for item in b}
        return all((k := keyed.key(item)) in others and equal(item, others[k]) for item in counted(a))
    if type(a) is SetList or type(b) is SetList:
        return all(contains(b, item) for item in counted(a))
    for x, y in zip(counted(a), b, strict=True):  # noqa: SIM110 - a generator costs half as much again
        if not equal(x, y):
            return False
    return True


def _equal_maps(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    """Of the same size."""
    for key, value in counted(a.items()):  # noqa: SIM110 - as above
        if key not in b or not equal(value, b[key]):
            return False
    return True


def contains(items: list[Any], wanted: Any) -> bool:
    if type(wanted) is str:  # equal to texts alone, for Python, too
        work.spend(len(items))
        return wanted in items
    return any(equal(item, wanted) for item in counted(items))


def concatenate(a: list[Any], b: list[Any]) -> list[Any]:
    """`a + b`, as the list type of `a` wants it."""
    work.spend(len(a) + len(b))
    if type(a) is SetList:
        return SetList([*a, *(item for item in b if not contains(a, item))])
    if type(a) is MapList:
        merged = {a.key(item): item for item in a}
        merged.update((a.key(item), item) for item in b)
        return MapList(list(merged.values()), a.keys)
    return [*a, *b]


_WORDS: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    SetList: "list",
    MapList: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    TypeValue: "type",
    Optional: "optional_type",
    Quantity: "kubernetes.Quantity",
    Url: "kubernetes.URL",
    Ip: "net.IP",
    Cidr: "net.CIDR",
    Semver: "kubernetes.Semver",
    Format: "kubernetes.NamedFormat",
    AuthorizerValue: "kubernetes.authorization.Authorizer",
    PathCheck: "kubernetes.authorization.PathCheck",
    GroupCheck: "kubernetes.authorization.GroupCheck",
    ResourceCheck: "kubernetes.authorization.ResourceCheck",
    Decision: "kubernetes.authorization.Decision",
}


def type_name(value: Any) -> str:
    return value.name if type(value) is ObjectValue else _WORDS.get(type(value), "dyn")


# --- time --------------------------------------------------------------------------------------------------------------

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}


def remembered(make: Callable[[str], T]) -> Callable[[str], T]:
    """The same texts come again and again; long ones are not worth their memory."""
    kept = lru_cache(1024)(make)
    return lambda text: kept(text) if len(text) <= _MOST_REMEMBERED else make(text)


_MOST_REMEMBERED = 64


@remembered
def timestamp(text: str) -> Timestamp:
    """RFC 3339. Raises CelError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise CelError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise CelError("type conversion error from 'string' to 'google.protobuf.Timestamp'") from None
    nanos = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * SECOND
    nanos += int((found[7] or "0").ljust(9, "0"))
    if found[8] not in "Zz":
        offset = int(found[8][1:3]) * 3600 + int(found[8][4:6]) * 60
        nanos -= (offset if found[8][0] == "+" else -offset) * SECOND
    return timestamp_of(nanos)


def date(text: str) -> Timestamp:
    """A day (format: date). Raises CelError."""
    return timestamp(f"{text}T00:00:00Z")


def timestamp_of(nanos: int) -> Timestamp:
    if not _MIN_TIME <= nanos <= _MAX_TIME:
        raise CelError("timestamp overflow")
    return Timestamp(nanos)


@remembered
def duration(text: str) -> Duration:
    """Go's notation: "1h30m", "-2.5s". Raises CelError."""
    body = text.lstrip("+-") if text[:1] in ("+", "-") else text
    total, at = Fraction(0), 0
    for found in _PART.finditer(body):
        if found.start() != at:
            break
        total, at = total + Fraction(found[1].rstrip(".")) * _UNITS[found[2]], found.end()
    if (at != len(body) or not body) and body != "0":
        raise CelError("type conversion error from 'string' to 'google.protobuf.Duration'")
    return duration_of(-int(total) if text.startswith("-") else int(total))


def duration_of(nanos: int) -> Duration:
    if abs(nanos) > _MAX_DURATION:
        raise CelError("duration overflow")
    return Duration(nanos)


def timestamp_text(value: Timestamp) -> str:
    whole, rest = divmod(value.nanos, SECOND)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + fraction + "Z"


def duration_text(value: Duration) -> str:
    """Seconds, as protobuf's JSON has them."""
    sign, nanos = ("-", -value.nanos) if value.nanos < 0 else ("", value.nanos)
    whole, rest = divmod(nanos, SECOND)
    return f"{sign}{whole}" + (f".{rest:09d}".rstrip("0") if rest else "") + "s"


def written(result: Any) -> Any:
    """An evaluation's result as JSON has it: `plain`, with work of its own. Raises CelError."""
    work.left = work.LIMIT
    return plain(result)


def plain(value: Any) -> Any:
    """As JSON has it. Raises CelError for what JSON has not."""
    kind = type(value)
    if value is None or kind in (bool, str, int, float):
        return value
    if kind is Uint:
        return int(value)
    if kind in _LISTS:
        return [plain(item) for item in counted(value)]
    if kind in _MAPS:
        if not all(isinstance(k, str) for k in value):
            raise CelError("map key is not of type string")
        return {k: plain(v) for k, v in counted(value.items())}
    if kind is Timestamp:
        return timestamp_text(value)
    if kind is Duration:
        return duration_text(value)
    if kind is bytes:
        import base64

        return base64.b64encode(value).decode()
    raise CelError(f"a value of type {type_name(value)} cannot be written as JSON")
