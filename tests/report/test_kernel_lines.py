"""The journal's kernel lines added up: as many packets as a naive count of the lines has."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiptail.config.settings import Settings, resolve
from kiptail.errors import JournalError
from kiptail.report import kernel_lines
from kiptail.report.ends import Ends
from kiptail.report.kernel_lines import KernelLines
from kiptail.report.tally import Period, Tally
from tests.journal.test_units import EMPTY, entry
from tests.support.fuzzing import cases
from tests.support.journald import export_to_journal, fields_of, kernel_entry

T0 = 1_795_000_000_000_000
SECOND = 1_000_000
CONFIG = """
prefix = ["drop:"]
[[prefixes]]
text = "reject:"
verdict = "reject"
[[prefixes]]
text = "log:"
verdict = "log"
[[prefixes]]
text = "accept:"
verdict = "accept"
"""
HEAD = "IN=a OUT=b MAC= SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO="
TAILS = (
    "TCP SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 ",
    "TCP SPT={port} DPT=50000 WINDOW=64240 RES=0x00 ACK URGP=0 ",
    "UDP SPT=40000 DPT={port} LEN=40 ",
    "ICMP TYPE=8 CODE=0 ID=7 SEQ=1 ",
    "47 ",
)
LOST = ("drop:", "reject:")


def line(prefix: str = "drop:", tail: str = TAILS[0], **values: object) -> str:
    return f"{prefix} {HEAD}{tail}".format(**{"src": "10.0.0.1", "dst": "10.0.0.2", "port": 80} | values)


def configured(directory: Path, *, journal: Path) -> Settings:
    file = directory / "kiptail.toml"
    file.write_text(CONFIG)
    return resolve({"config": str(file), "journal_directory": str(journal)}, {}, now_us=2 * T0)


def counted(directory: Path, journal: Path, period: Period | None = None) -> tuple[Tally, KernelLines, list[float]]:
    parts: list[float] = []
    source = KernelLines(configured(directory, journal=journal), lambda part, _: parts.append(part))
    tally = Tally(Ends(None, {}), period or Period())
    source.read(tally)
    return tally, source, parts


def entries(lines: list[tuple[int, str]], **fields: Any) -> list[dict[str, Any]]:
    return [
        kernel_entry(text, realtime_us=T0 + at, monotonic_us=10 * SECOND + at, **fields) for at, text in sorted(lines)
    ]


KERNEL_LINES = st.builds(
    line,
    st.sampled_from(["drop:", "reject:", "log:", "accept:", "other:"]),
    st.sampled_from(TAILS),
    src=st.sampled_from(["10.0.0.1", "10.0.0.3"]),
    port=st.integers(min_value=1, max_value=3),
)
NOISE = st.sampled_from(["drop:", "drop: IN=a OUT=b", "usb 1-1: new device", f"x {line()}", f"{line()} x", "drop: IN="])


@settings(max_examples=cases(25))
@given(
    lines=st.lists(
        st.tuples(st.integers(min_value=0, max_value=100 * SECOND), st.one_of(KERNEL_LINES, NOISE)), max_size=60
    ),
    since_s=st.integers(min_value=0, max_value=60),
    length_s=st.integers(min_value=1, max_value=60),
)
def test_the_sums_are_a_naive_count_of_the_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, str]], since_s: int, length_s: int
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    export_to_journal(entries([*lines, (101 * SECOND, "the end")]), directory / "a.journal")
    export_to_journal(entries([(0, line())], _TRANSPORT="syslog"), directory / "b.journal")
    wanted = [
        int(entry["__REALTIME_TIMESTAMP"])
        for entry in fields_of(directory)
        if entry["_TRANSPORT"] == "kernel"
        and entry["MESSAGE"].startswith(LOST)
        and entry["MESSAGE"].endswith(" ")
        and "PROTO=" in entry["MESSAGE"]
    ]
    whole, _, _ = counted(directory, directory)
    assert whole.packets == len(wanted) == sum(flow.count for flow in whole.flows.values())
    period = Period(T0 + since_s * SECOND, T0 + (since_s + length_s) * SECOND)
    part, _, _ = counted(directory, directory, period)
    assert part.packets == sum(period.has(at) for at in wanted) == sum(flow.count for flow in part.flows.values())


def test_each_flow_is_counted_by_itself(tmp_path: Path) -> None:
    lines = list(itertools.chain.from_iterable([line(prefix, tail)] * 3 for prefix in LOST for tail in TAILS))
    export_to_journal(entries([(n * SECOND, text) for n, text in enumerate(lines)]), tmp_path / "a.journal")
    tally, _, _ = counted(tmp_path, tmp_path)
    assert Counter(flow.count for flow in tally.flows.values()) == {3: 10}
    assert sum(flow.id.reply for flow in tally.flows.values()) == 2
    assert {flow.id.verdict for flow in tally.flows.values()} == {"drop", "reject"}


def test_lines_that_cannot_be_read_are_mentioned(tmp_path: Path) -> None:
    export_to_journal(entries([(0, line()), (1, line()[:40]), (2, line() + "x")]), tmp_path / "a.journal")
    tally, source, _ = counted(tmp_path, tmp_path)
    assert tally.packets == 1
    assert source.unread == 2
    assert source.remarks() == ["2 lines with a prefix could not be read and are not counted; see kiptail parse"]


def test_a_limited_rate_is_mentioned_where_it_matters(tmp_path: Path) -> None:
    export_to_journal(entries([(0, line())]), tmp_path / "a.journal")
    configuration = CONFIG.replace('prefix = ["drop:"]', "") + '[[prefixes]]\ntext = "drop:"\nlimited = true\n'
    for text, mentioned in ((configuration, True), (configuration.replace('"drop:"', '"other:"'), False)):
        (tmp_path / "c.toml").write_text(text)
        given = {"config": str(tmp_path / "c.toml"), "journal_directory": str(tmp_path)}
        source = KernelLines(resolve(given, {}, now_us=2 * T0), lambda part, lines: None)
        source.read(Tally(Ends(None, {}), Period()))
        assert any("limited rate" in remark and "'drop:'" in remark for remark in source.remarks()) is mentioned


def test_progress_grows_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_lines, "BATCH", 10)
    export_to_journal(entries([(n * SECOND, line()) for n in range(100)]), tmp_path / "a.journal")
    _, _, parts = counted(tmp_path, tmp_path)
    assert len(parts) >= 9
    assert parts == sorted(parts)
    assert 0 < parts[0] < 1
    assert parts[-1] == 1


def test_what_is_long_after_the_period_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_lines, "BATCH", 10)
    export_to_journal(entries([(n * 60 * SECOND, line()) for n in range(200)]), tmp_path / "a.journal")
    tally, _, parts = counted(tmp_path, tmp_path, Period(None, T0 + 60 * SECOND))
    assert tally.packets == 1
    assert len(parts) <= 3


def test_a_journal_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        counted(tmp_path, tmp_path / "none")


def test_lines_of_ulogd_are_counted_too_and_name_their_policies(tmp_path: Path) -> None:
    entries = [
        entry(0, "DROP by policy a/x" + EMPTY),
        entry(1, EMPTY),
        entry(2, "drop:" + EMPTY),
        entry(3, EMPTY, _SYSTEMD_UNIT="user@1000.service"),
        entry(4, "We are losing events, increasing buffer size to 1"),
    ]
    export_to_journal(entries, tmp_path / "journal" / "x.journal")
    file = tmp_path / "kiptail.toml"
    file.write_text('prefix = ["drop:"]\n[[nflog]]\ngroup = 100\nprofile = "k3s"\n')
    flags = {"config": str(file), "journal_directory": str(tmp_path / "journal")}
    source = KernelLines(resolve(flags, {}, now_us=2 * T0), lambda *_: None)
    tally = Tally(Ends(None, {}), Period())
    source.read(tally)
    assert {(flow.verdict, flow.policy) for flow in tally.flows} == {("reject", "a/x"), ("drop", "")}
    assert source.limited == ["NFLOG group 100"]
    assert source.remarks()[0] == "ulogd lost packets (1 times): there were more"
