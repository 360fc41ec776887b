"""What makes two drops the same flow, and what a folded one remembers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.flow import Distinct, Flow, FlowKey, Spread, flow_key
from kiptail.flows.trail import Trail
from kiptail.netfilter.parser import PacketDrop
from kiptail.netfilter.prefixes import PrefixMatch, Verdict

PREFIX = PrefixMatch("calico-drop:", Verdict.DROP, limited=False)


def drop(
    protocol: str = "TCP",
    src_port: int | None = None,
    dst_port: int | None = None,
    *,
    ack: bool = False,
    icmp: tuple[int, int] | None = None,
    interfaces: tuple[str, str] = ("a", "b"),
) -> PacketDrop:
    return PacketDrop(
        prefix="calico-drop:",
        in_interface=interfaces[0],
        out_interface=interfaces[1],
        src="10.0.0.1",
        dst="10.0.0.2",
        protocol=protocol,
        src_port=src_port,
        dst_port=dst_port,
        icmp_type=icmp[0] if icmp else None,
        icmp_code=icmp[1] if icmp else None,
        tcp_ack=ack,
    )


@pytest.mark.parametrize(
    ("packet", "port", "reply"),
    [
        pytest.param(drop("TCP", 40000, 80), 80, False, id="a SYN to a service"),
        pytest.param(drop("TCP", 80, 40000, ack=True), 80, True, id="a SYN-ACK from a service"),
        pytest.param(drop("TCP", 80, 40000), 40000, False, id="a bare SYN to a high port opens a connection"),
        pytest.param(drop("TCP", 40000, 50000, ack=True), 50000, False, id="both high"),
        pytest.param(drop("TCP", 80, 443, ack=True), 443, False, id="both low"),
        pytest.param(drop("UDP", 53, 40000), 53, True, id="a UDP reply"),
        pytest.param(drop("UDP", 32767, 32768), 32767, True, id="at the edge of the ephemeral ports"),
        pytest.param(drop("UDP", 32768, 32768), 32768, False, id="just past the edge"),
        pytest.param(drop("SCTP"), None, False, id="no ports"),
        pytest.param(drop("ICMP", icmp=(8, 0)), None, False, id="ICMP"),
    ],
)
def test_the_service_port_is_that_of_the_service(packet: PacketDrop, port: int | None, reply: bool) -> None:
    found = flow_key(packet, PREFIX)
    assert (found.port, found.reply) == (port, reply)


@pytest.mark.parametrize(
    ("interfaces", "here"),
    [
        pytest.param(("eth0", "cali1"), "", id="forwarded"),
        pytest.param(("", "cali1"), "src", id="sent by this machine"),
        pytest.param(("cali1", ""), "dst", id="for this machine"),
        pytest.param(("", ""), "", id="nobody knows"),
    ],
)
def test_the_interfaces_tell_which_end_is_this_machine(interfaces: tuple[str, str], here: str) -> None:
    assert flow_key(drop("TCP", 40000, 80, interfaces=interfaces), PREFIX).here == here


def key(src: str = "10.0.0.1", dst: str = "10.0.0.2", port: int | None = 80) -> FlowKey:
    return FlowKey(src, dst, "TCP", port, None, None, False, "calico-drop:", "drop")


def test_no_two_keys_have_one_identity() -> None:
    assert key("a", "b").identity(1) != key("a", "b").identity(2)
    assert key("1\x1f2", "b").identity() != key("1", "2").identity()
    assert len({key()._replace(here=here).identity() for here in ("", "src", "dst")}) == 3


def test_identities_that_earlier_versions_made_stay_the_same() -> None:
    assert (
        key().identity("n", 5)
        == b"n\x1f5\x1f10.0.0.1\x1f10.0.0.2\x1fTCP\x1f80\x1fNone\x1fNone\x1fFalse\x1fcalico-drop:\x1fdrop"
    )


def test_distinct_values_are_never_counted_too_high() -> None:
    values = Distinct()
    for n in range(60_000):
        values.add(n * 7_919)
        values.add(n * 7_919)
        assert values.count <= n + 1
    assert values.count == Distinct.SIZE


@given(st.sets(st.integers(0, 2**32), max_size=300))
def test_distinct_values_survive_being_stored(numbers: set[int]) -> None:
    values = Distinct()
    for number in numbers:
        values.add(number)
    stored = Distinct(bytes(values))
    assert (stored, stored.count) == (values, values.count)
    assert values.count == len({number % Distinct.SIZE for number in numbers})


def test_neighbouring_addresses_count_one_by_one() -> None:
    spread = Spread()
    for n in range(1000):
        spread.add(key(src=f"10.244.{n // 250}.{n % 250}", port=None), "dst")
    assert 900 <= spread.peers.count <= 1000
    assert spread.ports.count == 0


def test_a_copy_does_not_change_any_more() -> None:
    flow = Flow(1, key("", "10.0.0.2"), 5, 5, 5, 5, 1, ends=("dst",), spread=Spread(), trail=Trail.begun(5))
    copy = flow.copy()
    assert flow.spread is not None
    flow.spread.add(key(), "dst")
    flow.add(9_000_009, 9_000_009)
    flow.add(3, 9_000_009)
    assert copy == Flow(1, key("", "10.0.0.2"), 5, 5, 5, 5, 1, ends=("dst",), spread=Spread())


def test_drops_stretch_a_flow_both_ways_and_are_told_apart_by_their_seconds() -> None:
    flow = Flow(1, key(), 5_500_000, 5_500_000, 5_500_000, 0, 1, trail=Trail.begun(5_500_000))
    for time_us in (5_600_000, 7_000_000, 4_000_000, 5_700_000, 7_999_999):
        flow.add(time_us, 8_000_000)
    assert (flow.count, flow.first_us, flow.last_us, flow.opened_us) == (6, 4_000_000, 7_999_999, 5_500_000)
    parts = flow.trail.parts([5_000_000, 6_000_000], flow.count)
    assert [part.drops for part in parts] == [1, 3, 2]


def test_drops_that_are_another_flows_alone_are_taken_out() -> None:
    def made(*seconds: int) -> Flow:
        flow = Flow(1, key(), *[seconds[0] * 1_000_000] * 4, 1, trail=Trail.begun(seconds[0] * 1_000_000))
        for second in seconds[1:]:
            flow.add(second * 1_000_000, 0)
        return flow

    many = made(20, 30, 40, 50)
    many.take_out(made(20, 50))
    assert (many.count, many.first_us, many.opened_us) == (2, 30_000_000, 30_000_000)
    assert (many.last_us, [part.drops for part in many.trail.parts([35_000_000], 2)]) == (40_999_999, [1, 1])
    many.take_out(made(30, 40))
    assert many.count == 0
    assert many.first_us <= many.opened_us <= many.last_us


def test_the_addresses_that_a_flow_tells_are_those_of_its_ends() -> None:
    assert list(Flow(1, key(), 0, 0, 0, 0, 1).reported_addresses()) == ["10.0.0.1", "10.0.0.2"]
    assert list(Flow(1, key(), 0, 0, 0, 0, 1, ends=("dst",)).reported_addresses()) == ["10.0.0.2"]


def test_flows_that_policies_name_are_apart_and_others_keep_their_identity() -> None:
    plain = flow_key(drop("TCP", 40000, 80), PREFIX)
    named = flow_key(drop("TCP", 40000, 80), PREFIX._replace(policy="team-a/deny"))
    other = flow_key(drop("TCP", 40000, 80), PREFIX._replace(policy="team-a/default"))
    assert len({plain, named, other}) == 3
    # Event names are made of it: version 0.1.0 gave these.
    assert (
        plain.identity("node")
        == b"node\x1f10.0.0.1\x1f10.0.0.2\x1fTCP\x1f80\x1fNone\x1fNone\x1fFalse\x1fcalico-drop:\x1fdrop"
    )
    identities = {key._replace(here=here).identity() for key in (plain, named, other) for here in ("", "src", "dst")}
    assert len(identities) == 9
