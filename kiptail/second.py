"""The drops of one second that can be counted together: the order among them decides nothing (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kiptail.budget import Budgets
from kiptail.flow import SIDES, Flow, FlowKey, folded_key
from kiptail.hands import ChangesOfHands
from kiptail.trail import SECOND_US

__all__ = ["Drops", "Second", "Together"]


class Drops(NamedTuple):
    """Drops of one key: how many, and when the first and the last of them were."""

    key: FlowKey
    number: int
    first_us: int
    last_us: int
    #: The latest time of all drops up to the one of these that was written last.
    seen_us: int


class Together(NamedTuple):
    """Drops, and the flows that they are counted in: their own, and those that fold them."""

    drops: Drops
    #: Their own flow, if they have one, and those that fold them.
    own: Flow | None
    many: tuple[Flow, ...]
    #: Nobody is told of them at their destination, for their sender's account is full.
    denied: bool = False


class Second:
    """What all drops of one second are counted in; what many of them ask is answered once."""

    def __init__(
        self,
        flows: Mapping[FlowKey, Flow],
        budgets: Budgets,
        hands: ChangesOfHands,
        idle_us: int,
        drops: Sequence[Drops],
    ) -> None:
        self._open, self._budgets, self._hands, self._idle_us = flows, budgets, hands, idle_us
        self.latest_us = max((drop.last_us for drop in drops), default=0)
        self._second = self.latest_us // SECOND_US
        #: By side, address and verdict: the folded flow, None where it cannot be used.
        self._many: dict[tuple[str, str, str], Flow | None] = {}
        self._spent: dict[str, bool] = {}

    def counted_in(self, drop: Drops) -> Together | None:
        """None where it has to be decided for each of these drops."""
        key, _, first_us, last_us, _ = drop
        if not first_us // SECOND_US == last_us // SECOND_US == self._second:
            return None
        own = self._open.get(key)
        if own is not None:
            if not self._goes_on(own, first_us):
                return None
            if own.sides == SIDES:
                return Together(drop, own, ())
            sides: tuple[str, ...] = own.sides
        elif self._is_spent(key.src, first_us) or self._budgets.refuses(key, self.latest_us, first_us):
            sides = ()
        else:
            return None
        many: tuple[Flow, ...] = ()
        denied = False
        for side in SIDES:
            if side in sides:
                continue
            flow = self._folded(side, key, first_us)
            if flow is not None:
                many = (*many, flow)
            elif (
                side == "dst"
                and (sides or many)
                and folded_key(side, key) not in self._open
                and self._is_spent(key.src, first_us)
            ):
                denied = True
            else:
                return None
        return Together(drop, own, many, denied)

    def _folded(self, side: str, key: FlowKey, first_us: int) -> Flow | None:
        place = (side, key.address(side), key.verdict)
        try:
            return self._many[place]
        except KeyError:
            flow = self._open.get(folded_key(side, key))
            flow = self._many[place] = flow if flow is not None and self._goes_on(flow, first_us) else None
            return flow

    def _is_spent(self, sender: str, time_us: int) -> bool:
        # An owner has an address from a whole second on.
        if sender not in self._spent:
            self._spent[sender] = self._budgets.spent(sender, time_us)
        return self._spent[sender]

    def _goes_on(self, flow: Flow, first_us: int) -> bool:
        """Whether drops of this second are the flow's, however many there are."""
        return (
            self.latest_us - flow.seen_us <= self._idle_us
            and first_us >= flow.trail.edge_us - SECOND_US
            and not (self._hands.times and self._hands.apart(flow.key, flow.opened_us, first_us))
        )
