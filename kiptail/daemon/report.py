"""How a run is, in words: the STATUS line for systemd, what it lacks to be ready, a summary at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from kiptail.daemon.machine import logs_all_namespaces
from kiptail.daemon.ulogd_units import UlogdUnits
from kiptail.events.poster import Poster
from kiptail.flows.intake import Follower
from kiptail.flows.known_lines import Line
from kiptail.journal.follow import Journal

__all__ = ["Index", "Report"]

log = logging.getLogger(__name__)

#: A greater lag behind the journal is logged and stands in STATUS, in seconds.
LAG_SHOWN = 5.0
#: A journal loop that has not come round for longer hangs, in seconds: the unit's WatchdogSec.
HANGS_AFTER = 60.0


class Index(Protocol):
    """What is reported of the pod index."""

    @property
    def trouble(self) -> str:
        """Why it is not kept current at present, or ""."""

    def ready(self) -> bool:
        """The pods that are followed are known."""


class Troubled(Protocol):
    """What may be in trouble."""

    @property
    def trouble(self) -> str:
        """Why it does not work at present, or ""."""


class Report:
    """Reads what the parts keep anyway; counts nothing itself."""

    def __init__(
        self,
        *,
        journal: Journal[Line],
        follower: Follower,
        poster: Poster,
        index: Index,
        ulogd: UlogdUnits,
    ) -> None:
        self._beat_at = time.monotonic()
        self._journal = journal
        self._follower = follower
        self._poster = poster
        self._index = index
        #: The units that run it.
        self.ulogd = ulogd
        #: nf_log_all_netns, as it was at the start.
        self.all_netns = logs_all_namespaces()
        #: How far reading is behind the journal, in seconds.
        self.lag = 0.0
        self._late = False
        self._warned = False
        #: Renewal of kiptail's own token, where there is one.
        self.renewal: Troubled | None = None

    @property
    def token_trouble(self) -> str:
        """Why kiptail's own token cannot be renewed, or ""."""
        return self.renewal.trouble if self.renewal is not None else ""

    def beat(self, *, lag: float) -> None:
        """The journal loop, whose the reader is, says how far behind it is, and thereby that it does not hang.

        That it stays behind is logged once, and once that it caught up.
        """
        self.lag, self._beat_at = lag, time.monotonic()
        late, self._late = self._late, lag > LAG_SHOWN
        if late and self._late and not self._warned:
            self._warned = True
            log.warning(
                "reading is %.0f s behind the journal: more is dropped than can be counted at once, and reported late."
                " Nothing is lost as long as the journal keeps it: see SystemMaxUse in journald.conf(5)",
                lag,
            )
        elif self._warned and not self._late:
            self._warned = False
            log.info("reading has caught up with the journal")

    def obstacles(self) -> list[str]:
        """Why kiptail does not do its work at present; empty when it is ready."""
        silent = time.monotonic() - self._beat_at
        found = [
            f"the journal loop has not come round for {silent:.0f} s" if silent > HANGS_AFTER else "",
            f"journal: {self._journal.trouble}" if self._journal.trouble else "",
            f"state: {self._follower.trouble}" if self._follower.trouble else "",
        ]
        if self._index.trouble:
            found.append(f"pods: {self._index.trouble}")
        elif not self._index.ready():
            found.append("pods: they are not listed yet")
        if self._poster.progress.trouble:
            found.append(f"events: {self._poster.progress.trouble}")
        return [text for text in found if text]

    def status(self) -> str:
        """One line for ``systemctl status``."""
        follower, progress = self._follower, self._poster.progress
        parts = [f"{sum(follower.intake.drops.values())} drops counted", f"{progress.unposted} Events to write"]
        parts += self._uncounted()
        if not self._index.ready():
            parts.append(f"{progress.unattributed} flows wait for the list of pods")
        if self.lag > LAG_SHOWN:
            parts.append(f"{self.lag:.0f} s behind the journal")
        troubles = [self._journal.trouble, follower.trouble, progress.trouble, self._index.trouble]
        if self.all_netns:
            troubles.append("nf_log_all_netns=1: log lines can come from any namespace")
        troubles += [self.token_trouble, self.ulogd.trouble]
        return "; ".join([", ".join(parts), *filter(None, troubles)]).replace("\n", " ")

    def summary(self) -> str:
        """One line at the end of a run that ends with the journal."""
        drops = sum(self._follower.intake.drops.values())
        return ", ".join([f"{self._journal.counts.scanned} kernel lines read: {drops} drops", *self._uncounted()])

    def _uncounted(self) -> Iterator[str]:
        """What is left out, and lines with a wanted prefix that are not counted, and why not, of the latest."""
        intake = self._follower.intake
        for what, reasons in (
            ("left out", intake.ignored),
            ("without an Event by choice", self._poster.progress.muted),
        ):
            if reasons:
                named = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
                yield f"{sum(reasons.values())} {what} ({named})"
        untrusted = self._journal.counts.untrusted + intake.untrusted
        counts = self._journal.counts
        if counts.suppressed:
            yield f"{counts.suppressed} lines of ulogd left out by journald"
        if counts.overruns:
            yield f"packets lost by ulogd ({counts.overruns} times)"
        for count, what, why in (
            (intake.unparsed, "not understood", intake.unparsed_why),
            (untrusted, "not trusted", intake.untrusted_why),
        ):
            if count:
                yield f"{count} {'line' if count == 1 else 'lines'} {what}" + (f" ({why})" if why else "")
