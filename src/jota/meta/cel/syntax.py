"""CEL's grammar: text in, a tree of nodes out; macros are not expanded yet (macros.py). Raises Issue for bad syntax.

The grammar is that of the language definition with cel-go's optional syntax (`a.?b`, `a[?b]`, `{?k: v}`, `[?x]`). A node's
`at` is where its errors point to, which is where cel-go points: the operator, the dot, the bracket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from jota.aio import slices
from jota.meta.cel.errors import Issue
from jota.meta.cel.values import Uint

MAX_DEPTH = 150
"""Levels of an expression's tree: bounds the stack of everything that walks it."""
NODE = 10
"""Units of the loop's time (aio/slices.py) that each step of a compilation takes for each token or node."""
MAX_NESTED = 60
"""Brackets within brackets: each takes ten calls of the parser."""


@dataclass(slots=True)
class Node:
    at: int
    type: Any = field(default=None, init=False, compare=False)
    """Set by the checker: a types.Type."""


@dataclass(slots=True)
class Const(Node):
    value: Any


@dataclass(slots=True)
class Ident(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    operand: Node
    name: str
    test: bool = False
    """`has(a.b)`"""
    optional: bool = False
    """`a.?b`"""
    variable: bool = field(default=False, compare=False)
    """Set by the checker: all of it is the name of one variable (`authorizer.requestResource`)."""


@dataclass(slots=True)
class Call(Node):
    """Operators are calls of `_+_` and the like, as in cel-go."""

    function: str
    target: Node | None
    args: list[Node]
    overloads: list[Any] = field(default_factory=list, compare=False)
    """Set by the checker: what it may resolve to."""


@dataclass(slots=True)
class ListNode(Node):
    items: list[Node]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True)
class MapNode(Node):
    entries: list[tuple[Node, Node, bool]]


@dataclass(slots=True)
class StructNode(Node):
    """`Object.spec{replicas: 1}`"""

    name: str
    fields: list[tuple[str, Node, bool]]


@dataclass(slots=True)
class Macro(Node):
    """all, exists, exists_one, map, filter, sortBy, transformList, transformMap, transformMapEntry: over `range`, with one or two
    variables; `condition` filters or is judged, `step` makes what comes out."""

    kind: str
    range: Node
    variables: tuple[str, ...]
    condition: Node | None
    step: Node | None


@dataclass(slots=True)
class Let(Node):
    """cel.bind, optMap and optFlatMap. `optional`: "" | map | flatmap."""

    name: str
    value: Node
    body: Node
    optional: str = ""


RESERVED = frozenset({"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"})
RESERVED |= {"package", "namespace", "return", "var", "void", "while"}
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<text>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\"|'''|"|'))
    |(?P<hex>0x[0-9a-fA-F]+[uU]?)
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>[0-9]+[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z0-9_.\-/ ]+`)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])""",
    re.VERBOSE,
)
_EXPECTED = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
_RELATIONS = {"==", "!=", "<", "<=", ">", ">=", "in"}
_INT64 = 2**63


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    at: int
    value: Any = None


def parse(source: str) -> Node:
    """Raises Issue."""
    parser = _Parser(_tokens(source))
    node = parser.expression()
    parser.finish()
    if depth(node) > MAX_DEPTH:
        raise Issue(0, f"expression recursion limit exceeded: {MAX_DEPTH}")
    return node


def depth(root: Node) -> int:
    """Without recursion: the tree may be deeper than the stack."""
    most, todo = 0, [(root, 1)]
    while todo:
        node, level = todo.pop()
        most = max(most, level)
        todo += [(child, level + 1) for child in children(node)]
    return most


def children(node: Node) -> list[Node]:
    match node:
        case Select():
            return [node.operand]
        case Call():
            return [*([node.target] if node.target is not None else []), *node.args]
        case ListNode():
            return node.items
        case MapNode():
            return [n for k, v, _ in node.entries for n in (k, v)]
        case StructNode():
            return [v for _, v, _ in node.fields]
        case Macro():
            return [n for n in (node.range, node.condition, node.step) if n is not None]
        case Let():
            return [node.value, node.body]
    return []


# --- tokens ------------------------------------------------------------------------------------------------------------


def _tokens(source: str) -> list[_Token]:
    out: list[_Token] = []
    at = 0
    while at < len(source):
        slices.spend(NODE)
        found = _TOKEN.match(source, at)
        if found is None:
            raise Issue(at, f"Syntax error: token recognition error at: '{source[at]}'")
        kind, text = str(found.lastgroup), found[0]
        if kind == "text":
            token, at = _text(source, at, text)
            out.append(token)
            continue
        if kind != "space":
            out.append(_token(kind, text, at))
        at = found.end()
    out.append(_Token("end", "<EOF>", len(source)))
    return out


def _token(kind: str, text: str, at: int) -> _Token:
    if kind in ("hex", "int"):
        digits = text.rstrip("uU").lower().removeprefix("0x").lstrip("0")
        # Python reads no number of more than 4300 digits; none of more than 20 is one of CEL's
        number = int(digits or "0", 16 if kind == "hex" else 10) if len(digits) <= 20 else 2 * _INT64
        if text[-1] in "uU":
            if number >= 2 * _INT64:
                raise Issue(at, "invalid uint literal")
            return _Token("const", text, at, Uint(number))
        return _Token("int", text, at, number)
    if kind == "float":
        return _Token("const", text, at, float(text))
    if kind == "name" and text in _WORDS:
        return _Token("const", text, at, _WORDS[text])
    if kind == "name" and text == "in":
        return _Token("op", text, at)
    return _Token(kind, text, at)


_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SIMPLE |= {c: c for c in "\\?\"'`"}
_LONG = {"x": 2, "X": 2, "u": 4, "U": 8}


