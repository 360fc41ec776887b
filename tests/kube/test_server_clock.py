"""The API server's clock, by the headers of its answers."""

from __future__ import annotations

import time

import pytest

from kiptail.kube.server_clock import ServerClock

DATE = "Thu, 26 Nov 2026 04:00:00 GMT"
AT_S = 1_795_665_600
HEADERS = {"Content-Type": "application/json", "Date": DATE}


def test_it_is_as_far_ahead_as_the_latest_date_says() -> None:
    clock = ServerClock()
    assert clock.ahead_s is None
    clock.note(HEADERS)
    assert clock.ahead_s is not None
    assert clock.ahead_s + time.monotonic() == pytest.approx(AT_S, abs=5)


def test_answers_of_the_same_second_say_it_once() -> None:
    """The first of them is nearest to when that second began."""
    clock = ServerClock()
    clock.note(HEADERS)
    found = clock.ahead_s
    time.sleep(0.01)
    clock.note(HEADERS)
    assert clock.ahead_s == found


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Content-Type": "text/html"}, id="a gateway's page"),
        pytest.param({"Content-Type": ""}, id="of no type"),
        pytest.param({"Date": "yesterday"}, id="no date"),
        pytest.param({"Date": ""}, id="without one"),
        pytest.param({"Date": "Thu, 26 Nov 99999 04:00:00 GMT"}, id="out of range"),
    ],
)
def test_what_tells_no_time_is_passed_over(changes: dict[str, str]) -> None:
    clock = ServerClock()
    clock.note({**HEADERS, **changes})
    assert clock.ahead_s is None
