from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.journal.source_clock import SourceClock, source_delay

BOOT = "b0070000000000000000000000000001"
OTHER_BOOT = "b0070000000000000000000000000002"
SECOND = 1_000_000
DAY = 86_400 * SECOND

KNOWN = SourceClock(BOOT, 100 * SECOND, 2000)


@pytest.mark.parametrize(
    ("clock", "receipt", "delay", "after"),
    [
        pytest.param(None, (5_000_000, 500_000), 4_499_900, (500_000, 100), id="before journald started"),
        pytest.param(None, (9, 9), 0, (9, 0), id="first, no delay"),
        pytest.param(KNOWN, (101_002_000, 101_000_000), 0, (101_000_000, 2000), id="drift as it was"),
        pytest.param(KNOWN, (101_002_100, 101_000_000), 0, (101_000_000, 2100), id="drift grows by 100 ppm"),
        pytest.param(KNOWN, (101_002_500, 101_000_000), 300, (101_000_000, 2200), id="more than drift"),
        pytest.param(KNOWN, (101_001_500, 101_000_000), 0, (101_000_000, 1500), id="less holds at once"),
        pytest.param(KNOWN, (100_999_000, 101_000_000), 0, (101_000_000, -1000), id="printk is ahead"),
        pytest.param(KNOWN, (400_002_000, 100_000_000), 300 * SECOND, (100_000_000, 2000), id="5 min stall"),
        pytest.param(KNOWN, (100_001_000, 99_000_000), 999_000, (100_000_000, 2000), id="out of order"),
        pytest.param(KNOWN, (DAY, SECOND), 0, (100_000_000, DAY - SECOND), id="printk's clock stood still"),
    ],
)
def test_delay(clock: SourceClock | None, receipt: tuple[int, int], delay: int, after: tuple[int, int]) -> None:
    """``receipt`` is by CLOCK_MONOTONIC and by printk's clock, ``after`` the new baseline, all in µs."""
    assert source_delay(clock, BOOT, *receipt) == (SourceClock(BOOT, *after), delay)


def test_another_boot_starts_anew() -> None:
    once = source_delay(KNOWN, OTHER_BOOT, 7 * SECOND, 6 * SECOND)
    assert once == source_delay(None, OTHER_BOOT, 7 * SECOND, 6 * SECOND)
    assert once == (SourceClock(OTHER_BOOT, 6 * SECOND, 1200), 998_800)


#: (monotonic, source) of receipts in the order in which they came, delayed and unordered as they like.
receipts = st.lists(st.tuples(st.integers(0, 30 * DAY), st.integers(0, 30 * DAY)), max_size=40)


def delays(clock: SourceClock | None, given_receipts: list[tuple[int, int]]) -> tuple[list[SourceClock], list[int]]:
    clocks, found = [], []
    for monotonic, source in given_receipts:
        clock, delay = source_delay(clock, BOOT, monotonic, source)
        clocks.append(clock)
        found.append(delay)
    return clocks, found


@given(receipts)
def test_a_delay_is_never_negative(given_receipts: list[tuple[int, int]]) -> None:
    assert all(delay >= 0 for delay in delays(None, given_receipts)[1])


@given(receipts, st.integers(0, 40))
def test_a_replay_from_a_stored_clock_gives_the_same_delays(given_receipts: list[tuple[int, int]], at: int) -> None:
    at = min(at, len(given_receipts))
    clocks, once = delays(None, given_receipts)
    assert delays(clocks[at - 1] if at else None, given_receipts[at:])[1] == once[at:]


@given(st.lists(st.integers(1, 3600 * SECOND), min_size=1, max_size=60), st.integers(-200, 199))
def test_constant_drift_is_no_delay(gaps: list[int], ppm: int) -> None:
    source, given_receipts = 0, []
    for gap in gaps:
        source += gap
        given_receipts.append((source + source * ppm // 1_000_000, source))
    assert max(delays(None, given_receipts)[1]) <= 2


@given(st.integers(1, 2000), st.integers(1, 500), st.integers(0, 199))
def test_drift_is_followed_at_any_rate(gap: int, jitter: int, ppm: int) -> None:
    """Thousands of entries a second: what one entry may add rounds to nothing, what all add does not."""
    given_receipts = []
    for n in range(3000):
        source = n * gap
        given_receipts.append((source + source * ppm // 1_000_000 + (n % 2) * jitter, source))
    assert max(delays(None, given_receipts)[1]) <= jitter + 1


@given(
    st.integers(-50_000, 50_000),
    st.integers(1, 300 * SECOND),
    st.lists(st.integers(1, SECOND), min_size=1, max_size=20),
)
def test_a_stall_of_journald_is_recovered(offset: int, stall: int, gaps: list[int]) -> None:
    """With the baseline known, all that is written while journald stands still gets its own time."""
    start = 1000 * SECOND
    clock = SourceClock(BOOT, start, offset)
    end = start + stall
    source = start
    for before, after in pairwise([0, *gaps]):
        source += before + after
        if source >= end:
            break
        clock, delay = source_delay(clock, BOOT, end + offset, source)
        assert abs(end - source - delay) <= (source - start) // 5000 + 1