def _text(source: str, at: int, opening: str) -> tuple[_Token, int]:
    """A string or bytes literal, and where it ends."""
    prefix = opening.rstrip("\"'").lower()
    quote = opening[len(prefix) :]
    raw, is_bytes = "r" in prefix, "b" in prefix
    i, out = at + len(opening), bytearray()
    while not source.startswith(quote, i):
        if i >= len(source) or (len(quote) == 1 and source[i] in "\r\n"):
            raise Issue(at, f"Syntax error: token recognition error at: '{source[at : i + 1]}'")
        if source[i] == "\\" and not raw:
            piece, i = _escape(source, i, is_bytes)
            out += piece
        elif source[i] == "\\" and i + 1 < len(source):
            out += source[i : i + 2].encode("utf-8", "surrogatepass")
            i += 2
        else:
            out += source[i].encode("utf-8", "surrogatepass")
            i += 1
    value: Any = bytes(out)
    if not is_bytes:
        value = value.decode("utf-8", "surrogatepass")
    end = i + len(quote)
    return _Token("const", source[at:end], at, value), end


def _escape(source: str, i: int, is_bytes: bool) -> tuple[bytes, int]:
    char = source[i + 1 : i + 2]
    if char in _SIMPLE and char:
        return _SIMPLE[char].encode(), i + 2
    digits = source[i + 2 : i + 2 + _LONG[char]] if char in _LONG else source[i + 1 : i + 4]
    base, size = (16, _LONG[char]) if char in _LONG else (8, 3)
    try:
        number = int(digits, base) if len(digits) == size and digits.isalnum() else -1
    except ValueError:
        number = -1
    short = char not in "uU"
    if number < 0 or (short and number > 255) or number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise Issue(i, "Syntax error: token recognition error at an escape sequence")
    if is_bytes and not short:
        raise Issue(i, "Syntax error: unicode escapes are not allowed in bytes")
    end = i + (2 + size if char in _LONG else 1 + size)
    return (bytes([number]) if is_bytes else chr(number).encode()), end


