"""Flows, their counts and their ends (pure).

The journal decides everything here: a flow opens, grows and ends by the times of its drops and by their order in
the journal, so that reading the same entries again leads to the same flows. The wall clock is never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kiptail.budget import Budgets, BudgetState, Limits
from kiptail.flow import SIDES, Flow, FlowKey, Spread, folded_key

__all__ = ["Changes", "Ledger"]

#: A flow ends when none of its packets was dropped for this long, in µs of event time.
IDLE_US = 30 * 60 * 1_000_000

#: So long, in µs of event time, drops from before a change of hands may still be read after it was seen.
LATE_US = 10 * 60 * 1_000_000

#: So many addresses are remembered with their last change of hands.
MAX_HANDOVERS = 65_536

#: What is over is looked for once in so many µs of event time: by the drops' times and not by a clock, because it
#: matters who still has a flow when budgets are decided.
SWEEP_US = 60 * 1_000_000

#: Where a flow is kept: by its key, or, when its drops were read late, by the change of hands they were before.
Slot = FlowKey | tuple[FlowKey, int]


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be committed: flows whose row is new or differs (an ended one has ``ended`` set)."""

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
        #: Flows of drops that were read late, by the change of hands that they were before.
        self._late: dict[tuple[FlowKey, int], Flow] = {}
        self._changed: dict[int, Flow] = {}
        #: How many open flows tell an address.
        self._told: Counter[str] = Counter()
        self._budgets = Budgets(self.limits, budget or BudgetState())
        #: The last change of hands of addresses that drops from before may still be read of.
        self._handovers: dict[str, int] = {}
        self._next_id = next_id
        self._last_stamp = last_stamp
        self._watermark_us = watermark_us
        self._sweep_at_us = _next_sweep(watermark_us)
        self._idle_us = idle_us
        #: A flow was opened since the last commit: it is to be committed at once.
        self.opened = False
        #: Drops that a folded flow counted, by the side it tells.
        self.folded: Counter[str] = Counter()
        #: Sides of drops that nobody is told of, for their address came when the node had too many.
        self.denied = 0
        #: Drops of which both sides were denied.
        self.untold = 0
        for flow in sorted(flows, key=lambda f: f.opened_us):
            if flow.ended:
                continue
            older = self._open.get(flow.key)
            if older is not None:
                self._end(older)
            self._open[flow.key] = flow
            self._told.update(flow.told_addresses())

    def __len__(self) -> int:
        return len(self._open) + len(self._late)

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
        if flow is None or self._handovers or watermark_us - flow.seen_us > self._idle_us:
            slot, flow = self._find(key, time_us)  # with the common case left out, counting is a fifth faster
        if flow is not None:
            flow.count += 1  # from here, what Flow.add() does: the call was a sixth of counting
            flow.seen_us = watermark_us
            if time_us > flow.last_us:
                flow.last_us = time_us
            elif time_us < flow.first_us:
                flow.first_us = time_us
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
            own, folded = self._budgets.admit(key, self._told, self._watermark_us)
            if own:
                flow = self._opened(slot, key, time_us, own)
        for side in folded:
            self._fold(key, side, time_us)
        self.denied += len(SIDES) - len(own) - len(folded)
        self.untold += not own and not folded
        return flow

    def add_together(self, drops: Sequence[tuple[FlowKey, int, int, int]]) -> bool:
        """Count drops in any order, if it is the same as :meth:`add` in the order of their times; else nothing.

        ``drops`` tells of each key how many there are, and the first and the last of their times. It is the same
        when the order decides nothing: all flows are open, tell both sides, do not end in between, and their
        addresses did not change hands.
        """
        open_flows, handovers = self._open, self._handovers
        before_us = self._watermark_us
        latest_us = max((last_us for *_, last_us in drops), default=0)
        if latest_us >= self._sweep_at_us:
            return False
        flows = []
        for key, *_ in drops:
            flow = open_flows.get(key)
            if flow is None or flow.sides != SIDES or latest_us - flow.seen_us > self._idle_us:
                return False
            if handovers and (key.src in handovers or key.dst in handovers):
                return False
            flows.append(flow)
        for flow, (_, count, first_us, last_us) in zip(flows, drops, strict=True):
            flow.count += count
            flow.first_us, flow.last_us = min(flow.first_us, first_us), max(flow.last_us, last_us)
            flow.seen_us = max(flow.seen_us, before_us, last_us)
            self._changed[flow.id] = flow
        self._watermark_us = max(before_us, latest_us)
        return True

    def hand_over(self, handovers: Mapping[str, int]) -> None:
        """Addresses changed hands at these times: drops after it belong to other flows than those before."""
        horizon_us = self._watermark_us - LATE_US
        for flow in list(self._open.values()):
            at_us = max(handovers.get(flow.key.src, 0), handovers.get(flow.key.dst, 0))
            if flow.opened_us <= at_us:
                self._end(flow)
        for address, at_us in handovers.items():
            if at_us > horizon_us and len(self._handovers) < MAX_HANDOVERS:
                self._handovers[address] = max(at_us, self._handovers.get(address, 0))

    def end_all(self) -> None:
        """Nothing that is added from now on belongs to the flows there are."""
        for flow in self._flows():
            self._end(flow)

    def changes(self) -> Changes:
        """What is not committed yet; :meth:`committed` follows when it is, together with the journal's position."""
        return Changes(
            tuple(self._changed.values()),
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

    def _find(self, key: FlowKey, time_us: int) -> tuple[Slot, Flow | None]:
        """The open flow that a drop at ``time_us`` belongs to, if there is one, and where it is kept."""
        flow = self._open.get(key)
        if flow is not None and self._watermark_us - flow.seen_us > self._idle_us:
            self._end(flow)
            return key, None
        if flow is not None and self._handovers:
            handover = self._handover_between(key, *sorted((flow.opened_us, time_us)))
            if handover and time_us > handover:
                self._end(flow)
                return key, None
            if handover:
                return (key, handover), self._late.get((key, handover))
        return key, flow

    def _fold(self, key: FlowKey, side: str, time_us: int) -> None:
        """Count a drop in the folded flow of its address and direction."""
        self.folded[side] += 1
        many = folded_key(side, key)
        slot, flow = self._find(many, time_us)
        if flow is None:
            flow = self._opened(slot, many, time_us, (side,), Spread())
        else:
            flow.add(time_us, self._watermark_us)
            self._changed[flow.id] = flow
        if flow.spread is not None:
            flow.spread.add(key, side)

    def _opened(
        self, slot: Slot, key: FlowKey, time_us: int, sides: tuple[str, ...], spread: Spread | None = None
    ) -> Flow:
        seen_us = self._watermark_us
        self._last_stamp = stamp = max(seen_us, self._last_stamp + 1)
        flow = Flow(self._next_id, key, time_us, time_us, time_us, seen_us, 1, False, sides, spread, stamp)
        self._next_id += 1
        if isinstance(slot, FlowKey):
            self._open[slot] = flow
        else:
            self._late[slot] = flow
        self._told.update(flow.told_addresses())
        self._changed[flow.id] = flow
        self.opened = True
        if len(self) > self.limits.open_flows:
            self._make_room()
        return flow

    def _end(self, flow: Flow) -> None:
        flow.ended = True
        self._changed[flow.id] = flow
        for address in flow.told_addresses():
            self._told[address] -= 1
            if not self._told[address]:
                del self._told[address]
        if self._open.get(flow.key) is flow:
            del self._open[flow.key]
        else:
            self._late = {slot: late for slot, late in self._late.items() if late is not flow}

    def _sweep(self) -> None:
        """End the flows whose time is over, and forget what no later drop can be about."""
        self._sweep_at_us = _next_sweep(self._watermark_us)
        for flow in self._flows():
            if self._watermark_us - flow.seen_us > self._idle_us:
                self._end(flow)
        too_late = self._watermark_us - LATE_US
        self._handovers = {address: at_us for address, at_us in self._handovers.items() if at_us > too_late}
        self._budgets.forget(self._watermark_us)

    def _make_room(self) -> None:
        # A tenth at once: the sort is then paid once in thousands of new flows.
        quietest = sorted(self._flows(), key=lambda f: (f.seen_us, f.id))
        for flow in quietest[: max(1, self.limits.open_flows // 10)]:
            self._end(flow)

    def _handover_between(self, key: FlowKey, earlier_us: int, later_us: int) -> int:
        """The last change of hands of either address in ``earlier_us`` ≤ it < ``later_us``; 0 when there is none."""
        times = (self._handovers.get(key.src, 0), self._handovers.get(key.dst, 0))
        return max((at_us for at_us in times if earlier_us <= at_us < later_us), default=0)


def _next_sweep(watermark_us: int) -> int:
    return (watermark_us // SWEEP_US + 1) * SWEEP_US
