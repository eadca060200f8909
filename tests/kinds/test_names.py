"""Names inside specs."""

from __future__ import annotations

import pytest

from jota.kinds import names


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ("http", ()),
        ("x" * 16, ("must be no more than 15 characters",)),
        ("80", ("must contain at least one letter (a-z)",)),
        ("a--b", ("must not contain consecutive hyphens",)),
        ("-a", ("must not begin or end with a hyphen",)),
        ("aB", ("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",)),
    ],
)
def test_port_names(value: str, problems: tuple[str, ...]) -> None:
    assert names.port_name(value) == problems


def test_labels_with_dots() -> None:
    assert names.dns_label("a.b") == ("must not contain dots",)
    assert "RFC 1123 label" in names.dns_label("A.b")[0]


@pytest.mark.parametrize(("value", "good"), [("A", True), ("a.b c", True), ("", False), ("a=b", False), ("ä", False)])
def test_environment_names(value: str, good: bool) -> None:
    assert (names.env_name(value) == ()) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [(80, True), (0, False), (65536, False), (True, False), ("http", True), ("HTTP", False), (None, False)],
)
def test_ports_by_number_or_name(value: object, good: bool) -> None:
    assert (names.port_ref(value) == ()) is good


@pytest.mark.parametrize(
    ("key", "good"), [("a.b", True), ("A_b-c", True), ("..", False), ("a/b", False), ("x" * 254, False)]
)
def test_keys_of_config_maps(key: str, good: bool) -> None:
    assert (names.config_map_key(key) == ()) is good
