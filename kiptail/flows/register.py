"""Which flows there are: open ones, those that may still be cut, and those whose rows are to be stored (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kiptail.flows.budget import Budgets
from kiptail.flows.flow import Flow, FlowKey

__all__ = ["Register", "Slot"]

#: The most flows that have ended and may still be cut.
MAX_PAST = 8_192

#: Where a flow is kept: by its key, or, when its drops were read late, by the change of hands they were after, too.
Slot = FlowKey | tuple[FlowKey, int]


class Register:
    """Flows by what they are found by, and in the accounts of those that they report and of their senders.

    What it keeps is open to the ledger and to cuts: the ledger counts a drop with two look-ups and no call.
    """

    def __init__(self, budgets: Budgets, *, next_id: int, last_stamp: int) -> None:
        self._budgets = budgets
        #: Each of these is the same object for good.
        self.open: dict[FlowKey, Flow] = {}
        #: Flows of drops that were read late, by the last change of hands before them.
        self.late: dict[tuple[FlowKey, int], Flow] = {}
        #: Flows that have ended and may still be cut.
        self.past: dict[int, Flow] = {}
        #: Flows whose rows are new or differ, by their ids.
        self.changed: dict[int, Flow] = {}
        #: How many open flows report an address.
        self.reported: Counter[str] = Counter()
        #: Flows were opened, or cut, since the last commit: they are to be committed at once.
        self.opened = False
        #: The id of the next flow; ids are never used twice.
        self.next_id = next_id
        #: The greatest :attr:`Flow.stamp` so far.
        self.last_stamp = last_stamp

    def __len__(self) -> int:
        """How many are open."""
        return len(self.open) + len(self.late)

    def restore(self, flows: Iterable[Flow]) -> None:
        """Take over flows that were stored."""
        for flow in sorted(flows, key=lambda f: f.opened_us):
            if flow.ended:
                self.past[flow.id] = flow
                continue
            older = self.open.get(flow.key)
            if older is not None:
                self.end(older)
            self.open[flow.key] = flow
            self.enter(flow)

    def open_flows(self) -> list[Flow]:
        """Those that have not ended."""
        return [*self.open.values(), *self.late.values()]

    def all(self) -> list[Flow]:
        """Those that may still be cut: open ones, and those that have ended lately."""
        return [*self.open_flows(), *self.past.values()]

    def changes(self) -> tuple[Flow, ...]:
        """Those whose rows are new or differ, by their ids."""
        return tuple(sorted(self.changed.values(), key=_id))

    def committed(self) -> None:
        """The latest :meth:`changes` are stored."""
        self.changed.clear()
        self.opened = False

    def settle(self, settled_us: int) -> None:
        """Flows that ended before this time will not be cut any more."""
        for flow_id in [flow_id for flow_id, flow in self.past.items() if flow.last_us < settled_us]:
            del self.past[flow_id]

    def next_flow(self, watermark_us: int) -> tuple[int, int]:
        """Id and stamp of a new flow."""
        flow_id, self.next_id = self.next_id, self.next_id + 1
        self.last_stamp = max(watermark_us, self.last_stamp + 1)
        return flow_id, self.last_stamp

    def add(self, slot: Slot, flow: Flow) -> None:
        """A new flow is open."""
        if isinstance(slot, FlowKey):
            self.open[slot] = flow
        else:
            self.late[slot] = flow
        self.enter(flow)
        self.changed[flow.id] = flow
        self.opened = True

    def enter(self, flow: Flow) -> None:
        """Have an open flow stand in the accounts of those that it reports and of its sender."""
        self.reported.update(flow.reported_addresses())
        self._budgets.opened(flow)

    def end(self, flow: Flow) -> None:
        """An open flow is over."""
        flow.ended = True
        self.changed[flow.id] = self.past[flow.id] = flow
        if len(self.past) > MAX_PAST:
            del self.past[next(iter(self.past))]
        self._budgets.ended(flow)
        for address in flow.reported_addresses():
            self.reported[address] -= 1
            if not self.reported[address]:
                del self.reported[address]
        if self.open.get(flow.key) is flow:
            del self.open[flow.key]
        else:
            for slot in [slot for slot, late in self.late.items() if late is flow]:
                del self.late[slot]

    def reopen(self, flow: Flow) -> None:
        """A flow that has ended goes on; its key must not have an open one."""
        flow.ended = False
        del self.past[flow.id]
        self.open[flow.key] = flow
        self.enter(flow)

    def end_quietest(self, number: int) -> None:
        """End ``number`` flows, those first that were quiet longest."""
        for flow in sorted(self.open_flows(), key=lambda f: (f.seen_us, f.id))[:number]:
            self.end(flow)


def _id(flow: Flow) -> int:
    return flow.id
