from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.journal.entry import (
    MESSAGE_LIMIT,
    SourceClock,
    is_trusted,
    microseconds,
    missed_messages,
    source_delay,
    text_of,
)

BOOT = "b0070000000000000000000000000001"
OTHER_BOOT = "b0070000000000000000000000000002"
SECOND = 1_000_000
DAY = 86_400 * SECOND


@pytest.mark.parametrize(
    ("transport", "facility", "trusted"),
    [
        pytest.param(b"kernel", b"0", True, id="the kernel"),
        pytest.param(b"kernel", b"1", False, id="root wrote to /dev/kmsg"),
        pytest.param(b"kernel", b"", False, id="no facility"),
        pytest.param(b"kernel", b"00", False, id="not journald's spelling"),
        pytest.param(b"journal", b"0", False, id="native socket"),
        pytest.param(b"syslog", b"0", False, id="/dev/log"),
        pytest.param(b"stdout", b"0", False, id="a service's output"),
        pytest.param(b"driver", b"0", False, id="journald itself"),
        pytest.param(b"", b"0", False, id="no transport"),
    ],
)
def test_only_the_kernels_own_lines_are_trusted(transport: bytes, facility: bytes, trusted: bool) -> None:
    assert is_trusted(transport, facility) is trusted


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(b"IN=eth0 OUT=", "IN=eth0 OUT=", id="plain"),
        pytest.param("späť".encode(), "späť", id="UTF-8"),
        pytest.param(b"a\xffb\xc3", r"a\xffb\xc3", id="not UTF-8"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"x" * (MESSAGE_LIMIT + 1), "x" * MESSAGE_LIMIT, id="cut"),
        pytest.param("ä".encode() * MESSAGE_LIMIT, "ä" * (MESSAGE_LIMIT // 2), id="cut by bytes"),
    ],
)
def test_a_message_becomes_text(message: bytes, text: str) -> None:
    assert text_of(message) == text


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"Missed 1 kernel messages", 1),
        (b"Missed 123456 kernel messages", 123456),
        (b"Missed -1 kernel messages", None),
        (b"Missed kernel messages", None),
        (b"Missed 5 kernel messages, or so", None),
        (b"Missed " + b"9" * 30 + b" kernel messages", None),
    ],
)
def test_journalds_notice_of_missed_messages(message: bytes, count: int | None) -> None:
    assert missed_messages(message) == count


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"0", 0), (b"1234567890", 1234567890), (b"", None), (b"-1", None), (b"x", None), (b"9" * 19, None)],
)
def test_a_timestamp_field_is_a_number_or_nothing(field: bytes, value: int | None) -> None:
    assert microseconds(field) == value


@given(st.binary())
def test_any_bytes_can_be_read(raw: bytes) -> None:
    assert len(text_of(raw)) <= 4 * len(raw)
    microseconds(raw)
    missed_messages(raw)


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
