"""What is read of the parts of a run at a scrape. All of it, of a run that works: tests/test_monitoring.py."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from kiptail.daemon.observer import Reading
from kiptail.daemon.readings import Readings
from kiptail.daemon.report import Report
from kiptail.events.tally import Labels, Tally
from kiptail.flows.counter import Intake
from kiptail.pods.stats import IndexStats


class Ledger(SimpleNamespace):
    """One with three open flows."""

    def __len__(self) -> int:
        return 3


def readings(*, token_trouble: str = "", damaged: bool = False, all_netns: bool = False) -> dict[str, list[Reading]]:
    """By name, of parts that have counted something."""
    journal: Any = SimpleNamespace(
        counts=SimpleNamespace(scanned=9, wanted=8, untrusted=2, unreadable=1, missed=0, lost=0, reopened=0)
    )
    follower: Any = SimpleNamespace(intake=Intake(untrusted=3, drops={("drop", "TCP"): 4}), trouble="")
    progress = SimpleNamespace(unposted=1, unattributed=2, ended=3, ambiguous=4, reattributed=5, trouble="")
    poster: Any = SimpleNamespace(progress=progress)
    ledger: Any = Ledger(folded=Counter(src=6), denied=7, untold=8)
    index: Any = SimpleNamespace(ready=lambda: True, stats=lambda: IndexStats(pods=5, age_s=0.5))
    tally = Tally()
    tally._counts[Labels("drop", "TCP", "sent", "a", "b")] = 4
    report = Report(journal=journal, follower=follower, poster=poster, index=index)
    report.all_netns = all_netns
    report.lag = 1.5
    report.renewal = SimpleNamespace(trouble=token_trouble)
    found: dict[str, list[Reading]] = {}
    for reading in Readings(
        journal=journal,
        follower=follower,
        ledger=ledger,
        poster=poster,
        index=index,
        tally=tally,
        report=report,
        damaged=damaged,
    ).read():
        found.setdefault(reading.name, []).append(reading)
    return found


def test_entries_that_are_not_trusted_are_counted_wherever_that_turned_out() -> None:
    entries = {reading.labels["outcome"]: reading.value for reading in readings()["kiptail_journal_entries"]}
    assert entries == {"scanned": 9, "wanted": 8, "untrusted": 5, "unreadable": 1, "unparsed": 0, "expired": 0}


def test_drops_are_told_by_verdict_and_by_namespace() -> None:
    found = readings()
    assert [(r.value, r.labels) for r in found["kiptail_drops"]] == [(4, {"verdict": "drop", "protocol": "TCP"})]
    (by_namespace,) = found["kiptail_pod_drops"]
    assert (by_namespace.value, by_namespace.labels["namespace"], by_namespace.labels["peer_namespace"]) == (
        4,
        "a",
        "b",
    )


def test_folded_drops_are_told_of_both_ends() -> None:
    folded = {reading.labels["side"]: reading.value for reading in readings()["kiptail_drops_folded"]}
    assert folded == {"src": 6, "dst": 0}


def test_what_goes_up_and_down_is_a_gauge() -> None:
    found = readings()
    gauges = {name: reading.value for name, (reading, *_) in found.items() if not reading.counter}
    assert (gauges["kiptail_journal_lag_seconds"], gauges["kiptail_flows_open"]) == (1.5, 3)
    assert "kiptail_sides_denied" not in gauges


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"token_trouble": "refused"}, "kiptail_token_unrenewable"),
        ({"damaged": True}, "kiptail_state_damaged"),
        ({"all_netns": True}, "kiptail_nf_log_all_netns"),
    ],
)
def test_what_is_wrong_is_one(how: dict[str, Any], name: str) -> None:
    assert [reading.value for reading in readings()[name]] == [0]
    assert [reading.value for reading in readings(**how)[name]] == [1]
