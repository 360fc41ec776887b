"""Whether a service runs, by what systemd last said of it in the journal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from kiptail.journal.entry import is_start_of_service
from kiptail.journal.reader import Reader, field, match_words_of_systemd
from kiptail.journal.source import Source

__all__ = ["Word", "last_words"]

#: A boot's first service starts earlier, in µs of its monotonic clock.
_EARLY_US = 120_000_000


class Word(NamedTuple):
    """What systemd said of a service."""

    #: It had started; else it had ended, failed or was about to.
    runs: bool
    #: When, in µs since the epoch; 0 where it never said a word in this boot.
    at_us: int


def last_words(source: Source, units: Iterable[str]) -> dict[str, Word]:
    """The last word about each of ``units`` in the journal's last boot; OSError.

    A unit has none where that cannot be known: the boot's beginning is gone, or systemd does not log what it starts.
    """
    with contextlib.closing(source.open()) as reader:
        reader.seek_tail()
        if not reader._previous():
            return {}
        boot = reader._get_monotonic()[1].hex()
        words = {unit: word for unit in units if (word := _last_word(reader, boot, unit))}
        missing = [unit for unit in units if unit not in words]
        if missing and _tells_of_starts(reader, boot):
            words |= dict.fromkeys(missing, Word(runs=False, at_us=0))
        return words


def _last_word(reader: Reader, boot: str, unit: str) -> Word | None:
    match_words_of_systemd(reader, boot, unit)
    reader.seek_tail()
    if not reader._previous():
        return None
    fields = (field(reader, name) for name in ("MESSAGE_ID", "JOB_RESULT", "MESSAGE"))
    return Word(is_start_of_service(*fields), reader._get_realtime())


def _tells_of_starts(reader: Reader, boot: str) -> bool:
    """Whether the journal has what systemd started from the boot's beginning on."""
    match_words_of_systemd(reader, boot)
    reader.seek_head()
    return reader._next() and reader._get_monotonic()[0] < _EARLY_US
