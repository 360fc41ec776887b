"""Drops that were counted before it was known whose they are: moved to flows of their own (pure).

That an address changed hands is learned after the first drops of its new owner were counted. The flows they were
counted in are cut then, by the drops' own times, and what was folded for the owner before is looked at anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiptail.flows.budget import Budgets
from kiptail.flows.flow import ENDS, Flow, FlowKey, Spread, folded_key
from kiptail.flows.hands import LATE_US, ChangesOfHands
from kiptail.flows.register import Register
from kiptail.flows.trail import Part, Trail
from kiptail.pods.ownership import Hands

__all__ = ["Cuts"]


class Cuts:
    """Cuts the flows of a register where addresses change hands. ``watermark_us`` is the ledger's."""

    def __init__(self, register: Register, budgets: Budgets, hands: ChangesOfHands) -> None:
        self._register = register
        self._budgets = budgets
        self._hands = hands

    def hand_over(self, hands: Mapping[str, Hands], watermark_us: int) -> None:
        """Take these for the times at which these addresses change hands, in place of what was known of them."""
        self._hands.replace(hands, after_us=watermark_us - LATE_US)
        for address, times in hands.items():
            self._budgets.hand_over(address, times.boundaries, watermark_us)
        touched = [flow for flow in self._register.all() if flow.key.src in hands or flow.key.dst in hands]
        for flow in touched:
            self._cut(flow, watermark_us)
        if touched:
            self._admit_again(hands, watermark_us)

    def _cut(self, flow: Flow, watermark_us: int) -> None:
        """Leave a flow with the first of its drops, up to a change of hands, and make others of the rest."""
        register = self._register
        cuts = [at_us for at_us in self._hands.of(flow.key) if flow.first_us < at_us <= flow.last_us]
        if flow.mixed or not cuts:
            return
        whole, last_us, was_open = flow.trail, flow.last_us, not flow.ended
        first, *others = whole.parts(cuts, flow.count)
        if not others and not first.mixed:
            return
        register.opened = True
        if was_open:
            register.end(flow)
        flow.count, flow.trail, flow.mixed = first.drops, whole.of(first), first.mixed
        flow.last_us = max(flow.first_us, min(last_us, first.until_us - 1))
        # The drop that opened it may have been read before those that are left: its owner is asked for by this time.
        flow.opened_us = min(flow.opened_us, flow.last_us)
        register.changed[flow.id] = flow
        latest = flow
        for part in others:
            latest = self._part(flow, part, whole.of(part), last_us, watermark_us)
        if was_open and not latest.mixed and flow.key not in register.open:
            register.reopen(latest)

    def _part(self, flow: Flow, part: Part, trail: Trail, last_us: int, watermark_us: int) -> Flow:
        """Some drops of a flow as one of its own, which has ended."""
        first_us = max(flow.first_us, part.first_us or 0)
        flow_id, stamp = self._register.next_flow(watermark_us)
        new = Flow(
            flow_id,
            flow.key,
            opened_us=first_us,
            first_us=first_us,
            last_us=max(first_us, min(last_us, part.until_us - 1)),
            seen_us=flow.seen_us,
            count=part.drops,
            ended=True,
            ends=flow.ends,
            # How many peers and ports these drops stand for, nobody knows.
            spread=Spread() if flow.spread is not None else None,
            stamp=stamp,
            trail=trail,
            mixed=part.mixed,
        )
        self._register.changed[new.id] = self._register.past[new.id] = new
        return new

    def _admit_again(self, hands: Mapping[str, Hands], watermark_us: int) -> None:
        """What was folded because the owner before had too many flows gets flows of its own after all."""
        register = self._register
        folded: dict[FlowKey, list[Flow]] = {}
        flows = register.all()
        for flow in flows:
            if flow.spread is not None:
                folded.setdefault(flow.key, []).append(flow)
        for flow in flows:
            for end in ENDS if flow.spread is None and not flow.mixed else ():
                address = flow.key.address(end)
                if end in flow.ends or address not in hands:
                    continue
                begun_us = max((at_us for at_us in hands[address].changes if at_us <= watermark_us), default=0)
                many = next(
                    (
                        other
                        for other in folded.get(folded_key(end, flow.key), ())
                        if min(other.opened_us, flow.opened_us) >= begun_us and other.count >= flow.count
                    ),
                    None,
                )
                if many is not None and self._budgets.charge(flow.key, end, watermark_us, flow.opened_us):
                    register.opened = True
                    many.take_out(flow)
                    flow.ends = tuple(one for one in ENDS if one == end or one in flow.ends)
                    register.reported[address] += not flow.ended
                    register.changed[many.id], register.changed[flow.id] = many, flow
