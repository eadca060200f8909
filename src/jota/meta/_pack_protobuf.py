"""Make data/protobuf.json.gz: field numbers joined with what only the Go types know. Run by hand for a new release.

    python -m jota.meta._pack_protobuf fields.json <folder of Go modules>

`fields.json` maps message -> number -> {name, type, repeated?}, as read from the published .proto files. The folder holds
the modules k8s.io/{api,apimachinery,apiextensions-apiserver,kube-aggregator} (`go mod download`). The .proto files do
not say which fields are pointers, which are inlined, and how JSON spells a name; the struct tags do.

Out: message -> [[number, JSON name, type, flags]], with the flags below.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

from jota.meta.protobuf import INLINE, OMITTED, OWN_FORM, POINTER, REPEATED

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(?:\w+\s+)?(\*?)[^\s`]+\s+`([^`]*)`", re.MULTILINE)
_JSON = re.compile(r'json:"([^"]*)"')
_PROTOBUF = re.compile(r'protobuf:"\w+,(\d+),')


def tags(folder: Path) -> dict[str, dict[str, tuple[str, int]]]:
    """message -> number -> (JSON name, flags), from every Go file below `folder`."""
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for path in sorted(folder.rglob("*.go")):
        if path.name.endswith("_test.go") or path.name.startswith("zz_"):
            continue
        module = re.sub(r"@[^/]*", "", str(path.parent.relative_to(folder))).replace("-", "_")
        package = "k8s.io." + module.replace("/", ".")
        for name, body in _STRUCT.findall(path.read_text()):
            fields = dict(_tag(pointer, text) for pointer, text in _FIELD.findall(body) if _PROTOBUF.search(text))
            if fields:
                found[f"{package}.{name}"] = fields
    return found


def _tag(pointer: str, text: str) -> tuple[str, tuple[str, int]]:
    number, label = _PROTOBUF.search(text), _JSON.search(text)
    assert number is not None
    name, _, options = (label[1] if label else "").partition(",")
    flags = POINTER if pointer else 0
    flags |= INLINE if "inline" in options or not name else 0
    flags |= OMITTED if "omit" in options and not pointer else 0
    return number[1], (name, flags)


def pack(
    fields: dict[str, dict[str, dict[str, object]]], go: dict[str, dict[str, tuple[str, int]]]
) -> dict[str, list[list[object]]]:
    out: dict[str, list[list[object]]] = {}
    for message, numbers in fields.items():
        known = go.get(message, {})
        rows: list[list[object]] = []
        for number, field in sorted(numbers.items(), key=lambda pair: int(pair[0])):
            name, flags = known.get(number, (str(field["name"]), INLINE if field.get("inline") else OMITTED))
            if message.rpartition(".")[2] in OWN_FORM:
                flags &= ~INLINE
                name = str(field["name"])
            flags |= REPEATED if field.get("repeated") else 0
            rows.append([int(number), name, field["type"], flags])
        out[message] = rows
    return out


def main() -> None:
    fields, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    packed = pack(fields, tags(folder))
    text = json.dumps(packed, separators=(",", ":"), sort_keys=True).encode()
    target = Path(__file__).parent / "data" / "protobuf.json.gz"
    target.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{len(packed)} messages, {len(text)} bytes, {target.stat().st_size} packed")


if __name__ == "__main__":
    main()
