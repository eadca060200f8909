"""Quantities: canonical text, exact numbers, arithmetic. Expectations are those of upstream's own tests."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta import quantity


@pytest.mark.parametrize(
    ("text", "canonical", "milli", "value"),
    [
        ("0", "0", 0, 0),
        ("1000m", "1", 1000, 1),
        ("0.5", "500m", 500, 1),
        ("1500m", "1500m", 1500, 2),
        ("1024Mi", "1Gi", 2**30 * 1000, 2**30),
        ("1.5Gi", "1536Mi", 1536 * 2**20 * 1000, 1536 * 2**20),
        ("0.5Ki", "512", 512000, 512),
        ("1023Ki", "1023Ki", 1023 * 1024 * 1000, 1023 * 1024),
        ("1000k", "1M", 10**9, 10**6),
        ("12e6", "12e6", 12 * 10**9, 12 * 10**6),
        ("1e3", "1e3", 10**6, 1000),
        ("1E", "1E", 10**21, 10**18),
        ("1E3", "1e3", 10**6, 1000),
        ("1000000Gi", "1000000Gi", 10**9 * 2**30, 10**6 * 2**30),
        ("-1Gi", "-1Gi", -(2**30) * 1000, -(2**30)),
        ("+5", "5", 5000, 5),
        (".5", "500m", 500, 1),
        ("5.", "5", 5000, 5),
        ("0.0000000001", "1n", 1, 1),
        ("1e-9", "1e-9", 1, 1),
        ("9999999999999999999999", "9223372036854775807", (2**63 - 1) * 1000, 2**63 - 1),
        (0.1, "100m", 100, 1),
        (2, "2", 2000, 2),
    ],
)
def test_a_quantity(text: str | float, canonical: str, milli: int, value: int) -> None:
    assert quantity.canonical(text) == canonical
    assert quantity.milli(text) == milli
    assert quantity.value(text) == value


@pytest.mark.parametrize(
    "text", ["", "m", "1x", "1 Gi", "1.2.3", "--1", "1Mi3", "0x1", "1e", ".", "1" * 65, True, "１"]
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        quantity.parse(text)


SUFFIXES = ["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-2"]
QUANTITIES = st.builds(
    lambda whole, part, suffix: f"{whole}.{part}{suffix}",
    st.integers(-(10**6), 10**6),
    st.integers(0, 999),
    st.sampled_from(SUFFIXES),
)


@given(QUANTITIES)
def test_canonical_text_is_stable_and_keeps_the_amount(text: str) -> None:
    once = quantity.canonical(text)
    assert quantity.canonical(once) == once
    assert quantity.parse(once).nanos == quantity.parse(text).nanos
    assert "." not in once


@given(QUANTITIES, QUANTITIES)
def test_arithmetic_is_exact(a: str, b: str) -> None:
    x, y = quantity.parse(a).nanos, quantity.parse(b).nanos
    assert quantity.parse(quantity.add(a, b)).nanos == x + y
    assert quantity.parse(quantity.subtract(a, b)).nanos == x - y
    assert quantity.compare(a, b) == (x > y) - (x < y)


@given(st.integers(0, 10**6), st.sampled_from(["", "k", "M", "Ki", "Mi"]))
def test_value_and_milli_round_up(number: int, suffix: str) -> None:
    exact = Fraction(quantity.parse(f"{number}{suffix}").nanos, quantity.NANO)
    assert quantity.value(f"{number}{suffix}") == -(-exact.numerator // exact.denominator)
    assert quantity.milli(f"{number}m") == number


def test_a_sum_keeps_the_first_terms_format() -> None:
    assert quantity.add("1Gi", "1Gi") == "2Gi"
    assert quantity.add("0", "1Gi", "1Gi") == "2Gi"
    assert quantity.add("1000Mi", "24Mi") == "1Gi"
    assert quantity.add("500m", "500m") == "1"
    assert quantity.add() == "0"
