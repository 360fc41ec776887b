from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.clock.steady import Times
from kiptail.journal.position import Position, adjoin, is_later, was_read
from kiptail.journal.source_clock import SourceClock

RUNNING, EARLIER, OLDEST = "running", "earlier", "oldest"


def at(boot: str, monotonic_us: int, realtime_us: int) -> Position:
    return Position("", boot, monotonic_us, realtime_us)


def test_what_was_seen_of_the_clocks_says_nothing_of_where_the_entry_is() -> None:
    clocks = Times()
    assert Position("c", "b", 1, 2, times=clocks) == Position("c", "b", 1, 2)
    assert Position("c", "b", 1, 2, SourceClock("b", 1, 2)) != Position("c", "b", 1, 2), "printk's tells the next delay"


@pytest.mark.parametrize(
    ("entry", "read"),
    [
        pytest.param(at(EARLIER, 10, 99), True, id="the same entry, whatever the wall clock says"),
        pytest.param(at(EARLIER, 9, 99), True, id="before it"),
        pytest.param(at(EARLIER, 11, 0), False, id="after it, the clock was set back"),
        pytest.param(at(OLDEST, 99, 49), True, id="another boot before that time"),
        pytest.param(at(OLDEST, 1, 50), False, id="another boot at that time"),
        pytest.param(at(RUNNING, 1, 0), False, id="the running boot, whatever the wall clock says"),
    ],
)
def test_what_was_read_is_told_by_the_times(entry: Position, read: bool) -> None:
    assert was_read(entry, at(EARLIER, 10, 50), RUNNING) is read


@pytest.mark.parametrize(
    ("last", "known", "later"),
    [
        pytest.param(at(EARLIER, 1, 1), None, True, id="nothing was known"),
        pytest.param(at(EARLIER, 11, 0), at(EARLIER, 10, 50), True, id="later in the boot"),
        pytest.param(at(EARLIER, 10, 99), at(EARLIER, 10, 50), False, id="the same entry"),
        pytest.param(at(RUNNING, 1, 0), at(EARLIER, 10, 50), True, id="the running boot"),
        pytest.param(at(EARLIER, 99, 99), at(RUNNING, 10, 50), False, id="back from the running boot"),
        pytest.param(at(EARLIER, 1, 50), at(OLDEST, 10, 50), True, id="two older boots, by the wall clock"),
        pytest.param(at(EARLIER, 99, 49), at(OLDEST, 10, 50), False, id="two older boots, back"),
    ],
)
def test_the_position_moves_on_and_never_back(last: Position, known: Position | None, later: bool) -> None:
    assert is_later(last, known, RUNNING) is later


positions = st.builds(at, st.sampled_from([RUNNING, EARLIER, OLDEST]), st.integers(0, 5), st.integers(0, 5))


@given(positions, positions)
def test_what_is_later_was_not_read(last: Position, known: Position) -> None:
    assert not (is_later(last, known, RUNNING) and was_read(last, known, RUNNING))


@pytest.mark.parametrize(
    ("earlier", "later", "adjoining"),
    [
        ("s=a;i=ff;b=1", "s=a;i=100;b=1", True),
        ("s=a;i=ff;b=1", "s=a;i=101;b=1", False),
        ("s=a;i=1;b=1", "s=b;i=2;b=1", False),
        ("", "s=a;i=1;b=1", False),
        ("s=a;i=1;b=1", "nonsense", False),
    ],
)
def test_cursors_tell_whether_an_entry_was_between(earlier: str, later: str, adjoining: bool) -> None:
    assert adjoin(earlier, later) is adjoining
