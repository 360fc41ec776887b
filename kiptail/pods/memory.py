"""What is known of this node's pods, kept across restarts and for as long as drops of theirs may still be read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from kiptail.errors import StateError
from kiptail.pods.ownership import Interval

__all__ = ["IntervalBook", "PodMemory", "RememberedPods"]

log = logging.getLogger(__name__)

#: A pod that is gone is remembered until the journal has been read this far beyond its end, in µs: drops are read a
#: little out of order, and for a minute or two it may turn out that a decision was wrong.
KEEP_US = 300_000_000
#: The interval at which the time of the latest news is stored where nothing changes, in µs.
NEWS_INTERVAL_US = 60_000_000


class RememberedPods(Protocol):
    """The copy of the pods that are watched."""

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """As :meth:`kiptail.pods.ownership.Ownership.restore`."""

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """As :meth:`kiptail.pods.register.IntervalRegister.take_local`."""


class IntervalBook(Protocol):
    """Where intervals are kept. Both raise :class:`~kiptail.errors.StateError`."""

    def load_intervals(self) -> tuple[list[tuple[str, Interval]], int]:
        """What was saved, and when there was news of pods last (µs since the epoch)."""

    def save_intervals(self, changes: Mapping[str, Iterable[Interval]], *, news_us: int) -> None:
        """Replace what is known of these addresses."""


class PodMemory:
    """Moves what changed from the copy of pods to the store, many changes at once."""

    def __init__(
        self,
        pods: RememberedPods,
        book: IntervalBook,
        *,
        current: Callable[[], bool],
        forget: Callable[[int], None],
    ) -> None:
        """Gives ``pods`` what an earlier run knew; before they are followed.

        ``current``: news of pods arrives at present; ``forget``: no drop from before that time will be asked about.
        """
        self._pods = pods
        self._book = book
        self._current = current
        self._forget = forget
        intervals, self._news_us = book.load_intervals()
        self._saved_news_us = self._news_us
        self._unsaved: dict[str, tuple[Interval, ...]] = {}
        self._mutex = threading.Lock()
        pods.restore(intervals, seen_us=self._news_us)

    def save(self, now_us: int, *, last: bool = False) -> None:
        """Store what has changed; when the state cannot be written, the next call tries again.

        ``last``: store as well until when pods were watched, for the next run.
        """
        with self._mutex:
            self._save(now_us, last=last)

    def _save(self, now_us: int, *, last: bool) -> None:
        changes = self._pods.take_local()
        if changes or self._current():
            self._news_us = now_us
        self._unsaved |= changes
        # Compared both ways: a clock that is set back must not stop it.
        if not self._unsaved and not last and abs(self._news_us - self._saved_news_us) < NEWS_INTERVAL_US:
            return
        try:
            self._book.save_intervals(self._unsaved, news_us=self._news_us)
        except StateError as error:
            log.debug("what is known of pods is not stored yet: %s", error)
            return
        self._unsaved = {}
        self._saved_news_us = self._news_us

    def forget(self, read_us: int) -> None:
        """The journal has been read up to ``read_us``: what ended long before it is of no use any more.

        Not a time after the end by the clock on the wall: while a backlog is read, drops come from
        the time before pods went.
        """
        self._forget(read_us - KEEP_US)
