"""A trouble is logged when it begins and when it is over."""

from __future__ import annotations

from kiptail.clock.trouble import Trouble


def test_all_is_well_at_first() -> None:
    trouble = Trouble()
    assert trouble.text == ""
    assert not trouble.ends()


def test_a_trouble_begins_once_and_shows_the_reason_that_was_met_last() -> None:
    trouble = Trouble()
    assert trouble.begins("the disk is full")
    assert not trouble.begins("the disk is full")
    assert not trouble.begins("the disk is away")
    assert trouble.text == "the disk is away"


def test_a_trouble_ends_once_and_may_begin_anew() -> None:
    trouble = Trouble()
    trouble.begins("the disk is full")
    assert trouble.ends()
    assert trouble.text == ""
    assert not trouble.ends()
    assert trouble.begins("the disk is full")


def test_where_each_reason_is_logged_another_one_is_told_from_the_same() -> None:
    trouble = Trouble()
    assert trouble.changes("no right")
    assert not trouble.changes("no right")
    assert trouble.changes("no answer")
    assert trouble.text == "no answer"
    assert trouble.ends()
    assert trouble.changes("no answer")
