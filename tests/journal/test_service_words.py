"""What systemd last said of a service, in journals that it did not write."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiptail.journal.entry import ENDED_MESSAGE_IDS, STARTED_MESSAGE_ID
from kiptail.journal.service_words import Word, last_words
from kiptail.journal.source import Source
from tests.journal.test_units import START, UNIT, of_kernel
from tests.support.journald import Fields, export_to_journal

OTHER = "kiptail-ulogd@7.service"


def word(n: int, unit: str = UNIT, message_id: str = STARTED_MESSAGE_ID, **fields: str | int | list[str]) -> Fields:
    """What process 1 says, ``n`` ms after 10 s of the boot."""
    said: dict[str, str | int | list[str]] = {
        "_TRANSPORT": "journal",
        "_PID": 1,
        "SYSLOG_IDENTIFIER": "systemd",
        "UNIT": unit,
        "MESSAGE_ID": message_id,
        "JOB_RESULT": "done",
        **fields,
    }
    return of_kernel(n, f"Started {unit}.", **said)  # type: ignore[arg-type]


def words(entries: list[Fields], tmp_path: Path) -> dict[str, Word]:
    export_to_journal(entries, tmp_path / "journal" / "x.journal")
    return last_words(Source(tmp_path / "journal", ()), [UNIT])


def test_the_last_word_counts(tmp_path: Path) -> None:
    entries = [word(0), word(1, OTHER, ENDED_MESSAGE_IDS[0])]
    assert words(entries, tmp_path) == {UNIT: Word(runs=True, at_us=START)}
    assert words([word(2, message_id=ENDED_MESSAGE_IDS[0])], tmp_path) == {UNIT: Word(runs=False, at_us=START + 2_000)}
    assert words([word(3), of_kernel(4)], tmp_path) == {UNIT: Word(runs=True, at_us=START + 3_000)}


@pytest.mark.parametrize("message_id", ENDED_MESSAGE_IDS)
def test_each_way_to_end(message_id: str, tmp_path: Path) -> None:
    assert words([word(0), word(1, message_id=message_id)], tmp_path)[UNIT].runs is False


@pytest.mark.parametrize("result", ["skipped", "failed", ["failed", "done"]])
def test_a_start_that_did_not_come_about_is_none(result: str | list[str], tmp_path: Path) -> None:
    assert words([word(0, JOB_RESULT=result)], tmp_path)[UNIT].runs is False


def test_a_start_that_was_skipped_is_none(tmp_path: Path) -> None:
    """As where ulogd2 is not installed; systemd 252 says so with all that it has of a start."""
    message = f"{UNIT} was skipped because of an unmet condition check (ConditionPathExists=/usr/sbin/ulogd)."
    assert words([word(0), word(1, MESSAGE=message)], tmp_path)[UNIT].runs is False


@pytest.mark.parametrize(
    "fields",
    [{"_PID": 1000}, {"_TRANSPORT": "syslog"}, {"_TRANSPORT": "stdout"}, {"_PID": 1000, "PID": "1"}],
    ids=["another process", "syslog", "its output", "a field of its own"],
)
def test_what_a_user_can_send_counts_for_nothing(fields: dict[str, str | int], tmp_path: Path) -> None:
    ended = ENDED_MESSAGE_IDS[0]
    assert words([word(0), word(1, message_id=ended, **fields)], tmp_path) == {UNIT: Word(runs=True, at_us=START)}


def test_a_unit_that_was_never_started_in_this_boot_does_not_run(tmp_path: Path) -> None:
    assert words([word(0, OTHER), of_kernel(1)], tmp_path) == {UNIT: Word(runs=False, at_us=0)}


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([of_kernel(0)], id="systemd says nothing of what it starts"),
        pytest.param([word(200_000, OTHER)], id="the boot's beginning is gone"),
        pytest.param([], id="empty"),
    ],
)
def test_else_it_is_not_known(entries: list[Fields], tmp_path: Path) -> None:
    export_to_journal([of_kernel(0, "x")], tmp_path / "journal" / "x.journal")
    assert words(entries, tmp_path) == {}


def test_a_word_of_an_earlier_boot_says_nothing(tmp_path: Path) -> None:
    """Nor does that boot's beginning."""
    entries = [word(0), {**of_kernel(200_000), "_BOOT_ID": "b0070000000000000000000000000002"}]
    assert words(entries, tmp_path) == {}


def test_an_empty_journal(tmp_path: Path) -> None:
    export_to_journal([], tmp_path / "journal" / "x.journal")
    (tmp_path / "journal").mkdir(exist_ok=True)
    assert last_words(Source(tmp_path / "journal", ()), [UNIT]) == {}
