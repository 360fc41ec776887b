"""Which addresses can be pods'."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from kiptail.pods.ranges import PodRanges, covering

ALWAYS_STRANGERS = ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::"]  # noqa: S104


@pytest.mark.parametrize(
    ("address", "possible"),
    [
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("100.64.0.1", True),
        ("100.128.0.1", False),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        *((address, False) for address in ALWAYS_STRANGERS),
    ],
)
def test_without_a_word_private_addresses_can_be_pods(address: str, possible: bool) -> None:
    assert PodRanges().could_be_pod(address) is possible


def test_the_configured_ranges_are_all_there_are() -> None:
    ranges = PodRanges([ip_network("203.0.113.0/24"), ip_network("2001:db8::/64"), ip_network("127.0.0.0/8")])
    ranges.note_pods(["198.51.100.1"])
    ranges.note_nodes([ip_network("192.0.2.0/24")])
    assert ranges.could_be_pod("203.0.113.9")
    assert ranges.could_be_pod("2001:db8::9")
    for address in ("10.1.2.3", "198.51.100.1", "192.0.2.1", *ALWAYS_STRANGERS):
        assert not ranges.could_be_pod(address)


def test_what_pods_and_nodes_show_is_added() -> None:
    ranges = PodRanges()
    ranges.note_pods(["203.0.113.9", "2001:db8:1:2::9"])
    ranges.note_nodes([ip_network("198.18.5.0/24"), ip_network("10.244.0.0/24"), ip_network("fd00::/64")])
    for address in ("203.0.200.1", "2001:db8:1:ffff::1", "198.18.5.77", "10.9.9.9", "fd11::1"):
        assert ranges.could_be_pod(address), "the node's range excludes no other"
    for address in ("203.1.0.1", "2001:db8:2::1", "198.18.6.1"):
        assert not ranges.could_be_pod(address)


def test_what_pods_show_is_bounded() -> None:
    ranges = PodRanges()
    for n in range(200):
        ranges.note_pods([f"11.{n}.0.1"])
    assert sum(ranges.could_be_pod(f"11.{n}.0.1") for n in range(200)) == 64


def test_a_family_that_pods_have_second_only_is_known() -> None:
    ranges = PodRanges()
    assert not ranges.is_second("fd00::1")
    ranges.note_pods(["10.0.0.1"])
    assert not ranges.is_second("fd00::1")
    ranges.note_pods(["10.0.0.2", "fd00::2"])
    assert ranges.is_second("fd00::1")
    assert not ranges.is_second("10.0.0.1")
    ranges.note_pods(["fd00::3", "10.0.0.3"])
    assert not ranges.is_second("fd00::1")


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([], None),
        (["10.96.0.1"], "10.96.0.1/32"),
        (["10.96.0.1", "10.96.0.10"], "10.96.0.0/28"),
        (["10.96.0.1", "10.111.255.1"], "10.96.0.0/12"),
        (["10.96.0.1", "10.128.0.1"], None),
        (["fd00::1", "10.96.0.1", "10.96.0.2"], "10.96.0.0/30"),
    ],
)
def test_the_covering_network_is_the_smallest(addresses: list[str], expected: str | None) -> None:
    found = covering(addresses, version=4, longest=12)
    assert (str(found) if found else None) == expected
