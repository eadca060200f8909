"""Merge patches and strategic merge patches on a Deployment: an object or 4xx; the original stays."""

from __future__ import annotations

import orjson

from jota.meta.decode import parse_json
from jota.meta.patch import merge, strategic
from targets import kit

SCHEMA = "io.k8s.api.apps.v1.Deployment"
LIVE = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "labels": {"a": "b"}, "finalizers": ["x/a", "x/b"], "ownerReferences": [{"uid": "1"}]},
    "spec": {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {
            "metadata": {},
            "spec": {
                "containers": [
                    {"name": "a", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "X", "value": "1"}]},
                    {"name": "b", "image": "j", "args": ["x"]},
                ],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "tolerations": [{"key": "k"}],
            },
        },
    },
}
_BEFORE = orjson.dumps(LIVE)


def _pod(spec: bytes) -> bytes:
    return b'{"spec":{"template":{"spec":{' + spec + b"}}}}"


SEEDS = [
    _pod(b'"containers":[{"name":"a","image":"new"},{"name":"c"},{"name":"b","$patch":"delete"}]'),
    _pod(b'"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","ports":null}]'),
    _pod(b'"volumes":[{"$retainKeys":["name","secret"],"name":"v","secret":{"secretName":"s"}}]'),
    _pod(b'"containers":[{"$patch":"replace"},{"name":"z"}],"tolerations":[{"key":"x"}]'),
    b'{"metadata":{"$deleteFromPrimitiveList/finalizers":["x/a"],"$setElementOrder/finalizers":["x/b"],"labels":null}}',
    b'{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"},"$patch":"merge"}}',
    b'{"$patch":"replace","metadata":{"finalizers":["x/a","x/a",1]}}',
]
# the short cut for patches without directives took an empty list for a list's new value
SEEDS += [b'{"metadata":{"finalizers":[]}}', _pod(b'"containers":[]')]
WORDS = [
    b'"$patch":',
    b'"$retainKeys":',
    b'"$setElementOrder/',
    b'"$deleteFromPrimitiveList/',
    b'"delete"',
    b'"name":"a"',
    b"null",
]


def check(data: bytes) -> None:
    first = kit.taken_or_refused(lambda: merge.apply(LIVE, parse_json(data)))
    if first is not None:
        assert merge.apply(first, parse_json(data)) == first, "a merge patch twice is a merge patch once"
    kit.taken_or_refused(lambda: strategic.apply(LIVE, parse_json(data), SCHEMA))
    assert orjson.dumps(LIVE) == _BEFORE, "the original was changed"
    if strategic.is_plain(data) and isinstance(first, dict):
        slow = kit.taken_or_refused(lambda: strategic.apply(LIVE, parse_json(data), SCHEMA))
        fast = kit.taken_or_refused(lambda: strategic.apply(LIVE, parse_json(data), SCHEMA, plain=True))
        assert slow == fast, (slow, fast)
