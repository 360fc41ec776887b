"""Packets counted by flow records, of real journals: each in one flow, of any period, and only by kiptail's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.report import record_reading
from kiptail.report.run import CountedBy, Period
from kiptail.report.summary import Report
from tests.report.records import ENDED, GROWN, T0, fields
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.reported import record_entry, reported, settings_of

SECOND = 1_000_000
LINE = (
    "drop: IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
OTHER_MACHINE, OTHER_BOOT = "4000000000000000000000000000000d", "b0070000000000000000000000000002"


def at(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def period(since: float | None, until: float | None) -> Period:
    return Period(None if since is None else at(since), None if until is None else at(until))


def entry(written: float, told: dict[str, str], **more: Any) -> dict[str, Any]:
    return record_entry(told, realtime_us=at(written), monotonic_us=round((3_600 + written) * SECOND), **more)


def line(logged: float, **more: Any) -> dict[str, Any]:
    return kernel_entry(LINE, realtime_us=at(logged), monotonic_us=round((3_600 + logged) * SECOND), **more)


def report_of(
    directory: Path, *entries: dict[str, Any], by: CountedBy = CountedBy.RECORDS, period: Period | None = None
) -> Report:
    if entries:
        export_to_journal(entries, directory / "a.journal")
    return reported(settings_of(directory, "drop:"), by, period)


def rows(report: Report) -> list[tuple[str, str, int]]:
    assert report.packets == sum(flow.count for flow in report.flows)
    return sorted((_called(flow.id.src), _called(flow.id.dst), flow.count) for flow in report.flows)


def _called(end: Any) -> str:
    return f"{end.namespace}/{end.pod}" if end.pod else end.name or end.address


def test_the_last_record_of_each_series_counts(tmp_path: Path) -> None:
    made = report_of(
        tmp_path,
        entry(1, fields(1, count=3, at=(0, 1), KIPTAIL_WORKLOAD="deploy/client")),
        entry(121, fields(1, stretch=GROWN, count=9, at=(0, 120))),
        entry(122, fields(2, count=1, at=(122, 122), KIPTAIL_PORT="443")),
        entry(999, fields(1, stretch=ENDED, count=10, at=(0, 130), KIPTAIL_WORKLOAD="deploy/client")),
    )
    assert rows(made) == [("team-a/client", "10.0.0.2", 1), ("team-a/client", "10.0.0.2", 10)]
    flow = made.flows[0]
    assert (flow.count, flow.first_us, flow.last_us) == (10, at(0), at(130))
    assert (flow.id.port, flow.id.verdict, flow.id.prefix, flow.id.src.workload) == (
        80,
        "drop",
        "drop:",
        "deploy/client",
    )


def test_a_packet_between_two_pods_is_counted_once(tmp_path: Path) -> None:
    made = report_of(
        tmp_path,
        entry(1, fields(1, pair=7, peer="pod team-b/web")),
        entry(1, fields(2, pair=7, sent=False, pod="team-b/web", peer="pod team-a/client")),
        entry(2, fields(3, pair=8, sent=False, pod="team-b/web", peer="dns db.example.com", KIPTAIL_SRC="192.0.2.7")),
    )
    assert rows(made) == [("db.example.com", "team-b/web", 3), ("team-a/client", "team-b/web", 3)]


def test_what_was_taken_back_is_not_counted(tmp_path: Path) -> None:
    """A flow was cut, and one end turned out to be another pod."""
    made = report_of(
        tmp_path,
        entry(1, fields(1, count=25, at=(0, 100))),
        entry(2, fields(1, stretch=GROWN, count=8, at=(0, 50))),
        entry(2, fields(2, pair=9, count=17, at=(51, 100), pod="team-a/wrong")),
        entry(3, fields(2, pair=9, stretch=ENDED, count=0, at=(51, 100), pod="team-a/wrong")),
        entry(3, fields(3, pair=9, count=17, at=(51, 100), pod="team-a/heir")),
    )
    assert rows(made) == [("team-a/client", "10.0.0.2", 8), ("team-a/heir", "10.0.0.2", 17)]


def test_a_period_has_what_a_flow_grew_by_within_it(tmp_path: Path) -> None:
    records = [
        entry(10, fields(1, count=4, at=(0, 10))),
        entry(130, fields(1, stretch=GROWN, count=10, at=(0, 130))),
        entry(250, fields(1, stretch=GROWN, count=25, at=(0, 250))),
        entry(9_000, fields(1, stretch=ENDED, count=26, at=(0, 260))),
    ]
    assert report_of(tmp_path, *records, period=period(100, 200)).packets == 6
    (flow,) = report_of(tmp_path, period=period(100, 200)).flows
    assert (flow.first_us, flow.last_us) == (at(100), at(130))
    parts = [
        report_of(tmp_path, period=period(since, until)) for since, until in ((None, 100), (100, 200), (200, None))
    ]
    assert [part.packets for part in parts] == [4, 6, 16]
    assert report_of(tmp_path, period=period(300, None)).packets == 0


def test_records_from_long_before_are_read_as_far_as_they_matter(tmp_path: Path) -> None:
    day = 86_400
    export_to_journal(
        [
            entry(0, fields(1, count=5, at=(0, 0))),
            *(entry(10 + n, fields(100 + n, at=(10 + n, 10 + n))) for n in range(50)),
            entry(day, fields(1, stretch=GROWN, count=7, at=(0, day))),
        ],
        tmp_path / "a.journal",
    )
    assert report_of(tmp_path, period=period(day - 10, None)).packets == 2


@pytest.mark.parametrize(
    "forged",
    [
        {"_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": "kiptail.service"},
        {"_SYSTEMD_UNIT": None, "_UID": 0},
        {"_SYSTEMD_UNIT": "session-4.scope", "UNIT": "kiptail.service", "OBJECT_SYSTEMD_UNIT": "kiptail.service"},
        {"_TRANSPORT": "stdout"},
        {"_TRANSPORT": "syslog"},
        {"_SYSTEMD_UNIT": "kiptail.service.d"},
    ],
)
@pytest.mark.parametrize("by", [CountedBy.RECORDS, CountedBy.AUTO])
def test_only_records_of_kiptails_own_unit_count(tmp_path: Path, forged: dict[str, Any], by: CountedBy) -> None:
    made = report_of(
        tmp_path,
        entry(1, fields(1)),
        entry(2, fields(1, stretch=GROWN, count=1_000, at=(0, 1)), **forged),
        entry(2, fields(2, pod="team-a/victim"), **forged),
        by=by,
    )
    assert rows(made) == [("team-a/client", "10.0.0.2", 3)]
    assert not any("cannot be read" in remark for remark in made.remarks)


def test_forged_records_give_no_names_to_lines(tmp_path: Path) -> None:
    made = report_of(
        tmp_path,
        line(1),
        entry(2, fields(1, at=(1, 1), pod="team-a/victim"), _SYSTEMD_UNIT="user@1000.service"),
        by=CountedBy.AUTO,
    )
    assert rows(made) == [("10.0.0.1", "10.0.0.2", 1)]


def test_lines_are_counted_and_named_by_records(tmp_path: Path) -> None:
    """A record may be behind, or tell of lines that are gone: each line is counted, and nothing else."""
    entries = [
        *(line(n) for n in range(5)),
        entry(6, fields(1, count=400, at=(-500, 3.5), peer="dns db.example.com", KIPTAIL_WORKLOAD="deploy/client")),
    ]
    made = report_of(tmp_path, *entries, by=CountedBy.AUTO)
    assert rows(made) == [("10.0.0.1", "10.0.0.2", 1), ("team-a/client", "db.example.com", 4)]
    assert made.remarks == ()
    assert rows(report_of(tmp_path, by=CountedBy.LINES)) == [("10.0.0.1", "10.0.0.2", 5)]
    assert rows(report_of(tmp_path, by=CountedBy.RECORDS)) == [("team-a/client", "db.example.com", 400)]


def test_machines_without_lines_are_counted_by_their_records_and_no_machine_by_both(tmp_path: Path) -> None:
    other = {"_MACHINE_ID": OTHER_MACHINE, "_BOOT_ID": OTHER_BOOT}
    made = report_of(
        tmp_path,
        line(1),
        line(2),
        entry(3, fields(1, count=2, at=(1, 2))),
        entry(
            4, fields(2, count=50, at=(1, 2), pod="team-b/x", KIPTAIL_NODE="node-2", KIPTAIL_SRC="10.0.1.1"), **other
        ),
        by=CountedBy.AUTO,
    )
    assert rows(made) == [("team-a/client", "10.0.0.2", 2), ("team-b/x", "10.0.0.2", 50)]
    assert made.remarks == (
        "50 packets of 1 machine are counted by flow records: their kernel lines are not in the journal",
    )


def test_a_journal_of_records_alone_needs_no_lines(tmp_path: Path) -> None:
    other = {"_MACHINE_ID": OTHER_MACHINE, "_BOOT_ID": OTHER_BOOT}
    made = report_of(tmp_path, entry(1, fields(1)), entry(2, fields(2), **other), by=CountedBy.AUTO)
    assert made.packets == 6
    assert made.remarks == ()


def test_many_flows_of_a_sender_count_once_though_a_receiver_has_some_of_them(tmp_path: Path) -> None:
    many = {"KIPTAIL_DST": "", "KIPTAIL_PORT": "", "KIPTAIL_PROTOCOL": "", "KIPTAIL_PREFIX": ""}
    made = report_of(
        tmp_path,
        entry(1, fields(1, count=100, peer="several", **many)),
        entry(1, fields(2, count=30, sent=False, pod="team-b/web", peer="pod team-a/client")),
    )
    assert rows(made) == [("team-a/client", "(several)", 100)]


def test_many_flows_to_a_receiver_count_without_those_that_pods_sent(tmp_path: Path) -> None:
    many = {"KIPTAIL_SRC": "", "KIPTAIL_PORT": "", "KIPTAIL_PROTOCOL": "", "KIPTAIL_PREFIX": ""}
    made = report_of(
        tmp_path,
        entry(1, fields(1, count=100, sent=False, pod="team-b/web", peer="several", **many)),
        entry(1, fields(2, count=30, peer="pod team-b/web")),
    )
    assert rows(made) == [("(several)", "team-b/web", 70), ("team-a/client", "team-b/web", 30)]


def test_what_pods_sent_is_taken_from_the_period_in_which_they_did(tmp_path: Path) -> None:
    many = {"KIPTAIL_SRC": "", "KIPTAIL_PORT": "", "KIPTAIL_PROTOCOL": "", "KIPTAIL_PREFIX": ""}
    web = {"sent": False, "pod": "team-b/web", "peer": "several", **many}
    records = [
        entry(50, fields(1, count=100, at=(0, 50), **web)),
        entry(50, fields(2, count=30, at=(0, 50), peer="pod team-b/web")),
        entry(150, fields(1, stretch=GROWN, count=140, at=(0, 150), **web)),
    ]
    assert rows(report_of(tmp_path, *records, period=period(None, 100))) == [
        ("(several)", "team-b/web", 70), ("team-a/client", "team-b/web", 30),
    ]  # fmt: skip
    assert rows(report_of(tmp_path, period=period(100, None))) == [("(several)", "team-b/web", 40)]


def test_what_may_be_counted_twice_is_left_out_and_said(tmp_path: Path) -> None:
    no_port = {"KIPTAIL_PORT": "", "KIPTAIL_PROTOCOL": "", "KIPTAIL_PREFIX": ""}
    made = report_of(
        tmp_path,
        entry(1, fields(1, count=100, sent=False, pod="team-b/web", peer="several", KIPTAIL_SRC="", **no_port)),
        entry(1, fields(2, count=90, peer="several", KIPTAIL_DST="", **no_port)),
    )
    assert rows(made) == [("team-a/client", "(several)", 90)]
    assert made.remarks == (
        "100 packets of many flows to one pod are left out: pods sent some of them, and records do not tell which",
    )


def test_what_is_no_record_is_passed_over_and_said(tmp_path: Path) -> None:
    made = report_of(tmp_path, entry(1, fields(1)), entry(2, fields(2, KIPTAIL_COUNT="many")))
    assert made.packets == 3
    assert made.remarks == ("1 flow record cannot be read, and is passed over",)


def test_limited_rules_are_named(tmp_path: Path) -> None:
    made = report_of(tmp_path, entry(1, fields(1, KIPTAIL_LIMITED="yes")))
    assert made.remarks == (
        "rules log at a limited rate, so there were more packets than recorded, with the prefix 'drop:'",
    )


def test_an_end_that_was_not_named_is_whose_the_pods_say(tmp_path: Path) -> None:
    web = pod("web-0", "10.0.0.2", namespace="team-b", uid="u", start="2026-01-01T00:00:00Z")
    (tmp_path / "pods.json").write_text(json.dumps({"items": [web]}))
    made = report_of(tmp_path, entry(1, fields(1)))
    assert rows(made) == [("team-a/client", "team-b/web-0", 3)]


def test_more_series_than_are_distinguished_are_left_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reading, "MOST_SERIES", 2)
    entries = [entry(n, fields(n, count=n, at=(n, n))) for n in range(1, 6)]
    made = report_of(tmp_path, *entries)
    assert made.packets == 9
    assert made.remarks == ("flow records before 2026-11-18T11:06:43Z are not read: there are too many",)