# --- the parser --------------------------------------------------------------------------------------------------------


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        slices.spend(NODE)
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is(self, text: str) -> bool:
        return self._now.kind == "op" and self._now.text == text

    def _take(self, text: str) -> _Token | None:
        return self._next() if self._is(text) else None

    def _expect(self, text: str) -> _Token:
        if not self._is(text):
            raise Issue(self._now.at, f"Syntax error: missing '{text}' at '{self._now.text}'")
        return self._next()

    def _unexpected(self, expected: str) -> Issue:
        return Issue(self._now.at, f"Syntax error: mismatched input '{self._now.text}' expecting {expected}")

    def finish(self) -> None:
        if self._now.kind != "end":
            raise Issue(self._now.at, f"Syntax error: extraneous input '{self._now.text}' expecting <EOF>")

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_NESTED:
            raise Issue(self._now.at, f"expression recursion limit exceeded: {MAX_NESTED}")
        try:
            node = self._logic("||", "_||_", lambda: self._logic("&&", "_&&_", self._relation))
            question = self._take("?")
            if question is None:
                return node
            yes = self._logic("||", "_||_", lambda: self._logic("&&", "_&&_", self._relation))
            self._expect(":")
            return Call(question.at, "_?_:_", None, [node, yes, self.expression()])
        finally:
            self._depth -= 1

    def _logic(self, symbol: str, name: str, below: Any) -> Node:
        terms, places = [below()], []
        while (token := self._take(symbol)) is not None:
            places.append(token.at)
            terms.append(below())
        return _balanced(name, terms, places, 0, len(terms))

    def _relation(self) -> Node:
        node = self._sum()
        while self._now.kind == "op" and self._now.text in _RELATIONS:
            token = self._next()
            name = "@in" if token.text == "in" else f"_{token.text}_"
            node = Call(token.at, name, None, [node, self._sum()])
        return node

    def _sum(self) -> Node:
        node = self._product()
        while self._is("+") or self._is("-"):
            token = self._next()
            node = Call(token.at, f"_{token.text}_", None, [node, self._product()])
        return node

    def _product(self) -> Node:
        node = self._unary()
        while self._is("*") or self._is("/") or self._is("%"):
            token = self._next()
            node = Call(token.at, f"_{token.text}_", None, [node, self._unary()])
        return node

    def _unary(self) -> Node:
        for symbol, name in (("!", "!_"), ("-", "-_")):
            if not self._is(symbol):
                continue
            first, count = self._now.at, 0
            while self._take(symbol):
                count += 1
            if symbol == "-" and count % 2 and self._now.kind in ("int", "const"):
                return self._negative(first)
            node = self._member()
            return Call(first, name, None, [node]) if count % 2 else node
        return self._member()

    def _negative(self, at: int) -> Node:
        """A negative literal is one constant, unless something is selected from it."""
        token = self._now
        if token.kind == "int":
            self._next()
            if token.value > _INT64:
                raise Issue(at, "invalid int literal")
            return self._suffixes(Const(at, -token.value))
        if isinstance(token.value, float):
            self._next()
            return self._suffixes(Const(at, -token.value))
        return Call(at, "-_", None, [self._member()])

    def _member(self) -> Node:
        return self._suffixes(self._primary())

    def _suffixes(self, node: Node) -> Node:
        while True:
            if (dot := self._take(".")) is not None:
                optional = self._take("?") is not None
                name = self._name(field=True)
                if not optional and self._is("("):
                    opening = self._next()
                    node = Call(opening.at, name, node, self._arguments(")"))
                else:
                    node = Select(dot.at, node, name, optional=optional)
            elif (bracket := self._take("[")) is not None:
                function = "_[?_]" if self._take("?") else "_[_]"
                index = self.expression()
                self._expect("]")
                node = Call(bracket.at, function, None, [node, index])
            elif self._is("{") and (name := _qualified(node)):
                opening = self._next()
                node = StructNode(opening.at, name, self._fields())
            else:
                return node

    def _name(self, *, field: bool = False) -> str:
        token = self._now
        if token.kind != "name" and not (field and token.kind == "const" and token.text in _WORDS):
            raise self._unexpected("IDENTIFIER")
        self._next()
        if token.text.startswith("`"):
            return token.text[1:-1]
        if token.text in RESERVED and not field:
            raise Issue(token.at, f"reserved identifier: {token.text}")
        return token.text

    def _primary(self) -> Node:
        token = self._now
        if token.kind == "const":
            return Const(self._next().at, token.value)
        if token.kind == "int":
            if token.value >= _INT64:
                raise Issue(token.at, "invalid int literal")
            return Const(self._next().at, token.value)
        if self._take("("):
            node = self.expression()
            self._expect(")")
            return node
        if self._take("["):
            return self._list(token.at)
        if self._take("{"):
            return self._map(token.at)
        self._take(".")
        if self._now.kind != "name":
            raise self._unexpected(_EXPECTED)
        name = self._name()
        if self._is("("):
            opening = self._next()
            return Call(opening.at, name, None, self._arguments(")"))
        return Ident(token.at, name)

    def _arguments(self, closing: str) -> list[Node]:
        found: list[Node] = []
        while not self._is(closing):
            found.append(self.expression())
            if not self._take(","):
                break
        self._expect(closing)
        return found

    def _list(self, at: int) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while not self._is("]"):
            if self._take("?"):
                optional.add(len(items))
            items.append(self.expression())
            if not self._take(","):
                break
        self._expect("]")
        return ListNode(at, items, frozenset(optional))

    def _map(self, at: int) -> Node:
        entries: list[tuple[Node, Node, bool]] = []
        while not self._is("}"):
            optional = self._take("?") is not None
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression(), optional))
            if not self._take(","):
                break
        self._expect("}")
        return MapNode(at, entries)

    def _fields(self) -> list[tuple[str, Node, bool]]:
        fields: list[tuple[str, Node, bool]] = []
        while not self._is("}"):
            optional = self._take("?") is not None
            name = self._name(field=True)
            self._expect(":")
            fields.append((name, self.expression(), optional))
            if not self._take(","):
                break
        self._expect("}")
        return fields


def _balanced(name: str, terms: list[Node], places: list[int], low: int, high: int) -> Node:
    """A long chain of && or || as a shallow tree, as cel-go makes it; their order of evaluation is the same."""
    if high - low == 1:
        return terms[low]
    middle = (low + high + 1) // 2
    left, right = _balanced(name, terms, places, low, middle), _balanced(name, terms, places, middle, high)
    return Call(places[middle - 1], name, None, [left, right])


def _qualified(node: Node) -> str:
    """ "a.b.c" for a chain of plain names, else ""."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.optional and not node.test:
        before = _qualified(node.operand)
        return f"{before}.{node.name}" if before else ""
    return ""


qualified = _qualified
