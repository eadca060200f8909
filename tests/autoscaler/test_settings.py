"""Settings from words and files: what is taken, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from jota.autoscaler.settings import BadSettings, from_words, parse


def test_words_and_files_mean_the_same() -> None:
    words = from_words(
        [
            "local:1..5",
            "exec:0..3,name=big,command=/opt/m --fast,cpu=8,memory=32Gi,label.disk=ssd,timeout=90s",
            "scaleDownUnneededTime=1m30s",
            "scaleDownEnabled=false",
        ]
    )
    file = {
        "groups": [
            {"provider": "local", "min": 1, "max": 5},
            {
                "provider": "exec",
                "name": "big",
                "min": 0,
                "max": 3,
                "command": ["/opt/m", "--fast"],
                "timeout": 90,
                "template": {"cpu": 8, "memory": "32Gi", "labels": {"disk": "ssd"}},
            },
        ],
        "scaleDownUnneededTime": 90,
        "scaleDownEnabled": False,
    }
    assert parse(words) == parse(file)
    settings = parse(file)
    assert [(g.name, g.min, g.max, g.timeout) for g in settings.groups] == [("local", 1, 5, 60.0), ("big", 0, 3, 90.0)]
    assert settings.groups[1].template.allocatable == {"cpu": "8", "memory": "32Gi", "pods": "110"}
    assert (settings.options.scaleDownUnneededTime, settings.options.scaleDownUtilizationThreshold) == (90.0, 0.5)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("local", "give PROVIDER:MIN..MAX"),
        ("cloud:1..2", "give PROVIDER:MIN..MAX"),
        ("local:1-5", "give the bounds as MIN..MAX, e.g. local:1..5"),
        ("local:5..1", "min 5 and max 1 are not in order"),
        ("local:0..99999", "not in order between 0 and 16000"),
        ("local:1..2,cpu=4", "template: no such setting of provider local"),
        ("local:1..2,name=A b", "use lower-case letters"),
        ("exec:1..2,cpu=4,memory=1Gi", "command: give the program"),
        ("exec:1..2,command=x", "give at least cpu and memory"),
        ("exec:1..2,command=x,cpu=-1,memory=1Gi", "cpu: '-1' is not an amount"),
        ("exec:1..2,command=x,cpu=many,memory=1Gi", "cpu: 'many' is not an amount"),
        ("exec:1..2,command=x,cpu=1,memory=1Gi,timeout=soon", "timeout: 'soon' is not a time; write 30s"),
        ("scaleDownUnneededTime=10x", "is not a time"),
        ("scaleDownUnneededTime=-1s", "is not a time"),
        ("scaleDownEnabled=maybe", "neither true nor false"),
        ("maxDrainParallelism=0", "must be positive"),
        ("scanInterval=1ms", "at least 100ms"),
        ("sclaeDown=1s", "no such option; there are scanInterval"),
    ],
)
def test_what_is_refused(word: str, why: str) -> None:
    with pytest.raises(BadSettings) as caught:
        from_words([word])
    assert why in str(caught.value)


EXEC = {"provider": "exec", "min": 0, "max": 1, "command": ["machines"]}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"groups": "local"},
        {"groups": ["local"]},
        {"groups": [{}]},
        {"groups": [{"provider": "local", "min": 1}]},
        {"groups": [{"provider": "local", "min": True, "max": 2}]},
        {"groups": [{"provider": "local", "min": 1.5, "max": 2}]},
        {"groups": [{"provider": "local", "min": 1, "max": 2}] * 2},
        {"groups": [{"provider": p, "min": 1, "max": 2, "name": "same"} for p in ("local", "hollow")]},
        {"scanInterval": None},
        {"scanInterval": 10**400},
        {"maxNodesTotal": float("inf")},
        {"scaleDownUtilizationThreshold": 10**400},
        {"groups": [{"provider": "local", "min": 0, "max": float("inf")}]},
        {"groups": [{"provider": "local", "min": 0, "max": 1, 1: "x", "a": "x"}]},
        {"groups": [{**EXEC, "template": {"cpu": "1", "memory": "1Gi", "labels": {1: "a"}}}]},
        {"groups": [{**EXEC, "template": {"cpu": "1", "memory": "1Gi", "labels": {"a": 1}}}]},
    ],
)
def test_documents_that_make_no_sense(document: Any) -> None:
    with pytest.raises(BadSettings):
        parse(document)
