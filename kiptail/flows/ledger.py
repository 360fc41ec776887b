"""Flows, their counts and their ends (pure).

The journal decides everything here: a flow opens, grows and ends by the times of its drops and by their order in
the journal, so that reading the same entries again leads to the same flows. The wall clock is never read.

Flows are cut where an address changes hands, by the drops' own times as well: those that come are counted in the flow
of their time, and those that were counted before it was known are moved there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kiptail.flows.budget import Budgets, BudgetState, Limits
from kiptail.flows.flow import SIDES, Flow, FlowKey, Spread, folded_key
from kiptail.flows.hands import ChangesOfHands
from kiptail.flows.second import Drops, Second
from kiptail.flows.trail import SECOND_US, Part, Trail
from kiptail.pods.ownership import Hands

__all__ = ["Changes", "Ledger"]

#: A flow ends when none of its packets was dropped for this long, in µs of event time.
IDLE_US = 30 * 60 * 1_000_000

#: So long, in µs of event time, drops from before a change of hands may still be read after it was seen.
LATE_US = 10 * 60 * 1_000_000

#: So many flows that have ended may still be cut.
MAX_PAST = 8_192

#: What is over is looked for once in so many µs of event time: by the drops' times and not by a clock, because it
#: matters who still has a flow when budgets are decided.
SWEEP_US = 60 * 1_000_000

#: Where a flow is kept: by its key, or, when its drops were read late, by the change of hands they were after, too.
Slot = FlowKey | tuple[FlowKey, int]


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
        self._open: dict[FlowKey, Flow] = {}
        #: Flows of drops that were read late, by the last change of hands before them.
        self._late: dict[tuple[FlowKey, int], Flow] = {}
        #: Flows that have ended and may still be cut.
        self._past: dict[int, Flow] = {}
        self._changed: dict[int, Flow] = {}
        #: How many open flows tell an address.
        self._told: Counter[str] = Counter()
        self._budgets = Budgets(self.limits, budget or BudgetState())
        #: When addresses change hands: what drops from before may still be read of, and what is to come.
        self._hands = ChangesOfHands()
        self._changing = self._hands.times
        #: Nobody can say at present which addresses change hands: that is told later, and then all is cut.
        self.blind = False
        self._next_id = next_id
        self._last_stamp = last_stamp
        self._watermark_us = watermark_us
        self._sweep_at_us = _next_sweep(watermark_us)
        self._idle_us = idle_us
        #: Flows were opened, or cut, since the last commit: they are to be committed at once.
        self.opened = False
        #: Drops that a folded flow counted, by the side it tells.
        self.folded: Counter[str] = Counter()
        #: Sides of drops that nobody is told of: their address came when there were too many, or their sender has
        #: too many flows.
        self.denied = 0
        #: The latest sender of which that was so, or "".
        self.spender = ""
        #: Drops of which both sides were denied.
        self.untold = 0
        for flow in sorted(flows, key=lambda f: f.opened_us):
            if flow.ended:
                self._past[flow.id] = flow
                continue
            older = self._open.get(flow.key)
            if older is not None:
                self._end(older)
            self._open[flow.key] = flow
            self._enter(flow)

    def __len__(self) -> int:
        return len(self._open) + len(self._late)

    @property
    def watermark_us(self) -> int:
        """The latest time of all drops so far."""
        return self._watermark_us

    def add(self, key: FlowKey, time_us: int) -> Flow | None:
        """Count one drop of ``key`` at ``time_us``; returns its own flow, None when it has none."""
        # The end of a flow is reckoned by the watermark, not by the drop's own time: a clock that is set back
        # then neither ends flows nor lets every further drop open a new one.
        watermark_us = self._watermark_us
        if time_us > watermark_us:
            self._watermark_us = watermark_us = time_us
            if time_us >= self._sweep_at_us:
                self._sweep()
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
            if flow.sides == SIDES:
                return flow
            # Whoever has become known since the flow opened gets a part in what is folded from now on.
            own: tuple[str, ...] = flow.sides
            others = (side for side in SIDES if side not in own)
            folded = tuple(
                side for side in others if self._budgets.knows(key.address(side), self._told, self._watermark_us)
            )
        else:
            own, folded = self._budgets.admit(key, self._told, self._watermark_us, time_us)
            if own:
                flow = self._opened(slot, key, time_us, own)
        counted = sum([self._fold(key, side, time_us) for side in folded])
        self.denied += len(SIDES) - len(own) - counted
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
        if second.latest_us >= self._sweep_at_us:
            second.leave_all()
        elif second.others or not alone:
            # One of those may open the folded flow that these are counted in from then on.
            second.leave_denied({key.dst for key in second.others} if alone else None)
        return second

    def add_together(self, second: Second) -> None:
        """Count what :meth:`together` found."""
        for flow, drops in second.own():
            self._grow(flow, drops)
            self._watermark_us = max(self._watermark_us, drops.last_us)
        for way in second.folded():
            total = way.total
            for flow in way.many:
                self.folded[flow.sides[0]] += total.number
                if flow.spread is not None:
                    flow.spread.add(total.key, flow.sides[0])
                    flow.spread.add_ports(drops.key.port for drops in way.drops)
                self._grow(flow, total)
            if way.denied:
                self.denied += total.number
                self.spender = total.key.src
            self._watermark_us = max(self._watermark_us, total.last_us)

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
            if time_us >= self._sweep_at_us:
                self._sweep()

    def room(self, flows: int) -> bool:
        """So many more flows may be opened before any has to end for them."""
        return len(self) + flows <= self.limits.open_flows

    def settle(self, settled_us: int) -> None:
        """No change of hands before this time will turn up any more."""
        for flow_id in [flow_id for flow_id, flow in self._past.items() if flow.last_us < settled_us]:
            del self._past[flow_id]

    def hand_over(self, hands: Mapping[str, Hands]) -> None:
        """Take these for the times at which these addresses change hands, in place of what was known of them.

        Drops that were counted already are moved to flows of their own where need be.
        """
        self._hands.replace(hands, after_us=self._watermark_us - LATE_US)
        for address, times in hands.items():
            self._budgets.hand_over(address, times.boundaries, self._watermark_us)
        touched = [flow for flow in self._all() if flow.key.src in hands or flow.key.dst in hands]
        for flow in touched:
            self._cut(flow)
        if touched:
            self._admit_again(hands)

    def end_all(self) -> None:
        """Nothing that is added from now on belongs to the flows there are."""
        for flow in self._flows():
            self._end(flow)

    def changes(self) -> Changes:
        """What is not committed yet; :meth:`committed` follows when it is, together with the journal's position."""
        return Changes(
            tuple(sorted(self._changed.values(), key=_id)),
            self._watermark_us,
            self._next_id,
            self._last_stamp,
            self._budgets.changes(),
        )

    def committed(self) -> None:
        """The latest :meth:`changes` are stored."""
        self._changed = {}
        self._budgets.committed()
        self.opened = False

    def _flows(self) -> list[Flow]:
        return [*self._open.values(), *self._late.values()]

    def _all(self) -> list[Flow]:
        """Those that may still be cut: open ones, and those that have ended lately."""
        return [*self._flows(), *self._past.values()]

    def _find(self, key: FlowKey, time_us: int) -> tuple[Slot, Flow | None]:
        """The open flow that a drop at ``time_us`` belongs to, if there is one, and where it is kept."""
        flow = self._open.get(key)
        if flow is not None and self._watermark_us - flow.seen_us > self._idle_us:
            self._end(flow)
            return key, None
        if flow is not None and self._changing and self._hands.apart(key, flow.opened_us, time_us):
            if time_us > flow.opened_us:
                self._end(flow)
                return key, None
            slot = (key, self._hands.last_before(key, time_us))
            return slot, self._late.get(slot)
        return key, flow

    # -- what was counted before it was known whose it is ---------------------------------------------------

    def _cut(self, flow: Flow) -> None:
        """Leave a flow with the first of its drops, up to a change of hands, and make others of the rest."""
        cuts = [at_us for at_us in self._hands.of(flow.key) if flow.first_us < at_us <= flow.last_us]
        if flow.mixed or not cuts:
            return
        whole, last_us, was_open = flow.trail, flow.last_us, not flow.ended
        first, *others = whole.parts(cuts, flow.count)
        if not others and not first.mixed:
            return
        self.opened = True
        if was_open:
            self._end(flow)
        flow.count, flow.trail, flow.mixed = first.drops, whole.of(first), first.mixed
        flow.last_us = max(flow.first_us, min(last_us, first.end_us - 1))
        # The drop that opened it may have been read before those that are left: its owner is asked for by this time.
        flow.opened_us = min(flow.opened_us, flow.last_us)
        self._changed[flow.id] = flow
        latest = flow
        for part in others:
            latest = self._part(flow, part, whole.of(part), last_us)
        if was_open and not latest.mixed and flow.key not in self._open:
            latest.ended = False
            del self._past[latest.id]
            self._open[latest.key] = latest
            self._enter(latest)

    def _part(self, flow: Flow, part: Part, trail: Trail, last_us: int) -> Flow:
        """Some drops of a flow as one of its own, which has ended."""
        first_us = max(flow.first_us, part.first_us or 0)
        new = Flow(
            self._next_id,
            flow.key,
            opened_us=first_us,
            first_us=first_us,
            last_us=max(first_us, min(last_us, part.end_us - 1)),
            seen_us=flow.seen_us,
            count=part.drops,
            ended=True,
            sides=flow.sides,
            # How many peers and ports these drops stand for, nobody knows.
            spread=Spread() if flow.spread is not None else None,
            stamp=self._next_stamp(),
            trail=trail,
            mixed=part.mixed,
        )
        self._next_id += 1
        self._changed[new.id] = self._past[new.id] = new
        return new

    def _admit_again(self, hands: Mapping[str, Hands]) -> None:
        """What was folded because the owner before had too many flows gets flows of its own after all."""
        folded: dict[FlowKey, list[Flow]] = {}
        flows = self._all()
        for flow in flows:
            if flow.spread is not None:
                folded.setdefault(flow.key, []).append(flow)
        for flow in flows:
            for side in SIDES if flow.spread is None and not flow.mixed else ():
                address = flow.key.address(side)
                if side in flow.sides or address not in hands:
                    continue
                begun_us = max((at_us for at_us in hands[address].changes if at_us <= self._watermark_us), default=0)
                many = next(
                    (
                        other
                        for other in folded.get(folded_key(side, flow.key), ())
                        if min(other.opened_us, flow.opened_us) >= begun_us and other.count >= flow.count
                    ),
                    None,
                )
                if many is not None and self._budgets.charge(flow.key, side, self._watermark_us, flow.opened_us):
                    self.opened = True
                    many.take_out(flow)
                    flow.sides = tuple(s for s in SIDES if s == side or s in flow.sides)
                    self._told[address] += not flow.ended
                    self._changed[many.id], self._changed[flow.id] = many, flow

    # -- flows that open and end ----------------------------------------------------------------------------

    def _fold(self, key: FlowKey, side: str, time_us: int) -> bool:
        """Count a drop in the folded flow of its address and direction.

        False where there is none, and its sender has caused so many Events at others that this is not one more.
        """
        many = folded_key(side, key)
        slot, flow = self._find(many, time_us)
        if flow is None and side == "dst" and self._budgets.spent(key.src, time_us):
            self.spender = key.src
            return False
        self.folded[side] += 1
        if flow is None:
            flow = self._opened(slot, many, time_us, (side,), Spread())
        else:
            flow.add(time_us, self._watermark_us, blind=self.blind)
            self._changed[flow.id] = flow
        if flow.spread is not None:
            flow.spread.add(key, side)
        return True

    def _opened(
        self, slot: Slot, key: FlowKey, time_us: int, sides: tuple[str, ...], spread: Spread | None = None
    ) -> Flow:
        trail = Trail.begun(time_us)
        flow = Flow(
            self._next_id, key, time_us, time_us, time_us, self._watermark_us, 1, False, sides, spread,
            self._next_stamp(), trail,
        )  # fmt: skip
        self._next_id += 1
        if isinstance(slot, FlowKey):
            self._open[slot] = flow
        else:
            self._late[slot] = flow
        self._enter(flow)
        self._changed[flow.id] = flow
        self.opened = True
        if len(self) > self.limits.open_flows:
            self._make_room()
        return flow

    def _next_stamp(self) -> int:
        self._last_stamp = max(self._watermark_us, self._last_stamp + 1)
        return self._last_stamp

    def _enter(self, flow: Flow) -> None:
        """Have an open flow stand in the accounts of those that it tells and of its sender."""
        self._told.update(flow.told_addresses())
        self._budgets.opened(flow)

    def _end(self, flow: Flow) -> None:
        flow.ended = True
        self._changed[flow.id] = self._past[flow.id] = flow
        if len(self._past) > MAX_PAST:
            del self._past[next(iter(self._past))]
        self._budgets.ended(flow)
        for address in flow.told_addresses():
            self._told[address] -= 1
            if not self._told[address]:
                del self._told[address]
        if self._open.get(flow.key) is flow:
            del self._open[flow.key]
        elif self._late:
            self._late = {slot: late for slot, late in self._late.items() if late is not flow}

    def _sweep(self) -> None:
        """End the flows whose time is over, and forget what no later drop can be about."""
        self._sweep_at_us = _next_sweep(self._watermark_us)
        for flow in self._flows():
            if self._watermark_us - flow.seen_us > self._idle_us:
                self._end(flow)
        self._hands.forget(self._watermark_us - LATE_US)
        self._budgets.forget(self._watermark_us)

    def _make_room(self) -> None:
        # A tenth at once: the sort is then paid once in thousands of new flows.
        quietest = sorted(self._flows(), key=lambda f: (f.seen_us, f.id))
        for flow in quietest[: max(1, self.limits.open_flows // 10)]:
            self._end(flow)


def _id(flow: Flow) -> int:
    return flow.id


def _next_sweep(watermark_us: int) -> int:
    return (watermark_us // SWEEP_US + 1) * SWEEP_US
