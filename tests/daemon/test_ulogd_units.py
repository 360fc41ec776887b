"""Units that run ulogd: what is logged and reported of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kiptail.config.settings import resolve
from kiptail.daemon import ulogd_units
from kiptail.daemon.ulogd_units import FIRST, INTERVAL, UlogdUnits, units_to_watch
from kiptail.journal.service_words import Word
from kiptail.journal.source import Source

UNIT = "kiptail-ulogd@100.service"
UP, DOWN = Word(runs=True, at_us=1), Word(runs=False, at_us=2)
UP_AGAIN = Word(runs=True, at_us=3)


class Watched:
    """Units whose last words are given, at times that are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.words: dict[str, Word] | OSError = {}
        self.asked = 0
        monkeypatch.setattr(ulogd_units, "last_words", self._last_words)
        self.units = UlogdUnits(Source(None, ()), [UNIT], clock=lambda: self.now)

    def _last_words(self, source: Source, units: tuple[str, ...]) -> dict[str, Word]:
        self.asked += 1
        if isinstance(self.words, OSError):
            raise self.words
        return self.words

    def look(self, *words: Word) -> bool | None:
        """Whether the unit is taken to run, after these were the last ones at a look each."""
        for word in words:
            self.words = {UNIT: word}
            self.now += INTERVAL
            self.units.look()
        return self.units.runs.get(UNIT)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_one_that_does_not_run_is_logged_once_and_stands_in_the_status(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert watched.look(UP) is True
        assert watched.units.trouble == ""
        assert watched.look(DOWN, DOWN) is False
        assert watched.units.trouble == f"{UNIT} does not run"
        assert watched.look(UP_AGAIN, UP_AGAIN) is True
        assert watched.units.trouble == ""
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[1] == f"{UNIT} runs again"


def test_one_that_starts_again_and_again_does_not_run(watched: Watched) -> None:
    assert watched.look(DOWN, UP_AGAIN) is False
    assert watched.look(Word(runs=True, at_us=4), Word(runs=True, at_us=5)) is False
    assert watched.look(Word(runs=True, at_us=5)) is True


def test_what_is_not_known_is_not_said(watched: Watched) -> None:
    watched.now += INTERVAL
    watched.units.look()
    assert watched.units.runs == {}
    watched.words = OSError("gone")
    watched.now += INTERVAL
    watched.units.look()
    assert (watched.asked, watched.units.runs, watched.units.trouble) == (2, {}, "")


def test_the_journal_is_asked_now_and_then(watched: Watched) -> None:
    for seconds, asked in ((FIRST - 0.1, 0), (0.1, 1), (INTERVAL - 0.1, 1), (0.1, 2)):
        watched.now += seconds
        watched.units.look()
        assert watched.asked == asked


def test_who_is_watched(tmp_path: Path) -> None:
    def asked(*flags: tuple[str, object]) -> bool:
        settings = resolve(
            {"prefix": ["x:"], **dict(flags)}, {}, now_us=0, default_config=tmp_path / "none", own_profiles=tmp_path
        )
        return bool(units_to_watch(settings)._troubles)

    group = ("nflog_group", ["100"])
    assert asked(group)
    assert not asked()
    assert not asked(group, ("no_follow", True))
    assert not asked(group, ("journal_file", [str(tmp_path / "x.journal")]))
