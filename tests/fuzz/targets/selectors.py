"""Label and field selectors: read, written and read again they are the same; all else is 400."""

from __future__ import annotations

from jota.meta import selectors
from jota.meta.errors import ApiError
from targets import kit

SEEDS = [
    b"app=web,tier in (a,b),!old",
    b"a==b,c!=d,e notin (x,),x/y",
    b"a>1,b<2,in in (in,notin)",
    b"metadata.name=a,spec.nodeName!=b",
    b"a=b\\,c\\=d\\\\,e=",
    b"a.b/c in (,),  d  ",
]
WORDS = [b" in (", b" notin (", b"!=", b"==", b"\\,", b"metadata.name="]
LABELS = ({}, {"app": "web", "a": "2"}, {"x/y": "", "b": "1"})


def check(data: bytes) -> None:
    text = kit.text(data)
    try:
        labels = selectors.parse_labels(text)
    except ApiError as error:
        kit.refused(error)
    else:
        again = selectors.parse_labels(str(labels))
        assert str(again) == str(labels)
        assert all(again.matches(one) == labels.matches(one) for one in LABELS)
    try:
        fields = selectors.parse_fields(text)
    except ApiError as error:
        kit.refused(error)
    else:
        again_fields = selectors.parse_fields(str(fields))
        assert str(again_fields) == str(fields)
        assert all(
            again_fields.matches(lambda f, v=v: v) == fields.matches(lambda f, v=v: v) for v in ("", "a", text[:5])
        )
