"""Pauses between tries, and how many tries a second there may be."""

from __future__ import annotations

import pytest

from kiptail.clock.pacing import Backoff, TokenBucket
from tests.support.clock import Clock


def test_pauses_double_up_to_the_cap_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(30.0, 100.0, jitter=0.0)
    assert [backoff.pause() for _ in range(4)] == [30.0, 60.0, 100.0, 100.0]
    backoff.reset()
    assert backoff.pause() == 30.0


@pytest.mark.parametrize(("options", "share"), [({}, 0.5), ({"jitter": 0.2}, 0.8)], ids=["by default", "as asked"])
def test_a_pause_is_shortened_at_random_and_the_next_one_is_not_shorter_for_that(
    options: dict[str, float], share: float
) -> None:
    pauses = [Backoff(1.0, 8.0, **options) for _ in range(100)]
    for longest in (1.0, 2.0, 4.0, 8.0, 8.0):
        seen = [backoff.pause() for backoff in pauses]
        assert share * longest <= min(seen) < max(seen) <= longest


def test_a_bucket_gives_a_burst_at_once_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, 3, clock=clock)
    assert [bucket.delay() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.now += 0.5
    assert [bucket.delay() for _ in range(2)] == [0.0, 0.5]
    clock.now += 60.0
    assert [bucket.delay() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
