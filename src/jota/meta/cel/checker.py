"""Types of an expression: unknown names, fields and overloads are told before it runs, in cel-go's words.

In: an expanded tree and the variables' types. Out: the tree with a type at every node and, at calls, the overloads that may
apply; errors in `issues`. Next: interpreter.py runs it, cost.py estimates what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping

from jota.aio import slices
from jota.meta.cel import types
from jota.meta.cel.errors import CelError, Issue
from jota.meta.cel.functions import Function
from jota.meta.cel.library import functions
from jota.meta.cel.syntax import (
    NODE,
    Call,
    Const,
    Ident,
    Let,
    ListNode,
    Macro,
    MapNode,
    Node,
    Select,
    StructNode,
    qualified,
)
from jota.meta.cel.types import BOOL, DYN, INT, STRING, Type, assignable, joined, list_of, map_of, resolved
from jota.meta.cel.values import Uint, duration, timestamp
from jota.meta.structural import patterns

_LITERALS = {bool: BOOL, int: INT, Uint: types.UINT, float: types.DOUBLE, str: STRING, bytes: types.BYTES}
SORTED = {"dyn", "param", "int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"}
"""Types that sortBy may sort by."""
_PATCH = {"op": STRING, "path": STRING, "from": STRING, "value": DYN}
"""Fields of JSONPatch{...}."""


class Checker:
    def __init__(self, variables: Mapping[str, Type], *, objects: bool = False) -> None:
        """`objects`: Object{...} and JSONPatch{...} may be made (mutations)."""
        self.issues: list[Issue] = []
        self.used: set[str] = set()
        self._scope = dict(variables)
        self._declared = frozenset(variables)
        self._objects = objects
        self._mixed = False
        """The next list may have items of several types: it is what a text is formatted with."""

    def check(self, node: Node) -> Type:
        slices.spend(NODE)
        found = self._type(node)
        node.type = found
        return found

    def _issue(self, at: int, text: str) -> Type:
        self.issues.append(Issue(at, text))
        return DYN

    def _type(self, node: Node) -> Type:
        match node:
            case Const():
                return types.NULL if node.value is None else _LITERALS[type(node.value)]
            case Ident():
                return self._ident(node)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListNode():
                return self._list(node)
            case MapNode():
                return self._map(node)
            case StructNode():
                return self._struct(node)
            case Macro():
                return self._macro(node)
            case Let():
                return self._let(node)
        raise AssertionError(type(node))

    # -- names and fields

    def _ident(self, node: Ident) -> Type:
        found = self._scope.get(node.name)
        if found is not None:
            if node.name in self._declared:
                self.used.add(node.name)
            return found
        if node.name in types.NAMES:
            return Type("type", (types.NAMES[node.name],))
        return self._issue(node.at, f"undeclared reference to '{node.name}' (in container '')")

    def _select(self, node: Select) -> Type:
        name = qualified(node)
        if name in self._declared and name in self._scope:
            node.variable = True
            self.used.add(name)
            return self._scope[name]
        if name in types.NAMES and name.split(".")[0] not in self._scope:
            return Type("type", (types.NAMES[name],))
        operand = self.check(node.operand)
        wrapped = operand.kind == "optional"
        inner = operand.params[0] if wrapped else operand
        found = self._field(inner, node)
        if node.test:
            return BOOL
        return Type("optional", (found,)) if (wrapped or node.optional) and found.kind != "optional" else found

    def _field(self, operand: Type, node: Select) -> Type:
        match operand.kind:
            case "dyn" | "param":
                return DYN
            case "map":
                return operand.params[1]
            case "struct":
                found = operand.field(node.name)
                return found if found is not None else self._issue(node.at, f"undefined field '{node.name}'")
        return self._issue(node.at, f"type '{operand}' does not support field selection")

    # -- calls

    def _call(self, node: Call) -> Type:
        if node.target is not None:
            prefix = qualified(node.target)
            if prefix and prefix.split(".")[0] not in self._scope and f"{prefix}.{node.function}" in functions():
                node.function, node.target = f"{prefix}.{node.function}", None
        arguments = [self.check(node.target)] if node.target is not None else []
        self._mixed = node.function == "format"
        arguments += [self.check(arg) for arg in node.args]
        known = functions().get(node.function)
        if known is None:
            return self._issue(node.at, f"undeclared reference to '{node.function}' (in container '')")
        result = self._resolve(node, known, arguments)
        if result is None:
            shown = self._shown(node, arguments)
            return self._issue(node.at, f"found no matching overload for '{node.function}' applied to '{shown}'")
        self._literals(node)
        return result

    def _resolve(self, node: Call, known: list[Function], arguments: list[Type]) -> Type | None:
        results: list[Type] = []
        for function in known:
            method, parameters, result = function.parsed()
            if method is not (node.target is not None) or len(parameters) != len(arguments):
                continue
            bound: types.Bindings = {}
            if all(assignable(p, a, bound) for p, a in zip(parameters, arguments, strict=True)):
                node.overloads.append(function)
                results.append(resolved(result, bound))
        if not results:
            return None
        first = results[0]
        return first if all(str(r) == str(first) for r in results) else DYN

    @staticmethod
    def _shown(node: Call, arguments: list[Type]) -> str:
        inner = ", ".join(map(str, arguments[1:] if node.target is not None else arguments))
        return f"{arguments[0]}.({inner})" if node.target is not None else f"({inner})"

    def _literals(self, node: Call) -> None:
        """Literal durations, times and patterns must be right."""
        literal = next((a.value for a in node.args[-1:] if isinstance(a, Const)), None)
        if not isinstance(literal, str):
            return
        try:
            match node.function:
                case "duration":
                    duration(literal)
                case "timestamp":
                    timestamp(literal)
                case "matches":
                    patterns.compile(literal)
        except (CelError, patterns.PatternError):
            self._issue(node.args[-1].at, f"invalid {node.function} argument")

    # -- literals

    def _list(self, node: ListNode) -> Type:
        mixed, self._mixed = self._mixed, False
        found = [self.check(item) for item in node.items]
        for index in node.optional:
            found[index] = self._unwrapped(found[index], node.items[index])
        if mixed:
            return list_of(DYN, most=len(found))
        return list_of(self._same(found, node.items), most=len(found))

    def _unwrapped(self, given: Type, node: Node) -> Type:
        if given.kind == "optional":
            return given.params[0]
        return (
            given
            if given.kind == "dyn"
            else self._issue(node.at, f"expected type 'optional_type(_)' but found '{given}'")
        )

    def _same(self, found: list[Type], nodes: list[Node]) -> Type:
        """One type for all items of a literal (upstream's HomogeneousAggregateLiterals)."""
        for earlier, later, node in zip(found, found[1:], nodes[1:], strict=False):
            if not (assignable(earlier, later, {}) or assignable(later, earlier, {})):
                self._issue(node.at, f"expected type '{earlier}' but found '{later}'")
        return joined(found)

    def _map(self, node: MapNode) -> Type:
        keys = [self.check(key) for key, _, _ in node.entries]
        values = [self.check(value) for _, value, _ in node.entries]
        for index, (_, value, optional) in enumerate(node.entries):
            if optional:
                values[index] = self._unwrapped(values[index], value)
        key = self._same(keys, [k for k, _, _ in node.entries])
        return map_of(key, self._same(values, [v for _, v, _ in node.entries]), most=len(keys))

    def _struct(self, node: StructNode) -> Type:
        object_ = node.name == "Object" or node.name.startswith("Object.")
        if not self._objects or not (object_ or node.name == "JSONPatch"):
            return self._issue(node.at, f"undeclared reference to '{node.name}' (in container '')")
        for name, value, optional in node.fields:
            given = self.check(value)
            if optional:
                given = self._unwrapped(given, value)
            wanted = DYN if object_ else _PATCH.get(name)
            if wanted is None:
                self._issue(value.at, f"undefined field '{name}'")
            elif not assignable(wanted, given, {}):
                self._issue(value.at, f"expected type of field '{name}' is '{wanted}' but provided type is '{given}'")
        return Type("struct", name=node.name)

    # -- scopes

    def _macro(self, node: Macro) -> Type:
        over = self.check(node.range)
        bound = self._items(over, node)
        was = {name: self._scope.get(name) for name in bound}
        declared, self._declared = self._declared, self._declared - bound.keys()
        self._scope.update(bound)
        condition = self.check(node.condition) if node.condition is not None else BOOL
        step = self.check(node.step) if node.step is not None else DYN
        for name, before in was.items():
            if before is None:
                del self._scope[name]
            else:
                self._scope[name] = before
        self._declared = declared
        if condition.kind not in ("bool", "dyn", "param") and node.condition is not None:
            self._no_condition(node, condition, over, step)
        return self._made(node, over, step)

    def _no_condition(self, node: Macro, found: Type, over: Type, step: Type) -> None:
        """A condition that is no condition, in the words that cel-go's expansion of the macro leads to."""
        assert node.condition is not None
        if node.kind in ("all", "exists"):
            self._issue(node.condition.at, f"expected type 'bool' but found '{found}'")
            return
        item = step if node.step is not None else over.params[0] if over.kind == "list" else DYN
        made = "int" if node.kind == "exists_one" else f"list({item})"
        self._issue(node.at, f"found no matching overload for '_?_:_' applied to '({found}, {made}, {made})'")

    def _items(self, over: Type, node: Macro) -> dict[str, Type]:
        """The variables of a macro."""
        match over.kind:
            case "list":
                key, value = INT, over.params[0]
            case "map":
                key, value = over.params
            case "dyn" | "param":
                key = value = DYN
            case _:
                text = f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
                self._issue(node.range.at, text)
                key = value = DYN
        if len(node.variables) == 2:
            return {node.variables[0]: key, node.variables[1]: value}
        return {node.variables[0]: key if over.kind == "map" else value}

    def _made(self, node: Macro, over: Type, step: Type) -> Type:
        match node.kind:
            case "all" | "exists" | "exists_one":
                return BOOL
            case "sortBy" if step.kind not in SORTED:
                return self._issue(node.at, f"list elements must be comparable, not '{step}'")
            case "filter" | "sortBy":
                item = over.params[0] if over.kind in ("list", "map") else DYN
                return list_of(item, over.most)
            case "map" | "transformList":
                return list_of(step, over.most)
            case "transformMap":
                key = over.params[0] if over.kind == "map" else INT if over.kind == "list" else DYN
                return map_of(key, step, over.most)
        if step.kind not in ("map", "dyn"):
            return self._issue(node.at, f"expected type 'map(_, _)' but found '{step}'")
        return step

    def _let(self, node: Let) -> Type:
        value = self.check(node.value)
        if node.optional:
            value = self._unwrapped(value, node.value)
        before = self._scope.get(node.name)
        declared, self._declared = self._declared, self._declared - {node.name}
        self._scope[node.name] = value
        body = self.check(node.body)
        if before is None:
            del self._scope[node.name]
        else:
            self._scope[node.name] = before
        self._declared = declared
        return Type("optional", (body,)) if node.optional == "map" else body
