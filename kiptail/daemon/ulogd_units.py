"""Whether the units that run ulogd do: while one does not, packets of its NFLOG group are lost without a trace."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

from kiptail.clock.trouble import Trouble
from kiptail.config.settings import Settings
from kiptail.journal.service_words import Word, last_words
from kiptail.journal.source import Source

__all__ = ["UlogdUnits", "units_to_watch"]

log = logging.getLogger(__name__)

#: Seconds between two looks, and what a look may cost of one core: where there are many journal files, it takes longer.
#: The first one comes after some, for units of one boot start side by side.
INTERVAL, FIRST = 10.0, 5.0
_SHARE = 0.005


def units_to_watch(settings: Settings) -> UlogdUnits:
    """Those that are configured, unless a journal is read once that others have written."""
    units = [source.unit for source in settings.nflog] if settings.follow and not settings.journal_files else []
    return UlogdUnits(Source(settings.journal_directory, settings.journal_files), units)


class UlogdUnits:
    """Asks the journal now and then. Belongs to the journal loop; :attr:`runs` may be read by others."""

    def __init__(self, source: Source, units: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        #: By the unit's name, those of which it is known.
        self.runs: dict[str, bool] = {}
        self._source = source
        self._clock = clock
        self._words: dict[str, Word] = {}
        self._troubles = {unit: Trouble() for unit in units}
        self._due = clock() + FIRST if units else math.inf

    @property
    def trouble(self) -> str:
        """Which units do not run, or ""."""
        return ", ".join(filter(None, (trouble.text for trouble in self._troubles.values())))

    def look(self) -> None:
        """Look, if it is time, and log what has changed."""
        begin = self._clock()
        if begin < self._due:
            return
        try:
            words = last_words(self._source, tuple(self._troubles))
        except OSError as error:
            # Whoever reads the lines themselves says so.
            log.debug("whether ulogd runs cannot be read: %s", error)
            words = {}
        for unit, word in words.items():
            self._take(unit, word)
        self._words = words
        self._due = self._clock() + max(INTERVAL, (self._clock() - begin) / _SHARE)

    def _take(self, unit: str, word: Word) -> None:
        trouble = self._troubles[unit]
        if not word.runs:
            self.runs[unit] = False
            if trouble.begins(f"{unit} does not run"):
                log.warning("%s does not run: what is logged to its NFLOG group is lost; see systemctl status", unit)
        # One that fails at once starts again and again: it has to stay for a while.
        elif not trouble.text or self._words.get(unit) == word:
            self.runs[unit] = True
            if trouble.ends():
                log.info("%s runs again", unit)
