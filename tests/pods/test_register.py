"""The intervals of every address."""

from __future__ import annotations

import pytest

from kiptail.pods import register
from kiptail.pods.ownership import PodRef
from kiptail.pods.register import IntervalRegister
from kiptail.pods.tenancy import Interval

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
IP = "10.0.0.1"


def interval(key: str, since: int = 0, until: int | None = None, *, local: bool = True) -> Interval:
    since_us, until_us = T0 + since * SECOND, None if until is None else T0 + until * SECOND
    return Interval(key, PodRef("team-a", key, key), since_us, since_us + SECOND, until_us, until_us, local=local)


def test_of_one_pod_there_is_one_interval() -> None:
    known = IntervalRegister()
    for each in (interval("a"), interval("b"), interval("a", 5)):
        known.put(IP, each)
    assert known.intervals(IP) == (interval("b"), interval("a", 5))
    assert (known.present(IP, "a"), known.present(IP, "c")) == (interval("a", 5), None)
    assert known.intervals("10.0.0.2") == ()


@pytest.mark.parametrize(
    ("before", "held", "expected"),
    [
        (interval("a"), None, (1, 9)),
        (interval("a"), 0, (1, 9)),
        (interval("a"), 5, (5, 9)),
        (interval("a"), 99, (9, 9)),
        (interval("a")._replace(held_us=T0 + 7 * SECOND), None, (7, 9)),
        (interval("a", 0, 4), 5, (4, 4)),
        (interval("a", 20), None, (20, 20)),
    ],
    ids=["not known", "before it was sure", "known", "too late", "leaving", "ended before", "began later"],
)
def test_an_end_is_as_exact_as_what_is_known(before: Interval, held: int | None, expected: tuple[int, int]) -> None:
    known = IntervalRegister()
    known.put(IP, before)
    assert known.close(IP, "a", None if held is None else T0 + held * SECOND, T0 + 9 * SECOND - 5, unseen=True)
    assert known.present(IP, "a") is None
    (closed,) = known.intervals(IP)
    assert (closed.held_us, closed.until_us) == tuple(T0 + second * SECOND for second in expected)
    assert closed.unseen_end == (before.until_us is None)
    assert known.former_us(IP, "a") == closed.until_us
    assert not known.close(IP, "a", None, T0), "it has not got it"


def test_former_owners_are_the_latest_few_of_the_latest_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "MAX_FORMER", 2)
    monkeypatch.setattr(register, "MAX_GONE", 2)
    known = IntervalRegister()
    for n in range(3):
        known.retire(IP, interval(f"p{n}", n, n + 1))
    assert [i.key for i in known.intervals(IP)] == ["p1", "p2"]
    for n in (2, 3):
        known.retire(f"10.0.0.{n}", interval("q", n, n + 1))
    known.take_local()
    assert known.intervals(IP) == ()
    assert [i.key for i in known.intervals("10.0.0.3")] == ["q"]


def test_what_changed_of_this_nodes_pods_is_taken_once() -> None:
    known = IntervalRegister()
    known.put(IP, interval("a"))
    known.put(IP, interval("far", local=False))
    known.put("10.0.0.2", interval("far", local=False))
    known.restore("10.0.0.3", interval("b"))
    assert known.take_local() == {IP: (interval("a"),)}
    known.rename(IP, "a", PodRef("team-a", "a", "a", "web"))
    assert [i.ref.label for i in known.take_local()[IP]] == ["web"]
    known.close("10.0.0.3", "b", None, T0 + 9 * SECOND)
    known.forget(T0 + 60 * SECOND)
    assert known.take_local() == {"10.0.0.3": ()}


def test_what_ended_before_is_forgotten_unless_it_shows_that_another_has_left() -> None:
    known = IntervalRegister()
    known.put(IP, interval("leaving")._replace(held_us=T0 + 9 * SECOND))
    known.retire(IP, interval("after", 20, 30))
    known.retire("10.0.0.2", interval("over", 0, 50))
    known.forget(T0 + 50 * SECOND)
    assert [i.key for address in (IP, "10.0.0.2") for i in known.intervals(address)] == ["after", "leaving", "over"]
    known.forget(T0 + 51 * SECOND)
    assert [i.key for address in (IP, "10.0.0.2") for i in known.intervals(address)] == ["after", "leaving"]
