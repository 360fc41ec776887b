"""The journal loop: entries → packet drops → flows, committed together with the position they were read up to."""

from __future__ import annotations

import json
import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from operator import itemgetter
from typing import Protocol

from kiptail.clock.own import OwnClock
from kiptail.errors import StoreUnavailableError
from kiptail.flows.flow import Flow, flow_key
from kiptail.flows.known_lines import KnownLine
from kiptail.flows.ledger import Changes, Ledger
from kiptail.flows.second import Drops
from kiptail.flows.trail import SECOND_US
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.netfilter.parser import Unparsed
from kiptail.netfilter.prefixes import Prefixes, Verdict, to_json_dict
from kiptail.netfilter.protocols import protocol_label
from kiptail.netfilter.reading import Untrusted, read
from kiptail.pods.ownership import Hands
from kiptail.text import one_line

__all__ = ["Follower", "Intake", "JournalReader", "Ledgerbook", "Step"]

log = logging.getLogger(__name__)
drop_log = logging.getLogger("kiptail.drops")

#: Wanted lines a batch: small enough that signals and the watchdog are served, large enough to be cheap.
BATCH = 8_000
#: Fewer lines of one second are not worth counting together.
MANY = 8
#: Counts of flows that are known already are committed so often at most, in seconds.
COUNT_INTERVAL = 1.0
#: The position alone is committed so often, in seconds.
POSITION_INTERVAL = 30.0
#: While the state cannot be written, it is tried so often, in seconds …
RETRY_INTERVAL = 1.0
#: … and the journal is read on by at most so many drops.
MAX_UNCOMMITTED = 10_000
#: That a node has too many new addresses is said so often at most, in seconds.
DENIED_INTERVAL = 600.0


class JournalReader(Protocol):
    """What is asked of the journal."""

    def read(self, limit: int) -> Batch[KnownLine]:
        """The next entries."""

    def position(self) -> Position | None:
        """How far it has been read."""


class Ledgerbook(Protocol):
    """Where the ledger is kept; raises :class:`StoreUnavailableError` when it cannot be just now."""

    def commit(self, changes: Changes, position: Position | None) -> None:
        """Store both, or neither."""


@dataclass(slots=True)
class Intake:
    """What became of the lines with a wanted prefix, for metrics; written by the journal loop only."""

    #: By verdict and the metrics' name for the protocol.
    drops: dict[tuple[str, str], int] = field(default_factory=dict)
    #: The prefix was wanted, the rest could not be read; why not, of the latest.
    unparsed: int = 0
    unparsed_why: str = ""
    #: It was in a line of the kernel's that its packet logging did not write; likewise.
    untrusted: int = 0
    untrusted_why: str = ""
    #: Too old when read.
    expired: int = 0


class Step(Enum):
    """What a step left to do."""

    MORE = "there is more to read"
    AT_END = "everything is read"
    STALLED = "reading waits for the state to be written"


