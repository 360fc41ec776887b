"""Lines of ulogd beside the kernel's: which entries count, when they were written, and what is read without any."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from kiptail.flows.known_lines import KnownLine, KnownLines, LinesOfUlogd, UnknownLine
from kiptail.journal.entry import MISSED_MESSAGE_ID
from kiptail.journal.follow import Journal
from kiptail.journal.reader import match_kernel
from kiptail.journal.source import Source
from kiptail.journal.source_clock import DELAY_LIMIT_US, syslog_delay
from kiptail.netfilter.nflog import NflogSource, unit_of_group
from kiptail.netfilter.prefixes import PrefixRule, Verdict
from tests.corpus import samples
from tests.support.journald import Fields, export_to_journal, kernel_entry

START = 1_800_000_000_000_000
UNIT = unit_of_group(100)
OTHER_UNIT = "ulogd2.service"
SOURCE = NflogSource(UNIT, "NFLOG group 100", verdict=Verdict.REJECT)
OTHER = NflogSource(OTHER_UNIT, "NFLOG to ulogd2.service", verdict=Verdict.DROP)
#: SD_MESSAGE_JOURNAL_DROPPED: journald's own notice of messages that it left out.
SUPPRESSED_MESSAGE_ID = "a596d6fe7bfa4994828e72309e95d61e"
RULES = [PrefixRule("drop:")]
EMPTY = next(s.line for s in samples("ulogd") if s.line.startswith(" IN=") and "PROTO=TCP" in s.line)
KERNEL = (
    "drop: IN=eth0 OUT= MAC=aa SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF "
    "PROTO=TCP SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)


def entry(n: int, message: str = EMPTY, **fields: str | int | list[str] | None) -> Fields:
    """What journald stores of a line that ulogd wrote 300 µs before."""
    return kernel_entry(
        message,
        realtime_us=START + n * 1_000,
        monotonic_us=10_000_000 + n * 1_000,
        **{
            "_TRANSPORT": "syslog",
            "SYSLOG_FACILITY": 3,
            "SYSLOG_IDENTIFIER": "ulogd",
            "_SYSTEMD_UNIT": UNIT,
            "_SOURCE_MONOTONIC_TIMESTAMP": None,
            "_SOURCE_REALTIME_TIMESTAMP": START + n * 1_000 - 300,
            **fields,
        },
    )


def of_kernel(n: int, message: str = KERNEL, **fields: str | int) -> Fields:
    return kernel_entry(message, realtime_us=START + n * 1_000, monotonic_us=10_000_000 + n * 1_000, **fields)


def read(
    entries: Iterable[Fields], tmp_path: Path, *sources: NflogSource, thorough: bool = False, size: int = 100
) -> tuple[list[object], list[int], Journal[object]]:
    export_to_journal(entries, tmp_path / "journal" / "x.journal")
    rules = SOURCE._replace(verdict=None).prefixes(RULES)
    units = {s.unit: LinesOfUlogd(s.prefixes(RULES), thorough=thorough).wanted for s in sources}
    lines: list[object] = []
    times: list[int] = []
    with Journal(
        directory=tmp_path / "journal",
        wanted=rules.wanted if thorough else KnownLines(rules).wanted,
        needle=b" OUT=" if sources else rules.needle,
        units=units,
    ) as journal:
        at_end = False
        while not at_end:
            batch = journal.read(size)
            lines, times, at_end = lines + batch.lines, times + batch.times_us, batch.at_end
    return lines, times, journal


def verdicts(lines: Iterable[object]) -> list[str]:
    return [line.kind[0] for line in lines if isinstance(line, KnownLine)]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_both_sources_are_read_in_the_journals_order_each_by_its_own_rules(size: int, tmp_path: Path) -> None:
    entries = [
        of_kernel(0),
        entry(1),
        entry(2, _SYSTEMD_UNIT=OTHER_UNIT),
        of_kernel(3),
        of_kernel(4),
        entry(5, "drop:" + EMPTY),
        entry(6),
        entry(7),
        of_kernel(8),
    ]
    lines, times, journal = read(entries, tmp_path, SOURCE, OTHER, size=size)
    assert verdicts(lines) == ["drop", "reject", "drop", "drop", "drop", "drop", "reject", "reject", "drop"]
    assert [time - START for time in times] == [0, 700, 1_700, 3_000, 4_000, 4_700, 5_700, 6_700, 8_000]
    assert journal.counts.wanted == journal.counts.scanned == len(entries)


FORGED = {
    "logger -t ulogd, in a session": {"_SYSTEMD_UNIT": "session-1.scope", "_UID": 1000},
    "a user's unit of that name": {"_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": UNIT},
    "the native socket": {"_TRANSPORT": "journal"},
    "the native socket with the fields": {"_TRANSPORT": "journal", "_SYSTEMD_UNIT": "user@1000.service"},
    "its standard output": {"_TRANSPORT": "stdout"},
    "the kernel's, by name": {"_TRANSPORT": "syslog", "_SYSTEMD_UNIT": None, "SYSLOG_IDENTIFIER": "kernel"},
    "another program of the unit": {"SYSLOG_IDENTIFIER": "sh"},
    "another instance": {"_SYSTEMD_UNIT": unit_of_group(10)},
    "no unit": {"_SYSTEMD_UNIT": None},
}


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("fields", FORGED.values(), ids=FORGED)
def test_forged_entries_count_for_nothing(fields: dict[str, str], thorough: bool, tmp_path: Path) -> None:
    """Also where a trusted one, of which the line is known, stands right before."""
    entries = [entry(0), entry(1, **fields), entry(2), entry(3, "drop:" + EMPTY, **fields), of_kernel(4)]
    lines, _, journal = read(entries, tmp_path, SOURCE, thorough=thorough)
    assert len(lines) == 3
    passed = 2 if fields.get("_SYSTEMD_UNIT", UNIT) == UNIT else 0
    assert journal.counts.scanned == 3 + passed, "only what the unit itself logs passes the matches, and is looked at"
    assert journal.counts.wanted == 3


class Unmatched:
    """Where the matches are not set, as if they let through more than they should."""

    @pytest.fixture(autouse=True)
    def _no_matches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kiptail.journal.recovery.match_kernel", lambda *_: None)


class TestTrustIsCheckedOnEachEntry(Unmatched):
    @pytest.mark.parametrize("fields", FORGED.values(), ids=FORGED)
    def test_forged(self, fields: dict[str, str], tmp_path: Path) -> None:
        entries = [entry(0), entry(1, **fields), entry(2), entry(3, "drop:" + EMPTY, **fields), of_kernel(4)]
        lines, _, journal = read(entries, tmp_path, SOURCE)
        assert verdicts(lines) == ["reject", "reject", "drop"]
        assert journal.counts.untrusted == 1, "the one with a prefix that the kernel's lines may have"

    @pytest.mark.parametrize("name", ["MESSAGE", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER", "_SOURCE_REALTIME_TIMESTAMP"])
    def test_a_field_that_occurs_twice_is_read_alike(self, name: str, tmp_path: Path) -> None:
        """All fields at once give a list for it, one asked for by itself its first value."""
        twice = {
            "MESSAGE": [EMPTY, KERNEL],
            "_SYSTEMD_UNIT": [UNIT, "x"],
            "SYSLOG_IDENTIFIER": ["ulogd", "x"],
            "_SOURCE_REALTIME_TIMESTAMP": [str(START + 700), "1"],
        }
        lines, times, _ = read([entry(0), entry(1, **{name: twice[name]}), entry(2)], tmp_path, SOURCE)
        assert verdicts(lines) == ["reject"] * 3
        assert [time - START for time in times] == [-300, 700, 1_700]


def test_without_units_the_journal_is_read_as_ever(tmp_path: Path) -> None:
    class Matches:
        def __init__(self) -> None:
            self.set: list[tuple[str, ...]] = []

        def add_match(self, *args: str) -> None:
            self.set.append(args)

        def add_disjunction(self) -> None:
            self.set.append(())

    matches = Matches()
    match_kernel(matches)  # type: ignore[arg-type]
    assert matches.set == [("_TRANSPORT=kernel",), (), ("_TRANSPORT=driver", f"MESSAGE_ID={MISSED_MESSAGE_ID}")]
    lines, _, journal = read([of_kernel(0), entry(1), of_kernel(2), entry(3, "drop:" + EMPTY)], tmp_path)
    assert verdicts(lines) == ["drop", "drop"]
    assert journal.counts.scanned == 2


def test_each_line_is_read_thoroughly_where_it_is_to_be_logged(tmp_path: Path) -> None:
    lines, _, _ = read([entry(0), of_kernel(1), entry(2, "other:" + EMPTY)], tmp_path, SOURCE, thorough=True)
    (first, second) = lines
    assert isinstance(first, UnknownLine)
    assert (first.text, second) == (EMPTY, KERNEL)


@pytest.mark.parametrize("message", ["We are losing events.", "registering plugin `NFLOG'", "x OUT=y", ""])
def test_what_ulogd_says_of_itself_is_no_line(message: str, tmp_path: Path) -> None:
    lines, _, journal = read([entry(0), entry(1, message), entry(2)], tmp_path, SOURCE)
    assert len(lines) == 2
    assert journal.counts.untrusted == journal.counts.unreadable == 0


@pytest.mark.parametrize("source", [None, "x", "9" * 30, str(START + 5_000)])
def test_an_entry_without_its_time_has_that_of_its_receipt(source: str | None, tmp_path: Path) -> None:
    entries = [entry(0), entry(1, _SOURCE_REALTIME_TIMESTAMP=source), entry(2)]
    lines, times, _ = read(entries, tmp_path, SOURCE)
    assert len(lines) == 3
    assert [time - START for time in times] == [-300, 1_000, 1_700]


@pytest.mark.parametrize(
    ("source_us", "delay_us"),
    [
        (None, 0),
        (START, 0),
        (START + 1, 0),
        (START - 1, 1),
        (START - DELAY_LIMIT_US, DELAY_LIMIT_US),
        (START - DELAY_LIMIT_US - 1, 0),
        (0, 0),
    ],
)
def test_delay_of_syslog(source_us: int | None, delay_us: int) -> None:
    assert syslog_delay(START, source_us) == delay_us


def test_the_position_is_not_moved_over_the_last_entry_of_a_unit(tmp_path: Path) -> None:
    """It may be one that the matches do not find yet."""
    export_to_journal([of_kernel(0), entry(1)], tmp_path / "journal" / "x.journal")
    assert Source(tmp_path / "journal", (), (UNIT,)).end()[0] is None
    assert Source(tmp_path / "journal", ()).end()[0] is not None


def test_what_was_lost_on_the_way_is_counted_when_ulogd_or_journald_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def suppressed(n: int, unit: str, **fields: str) -> Fields:
        fields = {"_TRANSPORT": "driver", "MESSAGE_ID": SUPPRESSED_MESSAGE_ID, **fields}
        return of_kernel(n, f"Suppressed {n} messages from {unit}", **fields)

    losing = "We are losing events, increasing buffer size to 4096"
    entries = [
        entry(0),
        entry(1, losing),
        entry(2, losing, _SYSTEMD_UNIT="user@1000.service"),
        entry(3, "Maximum buffer size (8192) in NFLOG has been reached. Please, consider rising"),
        suppressed(4, UNIT),
        suppressed(5, "cron.service"),
        suppressed(6, UNIT, _TRANSPORT="journal"),
        entry(7),
    ]
    lines, _, journal = read(entries, tmp_path, SOURCE)
    assert len(lines) == 2
    assert (journal.counts.overruns, journal.counts.suppressed) == (2, 4)
    assert [record.getMessage()[:24] for record in caplog.records] == [
        "ulogd has lost packets, ",
        "ulogd has lost packets, ",
        "journald left out 4 line",
    ]
