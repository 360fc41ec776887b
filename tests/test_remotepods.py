"""What look-ups found, and how long that is true."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kiptail import remotepods
from kiptail.ownership import Pod, PodRef
from kiptail.remotepods import RemotePods

S = 1_000_000
T0 = 1_000 * S


def made(name: str, *addresses: str, since_us: int = 0, until_us: int | None = None) -> Pod:
    return Pod(name, PodRef("ns", name, name), addresses, since_us or None, None, until_us, False, "n", ("192.0.2.1",))


def names(pods: RemotePods, address: str, at_us: int) -> list[str]:
    return sorted(ref.name for ref in pods.owners(address, at_us))


def test_whom_a_lookup_no_longer_finds_had_left_when_the_next_one_came() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("old", "10.0.0.1", since_us=T0)], now_us=T0 + 100 * S)
    handovers = pods.found("10.0.0.1", [made("new", "10.0.0.1", since_us=T0 + 200 * S)], now_us=T0 + 900 * S)
    assert [(h.address, h.at_us) for h in handovers] == [("10.0.0.1", T0 + 200 * S)]
    assert names(pods, "10.0.0.1", T0 + 50 * S) == ["old"]
    assert names(pods, "10.0.0.1", T0 + 300 * S) == ["new"]


def test_a_lookup_that_finds_nobody_ends_who_was_there() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("old", "10.0.0.1", since_us=T0)], now_us=T0 + 100 * S)
    assert pods.found("10.0.0.1", [], now_us=T0 + 200 * S)
    assert names(pods, "10.0.0.1", T0 + 50 * S) == ["old"]
    assert names(pods, "10.0.0.1", T0 + 300 * S) == []
    assert len(pods) == 0


def test_a_pod_that_has_the_address_as_its_second_is_not_expected_among_those_found() -> None:
    pods = RemotePods()
    pods.learned([made("dual", "10.0.0.1", "fd00::1", since_us=T0)], now_us=T0)
    pods.found("fd00::1", [], now_us=T0 + 100 * S)
    assert names(pods, "fd00::1", T0 + 200 * S) == ["dual"]
    assert pods.first_address("fd00::1") == "10.0.0.1"
    assert pods.first_address("10.0.0.1") == ""


def test_an_address_that_a_pod_of_this_node_has_is_nobody_elses() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("far", "10.0.0.1", since_us=T0)], now_us=T0 + S)
    pods.claimed({"10.0.0.1": T0 + 60 * S, "10.0.0.2": T0})
    assert names(pods, "10.0.0.1", T0 + 30 * S) == ["far"]
    assert names(pods, "10.0.0.1", T0 + 90 * S) == []


def test_what_was_not_found_for_long_is_let_go_of() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("a", "10.0.0.1", since_us=T0)], now_us=T0)
    pods.found("10.0.0.2", [made("b", "10.0.0.2", since_us=T0)], now_us=T0 + 400 * S)
    pods.expire(now_us=T0 + 700 * S)
    assert len(pods) == 1
    assert names(pods, "10.0.0.2", T0 + 700 * S) == ["b"]


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotepods, "MAX_PODS", 100)
    monkeypatch.setattr(remotepods, "MAX_SECONDS", 50)
    pods = RemotePods()
    for n in range(1000):
        address, second = str(ip_address(0x0A000000 + n)), f"fd00::{n:x}"
        pods.found(address, [made(f"p{n}", address, second)], now_us=T0 + n)
        assert len(pods) <= 101
    assert pods.first_address("fd00::3e7") == "10.0.3.231"
    assert sum(bool(pods.first_address(f"fd00::{n:x}")) for n in range(1000)) == 50


def test_host_network_pods_name_their_node() -> None:
    pods = RemotePods()
    pods.found("192.0.2.1", [made("agent")], now_us=T0)
    assert pods.node("192.0.2.1") == "n"
    assert names(pods, "192.0.2.1", T0) == []
