"""What a running kiptail tells of itself."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from kiptail.daemon.report import LAG_SHOWN, Report
from kiptail.flows.counter import Intake


def report(
    *,
    untrusted: int = 0,
    suppressed: int = 0,
    overruns: int = 0,
    ulogd: str = "",
    muted: dict[str, int] | None = None,
    **intake: Any,
) -> Report:
    """One of parts that have nothing to tell but the given."""
    progress = SimpleNamespace(
        unposted=0, unattributed=0, ended=0, ambiguous=0, reattributed=0, trouble="", muted=muted or {}
    )
    counts = SimpleNamespace(scanned=9, untrusted=untrusted, suppressed=suppressed, overruns=overruns)
    parts: Any = SimpleNamespace(
        trouble="", intake=Intake(**intake), progress=progress, ready=lambda: True, counts=counts
    )
    units: Any = SimpleNamespace(trouble=ulogd)
    return Report(journal=parts, follower=parts, poster=parts, index=parts, ulogd=units)


LATE = LAG_SHOWN + 2


@pytest.mark.parametrize(
    ("lags", "said"),
    [
        pytest.param([0.0, LAG_SHOWN, LAG_SHOWN], [], id="a little behind"),
        pytest.param([LATE, 0.0, LATE, 0.0], [], id="behind for a moment, as at a start"),
        pytest.param([LATE, LATE, LATE, LATE + 60], ["WARNING"], id="behind for long"),
        pytest.param([LATE, LATE, LATE, 0.0, 0.0], ["WARNING", "INFO"], id="and caught up"),
        pytest.param([LATE, LATE, 0.0, LATE, LATE], ["WARNING", "INFO", "WARNING"], id="and behind again"),
    ],
)
def test_falling_behind_is_warned_of_once(lags: list[float], said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    told = report()
    with caplog.at_level(logging.INFO, "kiptail.daemon.report"):
        for lag in lags:
            told.beat(lag=lag)
    assert [record.levelname for record in caplog.records] == said


def test_the_status_says_how_far_behind_it_is() -> None:
    told = report()
    told.beat(lag=LATE)
    assert f"{LATE:.0f} s behind the journal" in told.status()
    told.beat(lag=1.0)
    assert "behind" not in told.status()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({}, "", id="all are counted"),
        pytest.param({"unparsed": 1, "unparsed_why": "ARP"}, ", 1 line not understood (ARP)", id="one"),
        pytest.param({"unparsed": 2, "unparsed_why": "ARP"}, ", 2 lines not understood (ARP)", id="two"),
        pytest.param(
            {"unparsed": 1, "unparsed_why": "ARP", "untrusted": 3, "untrusted_why": "more than the prefix"},
            ", 1 line not understood (ARP), 3 lines not trusted (more than the prefix)",
            id="both",
        ),
    ],
)
def test_lines_with_a_wanted_prefix_that_are_not_counted_are_said(changes: dict[str, Any], said: str) -> None:
    told = report(drops={("drop", "TCP"): 4}, **changes)
    assert told.summary() == f"9 kernel lines read: 4 drops{said}"
    assert told.status().startswith(f"4 drops counted, 0 Events to write{said}")


def test_entries_that_the_kernel_did_not_write_are_said_too() -> None:
    assert report(untrusted=2).summary() == "9 kernel lines read: 0 drops, 2 lines not trusted"


def test_a_token_that_cannot_be_renewed_is_said() -> None:
    told = report()
    assert (told.token_trouble, "token" in told.status()) == ("", False)
    told.renewal = SimpleNamespace(trouble="the token is refused")
    assert told.status().endswith("; the token is refused")


def test_what_ulogd_and_journald_lost_is_said() -> None:
    told = report(suppressed=7, overruns=2)
    assert "7 lines of ulogd left out by journald, packets lost by ulogd (2 times)" in told.status()
    assert "ulogd" not in report().status()


def test_what_is_left_out_by_choice_is_said_by_reason() -> None:
    told = report(ignored={"scanner": 3, "probes": 1}, muted={"annotation": 5})
    assert told.summary().endswith(
        ": 0 drops, 4 left out (probes 1, scanner 3), 5 without an Event by choice (annotation 5)"
    )
    assert "left out" not in report().summary()


def test_the_status_says_which_unit_does_not_run() -> None:
    assert (
        report(ulogd="kiptail-ulogd@100.service does not run")
        .status()
        .endswith("; kiptail-ulogd@100.service does not run")
    )
