"""The journal loop: entries → packet drops → flows, committed together with the position they were read up to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Protocol

from kiptail.clock.own import OwnClock
from kiptail.clock.trouble import Trouble
from kiptail.errors import StoreUnavailableError
from kiptail.flows.counter import Intake, LineCounter
from kiptail.flows.flow import Flow
from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import Line
from kiptail.flows.ledger import Changes, Ledger
from kiptail.flows.left_out import LeaveOut, nothing_left_out
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.netfilter.prefixes import Prefixes
from kiptail.pods.ownership import Hands

__all__ = ["Follower", "JournalReader", "Ledgerbook", "Step"]

log = logging.getLogger(__name__)

#: Wanted lines a batch: small enough that signals and the watchdog are served, large enough to be cheap.
BATCH = 8_000
#: Counts of flows that are known already are committed so often at most, in seconds.
COUNT_INTERVAL = 1.0
#: The position alone is committed so often, in seconds.
POSITION_INTERVAL = 30.0
#: How often writing the state is tried while it cannot be written, in seconds.
RETRY_INTERVAL = 1.0
#: The most drops by which the journal is read on while the state cannot be written.
MAX_UNCOMMITTED = 10_000
#: That a node has too many new addresses is said so often at most, in seconds.
DENIED_INTERVAL = 600.0


class JournalReader(Protocol):
    """What is asked of the journal."""

    def read(self, limit: int) -> Batch[Line]:
        """The next entries."""

    def position(self) -> Position | None:
        """How far it has been read."""


class Ledgerbook(Protocol):
    """Where the ledger is kept; raises :class:`StoreUnavailableError` when it cannot be just now."""

    def commit(self, changes: Changes, position: Position | None) -> None:
        """Store both, or neither."""


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
        joining: Joining | None = None,
        leave_out: LeaveOut = nothing_left_out,
    ) -> None:
        """``offer`` gets copies of the flows once they are committed. ``expire_after`` is in seconds.

        ``own_clock`` is the clock that the journal's times are by. ``joining`` and ``leave_out`` as for
        :class:`LineCounter`.
        """
        self._journal = journal
        self._ledger = ledger
        self._book = book
        self._offer = offer
        self._keep_position = keep_position
        self._clock = clock
        self._counter = LineCounter(
            prefixes,
            ledger,
            own_clock or OwnClock(),
            expire_after=expire_after,
            log_drops=log_drops,
            joining=joining,
            leave_out=leave_out,
        )
        now = clock()
        self._announcer = _Announcer(ledger, now)
        self._commit_at = now
        self._position_at = now
        self._committed_position: Position | None = None
        self._trouble = Trouble()

    @property
    def trouble(self) -> str:
        """Why the state cannot be written at present, or ""."""
        return self._trouble.text

    @property
    def intake(self) -> Intake:
        """What became of the lines so far."""
        return self._counter.intake

    def step(self) -> Step:
        """Read one batch and commit what is due."""
        step = Step.STALLED
        counter = self._counter
        if counter.uncommitted < MAX_UNCOMMITTED:
            batch = self._journal.read(BATCH)
            step = Step.AT_END if batch.at_end else Step.MORE
            counter.count(batch.lines, batch.times_us)
        now = self._clock()
        at_once = not self.trouble and (self._ledger.opened or counter.uncommitted >= MAX_UNCOMMITTED)
        if at_once or (now >= self._commit_at and (counter.uncommitted or now >= self._position_at)):
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
            if self._trouble.begins(str(error)):
                log.error("%s; nothing is sent until it can be, trying every second", error)
            return False
        if self._trouble.ends():
            log.info("the state can be written again")
        self._ledger.committed()
        self._committed_position = position
        self._counter.uncommitted = 0
        self._commit_at = now + COUNT_INTERVAL
        self._position_at = now + POSITION_INTERVAL
        if changes.flows:
            self._offer([flow.copy() for flow in changes.flows])
        self._announcer.announce(changes, now)
        return True


class _Announcer:
    """Says which drops have no Event of their own, once for each flow or once in a while."""

    def __init__(self, ledger: Ledger, now: float) -> None:
        self._ledger = ledger
        self._denied_at = now
        #: The first flow that was not committed yet, and how many ends of drops had been denied till then.
        self._next_flow_id = ledger.changes().next_flow_id
        self._denied = 0

    def announce(self, changes: Changes, now: float) -> None:
        """Say which flows are reported together from now on, or not at all."""
        for flow in changes.flows:
            if flow.spread is not None and flow.id >= self._next_flow_id:
                address, does = (flow.key.src, "sends") if "src" in flow.ends else (flow.key.dst, "receives")
                log.info(
                    "%s %s more flows than its budget allows: further ones are counted in one Event", address, does
                )
        self._next_flow_id = changes.next_flow_id
        if self._ledger.denied > self._denied and now >= self._denied_at:
            limits, sender = self._ledger.limits, self._ledger.spender
            if sender:
                log.warning(
                    "%s sends %d flows that are dropped: at others' ends, no more are posted; see --flows-per-address",
                    sender,
                    limits.flows_per_sender,
                )
            else:
                log.warning(
                    "packets of %d new addresses or more were dropped within one window: those of further addresses"
                    " are reported at their other end only; see --new-addresses",
                    limits.new_addresses,
                )
            self._ledger.spender = ""
            self._denied_at = now + DENIED_INTERVAL
        self._denied = self._ledger.denied
