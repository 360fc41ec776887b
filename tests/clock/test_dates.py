"""Times as text, whatever they are."""

from __future__ import annotations

import pytest

from kiptail.clock.dates import LATEST_US, exact_time, kubernetes_time, log_time, minute

ANY_US = [
    0,
    1,
    -1,
    -(2**63),
    2**63,
    2**64 - 1,
    10**30,
    LATEST_US,
    LATEST_US + 1,
    LATEST_US + 999_999,
    LATEST_US + 10**6,
]


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (1_700_000_000_999_999, "2023-11-14T22:13:20Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-600_000_000, "1970-01-01T00:00:00Z"),
        (LATEST_US, "9999-12-31T23:59:59Z"),
        (LATEST_US + 1_000_000, "9999-12-31T23:59:59Z"),
        (2**64 - 1, "9999-12-31T23:59:59Z"),
    ],
)
def test_what_kubernetes_is_told_is_a_time_that_it_knows(us: int, text: str) -> None:
    assert kubernetes_time(us) == text


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (1_700_000_000_999_999, "2023-11-14T22:13:20.999999Z"),
        (1_700_000_000_000_001, "2023-11-14T22:13:20.000001Z"),
        (-1, "1970-01-01T00:00:00.000000Z"),
        (2**64 - 1, "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_can_be_written_to_the_microsecond(us: int, text: str) -> None:
    assert exact_time(us) == text


@pytest.mark.parametrize("us", ANY_US)
def test_any_time_can_be_logged(us: int) -> None:
    for text in (log_time(us), minute(us), minute(us / 1e6)):
        assert text.isprintable()
    assert len(kubernetes_time(us)) == 20


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e300])
def test_what_is_no_number_of_seconds_can_be_logged(seconds: float) -> None:
    assert minute(seconds) == "at no time that a calendar has"


def test_times_are_written_as_people_read_them() -> None:
    assert log_time(1_700_000_000_000_000) == "2023-11-14T22:13:20+00:00"
    assert minute(1_700_000_000) == "2023-11-14 22:13 UTC"
