"""Who owned an address at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.ownership import Handover, Interval, Ownership, Pod, PodRef, reduce_pod, timestamp_us

SECOND = 1_000_000
WIRE = Path(__file__).parent / "wire"
T0 = 1_800_000_000 * SECOND
IP = "10.244.1.3"


def pod(key: str, *addresses: str, ready: int | None = None, start: int | None = None, until: int | None = None) -> Pod:
    ref = PodRef("team-a", key, key)
    return Pod(key, ref, addresses or (IP,), ready, start, until, False, "node-1", ("192.0.2.1",))


def names(owned: tuple[PodRef, ...]) -> list[str]:
    return sorted(ref.name for ref in owned)


def recorded(name: str) -> dict[str, Any]:
    document = json.loads((WIRE / name).read_text())["response"]["body"]
    found: dict[str, Any] = document["items"][0] if "items" in document else document
    return found


@pytest.mark.parametrize(
    ("since", "at", "expected"),
    [
        pytest.param({"start": T0}, T0 + SECOND, ["a"], id="after its start"),
        pytest.param({"start": T0}, T0 - SECOND, ["a"], id="within the slack before"),
        pytest.param({"start": T0}, T0 - 3 * SECOND, [], id="before its start"),
        pytest.param({"start": T0, "ready": T0 + 60 * SECOND}, T0 + 30 * SECOND, [], id="the sandbox came later"),
        pytest.param({}, 1, ["a"], id="no time at all: always"),
        pytest.param({"start": T0, "until": T0 + 9 * SECOND}, T0 + 8 * SECOND, ["a"], id="before it finished"),
        pytest.param({"start": T0, "until": T0 + 9 * SECOND}, T0 + 12 * SECOND, [], id="after it finished"),
    ],
)
def test_a_listed_pod_owns_from_its_start_until_it_finished(
    since: dict[str, int], at: int, expected: list[str]
) -> None:
    ownership = Ownership()
    ownership.replace([pod("a", **since)], now_us=T0 + 100 * SECOND)
    assert names(ownership.owners(IP, at)) == expected


@pytest.mark.parametrize(
    ("successor", "at", "expected"),
    [
        pytest.param({"ready": T0 + 30 * SECOND}, T0 + 31 * SECOND, ["b"], id="from when its sandbox was ready"),
        pytest.param({"ready": T0 + 30 * SECOND}, T0 + 20 * SECOND, [], id="not before"),
        pytest.param({"start": T0}, T0 + 59 * SECOND, ["b"], id="unknown: from when the address was seen"),
        pytest.param({"start": T0}, T0 + 30 * SECOND, [], id="not from its start: another may have had the address"),
    ],
)
def test_a_pod_that_takes_anothers_address_during_the_watch(
    successor: dict[str, int], at: int, expected: list[str]
) -> None:
    ownership = Ownership()
    ownership.put(pod("a", ready=T0 - 60 * SECOND), now_us=T0 - 60 * SECOND, live=True)
    ownership.remove("a", now_us=T0 - 30 * SECOND)
    ownership.put(pod("b", **successor), now_us=T0 + 60 * SECOND, live=True)
    assert names(ownership.owners(IP, at)) == expected


def test_a_pod_whose_address_nobody_had_owns_it_from_its_start() -> None:
    ownership = Ownership()
    assert ownership.put(pod("a", start=T0), now_us=T0 + 9 * SECOND, live=True) == [Handover(IP, T0)]
    assert names(ownership.owners(IP, T0 + 5 * SECOND)) == ["a"]


def test_who_left_unseen_had_left_when_the_next_one_came() -> None:
    ownership = Ownership()
    ownership.replace([pod("a", ready=T0)], now_us=T0)
    handovers = ownership.replace([pod("b", ready=T0 + 50 * SECOND)], now_us=T0 + 100 * SECOND)
    assert handovers == [Handover(IP, T0 + 50 * SECOND)]
    assert names(ownership.owners(IP, T0 + 60 * SECOND)) == ["b"]
    assert names(ownership.owners(IP, T0 + 40 * SECOND)) == ["a"]


def test_a_deleted_pod_still_owned_its_address_and_its_successor_is_not_blamed() -> None:
    ownership = Ownership()
    ownership.put(pod("a", ready=T0), now_us=T0, live=True)
    assert ownership.remove("a", now_us=T0 + 100 * SECOND) == [Handover(IP, T0 + 100 * SECOND)]
    handovers = ownership.put(pod("b", ready=T0 + 120 * SECOND), now_us=T0 + 121 * SECOND, live=True)
    assert handovers == [Handover(IP, T0 + 120 * SECOND)]
    assert names(ownership.owners(IP, T0 + 50 * SECOND)) == ["a"]
    assert names(ownership.owners(IP, T0 + 130 * SECOND)) == ["b"]
    assert names(ownership.owners(IP, T0 + 110 * SECOND)) == []


def test_around_a_change_of_hands_both_may_be_meant() -> None:
    ownership = Ownership()
    ownership.put(pod("a", ready=T0), now_us=T0, live=True)
    ownership.remove("a", now_us=T0 + 100 * SECOND)
    ownership.put(pod("b"), now_us=T0 + 101 * SECOND, live=True)
    assert names(ownership.owners(IP, T0 + 100 * SECOND)) == ["a", "b"]


def test_two_that_claim_an_address_at_once_are_both_meant() -> None:
    ownership = Ownership()
    ownership.replace([pod("a", ready=T0), pod("b", ready=T0)], now_us=T0)
    assert names(ownership.owners(IP, T0 + 50 * SECOND)) == ["a", "b"]


def test_gone_intervals_live_as_long_as_the_cache_keeps_them() -> None:
    gone: dict[str, tuple[Interval, ...]] = {}
    ownership = Ownership(gone=gone)
    ownership.put(pod("a", ready=T0), now_us=T0, live=True)
    ownership.remove("a", now_us=T0 + SECOND)
    assert names(ownership.owners(IP, T0)) == ["a"]
    gone.clear()
    assert names(ownership.owners(IP, T0)) == []


def test_a_list_that_lacks_a_pod_ends_it() -> None:
    ownership = Ownership()
    ownership.replace([pod("a", ready=T0), pod("b", "10.244.1.4", ready=T0)], now_us=T0)
    handovers = ownership.replace([pod("b", "10.244.1.4", ready=T0)], now_us=T0 + 60 * SECOND)
    assert handovers == [Handover(IP, T0 + 60 * SECOND)]
    assert len(ownership) == 1


@pytest.mark.parametrize("order", [("b", "job"), ("job", "b")])
def test_a_finished_pod_does_not_hide_since_when_the_living_one_owns(order: tuple[str, str]) -> None:
    pods = {
        "b": pod("b", ready=T0 + 60 * SECOND),
        "job": pod("job", ready=T0, until=T0 + 10 * SECOND),
    }
    handovers = Ownership().replace([pods[name] for name in order], now_us=T0 + 99 * SECOND)
    assert handovers == [Handover(IP, T0 + 60 * SECOND)]


def test_a_pod_that_had_finished_when_it_was_first_seen_gave_its_address_away_then() -> None:
    handovers = Ownership().replace([pod("job", ready=T0, until=T0 + 10 * SECOND)], now_us=T0 + 99 * SECOND)
    assert handovers == [Handover(IP, T0 + 10 * SECOND)]


def test_an_address_that_changes_on_the_same_pod_is_closed_and_opened() -> None:
    ownership = Ownership()
    ownership.put(pod("a", IP, ready=T0), now_us=T0, live=True)
    ownership.put(pod("a", "10.244.1.9", ready=T0 + 60 * SECOND), now_us=T0 + 61 * SECOND, live=True)
    assert names(ownership.owners(IP, T0 + 70 * SECOND)) == []
    assert names(ownership.owners("10.244.1.9", T0 + 70 * SECOND)) == ["a"]


def test_a_pod_that_finishes_gives_its_address_away_while_its_object_stays() -> None:
    ownership = Ownership()
    ownership.put(pod("a", ready=T0), now_us=T0, live=True)
    done = ownership.put(pod("a", ready=T0, until=T0 + 60 * SECOND), now_us=T0 + 62 * SECOND, live=True)
    assert done == [Handover(IP, T0 + 60 * SECOND)]
    ownership.put(pod("b", ready=T0 + 90 * SECOND), now_us=T0 + 90 * SECOND, live=True)
    assert names(ownership.owners(IP, T0 + 30 * SECOND)) == ["a"]
    assert names(ownership.owners(IP, T0 + 100 * SECOND)) == ["b"]


def test_a_change_that_matters_to_nobody_changes_nothing() -> None:
    ownership = Ownership()
    ownership.put(pod("a", ready=T0), now_us=T0, live=True)
    assert ownership.put(pod("a", ready=T0), now_us=T0 + 60 * SECOND, live=True) == []


def test_the_nodes_are_known_by_the_host_addresses_of_pods() -> None:
    ownership = Ownership()
    ownership.put(pod("a"), now_us=T0, live=True)
    assert ownership.node("192.0.2.1") == "node-1"
    assert ownership.node("192.0.2.2") == ""


def test_a_running_pod_of_a_real_server_is_reduced() -> None:
    reduced = reduce_pod(recorded("10-pods-list-by-node-for-node.json"), label="app")
    assert reduced is not None
    assert reduced.ref == PodRef("cases", "server", "d1cb82b1-be2e-4b7d-9e80-d979c9f6e055", "server")
    assert reduced.addresses == ("10.244.1.3", "fd00::3")
    assert reduced.start_us == timestamp_us("2026-11-22T00:00:00Z")
    assert (reduced.ready_us, reduced.until_us, reduced.node) == (None, None, "node1")
    assert reduced.host_addresses == ("192.168.7.7",)


def test_a_finished_pod_of_a_real_server_owned_until_its_last_container_ended() -> None:
    reduced = reduce_pod(recorded("46-pod-finished.json"))
    assert reduced is not None
    assert reduced.until_us == timestamp_us("2026-11-22T17:05:00Z")
    assert reduced.ready_us is None, "the sandbox is gone: the condition's transition is its end"


def test_a_terminating_pod_of_a_real_server_still_owns() -> None:
    reduced = reduce_pod(recorded("44-pod-terminating.json"))
    assert reduced is not None
    assert (reduced.addresses, reduced.until_us) == (("10.244.9.20",), None)


def test_a_pod_whose_address_calico_took_back_owns_nothing_now() -> None:
    reduced = reduce_pod(recorded("45-pod-calico-released.json"))
    assert reduced is not None
    ownership = Ownership()
    ownership.replace([reduced], now_us=T0)
    assert ownership.owners("10.244.9.21", T0) == ()


def test_an_address_that_is_taken_back_before_our_eyes_was_owned_until_then() -> None:
    ownership = Ownership()
    ownership.put(pod("a", ready=T0), now_us=T0, live=True)
    ownership.put(pod("a", ready=T0, until=0)._replace(released=True), now_us=T0 + 60 * SECOND, live=True)
    assert names(ownership.owners(IP, T0 + 59 * SECOND)) == ["a"]
    assert names(ownership.owners(IP, T0 + 70 * SECOND)) == []


def test_a_mirror_pod_is_named_by_its_annotation_and_known_by_its_uid() -> None:
    reduced = reduce_pod(recorded("47-pod-mirror.json"))
    assert reduced is not None
    assert (reduced.key, reduced.ref.uid) == ("86a79c8f-ac17-4d36-b396-4991a9a55925", "3f1d2c")
    assert reduced.addresses == (), "host network"


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": None},
        {"metadata": {"uid": "u", "namespace": "n"}},
        {"metadata": [], "spec": 3, "status": "x"},
    ],
)
def test_what_is_no_pod_is_none(obj: dict[str, Any]) -> None:
    assert reduce_pod(obj) is None


@pytest.mark.parametrize(
    "status",
    [
        {"podIPs": "x", "podIP": 3, "conditions": {}, "containerStatuses": 1},
        {"podIPs": [None, {"ip": "not an address"}], "conditions": [None], "phase": "Failed"},
        {"startTime": "yesterday", "phase": "Succeeded", "containerStatuses": [{"state": {"terminated": None}}]},
    ],
)
def test_odd_fields_are_passed_over(status: dict[str, Any]) -> None:
    reduced = reduce_pod({"metadata": {"uid": "u", "namespace": "n", "name": "p"}, "status": status})
    assert reduced is not None
    assert reduced.addresses == ()


def test_addresses_are_canonical() -> None:
    obj = {
        "metadata": {"uid": "u", "namespace": "n", "name": "p"},
        "status": {"podIP": "fd00:0:0::3", "podIPs": [{"ip": "fd00:0:0::3"}, {"ip": "10.0.0.1"}]},
    }
    reduced = reduce_pod(obj)
    assert reduced is not None
    assert reduced.addresses == ("fd00::3", "10.0.0.1")
