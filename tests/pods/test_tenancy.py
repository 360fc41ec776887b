"""What the bounds of several pods' times with an address say together."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.pods.ownership import PodRef
from kiptail.pods.tenancy import (
    ALWAYS,
    NEVER,
    NOBODY,
    Interval,
    Owned,
    boundaries,
    ceil_s,
    changes_of_hands,
    ends,
    floor_s,
    owned,
)

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND


def us(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def interval(
    key: str,
    since: float,
    sure: float,
    held: float | None = None,
    until: float | None = None,
    *,
    unseen: bool = False,
    gap: bool = False,
) -> Interval:
    """Bounds are seconds after ``T0``."""
    ref = PodRef("team-a", key, key)
    held_us, until_us = (None if bound is None else us(bound) for bound in (held, until))
    return Interval(key, ref, us(since), us(sure), held_us, until_us, unseen, after_gap=gap)


def told(intervals: list[Interval], seconds: float) -> str:
    """The names; ``?``: it is one that may not have been; ``*``: or somebody of whom nobody knows."""
    found = owned(intervals, us(seconds))
    names = sorted(ref.name for ref in found.pods)
    return " ".join(names) + "?" * (len(names) == 1 and not found.sure) + "*" * found.stranger


#: What is known of each pod, and who had the address at which second.
TABLE: dict[str, tuple[list[Interval], dict[float, str]]] = {
    "nobody": ([], {0: ""}),
    "one that stays": ([interval("a", 1, 2)], {0.9: "", 1: "a?", 1.9: "a?", 2: "a", 9_999: "a"}),
    "one that is gone": ([interval("a", 1, 2, 8, 9)], {0: "", 1: "a?", 7.9: "a", 8: "a?", 8.9: "a?", 9: ""}),
    "one that is leaving": ([interval("a", 1, 2, 8)], {7: "a", 8: "a?", 9_999: "a?"}),
    "one of which no moment is sure": ([interval("a", 1, 9, 8, 9)], {1: "a?", 8.9: "a?", 9: ""}),
    "one after the other, and nobody in between": (
        [interval("a", 1, 2, 3, 4), interval("b", 6, 7)],
        {3.9: "a?", 4: "", 6: "b?", 7: "b"},
    ),
    "where bounds overlap, both may be meant": (
        [interval("a", 1, 2, 8, 12), interval("b", 9, 20)],
        {8: "a?", 9: "a b", 11.9: "a b", 12: "b?", 20: "b"},
    ),
    "who surely has it ends the time of one that is gone": (
        [interval("a", 1, 2, 8, 30), interval("b", 9, 20)],
        {8: "a?", 9: "a b", 19.9: "a b", 20: "b"},
    ),
    "and of one that is leaving": ([interval("a", 1, 2, 8), interval("b", 9, 20)], {9: "a b", 19.9: "a b", 20: "b"}),
    "but not of one that means to stay": ([interval("a", 1, 2), interval("b", 9, 20)], {9: "a", 19.9: "a", 20: "a b"}),
    "who surely had it before does not": (
        [interval("a", 1, 2, 4, 5), interval("b", 3, 9, 20)],
        {3.9: "a", 4: "a b", 5: "b?", 9: "b", 20: "b?"},
    ),
    "who came while another surely had it came after that one": (
        [interval("a", 1, 2, 8, 9), interval("b", 3, 10)],
        {7.9: "a", 8: "a b", 9: "b?", 10: "b"},
    ),
    "unless its beginning was dated: that is more exact than when the other one was seen last": (
        [interval("a", 1, 2, 8, 30, unseen=True), interval("b", 5, 6)],
        {4: "a", 5: "a b", 6: "b"},
    ),
    "an end that was seen is not doubted by who claims the address before": (
        [interval("a", 1, 2, 8, 9), interval("b", 3, 4)],
        {3: "a", 4: "a b", 7.9: "a b", 8: "b"},
    ),
    "an end that nobody saw was before whoever came": (
        [interval("a", 1, 2, 3, 50, unseen=True), interval("b", 20, 40)],
        {2: "a", 3: "a?", 20: "a b", 21: "b?", 40: "b"},
    ),
    "the first of those that came": (
        [interval("a", 1, 2, 3, 50, unseen=True), interval("c", 40, 41), interval("b", 20, 21, 29, 30)],
        {3: "a?", 20: "a b", 21: "b", 29: "b?", 30: "", 40: "c?", 41: "c"},
    ),
    "who was there before says nothing of an unseen end": (
        [interval("a", 5, 6, 7, 50, unseen=True), interval("b", 1, 2, 3, 4)],
        {2: "b", 4: "", 6: "a", 49: "a?", 50: ""},
    ),
    "that it was there when it was seen last was old news, if another one had come before": (
        [interval("a", 1, 2, 30, 50, unseen=True), interval("b", 20, 21)],
        {19.9: "a", 20: "a b", 21: "b"},
    ),
    "one that began while nobody watched": (
        [interval("a", 1, 5, gap=True)],
        {0: "", 1: "a?*", 1.9: "a?*", 2: "a?", 5: "a"},
    ),
    "one that surely had it in its first second": ([interval("a", 1, 1, gap=True)], {1: "a"}),
    "one that began while nobody watched, after another": (
        [interval("a", 0, 1, 3, 9), interval("b", 5, 8, gap=True)],
        {4: "a?", 5: "a b*", 6: "a b", 8: "b"},
    ),
    "who surely had it was no stranger": (
        [interval("a", 0, 1, 9, 10), interval("b", 5, 12, gap=True)],
        {5: "a", 9: "a b*", 10: "b?", 12: "b"},
    ),
    "two that came in the same second: who went later came later": (
        [interval("a", 1, 2, 3, 9), interval("b", 1, 2, 6, 7)],
        {1: "a b", 2: "a b", 3: "b", 6: "b?", 7: ""},
    ),
    "two that came in the same second, and both are leaving": (
        [interval("a", 1, 2, 5), interval("b", 1, 2, 5)],
        {1: "a b", 4: "a b", 9: "a b"},
    ),
    "three of which the bounds overlap": (
        [interval("a", 0, 1, 5, 9), interval("b", 5, 7, 8, 12), interval("c", 6, 12)],
        {4: "a", 5: "a b", 6: "a b", 7: "b", 8: "b c", 11.9: "b c", 12: "c"},
    ),
}


@pytest.mark.parametrize(("intervals", "expected"), TABLE.values(), ids=TABLE)
def test_who_had_the_address_whatever_came_first(intervals: list[Interval], expected: dict[float, str]) -> None:
    for order in permutations(intervals):
        assert {second: told(list(order), second) for second in expected} == expected


def test_pods_of_one_name_and_identity_are_one() -> None:
    """As a mirror pod that was made anew: it has another object, and the label may have changed."""
    ref = PodRef("team-a", "etcd", "hash")
    old = interval("old", 0, 1, 10, 20)._replace(ref=ref)
    new = interval("new", 5, 6)._replace(ref=ref._replace(label="newer"))
    assert owned([old, new], us(8)) == Owned((new.ref,), sure=True)


def test_the_latest_times_of_all_are_known() -> None:
    intervals = [interval("a", 1, 2, 8, 30), interval("b", 9, 20, 22), interval("c", 24, 25)]
    assert ends(intervals) == [us(20), us(25), NEVER]
    assert owned(intervals, NEVER - 1).pods == (intervals[2].ref,)
    assert owned([interval("a", 0, 5)._replace(since_us=ALWAYS)], 1) == Owned((PodRef("team-a", "a", "a"),), sure=False)
    assert owned([], 1) == NOBODY


def test_boundaries_are_all_bounds_but_the_sure_beginning() -> None:
    assert boundaries([interval("a", 1, 2, 8, 30), interval("b", 9, 20, 8), interval("c", 9, 25)]) == tuple(
        map(us, (1, 8, 9, 30))
    )


@pytest.mark.parametrize(
    ("at_us", "floor", "ceiling"),
    [(0, 0, 0), (1, 0, SECOND), (SECOND, SECOND, SECOND), (T0 + 999_999, T0, T0 + SECOND)],
)
def test_whole_seconds(at_us: int, floor: int, ceiling: int) -> None:
    assert (floor_s(at_us), ceil_s(at_us)) == (floor, ceiling)


# What holds whatever is known

bounds = st.integers(0, 12)


@st.composite
def anything(draw: st.DrawFn) -> list[Interval]:
    """Bounds that ownership may give, however odd they are together."""
    made = []
    for key in "abcd"[: draw(st.integers(0, 4))]:
        since, width, stay, rest = (draw(bounds) for _ in range(4))
        fate = draw(st.sampled_from(["stays", "leaves", "is gone"]))
        held = None if fate == "stays" else since + stay
        until = since + stay + rest if fate == "is gone" else None
        sure = since + width if until is None else min(since + width, until)
        made.append(
            interval(
                key, since, sure, held, until, unseen=until is not None and draw(st.booleans()), gap=draw(st.booleans())
            )
        )
    return made


SECONDS = range(-1, 45)


@given(anything())
def test_answers_change_where_it_is_said_and_only_on_whole_seconds(intervals: list[Interval]) -> None:
    answers = [owned(intervals, us(second)) for second in SECONDS]
    said = [(answer.pods, answer.stranger) for answer in answers]
    changed = [us(second) for (_, second), (a, b) in zip(pairwise(SECONDS), pairwise(said), strict=True) if a != b]
    assert list(changes_of_hands(intervals)) == changed
    assert [owned(intervals, us(second) + SECOND - 1) for second in SECONDS] == answers


@given(anything(), st.randoms())
def test_the_order_does_not_matter(intervals: list[Interval], chance: object) -> None:
    other = intervals[:]
    chance.shuffle(other)  # type: ignore[attr-defined]  # a random.Random
    for second in SECONDS:
        one, two = owned(intervals, us(second)), owned(other, us(second))
        assert (set(one.pods), one.sure, one.stranger) == (set(two.pods), two.sure, two.stranger)
    assert changes_of_hands(intervals) == changes_of_hands(other)


@given(anything())
def test_nobody_is_an_owner_beyond_its_own_bounds_and_only_one_is_sure(intervals: list[Interval]) -> None:
    known = {i.ref: i for i in intervals}
    for second in SECONDS:
        found = owned(intervals, us(second))
        assert not (found.sure and (len(found.pods) != 1 or found.stranger))
        for ref in found.pods:
            until_us = known[ref].until_us
            assert known[ref].since_us <= us(second) < (NEVER if until_us is None else until_us)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[float, float | None]], list[Interval]]:
    """When pods really had an address, one after the other; and bounds, which hold, of what is known of that."""
    truth: list[tuple[float, float | None]] = []
    known = []
    free_at, count = 0.0, draw(st.integers(1, 4))
    for number, key in enumerate("abcd"[:count]):
        begin = free_at + draw(st.integers(0, 8)) / 4
        sure = ceil_s(us(begin + draw(st.sampled_from([0, 0, 0.5, 3]))))
        end = (sure - T0) / SECOND + draw(st.integers(1, 24)) / 4
        since = floor_s(us(begin - draw(st.sampled_from([0, 0, 0.5, 3]))))
        last = number == count - 1
        gone = not last or draw(st.booleans())
        held = floor_s(us(end - draw(st.sampled_from([0, 0, 0.5, 3]))))
        until = floor_s(us(end + draw(st.sampled_from([0, 0, 0.5, 5])))) + SECOND
        # A predecessor may be known to be leaving only, even when it has long been gone.
        leaving = gone and draw(st.booleans())
        ref = PodRef("team-a", key, key)
        known.append(
            Interval(key, ref, since, sure, max(held, since) if gone else None, until if gone and not leaving else None)
        )
        truth.append((begin, end if gone else None))
        free_at = end
    return truth, draw(st.permutations(known))


@given(histories())
def test_the_owner_is_always_among_those_named_and_who_is_sure_is_the_owner(
    history: tuple[list[tuple[float, float | None]], list[Interval]],
) -> None:
    truth, known = history
    for quarter in range(-8, 180):
        second = quarter / 4
        real = {
            key
            for key, (begin, end) in zip("abcd", truth, strict=False)
            if begin <= second and (end is None or second < end)
        }
        found = owned(known, us(second))
        named = {ref.name for ref in found.pods}
        assert real <= named
        assert not found.sure or named == real
