"""Filters, tried on a journal of the last day."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiptail.check.facts import FilterTried
from kiptail.check.probes.filters import gather_filters
from kiptail.config.settings import Settings, resolve
from tests.support.journald import export_to_journal, kernel_entry

NOW = 1_800_000_000
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC={src} DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 {flags} URGP=0 "
)


def settings(directory: Path, *ignore: str) -> Settings:
    flags = {"prefix": ("drop:",), "ignore": ignore, "journal_directory": str(directory)}
    return resolve(flags, {}, now_us=NOW * 1_000_000, default_config=directory / "none.toml")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Three packets of the last day, one of them a reset; one from before; what is no packet, and another prefix's."""
    lines = [
        (2 * 86_400, LINE.format(prefix="drop:", src="10.9.9.9", port=23, flags="SYN")),
        (3_600, LINE.format(prefix="drop:", src="10.0.0.1", port=22, flags="SYN")),
        (3_500, LINE.format(prefix="drop:", src="10.0.0.1", port=22, flags="SYN")),
        (3_400, LINE.format(prefix="drop:", src="10.0.0.3", port=80, flags="RST")),
        (3_300, "drop: IN=a OUT=b and so on"),
        (3_200, LINE.format(prefix="other:", src="10.0.0.9", port=25, flags="SYN")),
    ]
    export_to_journal(
        [
            kernel_entry(line, realtime_us=(NOW - age) * 1_000_000, monotonic_us=10_000_000_000_000 - age * 1_000_000)
            for age, line in lines
        ],
        tmp_path / "journal" / "system.journal",
    )
    return tmp_path / "journal"


def test_packets_of_the_last_day_are_counted_for_each_filter(journal: Path) -> None:
    texts = ["port=22", "port=23", "port=25", "src=10.0.0.0/24", "replies", "port=22 reason=again", "namespace=x"]
    found = gather_filters(settings(journal, *texts), now=NOW)
    assert found is not None
    assert found.tried == (
        FilterTried("port=22", 2),
        FilterTried("port=23", 0),
        FilterTried("port=25", 0),
        FilterTried("src=10.0.0.0/24", 3),
        FilterTried("name=replies", 1),
        FilterTried("port=22 reason=again", 2),
    )
    assert (found.packets, found.untried, found.incomplete) == (3, 1, False)


def test_those_that_need_the_ends_need_no_journal(tmp_path: Path) -> None:
    found = gather_filters(settings(tmp_path / "nowhere", "namespace=x"), now=NOW)
    assert found is not None
    assert (found.tried, found.untried) == ((), 1)


def test_without_filters_or_a_journal_there_is_nothing(journal: Path, tmp_path: Path) -> None:
    assert gather_filters(settings(journal), now=NOW) is None
    assert gather_filters(settings(tmp_path / "nowhere", "port=22"), now=NOW) is None
