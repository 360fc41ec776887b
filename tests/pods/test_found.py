"""What look-ups found, and for how long that answers."""

from __future__ import annotations

import time

import pytest

from kiptail.pods import found
from kiptail.pods.found import Found

T0 = 1_700_000_000_000_000
ADDRESS = "10.0.0.1"


def test_who_is_found_answers_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "HIT_TTL", 0.05)
    answers = Found()
    assert not answers.answers(ADDRESS, 0)
    answers.hit(ADDRESS)
    assert answers.answers(ADDRESS, T0)
    time.sleep(0.06)
    assert not answers.answers(ADDRESS, T0)


def test_who_is_found_answers_until_another_has_the_address() -> None:
    answers = Found()
    answers.hit(ADDRESS)
    answers.forget(ADDRESS)
    assert not answers.answers(ADDRESS, T0)
    answers.hit(ADDRESS)
    answers.miss(ADDRESS, T0)
    assert not answers.answers(ADDRESS, T0 + 1)
    answers.hit(ADDRESS)
    assert answers.again_at(ADDRESS) == 0.0


def test_nobody_answers_for_earlier_drops_and_is_looked_for_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found.time, "monotonic", lambda: 1000.0)
    answers = Found()
    pauses = []
    for n in range(7):
        answers.miss(ADDRESS, T0 + n)
        assert answers.answers(ADDRESS, T0 + n)
        assert not answers.answers(ADDRESS, T0 + n + 1)
        pauses.append(answers.again_at(ADDRESS) - 1000.0)
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_what_is_given_up_answers_for_nothing() -> None:
    answers = Found()
    answers.give_up(ADDRESS)
    assert not answers.answers(ADDRESS, 1)
    assert answers.again_at(ADDRESS) > time.monotonic() + 200
