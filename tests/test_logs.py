"""Log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from kiptail import logs


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


def test_under_systemd_a_line_tells_its_priority(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    logs.configure("debug")
    log = logging.getLogger("kiptail.test")
    for level in (log.debug, log.info, log.warning, log.error):
        level("x")
    assert capsys.readouterr().err.splitlines() == ["<7>x", "<6>x", "<4>x", "<3>x"]


def test_others_are_heard_only_when_it_matters(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    logging.getLogger("somebody").info("x")
    assert capsys.readouterr().err == ""
