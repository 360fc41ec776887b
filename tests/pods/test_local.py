"""The local copy of the pods that are watched."""

from __future__ import annotations

import threading

import pytest

from kiptail.clock.own import OwnClock
from kiptail.pods.evidence import WATCH_LAG_US
from kiptail.pods.local import Learned, LocalPods
from kiptail.pods.ownership import Pod, PodRef
from kiptail.pods.tenancy import owned

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
A = Pod("a", PodRef("team-a", "a", "a"), ("10.0.0.1",), T0, T0, None, False, "here", ("198.51.100.3",), probes=(8080,))
B = A._replace(key="b", ref=PodRef("team-a", "b", "b"), addresses=("10.0.0.2",))


class Clock(OwnClock):
    """Shows what it is told."""

    us = T0 + 60 * SECOND

    def now_us(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pods(clock: Clock) -> LocalPods:
    return LocalPods(node="here", clock=clock)


def test_what_was_learned_is_told_once(pods: LocalPods) -> None:
    assert pods.replace(iter([A, B])) == Learned({"10.0.0.1", "10.0.0.2"}, set(), nodes=True)
    assert pods.replace([A, B]) == Learned(set(), set(), nodes=False)
    assert pods.change(A, "", live=True) == Learned(set(), set(), nodes=False)
    moved = B._replace(addresses=("10.0.0.3",), host_addresses=("198.51.100.4",), node="there")
    assert pods.change(moved, "", live=True) == Learned({"10.0.0.2", "10.0.0.3"}, set(), nodes=True)
    assert pods.change(None, "b", live=True) == Learned({"10.0.0.3"}, set(), nodes=False)
    assert pods.change(None, "", live=True) == Learned(set(), set(), nodes=False)
    assert len(pods) == 1
    assert pods.node("198.51.100.4") == "there"
    assert (pods.has_node("here"), pods.has_node("there")) == (True, False)


def test_a_pod_that_a_line_shows_as_it_was_last_is_gone_afterwards(pods: LocalPods) -> None:
    assert pods.change(A._replace(stopped_us=T0 + 9 * SECOND), "a", live=True).addresses == {"10.0.0.1"}
    assert len(pods) == 0
    assert [i.until_us for i in pods.intervals("10.0.0.1")] == [T0 + 10 * SECOND]


def test_a_list_tells_who_went_while_nobody_watched(pods: LocalPods, clock: Clock) -> None:
    pods.replace([A])
    pods.freshness.follow(True)
    pods.freshness.interrupted()
    seen_us, clock.us = clock.us, clock.us + 60 * SECOND
    pods.replace([])
    (interval,) = pods.intervals("10.0.0.1")
    assert (interval.held_us, interval.until_us, interval.unseen_end) == (seen_us, clock.us, True)


def test_an_owner_may_be_contradicted_while_news_is_due(pods: LocalPods, clock: Clock) -> None:
    pods.replace([A])
    assert pods.contested("10.0.0.1", 0), "nobody watches"
    pods.freshness.follow(True)
    assert not pods.contested("10.0.0.1", clock.us)
    pods.change(B._replace(addresses=A.addresses), "", live=False)
    assert pods.contested("10.0.0.1", clock.us), "two have it"
    assert not pods.contested("10.0.0.1", clock.us - WATCH_LAG_US)
    assert not pods.contested("10.0.0.2", clock.us)
    pods.change(B._replace(addresses=(), ready_us=None, claiming=True), "", live=True)
    assert pods.contested("10.0.0.2", clock.us), "one is about to have some address"


def test_probes_are_those_of_who_has_the_address(pods: LocalPods) -> None:
    pods.replace([A, B._replace(probes=())])
    asked = [("10.0.0.1", 8080), ("10.0.0.1", 80), ("10.0.0.2", 8080), ("10.0.0.9", 8080)]
    assert [pods.probed(*each) for each in asked] == [True, False, False, False]


def test_another_run_goes_on_from_what_was_taken(pods: LocalPods, clock: Clock) -> None:
    pods.replace([A])
    taken = pods.take_local()
    assert set(taken) == {"10.0.0.1"}
    assert pods.take_local() == {}
    after = LocalPods(node="here", clock=clock)
    after.restore([(address, i) for address, known in taken.items() for i in known], seen_us=clock.us)
    assert after.freshness.fresh_us() == after.freshness.watched_us() == clock.us
    assert after.intervals("10.0.0.1") == pods.intervals("10.0.0.1")
    clock.us += 60 * SECOND
    after.replace([])
    after.forget(clock.us + SECOND)
    assert after.intervals("10.0.0.1") == ()


def test_whoever_asks_while_a_list_is_taken_over_sees_all_of_it_or_nothing(pods: LocalPods) -> None:
    """Both lists have one pod for each address; in between, none or two would be seen."""
    addresses = [f"10.0.1.{n}" for n in range(100)]
    lists = [
        [A._replace(key=f"{which}{n}", ref=A.ref._replace(name=which), addresses=(address,), host_addresses=())
         for n, address in enumerate(addresses)]
        for which in "xy"
    ]  # fmt: skip
    pods.replace(lists[0])
    seen: set[int] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.add(len(pods))
            seen.update(sum(i.until_us is None for i in pods.intervals(address)) for address in addresses[::7])

    thread = threading.Thread(target=ask)
    thread.start()
    for n in range(1, 40):
        pods.replace(lists[n % 2])
    over.set()
    thread.join()
    assert seen == {1, 100}


def test_what_annotations_say_is_told_apart_and_dated_by_when_it_was_seen() -> None:
    clock = OwnClock()
    pods = LocalPods(node="here", clock=clock)
    claimed = A._replace(claims=("192.168.7.1",))
    assert pods.replace([A, B]).claims == set()
    assert pods.change(claimed, "", live=True) == Learned(set(), {"192.168.7.1"}, nodes=False)
    before_us = clock.now_us() - 5_000_000
    assert owned(pods.claims.intervals("192.168.7.1"), before_us).pods == ()
    assert owned(pods.claims.intervals("192.168.7.1"), clock.now_us() + 2_000_000).pods == (A.ref,)
    assert pods.intervals("192.168.7.1") == ()
    assert pods.change(None, "a", live=True) == Learned({"10.0.0.1"}, {"192.168.7.1"}, nodes=False)
    ready_us = clock.now_us() - 60_000_000
    new = B._replace(key="c", addresses=("10.0.0.3",), claims=("192.168.7.2",), ready_us=ready_us, start_us=ready_us)
    assert pods.change(new, "", live=True).claims == {"192.168.7.2"}
    assert owned(pods.claims.intervals("192.168.7.2"), before_us).pods == (B.ref,), "with it from the beginning"
    pods.forget(clock.now_us() + 900_000_000)
    assert pods.claims.intervals("192.168.7.1") == ()
