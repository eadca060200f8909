"""The quick look at an endpoint's address lets nothing pass that the long one refuses."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from jota.kinds.core.endpoints import endpoint_address, ordinary_ipv4

NEAR = st.lists(st.sampled_from([0, 1, 10, 126, 127, 128, 169, 192, 223, 224, 239, 254, 255]), min_size=4, max_size=4)


@given(NEAR.map(lambda parts: ".".join(map(str, parts))) | st.text(alphabet="0123456789.:af٣\0 ") | st.text())
@example("010.0.0.1")
@example("10.0.0.1\0")
@example("::ffff:10.0.0.1")
def test_what_is_let_pass_at_a_glance_is_an_address_that_traffic_can_be_sent_to(value: str) -> None:
    if ordinary_ipv4(value):
        address = ipaddress.IPv4Address(value)
        bad = address.is_unspecified, address.is_loopback, address.is_link_local, address.is_multicast
        assert not any(bad)


def test_most_addresses_are_let_pass_and_special_ones_are_told() -> None:
    assert ordinary_ipv4("10.42.0.7")
    assert not endpoint_address("10.42.0.7", "p")
    for special in ("0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "10.0.0", "fe80::1"):
        assert not ordinary_ipv4(special)
        assert endpoint_address(special, "p")
