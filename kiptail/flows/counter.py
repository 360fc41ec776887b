"""Lines of a batch → drops in the ledger: one by one, or a second's together. The hot path."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter

from kiptail.clock.own import OwnClock
from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import KnownLine, Line, UnknownLine
from kiptail.flows.ledger import Ledger
from kiptail.flows.left_out import LeaveOut, counted_as, nothing_left_out
from kiptail.flows.second import Drops
from kiptail.flows.trail import SECOND_US
from kiptail.netfilter.parser import Unparsed
from kiptail.netfilter.prefixes import Prefixes
from kiptail.netfilter.protocols import protocol_label
from kiptail.netfilter.reading import Logged, Untrusted, read, to_json_dict
from kiptail.text import one_line

__all__ = ["Intake", "LineCounter"]

log = logging.getLogger(__name__)
drop_log = logging.getLogger("kiptail.drops")

#: Policies and verdicts that are counted apart from each other, and what the others are called.
MOST_POLICIES, OTHER = 500, "other"

#: Fewer lines of one second are not worth counting together.
MANY = 8


@dataclass(slots=True)
class Intake:
    """What became of the lines with a wanted prefix, for metrics; written by the journal loop only."""

    #: By verdict and the metrics' name for the protocol.
    drops: dict[tuple[str, str], int] = field(default_factory=dict)
    #: By the policy that the line names and verdict; by :data:`OTHER` beyond :data:`MOST_POLICIES`.
    policies: dict[tuple[str, str], int] = field(default_factory=dict)
    #: The prefix was wanted, the rest could not be read; why not, of the latest.
    unparsed: int = 0
    unparsed_why: str = ""
    #: It was in a line of the kernel's that its packet logging did not write; likewise.
    untrusted: int = 0
    untrusted_why: str = ""
    #: Too old when read.
    expired: int = 0
    #: Left out by filters, and counted nowhere else, by their reasons.
    ignored: dict[str, int] = field(default_factory=dict)


class LineCounter:
    """Counts lines in the ledger, and what became of them."""

    def __init__(
        self,
        prefixes: Prefixes,
        ledger: Ledger,
        own_clock: OwnClock,
        *,
        expire_after: float | None,
        log_drops: bool = False,
        joining: Joining | None = None,
        leave_out: LeaveOut = nothing_left_out,
    ) -> None:
        """``expire_after``: drops that are older when they are read do not count, in seconds.

        ``joining``: what joins paired lines, where there are any. ``leave_out``: what filters say of a line; those that
        are known were asked about.
        """
        self._prefixes = prefixes
        self._ledger = ledger
        self._own_clock = own_clock
        self._expire_after = expire_after
        self._log_drops = log_drops
        self._joining = joining
        self._leave_out = leave_out
        self.intake = Intake()
        #: Lines that were decided on since the latest commit, by which this is set to 0.
        self.uncommitted = 0

    def count(self, lines: Sequence[Line | str], times_us: Sequence[int]) -> None:
        """Count the lines of a batch; ``times_us`` is when each was written."""
        if self._joining is not None:
            lines = self._joining.joined(lines, times_us)
        horizon_us = 0
        if self._expire_after is not None:
            horizon_us = self._own_clock.now_us() - round(self._expire_after * 1e6)
        if not times_us or min(times_us) < horizon_us:
            self._count_each(lines, times_us, horizon_us)
            return
        # Second by second: the ledger remembers how many drops there were in each.
        begin = 0
        for stop in _stops_of_seconds(times_us):
            part, times = lines[begin:stop], times_us[begin:stop]
            if stop - begin < MANY:
                self._count_each(part, times, horizon_us)
            else:
                self._count_together(part, times, horizon_us)
            begin = stop

    def _count_each(self, lines: Sequence[Line | str], times_us: Sequence[int], horizon_us: int) -> None:
        for line, time_us in zip(lines, times_us, strict=True):
            if isinstance(line, KnownLine):
                self._count_known(line, time_us, horizon_us)
            elif isinstance(line, str):
                self._count_text(line, time_us, horizon_us, read(line, self._prefixes))
            elif isinstance(line, UnknownLine):
                self._count_text(line.text, time_us, horizon_us, line.read())

    def _count_together(self, lines: Sequence[Line | str], times_us: Sequence[int], horizon_us: int) -> None:
        """Count a second's lines, most by those that differ: 0.3 µs a drop instead of 0.6, or 5 where it is folded."""
        counts = Counter(lines)
        known = [line for line in counts if isinstance(line, KnownLine)]
        counted = [line for line in known if line.counted]
        # What the latest time is by then: processors may write their lines a little out of order.
        in_order = times_us == sorted(times_us)
        if not in_order and len(counted) < len(counts):
            self._count_each(lines, times_us, horizon_us)
            return
        marks_us, watermark_us = times_us, self._ledger.watermark_us
        if not in_order or times_us[0] < watermark_us:
            marks_us = list(accumulate(times_us, max, initial=watermark_us))[1:]
        seen_us = dict(zip(lines, marks_us, strict=True))
        timed = list(zip(lines, times_us, strict=True))
        if not in_order:
            timed.sort(key=itemgetter(1))
        last_us, first_us = dict(timed), dict(reversed(timed))
        drops = [Drops(line.key, counts[line], first_us[line], last_us[line], seen_us[line]) for line in counted]
        second = self._ledger.together(drops, alone=len(known) == len(counts))
        others = second.others
        if len(known) < len(counts) or others:
            apart = {
                line for line in counts if not isinstance(line, KnownLine) or (line.counted and line.key in others)
            }
            alone = [at for at, line in enumerate(lines) if line in apart]
            if not self._ledger.room(3 * len(alone)):
                self._count_each(lines, times_us, horizon_us)
                return
            for at in alone:
                if not in_order:
                    self._ledger.reach(marks_us[at])
                self._count_each((lines[at],), (times_us[at],), horizon_us)
            known = [line for line in known if line not in apart]
        self._ledger.add_together(second)
        kinds: Counter[tuple[str, str, str]] = Counter()
        for line in known:
            if line.ignored:
                self._ignored(line.ignored, counts[line])
                continue
            kinds[line.kind] += counts[line]
            if line.counted:
                self.uncommitted += counts[line]
        for kind, number in kinds.items():
            self._seen(kind, number)

    def _count_known(self, line: KnownLine, time_us: int, horizon_us: int) -> None:
        if time_us < horizon_us:
            self._expired()
            return
        if line.ignored:
            self._ignored(line.ignored)
            return
        self._seen(line.kind)
        if line.counted:
            self._ledger.add(line.key, time_us)
            self.uncommitted += 1

    def _count_text(self, line: str, time_us: int, horizon_us: int, logged: Logged | Untrusted | None) -> None:
        if logged is None:
            return
        if isinstance(logged, Untrusted):
            self.intake.untrusted += 1
            self.intake.untrusted_why = logged.reason
            log.debug("not trusted (%s): %s", logged.reason, one_line(line))
            return
        prefix, drop = logged
        if time_us < horizon_us:
            self._expired()
            return
        if isinstance(drop, Unparsed):
            self.intake.unparsed += 1
            self.intake.unparsed_why = drop.reason
            log.debug("not understood (%s): %s", drop.reason, one_line(line))
            return
        key, ignored = counted_as(drop, prefix, self._leave_out)
        if ignored:
            self._ignored(ignored)
            return
        self._seen((prefix.verdict.value, protocol_label(drop.protocol), prefix.policy))
        if self._log_drops:
            drop_log.info("%s", json.dumps({"time_us": self._own_clock.wall_us(time_us), **to_json_dict(drop, prefix)}))
        if prefix.verdict.is_loss:
            self._ledger.add(key, time_us)
            self.uncommitted += 1

    def _seen(self, kind: tuple[str, str, str], count: int = 1) -> None:
        verdict, protocol, policy = kind
        drops, policies = self.intake.drops, self.intake.policies
        drops[verdict, protocol] = drops.get((verdict, protocol), 0) + count
        if policy:
            if (policy, verdict) not in policies and len(policies) >= MOST_POLICIES:
                policy = OTHER
            policies[policy, verdict] = policies.get((policy, verdict), 0) + count

    def _ignored(self, reason: str, count: int = 1) -> None:
        self.intake.ignored[reason] = self.intake.ignored.get(reason, 0) + count

    def _expired(self) -> None:
        self.intake.expired += 1
        self.uncommitted += 1  # decided once: a position behind it is committed soon


def _stops_of_seconds(times_us: Sequence[int]) -> Iterator[int]:
    """Where the drops of each second stop: where, among these, others begin, and behind the last."""
    if times_us == sorted(times_us):
        stop = 0
        while stop < len(times_us):
            stop = bisect_left(times_us, (times_us[stop] // SECOND_US + 1) * SECOND_US, stop)
            yield stop
    else:
        seconds = [time_us // SECOND_US for time_us in times_us]
        yield from (at for at in range(1, len(seconds)) if seconds[at] != seconds[at - 1])
        yield len(seconds)
