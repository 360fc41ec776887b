"""Counting drops in flows, which open and end by it (pure).

The journal decides everything here: a flow opens, grows and ends by the times of its drops and by their order in
the journal, so that reading the same entries again leads to the same flows. The wall clock is never read.

Flows are cut where an address changes hands, by the drops' own times as well: those that come are counted in the flow
of their time, and those that were counted before it was known are moved there (:mod:`kiptail.flows.cuts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kiptail.flows.budget import Budgets, BudgetState, Limits
from kiptail.flows.cuts import Cuts
from kiptail.flows.flow import ENDS, Flow, FlowKey, Spread, folded_key
from kiptail.flows.hands import LATE_US, ChangesOfHands
from kiptail.flows.register import Register, Slot
from kiptail.flows.second import Drops, Second
from kiptail.flows.trail import SECOND_US, Trail
from kiptail.pods.ownership import Hands

__all__ = ["Changes", "Ledger"]

#: A flow ends when none of its packets was dropped for this long, in µs of event time.
IDLE_US = 30 * 60 * 1_000_000

#: How often flows that are over are looked for, in µs of event time: by the drops' times and not by a clock, because it
#: matters who still has a flow when budgets are decided.
END_INTERVAL_US = 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be committed: flows whose row is new or differs (an ended one has ``ended`` set), by their ids."""

    flows: tuple[Flow, ...]
    watermark_us: int
    #: The id of the next flow; ids are never used twice.
    next_flow_id: int
    #: The greatest :attr:`Flow.stamp` so far.
    last_stamp: int
    budget: BudgetState


