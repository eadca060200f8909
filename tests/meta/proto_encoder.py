"""A second opinion: encodes JSON values with Google's protobuf library, from descriptors built out of our data file."""

from __future__ import annotations

import base64
import calendar
import json
import time
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from jota.meta import protobuf

_TYPES = {"string": 9, "bytes": 12, "bool": 8, "int32": 5, "int64": 3, "double": 1}
_MESSAGE = 11


class Encoder:
    """`encode(api_version, kind, value)` gives the envelope that client-go would send."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, str, str, int]]] = {}
        self.file = descriptor_pb2.FileDescriptorProto(name="all.proto", package="t", syntax="proto2")

    def encode(self, api_version: str, kind: str, value: dict[str, Any]) -> bytes:
        name = protobuf.message_of(api_version, kind)
        assert name is not None
        encoder = Encoder()
        encoder.add(name)
        encoder.add("k8s.io.apimachinery.pkg.runtime.Unknown")
        pool = descriptor_pool.DescriptorPool()
        pool.Add(encoder.file)
        body = encoder.build(pool, name, {k: v for k, v in value.items() if k not in ("apiVersion", "kind")})
        unknown: Any = _new(pool, "k8s.io.apimachinery.pkg.runtime.Unknown")
        unknown.f1.f1, unknown.f1.f2 = api_version, kind
        unknown.f2 = body.SerializeToString()
        return protobuf.MAGIC + bytes(unknown.SerializeToString())

    def add(self, name: str) -> None:
        if name in self.rows:
            return
        rows = msgspec.json.decode(protobuf.messages()[name], type=list[tuple[int, str, str, int]])
        self.rows[name] = rows
        message = self.file.message_type.add(name=_flat(name))
        for number, _, type, flags in rows:
            field = message.field.add(name=f"f{number}", number=number, label=3 if flags & protobuf.REPEATED else 1)
            if type.startswith("map<"):
                key, type = type[4:-1].split(",")
                entry = message.nested_type.add(name=f"F{number}Entry")
                entry.options.map_entry = True
                self.type(entry.field.add(name="key", number=1, label=1), key)
                self.type(entry.field.add(name="value", number=2, label=1), type)
                field.label, field.type, field.type_name = 3, _MESSAGE, f".t.{_flat(name)}.F{number}Entry"
            else:
                self.type(field, type)

    def type(self, field: Any, type: str) -> None:
        field.type = _TYPES.get(type, _MESSAGE)
        if type not in _TYPES:
            field.type_name = ".t." + _flat(type)
            self.add(type)

    def build(self, pool: Any, name: str, value: Any) -> Any:
        out: Any = _new(pool, name)
        short = name.rpartition(".")[2]
        if short in protobuf.OWN_FORM:
            self.own_form(pool, out, name, short, value)
            return out
        used: set[str] = set()
        for number, field, type, flags in self.rows[name]:
            target = f"f{number}"
            if flags & protobuf.INLINE:
                own = {row[1] for row in self.rows[type]}
                part = {k: v for k, v in value.items() if k in own or _is_inline_below(self.rows, type, k)}
                used |= part.keys()
                getattr(out, target).CopyFrom(self.build(pool, type, part))
            elif field in value:
                used.add(field)
                self.fill(pool, out, target, type, value[field], bool(flags & protobuf.REPEATED))
        assert used == set(value), (name, set(value) - used)
        return out

    def fill(self, pool: Any, out: Any, target: str, type: str, value: Any, repeated: bool) -> None:
        if type.startswith("map<"):
            inner = type[4:-1].split(",")[1]
            for key, child in value.items():
                if inner in _TYPES:
                    getattr(out, target)[key] = _scalar(inner, child)
                else:
                    getattr(out, target)[key].CopyFrom(self.build(pool, inner, child))
        elif repeated:
            for child in value:
                if type in _TYPES:
                    getattr(out, target).append(_scalar(type, child))
                else:
                    getattr(out, target).add().CopyFrom(self.build(pool, type, child))
        elif type in _TYPES:
            setattr(out, target, _scalar(type, value))
        else:
            getattr(out, target).CopyFrom(self.build(pool, type, value))

    def own_form(self, pool: Any, out: Any, name: str, short: str, value: Any) -> None:
        props = name.replace(short, "JSONSchemaProps")
        match short:
            case "Quantity":
                out.f1 = value
            case "IntOrString":
                out.f1 = int(isinstance(value, str))
                setattr(out, "f3" if isinstance(value, str) else "f2", value)
            case "Time" | "MicroTime":
                whole, _, part = value.rstrip("Z").partition(".")
                out.f1 = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
                out.f2 = int(part or 0) * 1000
            case "ExtraValue":
                out.f1.extend(value)
            case "JSONSchemaPropsOrBool":
                out.f1 = value is not False
                if isinstance(value, dict):
                    out.f2.CopyFrom(self.build(pool, props, value))
            case "JSONSchemaPropsOrArray":
                out.f1.CopyFrom(self.build(pool, props, value))
            case _:
                out.f1 = json.dumps(value).encode()


def _is_inline_below(rows: dict[str, list[tuple[int, str, str, int]]], name: str, key: str) -> bool:
    return any(row[3] & protobuf.INLINE and key in {r[1] for r in rows[row[2]]} for row in rows[name])


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _new(pool: Any, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t." + _flat(name)))()


def _scalar(type: str, value: Any) -> Any:
    return base64.b64decode(value) if type == "bytes" else value
