"""Label selectors inside specs, against the definition of each operator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.kinds.labels import matches, validate_selector
from jota.meta import selectors

KEYS, VALUES = st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3"])
LABELS = st.dictionaries(KEYS, VALUES)
SETS = st.fixed_dictionaries(
    {"key": KEYS, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(VALUES, min_size=1)}
)
PRESENCE = st.fixed_dictionaries({"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])})


@given(labels=LABELS, wanted=LABELS, rules=st.lists(SETS | PRESENCE, max_size=3))
def test_agrees_with_the_selectors_of_queries(labels: dict[str, str], wanted: dict[str, str], rules: list[Any]) -> None:
    selector = {"matchLabels": wanted, "matchExpressions": rules}
    assert matches(selector, labels) == selectors.from_object(selector).matches(labels)
    assert validate_selector(selector, "spec.selector") == []


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"key": "a", "operator": "In"}, "spec.selector.matchExpressions[0].values: Required value: must be specified"),
        (
            {"key": "a", "operator": "Exists", "values": ["x"]},
            "spec.selector.matchExpressions[0].values: Forbidden: may not be",
        ),
        (
            {"key": "a", "operator": "Near"},
            'spec.selector.matchExpressions[0].operator: Invalid value: "Near": not a valid',
        ),
        (
            {"key": "-", "operator": "Exists"},
            'spec.selector.matchExpressions[0].key: Invalid value: "-": name part must',
        ),
    ],
)
def test_rules(rule: dict[str, Any], problem: str) -> None:
    (error,) = validate_selector({"matchExpressions": [rule]}, "spec.selector")
    assert f"{error.field}: {error.message}".startswith(problem)
