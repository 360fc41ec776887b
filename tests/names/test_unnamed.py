"""When a list is worth reading again for an address without a name, and in which ranges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from kiptail.names import unnamed
from kiptail.names.unnamed import Unnamed, node_ranges, service_ranges

HOUR = 3600


def simulate(
    asks: Callable[[int], list[str]], *, seconds: int, objects: int = 0, named_at: float = math.inf
) -> list[int]:
    """When the list is read, where ``asks(second)`` is asked for each second; "new" has a name from ``named_at`` on."""
    addresses, lists = Unnamed(), []
    for now in range(seconds):
        for address in asks(now):
            if not (address == "new" and any(at >= named_at for at in lists)):
                addresses.ask(address, now=now, after=1.0)
        if addresses.next_at(now) <= now:
            addresses.list_began()
            lists.append(now)
            addresses.listed({"new"} if now >= named_at else set(), objects=objects, now=now, jitter=1.0)
    return lists


def test_a_stranger_has_the_list_read_ever_more_rarely() -> None:
    assert simulate(lambda now: ["x"], seconds=1000) == [1, 11, 31, 71, 151, 311, 611, 911]


def test_it_is_given_up_when_nobody_asks_any_more() -> None:
    lists = simulate(lambda now: ["x"] if now == 0 else [], seconds=HOUR)
    assert lists == [1, 11, 31, 71, 151, 311, 611]


def test_a_name_that_comes_is_found_by_the_list_that_follows_and_ends_it() -> None:
    assert simulate(lambda now: ["new"], seconds=HOUR, named_at=12) == [1, 11, 31]


def test_one_list_is_enough_for_all_that_wait() -> None:
    assert simulate(lambda now: [f"x{n}" for n in range(100)] if now == 0 else [], seconds=60) == [1, 11, 31]


@pytest.mark.parametrize(("objects", "pace"), [(0, 10), (1000, 30), (5000, 110)])
def test_ever_new_strangers_slow_it_down_and_a_long_list_does_in_proportion(objects: int, pace: int) -> None:
    lists = simulate(lambda now: [f"x{now}"], seconds=HOUR, objects=objects)
    pauses = [after - before for before, after in itertools.pairwise(lists)]
    assert pauses[:3] == [pace, 2 * pace, 4 * pace]
    assert set(pauses[3:]) == {4 * pace}


def test_a_list_that_brings_a_name_restores_the_pace() -> None:
    addresses = Unnamed()
    for now in (0, 100, 200):
        addresses.ask(f"x{now}", now=now, after=0.0)
        addresses.list_began()
        addresses.listed(set(), objects=0, now=now, jitter=1.0)
    addresses.ask("new", now=201, after=0.0)
    assert addresses.next_at(201) == 240
    addresses.list_began()
    addresses.listed({"new"}, objects=0, now=240, jitter=1.0)
    addresses.ask("newer", now=241, after=0.0)
    assert addresses.next_at(241) == 250


def test_what_is_asked_for_while_the_list_is_read_waits_for_the_next() -> None:
    addresses = Unnamed()
    addresses.ask("x", now=0, after=0.0)
    addresses.list_began()
    addresses.ask("y", now=1, after=1.0)
    addresses.listed(set(), objects=0, now=5, jitter=1.0)
    assert addresses.next_at(5) == 15
    addresses.drop(["x"])
    assert addresses.next_at(5) == 15, "y is due since 2, and that is the pace"
    addresses.drop(["y", "z"])
    assert addresses.next_at(5) == math.inf


def test_a_list_that_cannot_be_read_is_not_tried_for_anybody() -> None:
    addresses = Unnamed()
    addresses.hold(500)
    addresses.ask("x", now=0, after=1.0)
    assert addresses.next_at(0) == 500


def test_the_addresses_are_bounded_and_the_latest_stay() -> None:
    addresses = Unnamed()
    for n in range(10 * unnamed.MAX_ADDRESSES):
        assert addresses.ask(f"x{n}", now=n, after=1.0)
        assert not addresses.ask("always", now=n, after=1.0) or n == 0
    assert len(addresses) == unnamed.MAX_ADDRESSES
    assert "always" in addresses
    assert "x0" not in addresses


@pytest.mark.parametrize(
    ("addresses", "first", "inside", "outside"),
    [
        # kubeadm, k3s, MicroK8s, EKS and GKE, each with two Services; what is outside is their pods' or nodes'.
        (["10.96.0.1", "10.96.0.10"], "10.96.0.1", ["10.107.3.4", "10.111.255.254"], ["10.112.0.1", "10.95.255.255"]),
        (["10.43.0.1", "10.43.0.10"], "10.43.0.1", ["10.43.255.254"], ["10.42.0.5", "10.44.0.1"]),
        (["10.152.183.1", "10.152.183.10"], "10.152.183.1", ["10.152.183.254"], ["10.152.184.1", "10.152.182.1"]),
        (["172.20.0.1", "172.20.0.10"], "172.20.0.1", ["172.20.255.1"], ["172.16.0.1", "172.31.0.1"]),
        (["34.118.224.1", "34.118.224.10"], "34.118.224.1", ["34.118.239.254"], ["34.118.223.1", "34.119.0.1"]),
        (["fd00:10:96::1", "fd00:10:96::a"], "fd00:10:96::1", ["fd00:10:96::fe01"], ["fd00:10:97::1"]),
        # The second family, of which no Service is known to be the first.
        (["10.43.0.1", "fd00:43::7"], "10.43.0.1", ["fd00:43::ffff"], ["fd00:43::1:0", "10.42.0.1"]),
        # Addresses that are further apart than a range can be.
        (["10.0.0.1", "10.255.0.1"], "10.0.0.1", [], ["10.0.0.2", "10.3.0.1"]),
        ([], "", [], ["10.96.0.1", "fd00::1"]),
    ],
)
def test_a_new_service_is_in_the_range_that_a_few_show(
    addresses: list[str], first: str, inside: list[str], outside: list[str]
) -> None:
    ranges = service_ranges(addresses, first)
    assert [a for a in (*inside, *outside) if any(ip_address(a) in found for found in ranges)] == inside


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["192.0.2.7"], ["192.0.2.0/24"]),
        (["10.0.1.7", "10.0.2.9"], ["10.0.0.0/22"]),
        (["10.0.1.7", "10.0.200.9"], ["10.0.0.0/16"]),
        (["10.0.1.7", "10.0.1.8", "192.168.5.1"], ["10.0.1.0/24", "192.168.5.0/24"]),
        (["2001:db8:1:2::7"], ["2001:db8:1:2::/64"]),
        (["2001:db8:1:2::7", "2001:db8:1:3::7"], ["2001:db8:1:2::/63"]),
        (["2001:db8::7", "fd00::7", "192.0.2.7"], ["192.0.2.0/24", "2001:db8::/64", "fd00::/64"]),
        ([], []),
    ],
)
def test_a_new_node_is_in_the_subnet_of_its_neighbours(addresses: list[str], expected: list[str]) -> None:
    assert [str(found) for found in node_ranges(addresses)] == expected


def test_nodes_that_are_far_apart_do_not_make_half_the_internet() -> None:
    ranges = node_ranges([*(f"{n}.7.8.9" for n in range(11, 211)), "100.7.8.10"])
    assert len(ranges) == unnamed.MAX_SUBNETS
    assert {found.prefixlen for found in ranges} == {24}
    assert str(ranges[0]) == "100.7.8.0/24", "where most of them are, the next one may be"
