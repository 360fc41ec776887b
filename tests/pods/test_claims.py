"""Addresses by annotations: whoever may change a pod writes them."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.pods.claims import MOST_EDITS, Claims
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.tenancy import owned
from kiptail.pods.traits import NamedPort, Traits

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
IP = "192.168.77.12"


def claimant(key: str = "a", *claims: str, **more: Any) -> Pod:
    ref = PodRef("team-a", key, key)
    made = Pod(key, ref, (f"10.0.0.{ord(key)}",), T0, T0, None, False, "here", (), claims=claims or (IP,))
    return made._replace(**more)


def owners(claims: Claims, at_us: int, address: str = IP) -> list[str]:
    return [ref.name for ref in owned(claims.intervals(address), at_us).pods]


def begun(*pods: Pod, now_us: int = T0 + 60 * SECOND) -> Claims:
    claims = Claims(node="here")
    claims.replace(pods, now_us=now_us, seen_us=0)
    return claims


def test_what_a_first_list_shows_was_so_since_the_pods_network_was_there() -> None:
    claims = begun(claimant(), claimant("b", claims=()))
    assert [owners(claims, T0 + at * SECOND) for at in (-1, 1, 90)] == [[], ["a"], ["a"]]
    assert owners(claims, T0 + SECOND, "10.0.0.97") == [], "its own addresses are its status' matter"


def test_of_two_that_claim_one_address_either_may_have_it() -> None:
    claims = begun(claimant("a"), claimant("b"))
    assert owners(claims, T0 + 30 * SECOND) == ["a", "b"]


def test_a_pod_that_is_gone_had_it_until_then_and_the_next_one_from_then_on() -> None:
    claims = begun(claimant("a"))
    assert claims.remove("a", now_us=T0 + 100 * SECOND, live=True) == {IP}
    heir = claimant("b", ready_us=T0 + 110 * SECOND, start_us=T0 + 110 * SECOND)
    assert claims.put(heir, now_us=T0 + 111 * SECOND, live=True) == {IP}
    assert [owners(claims, T0 + at * SECOND) for at in (90, 112)] == [["a"], ["b"]]


def test_what_is_claimed_later_is_claimed_from_then_on() -> None:
    """Whoever edits an annotation does not get what was dropped before."""
    claims = begun(claimant(claims=()))
    now_us = T0 + 300 * SECOND
    assert claims.put(claimant(), now_us=now_us, live=True, known=True) == {IP}
    assert [owners(claims, at_us) for at_us in (T0 + SECOND, now_us - 3 * SECOND, now_us)] == [[], [], ["a"]]
    assert claims.put(claimant(runs=True), now_us=now_us + 60 * SECOND, live=True, known=True) == set()
    assert owners(claims, now_us - 3 * SECOND) == [], "also when the pod changes in another way"


def test_what_is_claimed_in_place_of_something_else_is_claimed_from_then_on() -> None:
    claims = begun(claimant("a", "192.168.77.1"))
    now_us = T0 + 300 * SECOND
    assert claims.put(claimant("a"), now_us=now_us, live=True, known=True) == {IP, "192.168.77.1"}
    assert owners(claims, now_us - 3 * SECOND) == []
    assert owners(claims, now_us) == ["a"]
    assert owners(claims, now_us + SECOND, "192.168.77.1") == []
    assert owners(claims, now_us - 3 * SECOND, "192.168.77.1") == ["a"]


def test_a_list_dates_what_is_new_in_it_unless_it_is_the_first() -> None:
    claims = begun(claimant(claims=()))
    now_us = T0 + 300 * SECOND
    claims.replace([claimant(), claimant("b", "192.168.77.2")], now_us=now_us, seen_us=now_us - SECOND, known={"a"})
    assert owners(claims, T0 + 200 * SECOND) == []
    assert owners(claims, T0 + 200 * SECOND, "192.168.77.2") == ["b"], "a pod that had not been seen before"
    first = Claims(node="here")
    first.replace([claimant()], now_us=now_us, seen_us=now_us - SECOND, known={"a"})
    assert owners(first, T0 + 200 * SECOND) == ["a"], "an earlier run does not tell what was claimed"


def test_a_pod_that_claims_ever_other_addresses_is_not_believed_any_more() -> None:
    """A hundred edits: each of the first few cuts flows, and then no more."""
    claims = begun(claimant("a", "192.168.77.1"))
    changes = [
        claims.put(claimant("a", f"192.168.77.{2 + n}"), now_us=T0 + n * SECOND, live=True, known=True)
        for n in range(100)
    ]
    assert [bool(changed) for changed in changes] == [True] * (MOST_EDITS + 1) + [False] * (99 - MOST_EDITS)
    assert owners(claims, T0 + 99 * SECOND, "192.168.77.101") == []
    claims.remove("a", now_us=T0 + 100 * SECOND, live=True)
    claims.put(claimant("a"), now_us=T0 + 101 * SECOND, live=True)
    assert owners(claims, T0 + 102 * SECOND) == ["a"], "another pod is another pod"


def test_what_cannot_be_read_is_counted_once_a_pod_and_claims_nothing() -> None:
    claims = begun(claimant("a", claims=None), claimant("b"))
    assert claims.malformed == 1
    assert claims.put(claimant("a", claims=None, runs=True), now_us=T0 + 61 * SECOND, live=True) == set()
    assert claims.malformed == 1
    assert claims.put(claimant("b", claims=None), now_us=T0 + 70 * SECOND, live=True) == {IP}
    assert claims.malformed == 2
    assert owners(claims, T0 + 80 * SECOND) == []
    claims.put(claimant("a"), now_us=T0 + 90 * SECOND, live=True)
    claims.put(claimant("a", claims=None), now_us=T0 + 91 * SECOND, live=True)
    assert claims.malformed == 3, "it was right in between"


def test_a_finished_pod_has_nothing_any_more() -> None:
    claims = begun(claimant(until_us=T0 + 20 * SECOND))
    assert [owners(claims, T0 + at * SECOND) for at in (10, 30)] == [["a"], []]


def test_what_is_long_over_is_forgotten() -> None:
    claims = begun(claimant())
    claims.remove("a", now_us=T0 + 100 * SECOND, live=True)
    claims.forget(T0 + 1_000 * SECOND)
    assert claims.intervals(IP) == ()


@pytest.mark.parametrize("uid", ["a", "b"])
def test_the_pod_behind_a_claim_is_found_by_the_uid_that_events_name(uid: str) -> None:
    traits = Traits((), (NamedPort("http", "TCP", 80),))
    found = begun(claimant(traits=traits)).pod(IP, uid)
    assert (found.traits if found else None) == (traits if uid == "a" else None)
