"""What errors say to people."""

from __future__ import annotations

import pytest

from jota.aio.told import told


@pytest.mark.parametrize(
    ("error", "words"), [(ValueError("no"), "no"), (TimeoutError(), "TimeoutError"), (OSError(), "OSError")]
)
def test_an_error_without_words_is_named(error: Exception, words: str) -> None:
    assert told(error) == words
