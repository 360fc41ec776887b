"""A unit's entries, latest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kiptail.errors import JournalError
from kiptail.journal import unit_entries
from kiptail.journal.source import Source
from kiptail.journal.unit_entries import UnitEntries, has_lines, machines_of
from tests.support.journald import BOOT, export_to_journal, kernel_entry

T0 = 1_795_000_000_000_000
ID, OTHER_ID = "a" * 32, "b" * 32


def entry(number: int, **more: Any) -> dict[str, Any]:
    made = {
        "__REALTIME_TIMESTAMP": T0 + number, "__MONOTONIC_TIMESTAMP": number + 1, "_BOOT_ID": BOOT,
        "_MACHINE_ID": "3" * 32, "_TRANSPORT": "journal", "_SYSTEMD_UNIT": "x.service", "MESSAGE_ID": ID,
        "MESSAGE": f"{number}", **more,
    }  # fmt: skip
    return {key: value for key, value in made.items() if value is not None}


def entries(path: Path, *also: str) -> UnitEntries:
    return UnitEntries(Source(None, (path,)), "x.service", (ID, OTHER_ID), also)


def test_the_units_own_entries_with_one_of_the_ids_come_latest_first(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    export_to_journal(
        [
            entry(0),
            entry(1, MESSAGE_ID=OTHER_ID),
            entry(2, MESSAGE_ID="c" * 32),
            entry(3, MESSAGE_ID=None),
            entry(4, _SYSTEMD_UNIT="y.service"),
            entry(5, _SYSTEMD_UNIT=None),
            entry(6, _TRANSPORT="stdout"),
            entry(7),
        ],
        path,
    )
    found = list(entries(path).back())
    assert [(each.realtime_us, each.fields["MESSAGE"]) for each in found] == [
        (T0 + 7, b"7"),
        (T0 + 1, b"1"),
        (T0, b"0"),
    ]


@pytest.mark.parametrize("fresh", [1, 2, 3, 10, 100])
def test_opening_anew_in_between_loses_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: int
) -> None:
    monkeypatch.setattr(unit_entries, "FRESH", fresh)
    path = tmp_path / "a.journal"
    # Many have one time.
    export_to_journal([entry(n, __REALTIME_TIMESTAMP=T0 + n // 4, K=n % 2) for n in range(20)], path)
    numbers = [int(each.fields["MESSAGE"]) for each in entries(path).back()]
    assert numbers == list(reversed(range(20)))
    assert [int(each.fields["MESSAGE"]) for each in entries(path, "K=1").back()] == numbers[::2]
    passed = entries(path).back(("MESSAGE", lambda text: int(text) >= 10))
    assert [int(each.fields["MESSAGE"]) for each in passed] == list(reversed(range(10)))


def test_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    for ask in (lambda: list(entries(tmp_path / "none").back()), lambda: has_lines(Source(tmp_path / "none", ()))):
        with pytest.raises(JournalError, match="does not exist"):
            ask()


def test_whether_there_are_lines(tmp_path: Path) -> None:
    export_to_journal([entry(0)], tmp_path / "a.journal")
    assert not has_lines(Source(tmp_path, ()))
    export_to_journal([kernel_entry("x", realtime_us=T0, monotonic_us=1)], tmp_path / "b.journal")
    assert has_lines(Source(tmp_path, ()))


def test_whose_boots_they_are(tmp_path: Path) -> None:
    export_to_journal([entry(0), entry(1, _BOOT_ID="c" * 32, _MACHINE_ID="4" * 32)], tmp_path / "a.journal")
    source = Source(tmp_path, ())
    assert machines_of(source, frozenset({BOOT})) == {"3" * 32}
    assert machines_of(source, frozenset({BOOT, "c" * 32, "d" * 32, "no id"})) == {"3" * 32, "4" * 32}
