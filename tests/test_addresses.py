"""Addresses are the same on every Python: the state outlives an upgrade of it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.addresses import canonical
from kiptail.daemon.host_addresses import _local6
from kiptail.netfilter.parser import PacketDrop, parse
from kiptail.pods.address_names import _address
from kiptail.pods.pod_object import _canonical


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("0000:0000:0000:0000:0000:0000:0000:0000", "::"),
        # Where libc, and from 3.13 on Python, have dots.
        ("::ffff:a00:1", "::ffff:a00:1"),
        ("::ffff:10.0.0.1", "::ffff:a00:1"),
        ("0000:0000:0000:0000:0000:ffff:0a00:0001", "::ffff:a00:1"),
        ("0:0:0:0:0:FFFF:0.0.0.0", "::ffff:0:0"),
        ("::10.0.0.1", "::a00:1"),
        ("::255.255.0.0", "::ffff:0"),
        ("::ffff:0:a00:1", "::ffff:0:a00:1"),
        ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
    ],
)
def test_an_address_has_one_text_wherever_it_comes_from(text: str, one: str) -> None:
    assert canonical(text) == one
    assert list(_canonical([text])) == [one]
    assert _address(text) == one
    found = parse(f"x IN=a OUT= SRC={text} DST={one} LEN=1 ")
    assert isinstance(found, PacketDrop)
    assert (found.src, found.dst) == (one, one)
    if ":" in one:
        digits = ipaddress.IPv6Address(text).packed.hex()
        assert list(_local6([f"{digits} 02 40 00 80 eth0".encode()])) == [one]


@given(st.integers(0, 2**128 - 1) | st.integers(0, 2**48 - 1))
@example(0xFFFF_0A00_0001)
@example(0x0A00_0001)
@example(0xFFFF_0000)
def test_it_is_pythons_but_for_the_dots(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    text = canonical(str(address))
    assert text is not None
    assert "." not in text
    assert int(ipaddress.IPv6Address(text)) == number
    assert canonical(text) == text
    if address.ipv4_mapped is None:
        assert text == str(address)


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "01.2.3.4", "1.2.3.4/32", "fe80::1%eth0", ":", "1::2::3", "\0", "\ud800"]
)
def test_what_is_none_has_none(text: str) -> None:
    assert canonical(text) is None
    assert list(_canonical([text, None, 5])) == []
    assert _address(text) == ""
