"""Where flow records go."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kiptail.config.settings import resolve
from kiptail.daemon import record_sinks
from kiptail.daemon.record_sinks import JournalRecords, LogRecords, encode, open_record_sink
from tests.support.journald import ROOT_NEEDED, Journald, fields_of
from tests.support.running import ROOT

FIELDS = {"MESSAGE": "Flow placed", "MESSAGE_ID": "0" * 32, "PRIORITY": "6", "KIPTAIL_POD": "web-0"}


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of one that does nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        yield listening


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[JournalRecords]:
    made = JournalRecords(tmp_path / "socket")
    yield made
    made.close()


def test_an_entry_is_written_in_journalds_own_protocol() -> None:
    assert encode({"A": "1", "B_2": "ä=b"}) == b"A=1\nB_2=\xc3\xa4=b\n"
    assert encode({"A": "1\n2"}) == b"A\n\x03\0\0\0\0\0\0\x001\n2\n"
    assert encode({"A": "\ud800"}) == b"A=?\n"


def test_a_record_is_one_datagram(sink: JournalRecords, journald: socket.socket) -> None:
    sink.write(FIELDS)
    assert journald.recv(65_536) == b"SYSLOG_IDENTIFIER=kiptail\n" + encode(FIELDS)


def _write_many(sink: JournalRecords) -> None:
    for _ in range(100_000):
        sink.write(FIELDS)


def test_a_journal_that_is_full_or_away_is_an_error_at_once(
    sink: JournalRecords, journald: socket.socket, tmp_path: Path
) -> None:
    with pytest.raises(BlockingIOError):
        _write_many(sink)
    journald.close()
    with pytest.raises(ConnectionRefusedError):
        sink.write(FIELDS)
    (tmp_path / "socket").unlink()
    with pytest.raises(FileNotFoundError):
        sink.write(FIELDS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "socket"))
        sink.write(FIELDS)
        assert again.recv(65_536)


def test_in_the_log_a_record_is_a_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kiptail"):
        LogRecords().write(FIELDS)
    (line,) = caplog.records
    assert (line.levelname, line.getMessage()) == ("INFO", "Flow placed")
    assert {name for name in vars(line) if name.startswith("KIPTAIL_")} == {"KIPTAIL_POD"}


@pytest.mark.parametrize(
    ("given", "journal", "kind"),
    [
        ({}, True, JournalRecords),
        ({"log_level": "debug"}, True, JournalRecords),
        ({"log_level": "warning"}, True, type(None)),
        ({"log_level": "error"}, False, type(None)),
        ({}, False, LogRecords),
        ({"log_format": "json"}, True, LogRecords),
        ({"log_format": "text"}, True, LogRecords),
        ({"dry_run": True}, True, type(None)),
    ],
)
def test_where_records_go_is_decided_by_settings_and_stream(
    given: dict[str, Any], journal: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_sinks, "stderr_is_the_journal", lambda: journal)
    settings = resolve({"prefix": ["x:"], **given}, {}, now_us=1, default_config=Path("/nonexistent"))
    with ExitStack() as stack:
        assert type(open_record_sink(settings, stack)) is kind


@pytest.mark.live
def test_journald_has_each_field(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    code = f"from kiptail.daemon.record_sinks import JournalRecords\nJournalRecords().write({FIELDS!r})"
    with Journald(tmp_path / "j") as daemon:
        command = daemon.command(sys.executable, "-c", code)
        subprocess.run(command, check=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)})
        daemon.sync()
        found = [entry for entry in fields_of(daemon.directory) if entry.get("MESSAGE_ID") == "0" * 32]
    assert [entry.items() & FIELDS.items() for entry in found] == [FIELDS.items()]
    assert (found[0]["SYSLOG_IDENTIFIER"], found[0]["_TRANSPORT"]) == ("kiptail", "journal")