# More than 15 methods and 12 attributes: seven methods pass on to the register, the cuts or the budgets, so that
# whoever has a ledger need not know these. Four attributes are counters for metrics. Three are what the register
# and the hands keep: counting a drop takes less than a µs, and looking them up there each time would be felt.
class Ledger:
    """The open flows of this node."""

    def __init__(
        self,
        flows: Iterable[Flow] = (),
        *,
        next_id: int = 1,
        watermark_us: int = 0,
        last_stamp: int = 0,
        budget: BudgetState | None = None,
        limits: Limits | None = None,
        idle_us: int = IDLE_US,
    ) -> None:
        self.limits = limits or Limits()
        self._budgets = Budgets(self.limits, budget or BudgetState())
        #: When addresses change hands: what drops from before may still be read of, and what is to come.
        self._hands = ChangesOfHands()
        self._register = Register(self._budgets, next_id=next_id, last_stamp=last_stamp)
        self._cuts = Cuts(self._register, self._budgets, self._hands)
        # What is looked at with each drop; the same objects for good.
        self._open = self._register.open
        self._changed = self._register.changed
        self._changing = self._hands.times
        #: Nobody can say at present which addresses change hands: that is known later, and then all is cut.
        self.blind = False
        self._watermark_us = watermark_us
        self._end_at_us = _next_end(watermark_us)
        self._idle_us = idle_us
        #: Drops that a folded flow counted, by the end it reports.
        self.folded: Counter[str] = Counter()
        #: Ends of drops that are reported to nobody: their address came when there were too many, or their sender has
        #: too many flows.
        self.denied = 0
        #: The latest sender of which that was so, or "".
        self.spender = ""
        #: Drops of which both ends were denied.
        self.untold = 0
        self._register.restore(flows)

    def __len__(self) -> int:
        return len(self._register)

    @property
    def watermark_us(self) -> int:
        """The latest time of all drops so far."""
        return self._watermark_us

    @property
    def opened(self) -> bool:
        """Flows were opened, or cut, since the last commit: they are to be committed at once."""
        return self._register.opened

    def add(self, key: FlowKey, time_us: int) -> Flow | None:
        """Count one drop of ``key`` at ``time_us``; returns its own flow, None when it has none."""
        # The end of a flow is reckoned by the watermark, not by the drop's own time: a clock that is set back
        # then neither ends flows nor lets every further drop open a new one.
        watermark_us = self._watermark_us
        if time_us > watermark_us:
            self._watermark_us = watermark_us = time_us
            if time_us >= self._end_at_us:
                self._end_idle()
        flow = self._open.get(key)
        slot: Slot = key
        if flow is None or self._changing or watermark_us - flow.seen_us > self._idle_us:
            slot, flow = self._find(key, time_us)  # with the common case left out, counting is a fifth faster
        if flow is not None:
            # From here, what Flow.add() does: the call was a sixth of counting.
            if time_us > flow.last_us:
                if time_us >= flow.trail.edge_us:
                    flow.trail.turn(time_us, flow.count, blind=self.blind)
                flow.last_us = time_us
            else:
                if time_us < flow.trail.edge_us - SECOND_US:
                    flow.trail.count_late(time_us, 1)
                flow.first_us = min(flow.first_us, time_us)
            flow.count += 1
            flow.seen_us = watermark_us
            self._changed[flow.id] = flow
            if flow.ends == ENDS:
                return flow
            # Whoever has become known since the flow opened gets a part in what is folded from now on.
            own: tuple[str, ...] = flow.ends
            others = (end for end in ENDS if end not in own)
            reported = self._register.reported
            folded = tuple(end for end in others if self._budgets.knows(key.address(end), reported, self._watermark_us))
        else:
            own, folded = self._budgets.admit(key, self._register.reported, self._watermark_us, time_us)
            if own:
                flow = self._opened(slot, key, time_us, own)
        counted = sum([self._fold(key, end, time_us) for end in folded])
        self.denied += len(ENDS) - len(own) - counted
        self.untold += not own and not counted
        return flow

    def together(self, drops: Sequence[Drops], *, alone: bool) -> Second:
        """Which drops of one second can be counted in any order, after all others of it.

        ``alone``: there are no others in that second, but perhaps among these.

        It is the same as :meth:`add` in the order of their times where that order decides nothing: all flows that they
        are counted in are open and do not end in between, no address changed hands, and the second is the newest of
        each flow or later. The others are to be added one by one, and then these by :meth:`add_together`.
        """
        second = Second(self._open, self._budgets, self._hands, self._idle_us, drops)
        if second.latest_us >= self._end_at_us:
            second.leave_all()
        elif second.others or not alone:
            # One of those may open the folded flow that these are counted in from then on.
            second.leave_denied({key.dst for key in second.others} if alone else None)
        return second

    def add_together(self, second: Second) -> None:
        """Count what :meth:`together` found."""
        for flow, drops in second.own():
            self._grow(flow, drops)
        for way in second.folded():
            total = way.total
            for flow in way.many:
                self.folded[flow.ends[0]] += total.number
                if flow.spread is not None:
                    flow.spread.add(total.key, flow.ends[0])
                    flow.spread.add_ports(drops.key.port for drops in way.drops)
                self._grow(flow, total)
            if way.denied:
                self.denied += total.number
                self.spender = total.key.src
        # The latest of all, for the others are added by now.
        self._watermark_us = max(self._watermark_us, second.latest_us)

    def _grow(self, flow: Flow, drops: Drops) -> None:
        """Count drops of one second, which is the flow's newest or later."""
        _, number, first_us, last_us, seen_us = drops
        if first_us >= flow.trail.edge_us:
            flow.trail.turn(first_us, flow.count, blind=self.blind)
        flow.count += number
        flow.first_us, flow.last_us = min(flow.first_us, first_us), max(flow.last_us, last_us)
        flow.seen_us = max(flow.seen_us, seen_us)
        self._changed[flow.id] = flow

    def reach(self, time_us: int) -> None:
        """A drop of this time comes before the next one that is added, and is added later."""
        if time_us > self._watermark_us:
            self._watermark_us = time_us
            if time_us >= self._end_at_us:
                self._end_idle()

    def room(self, flows: int) -> bool:
        """That many more flows can be opened before any has to end for them."""
        return len(self) + flows <= self.limits.open_flows

    def settle(self, settled_us: int) -> None:
        """No change of hands before this time will turn up any more."""
        self._register.settle(settled_us)

    def hand_over(self, hands: Mapping[str, Hands]) -> None:
        """Take these for the times at which these addresses change hands, in place of what was known of them.

        Drops that were counted already are moved to flows of their own where need be.
        """
        self._cuts.hand_over(hands, self._watermark_us)

    def end_all(self) -> None:
        """Nothing that is added from now on belongs to the flows there are."""
        for flow in self._register.open_flows():
            self._register.end(flow)

    def changes(self) -> Changes:
        """What is not committed yet; :meth:`committed` follows when it is, together with the journal's position."""
        register = self._register
        return Changes(
            register.changes(), self._watermark_us, register.next_id, register.last_stamp, self._budgets.changes()
        )

    def committed(self) -> None:
        """The latest :meth:`changes` are stored."""
        self._register.committed()
        self._budgets.committed()

    def _find(self, key: FlowKey, time_us: int) -> tuple[Slot, Flow | None]:
        """The open flow that a drop at ``time_us`` belongs to, if there is one, and where it is kept."""
        flow = self._open.get(key)
        if flow is not None and self._watermark_us - flow.seen_us > self._idle_us:
            self._register.end(flow)
            return key, None
        if flow is not None and self._changing and self._hands.apart(key, flow.opened_us, time_us):
            if time_us > flow.opened_us:
                self._register.end(flow)
                return key, None
            slot = (key, self._hands.last_before(key, time_us))
            return slot, self._register.late.get(slot)
        return key, flow

    def _fold(self, key: FlowKey, end: str, time_us: int) -> bool:
        """Count a drop in the folded flow of its address and direction.

        False where there is none, and its sender has caused so many Events at others that this is not one more.
        """
        many = folded_key(end, key)
        slot, flow = self._find(many, time_us)
        if flow is None and end == "dst" and self._budgets.spent(key.src, time_us):
            self.spender = key.src
            return False
        self.folded[end] += 1
        if flow is None:
            flow = self._opened(slot, many, time_us, (end,), Spread())
        else:
            flow.add(time_us, self._watermark_us, blind=self.blind)
            self._changed[flow.id] = flow
        if flow.spread is not None:
            flow.spread.add(key, end)
        return True

    def _opened(
        self, slot: Slot, key: FlowKey, time_us: int, ends: tuple[str, ...], spread: Spread | None = None
    ) -> Flow:
        register, trail = self._register, Trail.begun(time_us)
        flow_id, stamp = register.next_flow(self._watermark_us)
        flow = Flow(
            flow_id, key, time_us, time_us, time_us, self._watermark_us, 1, False, ends, spread, stamp, trail
        )  # fmt: skip
        register.add(slot, flow)
        if len(register) > self.limits.open_flows:
            # A tenth at once: the sort is then paid once in thousands of new flows.
            register.end_quietest(max(1, self.limits.open_flows // 10))
        return flow

    def _end_idle(self) -> None:
        """End the flows whose time is over, and forget what no later drop can be about."""
        self._end_at_us = _next_end(self._watermark_us)
        for flow in self._register.open_flows():
            if self._watermark_us - flow.seen_us > self._idle_us:
                self._register.end(flow)
        self._hands.forget(self._watermark_us - LATE_US)
        self._budgets.forget(self._watermark_us)


def _next_end(watermark_us: int) -> int:
    return (watermark_us // END_INTERVAL_US + 1) * END_INTERVAL_US
