"""What a running kiptail tells of itself: the STATUS line for systemd and the values for metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from kiptail.daemon.machine import logs_all_namespaces
from kiptail.daemon.observer import Reading
from kiptail.events.poster import Poster
from kiptail.events.tally import Tally
from kiptail.flows.flow import ENDS
from kiptail.flows.intake import Follower
from kiptail.flows.known_lines import KnownLine
from kiptail.flows.ledger import Ledger
from kiptail.journal.follow import Journal
from kiptail.pods.stats import IndexStats

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

    def stats(self) -> IndexStats:
        """How large and how old it is, and what it cost."""


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
        journal: Journal[KnownLine],
        follower: Follower,
        ledger: Ledger,
        poster: Poster,
        index: Index,
        tally: Tally,
        damaged: bool,
    ) -> None:
        """``damaged``: a state file was set aside at the start."""
        self._tally = tally
        self._beat_at = time.monotonic()
        self._journal, self._follower, self._ledger = journal, follower, ledger
        self._poster, self._index, self._damaged = poster, index, damaged
        self._all_netns = logs_all_namespaces()
        #: How far reading is behind the journal, in seconds.
        self.lag = 0.0
        self._late = self._warned = False
        #: Renewal of kiptail's own token, where there is one.
        self.renewal: Troubled | None = None

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
        if self._all_netns:
            troubles.append("nf_log_all_netns=1: log lines can come from any namespace")
        if self.renewal is not None:
            troubles.append(self.renewal.trouble)
        return "; ".join([", ".join(parts), *filter(None, troubles)]).replace("\n", " ")

    def summary(self) -> str:
        """One line at the end of a run that ends with the journal."""
        drops = sum(self._follower.intake.drops.values())
        return ", ".join([f"{self._journal.counts.scanned} kernel lines read: {drops} drops", *self._uncounted()])

    def _uncounted(self) -> Iterator[str]:
        """Lines with a wanted prefix that are not counted, and why not, of the latest."""
        intake = self._follower.intake
        untrusted = self._journal.counts.untrusted + intake.untrusted
        for count, what, why in (
            (intake.unparsed, "not understood", intake.unparsed_why),
            (untrusted, "not trusted", intake.untrusted_why),
        ):
            if count:
                yield f"{count} {'line' if count == 1 else 'lines'} {what}" + (f" ({why})" if why else "")

    def readings(self) -> Iterator[Reading]:
        """Everything that is counted, for a scrape."""
        counts, intake, progress = self._journal.counts, self._follower.intake, self._poster.progress
        ledger = self._ledger
        for outcome, value in (
            ("scanned", counts.scanned),
            ("wanted", counts.wanted),
            ("untrusted", counts.untrusted + intake.untrusted),
            ("unreadable", counts.unreadable),
            ("unparsed", intake.unparsed),
            ("expired", intake.expired),
        ):
            yield Reading("kiptail_journal_entries", "Kernel entries, by outcome.", value, {"outcome": outcome})
        for (verdict, protocol), value in list(intake.drops.items()):
            labels = {"verdict": verdict, "protocol": protocol}
            yield Reading("kiptail_drops", "Packets dropped, rejected or logged.", value, labels)
        for kind, value in self._tally.items():
            text = "Drops that a pod sent or was to receive, by its namespace and the peer's; each side by itself."
            yield Reading("kiptail_pod_drops", text, value, kind._asdict())
        for end in ENDS:
            text = "Drops that a folded Event counts, by the end that it is posted to."
            yield Reading("kiptail_drops_folded", text, ledger.folded[end], {"side": end})
        for name, text, value in (
            ("kiptail_missed_kernel_messages", "Kernel messages that journald missed.", counts.missed),
            ("kiptail_journal_gaps", "Times that unread entries had been vacuumed.", counts.lost),
            ("kiptail_journal_reopens", "Times that the journal was opened anew.", counts.reopened),
            (
                "kiptail_sides_denied",
                "Ends of drops without an Event, as the node had too many new addresses.",
                ledger.denied,
            ),
            ("kiptail_drops_untold", "Drops without an Event at either end for that reason.", ledger.untold),
            (
                "kiptail_drops_ambiguous",
                "Drops of either of several pods, for which none is blamed.",
                progress.ambiguous,
            ),
            (
                "kiptail_flows_reattributed",
                "Times that who is at the end of a flow was put right.",
                progress.reattributed,
            ),
            ("kiptail_state_damaged", "State files that were damaged and set aside.", self._damaged),
        ):
            yield Reading(name, text, value)
        for name, text, gauge in (
            ("kiptail_journal_lag_seconds", "How far reading is behind the journal.", self.lag),
            ("kiptail_events_untold", "Events that were never written.", progress.unposted),
            ("kiptail_flows_unplaced", "Flows whose ends are undecided.", progress.unattributed),
            ("kiptail_flows_open", "Flows that go on.", len(ledger)),
            (
                "kiptail_flows_ended_untold",
                "Flows that have ended and whose last counts are not posted yet.",
                progress.ended,
            ),
            ("kiptail_state_unavailable", "1 while the state cannot be written.", bool(self._follower.trouble)),
            ("kiptail_index_ready", "1 once the pods that are followed are known.", self._index.ready()),
            ("kiptail_token_unrenewable", "1 while kiptail's own token cannot be renewed.", self._unrenewable()),
            ("kiptail_nf_log_all_netns", "1: any namespace can log under any prefix.", self._all_netns),
        ):
            yield Reading(name, text, gauge, counter=False)
        yield from _index_readings(self._index.stats())

    def _unrenewable(self) -> bool:
        return self.renewal is not None and bool(self.renewal.trouble)


def _index_readings(stats: IndexStats) -> Iterator[Reading]:
    for how, pods in (("watch", stats.pods), ("look-up", stats.remote_pods)):
        yield Reading("kiptail_index_pods", "Pods that are known, by how.", pods, {"by": how}, counter=False)
    for name, text, gauge in (
        ("kiptail_index_age_seconds", "Since the API server last said anything about pods.", stats.age_s),
        ("kiptail_lookups_pending", "Addresses that wait for a look-up or a dual-stack list.", stats.pending),
    ):
        yield Reading(name, text, gauge, counter=False)
    for result in ("hit", "miss", "forbidden", "failed", "overflow"):
        value = stats.lookups.get(result, 0)
        yield Reading("kiptail_lookups", "Look-ups of pods by address, by result.", value, {"result": result})
    text = "Pods and lines of a watch that were not what they should be and were passed over."
    yield Reading("kiptail_index_refused", text, stats.refused)
    yield Reading("kiptail_sweeps", "Times that all pods were read for second addresses.", stats.dual_stack_lists)
    yield Reading("kiptail_sweep_pods", "Pods that were read for that.", stats.dual_stack_pods)
    yield Reading("kiptail_sweep_seconds", "Seconds that this took.", stats.dual_stack_s)
