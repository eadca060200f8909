"""Every input that the fuzzer thought worth keeping, through every parser, without the fuzzer (README of it: __main__.py)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator

import corpus_file
import pytest
from targets import kit

SLOW = 5.0
"""Seconds for one input: a hang, not a benchmark."""


@pytest.fixture
def loop() -> Iterator[None]:
    yield
    kit.close_loop()


@pytest.mark.parametrize("name", corpus_file.TARGETS)
def test_kept_inputs(name: str, loop: None) -> None:
    target = importlib.import_module(f"targets.{name}")
    inputs = [*target.SEEDS, *corpus_file.read(name)]
    try:
        for data in inputs:
            began = time.monotonic()
            target.check(data)
            assert time.monotonic() - began < SLOW, data
    finally:
        getattr(target, "close", lambda: None)()


def test_the_corpus_belongs_to_targets_and_is_small() -> None:
    files = list((corpus_file.HERE / "corpus").glob("*"))
    assert {file.stem for file in files} <= set(corpus_file.TARGETS)
    assert sum(file.stat().st_size for file in files) < 250_000
