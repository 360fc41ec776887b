"""How far what is known of pods keeps up."""

from __future__ import annotations

import pytest

from kiptail.clock.own import OwnClock
from kiptail.pods import freshness
from kiptail.pods.evidence import WATCH_LAG_US
from kiptail.pods.freshness import Freshness

T0 = 1_800_000_000_000_000


class Clock(OwnClock):
    """Shows what it is told."""

    us = T0

    def now_us(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fresh(clock: Clock) -> Freshness:
    return Freshness(clock)


def test_the_first_list_is_told_from_later_ones(fresh: Freshness) -> None:
    assert not fresh.ready()
    assert [fresh.listed(), fresh.listed()] == [True, False]
    assert fresh.ready()


def test_all_is_known_up_to_when_the_server_told_all(clock: Clock, fresh: Freshness) -> None:
    assert fresh.fresh_us() == 0
    fresh.restored(7)
    assert (fresh.fresh_us(), fresh.watched_us()) == (7, 7)
    fresh.heard()
    assert (fresh.fresh_us(), fresh.watched_us()) == (T0, 7)


def test_pods_were_watched_until_the_watch_broke_if_it_could_be_read(clock: Clock, fresh: Freshness) -> None:
    fresh.follow(True)
    clock.us += 5
    fresh.interrupted()
    assert (fresh.current(), fresh.watched_us()) == (False, T0 + 5)
    clock.us += 5
    fresh.follow(True)
    fresh.follow(False)  # nothing that comes makes sense
    fresh.interrupted()
    assert (fresh.current(), fresh.watched_us()) == (False, T0 + 5)


def test_news_of_a_time_may_come_a_little_later_or_after_an_interruption(clock: Clock, fresh: Freshness) -> None:
    assert fresh.expects(0), "nobody watches"
    fresh.follow(True)
    assert fresh.expects(T0)
    assert not fresh.expects(T0 - WATCH_LAG_US)
    clock.us += WATCH_LAG_US
    assert not fresh.expects(T0)
    fresh.interrupted()
    assert fresh.expects(0)


def test_the_age_is_that_of_the_servers_last_word(fresh: Freshness, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 100.0
    monkeypatch.setattr(freshness.time, "monotonic", lambda: at)
    fresh.heard()
    at = 107.5
    assert fresh.age() == 7.5


def test_a_watch_that_cannot_go_on_has_watched_only_what_it_showed(clock: Clock, fresh: Freshness) -> None:
    fresh.follow(True)
    clock.us = T0 + 1
    fresh.heard()
    clock.us = T0 + 5
    fresh.interrupted()
    clock.us = T0 + 9
    fresh.follow(True)
    fresh.interrupted(expired=True)
    assert fresh.watched_us() == T0 + 5, "nothing was heard since"
    fresh.follow(True)
    clock.us = T0 + 12
    fresh.heard()
    clock.us = T0 + 20
    fresh.interrupted(expired=True)
    assert fresh.watched_us() == T0 + 12, "something may be missing from then on"
