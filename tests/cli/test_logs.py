"""Log lines."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiptail.cli import logs
from tests.support.journald import ROOT_NEEDED, Journald, fields_of
from tests.support.running import ROOT


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers, root.level
    yield
    root.handlers = before
    root.setLevel(level)
    logging.getLogger("kiptail").setLevel(logging.NOTSET)


def test_a_line_is_one_line_whatever_it_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    logs.configure("info")
    logging.getLogger("kiptail.test").info("said: %s", "a\nb\x1b[31m")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("info: said: a b [31m")


def test_a_stream_that_is_no_longer_the_journals_gets_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    logs.configure("debug")
    logging.getLogger("kiptail.test").info("x")
    assert capsys.readouterr().err.endswith(" info: x\n")


def test_json_has_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", style="json")
    logging.getLogger("kiptail.test").warning("said: %s", "a\nb", extra={"KIPTAIL_POD": "web-0"})
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record.pop("time") > 1.7e9
    assert record == {"level": "warning", "logger": "kiptail.test", "message": "said: a b", "pod": "web-0"}


@pytest.mark.live
def test_under_systemd_lines_have_fields(tmp_path: Path) -> None:
    """In journald itself, started with its standard error connected as systemd does it."""
    code = """
import logging, os, sys
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
from kiptail.cli import logs
logs.configure("debug", drops=True)
log = logging.getLogger("kiptail.test")
log.debug("one")
log.warning("two %s", "a\\nb", extra={"KIPTAIL_POD": "web-0", "KIPTAIL_COUNT": 3})
try:
    raise ValueError("inside")
except ValueError:
    log.exception("three")
"""
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    with Journald(tmp_path / "j") as journald:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = journald.command("systemd-cat", "-t", "stream", sys.executable, "-c", code)
        subprocess.run(command, check=True, timeout=60, env=environment)
        journald.sync()
        found = [entry for entry in fields_of(journald.directory) if entry.get("SYSLOG_IDENTIFIER") == "kiptail"]
    assert [entry["PRIORITY"] for entry in found] == ["7", "4", "3"]
    assert found[1]["MESSAGE"] == "two a b"
    assert (found[1]["KIPTAIL_POD"], found[1]["KIPTAIL_COUNT"]) == ("web-0", "3")
    assert {entry["LOGGER"] for entry in found} == {"kiptail.test"}
    assert {entry["_TRANSPORT"] for entry in found} == {"journal"}
    assert found[2]["MESSAGE"].splitlines()[-1] == "ValueError: inside"
    assert not any("CODE_ARGS" in entry for entry in found)


def test_others_are_heard_only_when_it_matters(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    logging.getLogger("somebody").info("x")
    assert capsys.readouterr().err == ""
