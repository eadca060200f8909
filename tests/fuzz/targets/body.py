"""Bodies in JSON and YAML, with and without a type: a JSON value or 4xx; Strict, Warn and Ignore agree on what is taken."""

from __future__ import annotations

import json

import orjson

from jota.api.respond import warning_headers
from jota.meta.decode import decode_body
from jota.meta.errors import ApiError
from jota.wire.answer import build_head
from targets import kit
from targets.mergepatch import LIVE, SCHEMA

SEEDS = [
    orjson.dumps(LIVE),
    b'{"spec":{"replicas":1,"replicas":2,"unknown":{"a":[1]}}}',
    b"apiVersion: apps/v1\nkind: Deployment\nspec: &a {replicas: 3}\nstatus: *a\n",
    b"a: &a [x, y]\nb: [*a, *a]\n<<: {c: d}\n? [1]\n: 2\n",
    b"- 0o17\n- 0x1F\n- .inf\n- 1_000\n- ~\n- yes\n- 2026-01-01\n- !!str 5\n- !!binary YQ==\n",
    b"%YAML 1.1\n---\na: |\n  x\nb: >-\n  y\n...\n---\nc: d\n",
    b'{"n":' + b"9" * 60 + b',"f":1e400,"s":"\\ud800"}',
    b"a: " + b"1" * 60,
]
# names of unknown fields went into the Warning header as they were
SEEDS += [b'{"a\\u0000\\u0004":1,"\\r\\nX: y":2}', b'"a\\x00": 1\n"\\r\\n": 2\n']
WORDS = [b"replicas: ", b"&a ", b"*a", b"<<: ", b"!!int ", b"!!float ", b"? ", b"---\n", b'"spec":', b"containers"]


def check(data: bytes) -> None:
    for media in ("application/json", "application/yaml"):
        for definition in (SCHEMA, None):
            taken = []
            for strict in ("Ignore", "Warn", "Strict"):
                try:
                    value, warnings = decode_body(media, data, definition, strict=strict)
                except ApiError as error:
                    kit.refused(error)
                    continue
                orjson.dumps(value)
                build_head(200, warning_headers(warnings))
                taken.append(json.dumps(value, sort_keys=True))
            assert len(set(taken)) <= 1, taken
