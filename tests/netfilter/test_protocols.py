"""Names for protocols and ICMP messages."""

from __future__ import annotations

import pytest

from kiptail.netfilter.protocols import icmp_name, protocol_label, protocol_name


@pytest.mark.parametrize(
    ("protocol", "type_", "code", "name"),
    [
        ("ICMP", 8, 0, "echo-request"),
        ("ICMP", 0, 0, "echo-reply"),
        ("ICMP", 3, None, "destination-unreachable"),
        ("ICMP", 3, 3, "destination-unreachable (port-unreachable)"),
        ("ICMP", 3, 4, "destination-unreachable (fragmentation-needed)"),
        ("ICMP", 3, 8, "destination-unreachable"),
        ("ICMP", 3, 15, "destination-unreachable (precedence-cutoff)"),
        ("ICMP", 3, 16, "destination-unreachable"),
        ("ICMP", 4, 0, "source-quench"),
        ("ICMP", 5, 1, "redirect"),
        ("ICMP", 9, 0, "router-advertisement"),
        ("ICMP", 11, 0, "time-exceeded"),
        ("ICMP", 12, 0, "parameter-problem"),
        ("ICMP", 42, 0, "type 42"),
        ("ICMP", 128, 0, "type 128"),
        ("ICMPv6", 128, 0, "echo-request"),
        ("ICMPv6", 129, 0, "echo-reply"),
        ("ICMPv6", 1, 0, "destination-unreachable (no-route)"),
        ("ICMPv6", 1, 7, "destination-unreachable"),
        ("ICMPv6", 2, 0, "packet-too-big"),
        ("ICMPv6", 135, 0, "nd-neighbor-solicit"),
        ("ICMPv6", 143, 0, "mld2-listener-report"),
        ("ICMPv6", 8, 0, "type 8"),
    ],
)
def test_an_icmp_message_is_called_what_firewall_rules_call_it(
    protocol: str, type_: int, code: int | None, name: str
) -> None:
    assert icmp_name(protocol, type_, code) == name


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("47", "GRE"),
        ("2", "IGMP"),
        ("4", "IPIP"),
        ("89", "OSPF"),
        ("112", "VRRP"),
        ("253", "253"),
        ("TCP", "TCP"),
        ("ICMPv6", "ICMPv6"),
        ("", ""),
    ],
)
def test_a_protocol_has_its_name_where_it_has_one(protocol: str, name: str) -> None:
    assert protocol_name(protocol) == name


@pytest.mark.parametrize(
    ("protocol", "label"),
    [
        ("TCP", "TCP"),
        ("SCTP", "SCTP"),
        ("0", "0"),
        ("255", "255"),
        ("256", "other"),
        ("007", "other"),
        ("tcp", "other"),
        ("ICMPv7", "other"),
        ("", "unknown"),
    ],
)
def test_a_metrics_label_is_of_a_bounded_set(protocol: str, label: str) -> None:
    assert protocol_label(protocol) == label