class Follower:
    """Reads, counts and commits."""

    def __init__(
        self,
        *,
        journal: JournalReader,
        prefixes: Prefixes,
        ledger: Ledger,
        book: Ledgerbook,
        offer: Callable[[Iterable[Flow]], None],
        keep_position: bool,
        expire_after: float | None,
        log_drops: bool = False,
        clock: Callable[[], float] = time.monotonic,
        own_clock: OwnClock | None = None,
    ) -> None:
        """``offer`` gets copies of the flows once they are committed. ``expire_after`` is in seconds.

        ``own_clock`` is what the journal's times are told by.
        """
        self._journal, self._prefixes, self._ledger, self._book = journal, prefixes, ledger, book
        self._offer, self._keep_position, self._log_drops = offer, keep_position, log_drops
        self._expire_after = expire_after
        self._clock, self._own_clock = clock, own_clock or OwnClock()
        self._commit_at = self._position_at = self._denied_at = clock()
        self._uncommitted = 0
        self._committed_position: Position | None = None
        #: The first flow that was not committed yet, and how many sides of drops had been denied till then.
        self._next_flow_id = ledger.changes().next_flow_id
        self._denied = 0
        self.intake = Intake()
        #: Why the state cannot be written at present, or "".
        self.trouble = ""

    def step(self) -> Step:
        """Read one batch and commit what is due."""
        step = Step.STALLED
        if self._uncommitted < MAX_UNCOMMITTED:
            batch = self._journal.read(BATCH)
            step = Step.AT_END if batch.at_end else Step.MORE
            horizon_us = 0
            if self._expire_after is not None:
                horizon_us = self._own_clock.now_us() - round(self._expire_after * 1e6)
            self._count_all(batch.lines, batch.times_us, horizon_us)
        now = self._clock()
        at_once = not self.trouble and (self._ledger.opened or self._uncommitted >= MAX_UNCOMMITTED)
        if at_once or (now >= self._commit_at and (self._uncommitted or now >= self._position_at)):
            self.commit()
        return step

    def hand_over(self, hands: Mapping[str, Hands]) -> bool:
        """As :meth:`Ledger.hand_over`: addresses changed hands at these times; False when that cannot be stored now."""
        self._ledger.hand_over(hands)
        return not self._ledger.opened or self.commit()

    def settle(self, settled_us: int, *, blind: bool) -> None:
        """No change of hands before this time will turn up any more; ``blind``: nor does any at present."""
        self._ledger.blind = blind
        self._ledger.settle(settled_us)

    def commit(self) -> bool:
        """Store flows and position, then offer the flows for delivery; False when the state cannot be written."""
        now = self._clock()
        changes = self._ledger.changes()
        position = self._journal.position() if self._keep_position else None
        try:
            if changes.flows or position != self._committed_position:
                self._book.commit(changes, position)
        except StoreUnavailableError as error:
            self._commit_at = now + RETRY_INTERVAL
            if not self.trouble:
                log.error("%s; nothing is sent until it can be, trying every second", error)
            self.trouble = str(error)
            return False
        if self.trouble:
            log.info("the state can be written again")
            self.trouble = ""
        self._ledger.committed()
        self._committed_position = position
        self._uncommitted = 0
        self._commit_at = now + COUNT_INTERVAL
        self._position_at = now + POSITION_INTERVAL
        if changes.flows:
            self._offer([flow.copy() for flow in changes.flows])
        self._announce(changes, now)
        return True

    def _announce(self, changes: Changes, now: float) -> None:
        """Say what is told together from now on, or not at all."""
        for flow in changes.flows:
            if flow.spread is not None and flow.id >= self._next_flow_id:
                address, does = (flow.key.src, "sends") if "src" in flow.sides else (flow.key.dst, "receives")
                log.info("%s %s more flows than its budget allows: further ones are told in one Event", address, does)
        self._next_flow_id = changes.next_flow_id
        if self._ledger.denied > self._denied and now >= self._denied_at:
            limits, sender = self._ledger.limits, self._ledger.spender
            if sender:
                log.warning(
                    "%s sends %d flows that are dropped: at others' ends, no more are told; see --flows-per-address",
                    sender,
                    limits.flows_per_sender,
                )
            else:
                log.warning(
                    "packets of %d new addresses or more were dropped within one window: those of further addresses"
                    " are told at their other end only; see --new-addresses",
                    limits.new_addresses,
                )
            self._ledger.spender = ""
            self._denied_at = now + DENIED_INTERVAL
        self._denied = self._ledger.denied

    def _count_all(self, lines: Sequence[KnownLine | str], times_us: Sequence[int], horizon_us: int) -> None:
        if not times_us or min(times_us) < horizon_us:
            self._count_each(lines, times_us, horizon_us)
            return
        # Second by second: the ledger remembers how many drops there were in each.
        begin = 0
        for end in _ends_of_seconds(times_us):
            part, times = lines[begin:end], times_us[begin:end]
            if end - begin < MANY:
                self._count_each(part, times, horizon_us)
            else:
                self._count_together(part, times, horizon_us)
            begin = end

    def _count_each(self, lines: Sequence[KnownLine | str], times_us: Sequence[int], horizon_us: int) -> None:
        for line, time_us in zip(lines, times_us, strict=True):
            if isinstance(line, str):
                self._count(line, time_us, horizon_us)
            else:
                self._count_known(line, time_us, horizon_us)

    def _count_together(self, lines: Sequence[KnownLine | str], times_us: Sequence[int], horizon_us: int) -> None:
        """Count a second's lines, most by those that differ: 0.3 µs a drop instead of 0.6, or 5 where it is folded."""
        counts = Counter(lines)
        known = [line for line in counts if isinstance(line, KnownLine)]
        told = [line for line in known if line.told]
        # What the latest time is by then: processors may write their lines a little out of order.
        in_order = times_us == sorted(times_us)
        if not in_order and len(told) < len(counts):
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
        drops = [Drops(line.key, counts[line], first_us[line], last_us[line], seen_us[line]) for line in told]
        second = self._ledger.together(drops, alone=len(known) == len(counts))
        others = second.others
        if len(known) < len(counts) or others:
            apart = {line for line in counts if isinstance(line, str) or (line.told and line.key in others)}
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
        kinds: Counter[tuple[str, str]] = Counter()
        for line in known:
            kinds[line.kind] += counts[line]
        for kind, number in kinds.items():
            self._seen(kind, number)
        self._uncommitted += second.number()

    def _count_known(self, line: KnownLine, time_us: int, horizon_us: int) -> None:
        if time_us < horizon_us:
            self._expired()
            return
        self._seen(line.kind)
        if line.told:
            self._ledger.add(line.key, time_us)
            self._uncommitted += 1

    def _count(self, line: str, time_us: int, horizon_us: int) -> None:
        logged = read(line, self._prefixes)
        if logged is None:
            return
        if isinstance(logged, Untrusted):
            self.intake.untrusted += 1
            self.intake.untrusted_why = logged.reason
            log.debug("not trusted (%s): %s", logged.reason, one_line(line))
            return
        rule, drop = logged
        if time_us < horizon_us:
            self._expired()
            return
        if isinstance(drop, Unparsed):
            self.intake.unparsed += 1
            self.intake.unparsed_why = drop.reason
            log.debug("not understood (%s): %s", drop.reason, one_line(line))
            return
        self._seen((rule.verdict.value, protocol_label(drop.protocol)))
        if self._log_drops:
            drop_log.info("%s", json.dumps({"time_us": self._own_clock.wall_us(time_us), **to_json_dict(drop, rule)}))
        if rule.verdict is not Verdict.LOG:
            self._ledger.add(flow_key(drop, rule.text, rule.verdict.value), time_us)
            self._uncommitted += 1

    def _seen(self, kind: tuple[str, str], count: int = 1) -> None:
        self.intake.drops[kind] = self.intake.drops.get(kind, 0) + count

    def _expired(self) -> None:
        self.intake.expired += 1
        self._uncommitted += 1  # decided once: a position behind it is committed soon


def _ends_of_seconds(times_us: Sequence[int]) -> Iterator[int]:
    """Where, among these, drops of another second begin; and their end."""
    if times_us == sorted(times_us):
        end = 0
        while end < len(times_us):
            end = bisect_left(times_us, (times_us[end] // SECOND_US + 1) * SECOND_US, end)
            yield end
    else:
        seconds = [time_us // SECOND_US for time_us in times_us]
        yield from (at for at in range(1, len(seconds)) if seconds[at] != seconds[at - 1])
        yield len(seconds)
