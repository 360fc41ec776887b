"""Pods of other nodes, as they are found. What that costs a server: test_live.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from kiptail.clock.own import OwnClock
from kiptail.pods import dual_stack_plan
from kiptail.pods.other_nodes import NoOtherNodes, OtherNodes
from kiptail.pods.ranges import PodRanges
from kiptail.pods.stats import IndexStats
from kiptail.pods.traits import SharedTraits, Traits
from tests.support.pods import pod


def now_us() -> int:
    return time.time_ns() // 1000


class Api:
    """Some pods, by their first address or all of them."""

    def __init__(self) -> None:
        self.pods = [
            pod("near", "10.0.0.1", "fd00::1", uid="near", node="here"),
            pod("far", "10.0.0.2", "fd00::2", uid="far", node="there", host="198.51.100.9", labels={"app": "far"}),
            pod("wide", "10.0.0.3", "fd00::3", uid="wide", node="there"),
        ]

    def list_pods_page(self, *, field_selector: str = "", **_: Any) -> dict[str, Any]:
        address = field_selector.removeprefix("status.podIP=")
        return {"metadata": {}, "items": [one for one in self.pods if one["status"]["podIP"] == address or not address]}


class Others:
    """Other nodes' pods with everything around them."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self.answered: set[str] = set()
        self.named: set[str] = set()
        self.ranges = PodRanges()
        self.pods = OtherNodes(
            Api(),
            node="here",
            label=None,
            ranges=self.ranges,
            names=self,
            on_change=self.changed.update,
            on_found=self.answered.update,
            how_to_grant=lambda: "",
            clock=OwnClock(),
            traits=SharedTraits(),
        )

    def note_pods(self, addresses: Iterable[str]) -> None:
        self.named.update(addresses)

    def asked(self, address: str) -> list[str]:
        """Who has the address, once that is known."""
        at_us = now_us()
        assert self.pods.ask(address, at_us)
        self.wait(lambda: address in self.answered)
        assert self.pods.knows(address, at_us)
        return [interval.key for interval in self.pods.intervals(address)]

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Others]:
    monkeypatch.setattr(dual_stack_plan, "FIRST_WITHIN", 0.0)
    others = Others()
    yield others
    others.pods.close(2.0)


def test_a_pod_is_found_with_all_that_it_shows(others: Others) -> None:
    assert others.asked("10.0.0.2") == ["far"]
    assert [i.key for i in others.pods.intervals("fd00::2")] == ["far"]
    assert others.changed == others.named == others.answered == {"10.0.0.2", "fd00::2"}
    assert others.pods.node("198.51.100.9") == "there"


def test_this_nodes_pods_are_not_kept(others: Others) -> None:
    assert others.asked("10.0.0.1") == []
    assert (others.changed, others.named) == (set(), set())
    assert others.ranges.is_second("fd00::1"), "but what they show of addresses is"


def test_second_addresses_are_found_in_a_list_of_all_and_by_the_first_one_from_then_on(others: Others) -> None:
    others.asked("10.0.0.1")  # shows which family comes second
    assert others.asked("fd00::3") == ["wide"]
    assert others.changed == {"10.0.0.3", "fd00::3"}, "and of others only which first address theirs is"
    stats = others.pods.add_to(IndexStats())
    assert (stats.dual_stack_lists, stats.dual_stack_pods, stats.lookups) == (1, 3, {"miss": 1})
    assert others.asked("fd00::2") == ["far"]
    stats = others.pods.add_to(IndexStats())
    assert (stats.dual_stack_lists, stats.lookups) == (1, {"miss": 1, "hit": 1})


def test_a_pod_of_this_node_takes_an_address_over(others: Others) -> None:
    others.asked("10.0.0.2")
    others.pods.note_watched({"10.0.0.2"})
    assert not others.pods.knows("10.0.0.2", now_us())
    assert others.pods.intervals("10.0.0.2"), "who had it before stays known"


def test_that_nobody_was_found_rules_pods_out_for_drops_before_that(others: Others) -> None:
    before_us = now_us()
    assert not others.pods.rules_out("10.0.0.9", before_us)
    assert others.asked("10.0.0.9") == []
    assert others.pods.rules_out("10.0.0.9", before_us)
    assert not others.pods.rules_out("10.0.0.9", now_us() + 1_000_000)


def test_a_pod_is_kept_as_it_was_found(others: Others) -> None:
    others.asked("10.0.0.2")
    (pod,) = others.pods.pods_at("fd00::2")
    assert (pod.key, pod.traits) == ("far", Traits(("app", "far")))
    assert others.pods.pods_at("10.0.0.9") == []


def test_what_is_kept_is_counted(others: Others) -> None:
    watched = IndexStats(pods=7, refused=2, age_s=1.5)
    assert others.pods.add_to(watched) == watched
    others.asked("10.0.0.2")
    counted = others.pods.add_to(watched)
    assert (counted.pods, counted.remote_pods, counted.refused, counted.pending) == (7, 1, 2, 0)
    assert not others.pods.pending()


def test_after_the_end_nothing_is_asked(others: Others) -> None:
    others.pods.close(0.0)
    assert not others.pods.ask("10.0.0.2", now_us())


def test_where_all_pods_are_watched_there_are_no_others() -> None:
    none, watched = NoOtherNodes(), IndexStats(pods=7)
    none.note_watched({"10.0.0.2"})
    none.forget(0)
    none.close(0.0)
    assert [none.pending(), none.knows("10.0.0.2", 0), none.ask("10.0.0.2", 0)] == [False] * 3
    assert (none.intervals("10.0.0.2"), none.node("10.0.0.2"), none.pods_at("10.0.0.2")) == ((), "", [])
    assert none.rules_out("10.0.0.2", 0)
    assert none.add_to(watched) is watched
