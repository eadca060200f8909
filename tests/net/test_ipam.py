"""Addresses: unique, in the CIDR, round robin, recoverable."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.net.ipam import Allocator, Exhausted


def test_an_owner_keeps_its_address() -> None:
    pool = Allocator("10.1.0.0/24")
    assert pool.take("a") == "10.1.0.1"
    assert pool.take("b") == "10.1.0.2"
    assert pool.take("a") == "10.1.0.1"
    assert pool.owner("10.1.0.2") == "b"
    assert pool.leases == {"a": "10.1.0.1", "b": "10.1.0.2"}


def test_a_freed_address_is_the_last_to_return() -> None:
    pool = Allocator("10.1.0.0/29")  # six usable
    first = pool.take("a")
    assert pool.release("a") == first
    given = [pool.take(str(n)) for n in range(6)]
    assert given[-1] == first
    assert len(set(given)) == 6
    with pytest.raises(Exhausted):
        pool.take("one too many")


def test_the_round_robin_goes_on_after_a_restart() -> None:
    pool = Allocator("10.1.0.0/24")
    pool.take("a")
    freed = pool.take("b")
    pool.release("b")
    again = Allocator("10.1.0.0/24", pool.cursor)
    assert again.restore("a", "10.1.0.1")
    assert again.take("c") not in (freed, "10.1.0.1")


@pytest.mark.parametrize("address", ["10.1.0.0", "10.1.0.255", "10.2.0.1", "192.0.2.1"])
def test_an_address_from_elsewhere_is_not_restored(address: str) -> None:
    pool = Allocator("10.1.0.0/24")
    assert not pool.restore("a", address)
    assert pool.leases == {}


def test_restore_never_gives_one_address_to_two_or_two_to_one() -> None:
    pool = Allocator("10.1.0.0/24")
    assert pool.restore("a", "10.1.0.7")
    assert pool.restore("a", "10.1.0.7")
    assert not pool.restore("b", "10.1.0.7")
    assert not pool.restore("a", "10.1.0.8")


@given(st.lists(st.tuples(st.sampled_from(["take", "release"]), st.integers(0, 9)), max_size=80))
def test_leases_are_always_unique_and_inside(steps: list[tuple[str, int]]) -> None:
    pool = Allocator("10.1.0.0/29")
    model: dict[str, str] = {}
    for verb, number in steps:
        owner = f"pod{number}"
        if verb == "take":
            if owner not in model and len(model) == 6:
                with pytest.raises(Exhausted):
                    pool.take(owner)
                continue
            address = pool.take(owner)
            assert model.setdefault(owner, address) == address
        else:
            assert pool.release(owner) == model.pop(owner, None)
        assert pool.leases == model
        assert len(set(model.values())) == len(model)
        assert all(ipaddress.ip_address(a) in ipaddress.ip_network("10.1.0.0/29") for a in model.values())
