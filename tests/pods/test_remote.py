"""What look-ups found, and how long that is true."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kiptail.pods import remote
from kiptail.pods.ownership import Interval, Pod, PodRef, owned
from kiptail.pods.remote import KEPT_US, TRUSTED_US, RemotePods

S = 1_000_000
T0 = 1_000 * S


def made(name: str, *addresses: str, since_us: int = 0, until_us: int | None = None) -> Pod:
    return Pod(name, PodRef("ns", name, name), addresses, since_us or None, None, until_us, False, "n", ("192.0.2.1",))


def names(pods: RemotePods, address: str, at_us: int, *local: Interval) -> str:
    """With a question mark, if it is one that may not have been."""
    found = owned((*pods.intervals(address), *local), at_us)
    told = " ".join(sorted(ref.name for ref in found.pods))
    return told + ("?" if len(found.pods) == 1 and not found.sure else "")


def test_whom_a_lookup_no_longer_finds_had_left_when_the_next_one_came() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("old", "10.0.0.1", since_us=T0)], now_us=T0 + 100 * S)
    changed = pods.found("10.0.0.1", [made("new", "10.0.0.1", since_us=T0 + 200 * S)], now_us=T0 + 900 * S)
    assert changed == {"10.0.0.1"}
    told = {second: names(pods, "10.0.0.1", T0 + second * S) for second in (-3, -2, 3, 99, 100, 198, 199, 203)}
    assert told == {-3: "", -2: "old?", 3: "old", 99: "old", 100: "old?", 198: "new old", 199: "new?", 203: "new"}


def test_who_was_found_is_taken_for_the_owner_for_a_while_and_then_only_perhaps() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("far", "10.0.0.1", since_us=T0)], now_us=T0 + 100 * S)
    assert names(pods, "10.0.0.1", T0 + 100 * S + TRUSTED_US - 1) == "far"
    assert names(pods, "10.0.0.1", T0 + 100 * S + TRUSTED_US) == "far?"
    assert pods.found("10.0.0.1", [made("far", "10.0.0.1", since_us=T0)], now_us=T0 + 200 * S) == set()
    assert names(pods, "10.0.0.1", T0 + 200 * S) == "far", "it was found again"


def test_one_that_is_leaving_is_not_taken_for_the_owner_any_longer_than_it_says() -> None:
    pods = RemotePods()
    leaving = made("far", "10.0.0.1", since_us=T0)._replace(leaving=True, asked_us=T0 + 90 * S)
    pods.found("10.0.0.1", [leaving], now_us=T0 + 100 * S)
    assert [names(pods, "10.0.0.1", T0 + second * S) for second in (87, 88)] == ["far", "far?"]


def test_a_lookup_that_finds_nobody_ends_who_was_there() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("old", "10.0.0.1", since_us=T0)], now_us=T0 + 100 * S)
    assert pods.found("10.0.0.1", [], now_us=T0 + 200 * S) == {"10.0.0.1"}
    assert [names(pods, "10.0.0.1", T0 + second * S) for second in (99, 100, 199, 200)] == ["old", "old?", "old?", ""]
    assert len(pods) == 0


def test_a_pod_that_has_the_address_as_its_second_is_not_expected_among_those_found() -> None:
    pods = RemotePods()
    pods.learned([made("dual", "10.0.0.1", "fd00::1", since_us=T0)], now_us=T0)
    pods.found("fd00::1", [], now_us=T0 + 100 * S)
    assert names(pods, "fd00::1", T0 + 200 * S) == "dual?"
    assert pods.first_address("fd00::1") == "10.0.0.1"
    assert pods.first_address("10.0.0.1") == ""


def test_an_address_that_a_pod_of_this_node_has_is_nobody_elses() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("far", "10.0.0.1", since_us=T0)], now_us=T0 + S)
    near = Interval("near", PodRef("ns", "near", "near"), T0 + 60 * S, T0 + 61 * S, None, None, local=True)
    told = {second: names(pods, "10.0.0.1", T0 + second * S, near) for second in (30, 31, 59, 60, 61, 90)}
    assert told == {30: "far", 31: "far?", 59: "far?", 60: "far near", 61: "near", 90: "near"}


def test_what_was_not_found_for_long_is_let_go_of() -> None:
    pods = RemotePods()
    pods.found("10.0.0.1", [made("a", "10.0.0.1", since_us=T0)], now_us=T0)
    pods.found("10.0.0.2", [made("b", "10.0.0.2", since_us=T0)], now_us=T0 + 400 * S)
    pods.expire(now_us=T0 + 1 + KEPT_US)
    assert len(pods) == 1
    assert names(pods, "10.0.0.2", T0 + 400 * S) == "b"
    assert names(pods, "10.0.0.1", T0 + 400 * S) == "a?", "when it had the address is still known"
    pods.forget(T0 + 2 * KEPT_US)
    assert names(pods, "10.0.0.1", T0 + 400 * S) == ""


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_PODS", 100)
    monkeypatch.setattr(remote, "MAX_SECONDS", 50)
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
    assert names(pods, "192.0.2.1", T0) == ""
