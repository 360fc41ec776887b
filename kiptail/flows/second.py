"""The drops of one second that can be counted together: the order among them decides nothing (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from kiptail.flows.budget import Budgets
from kiptail.flows.flow import ENDS, Flow, FlowKey, folded_key
from kiptail.flows.hands import ChangesOfHands
from kiptail.flows.trail import SECOND_US

__all__ = ["Drops", "Second", "Together"]


class Drops(NamedTuple):
    """Drops of one key: how many, and when the first and the last of them were."""

    key: FlowKey
    number: int
    first_us: int
    last_us: int
    #: The latest time of all drops up to the one of these that was written last.
    seen_us: int


@dataclass(slots=True)
class Together:
    """Drops from one address to another that are counted in the same folded flows."""

    many: tuple[Flow, ...]
    #: They are reported to nobody at their destination, for their sender's account is full.
    denied: bool
    #: By key; never empty once it is seen.
    drops: list[Drops] = field(default_factory=list)
    #: The flows of their own that some have, too.
    own: list[tuple[Flow, Drops]] = field(default_factory=list)

    @property
    def total(self) -> Drops:
        """All of them, by the key of one."""
        keys, numbers, first_us, last_us, seen_us = zip(*self.drops, strict=True)
        return Drops(keys[0], sum(numbers), min(first_us), max(last_us), max(seen_us))


class Second:
    """What the drops of one second, of so many keys, are counted in; what many of them ask is answered once."""

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
        #: The keys of those that have to be decided one by one.
        self.others: set[FlowKey] = set()
        #: Drops that are counted in a flow of their own only …
        self._own: list[tuple[Flow, Drops]] = []
        #: … and those that are folded, by addresses, verdict, what filters say and the ends of their own flow; None:
        #: one by one.
        self._ways: dict[tuple[str, str, str, str, tuple[str, ...]], Together | None] = {}
        #: By end, address, verdict and what filters say: the folded flow, None where it cannot be used.
        self._many: dict[tuple[str, str, str, str], Flow | None] = {}
        self._spent: dict[str, bool] = {}
        self._sort(drops)

    def own(self) -> Iterator[tuple[Flow, Drops]]:
        """Flows that are no folded ones, and what they grow by."""
        return chain(self._own, *(way.own for way in self.folded()))

    def folded(self) -> list[Together]:
        """Those that are counted in folded flows."""
        return [way for way in self._ways.values() if way is not None]

    def leave_all(self) -> None:
        """Decide all of them one by one."""
        self.others.update(drops.key for _, drops in self._own)
        self._own = []
        self._leave(lambda _: True)

    def leave_denied(self, targets: set[str] | None) -> None:
        """Decide those one by one that are reported to nobody at one of these addresses; None: at any."""
        self._leave(lambda way: way.denied and (targets is None or way.drops[0].key.dst in targets))

    def _leave(self, leaves: Callable[[Together], bool]) -> None:
        for at, way in self._ways.items():
            if way is not None and leaves(way):
                self.others.update(drops.key for drops in way.drops)
                self._ways[at] = None

    def _sort(self, drops: Sequence[Drops]) -> None:
        begin_us = self.latest_us // SECOND_US * SECOND_US
        for drop in drops:
            key, first_us = drop.key, drop.first_us
            own = self._open.get(key)
            ends: tuple[str, ...] = ()
            fits = first_us >= begin_us
            if own is not None:
                fits = fits and self._goes_on(own, first_us)
                ends = own.ends
            elif not self._is_spent(key.src, first_us):
                fits = fits and self._budgets.refuses(key, self.latest_us, first_us)
            if not fits:
                self.others.add(key)
            elif own is not None and ends == ENDS:
                self._own.append((own, drop))
            else:
                at = (key.src, key.dst, key.verdict, key.muted, ends)
                try:
                    way = self._ways[at]
                except KeyError:
                    way = self._ways[at] = self._way(key, ends, first_us)
                if way is None:
                    self.others.add(key)
                    continue
                way.drops.append(drop)
                if own is not None:
                    way.own.append((own, drop))

    def _way(self, key: FlowKey, ends: tuple[str, ...], first_us: int) -> Together | None:
        """What counts the drops of this key, and others, at the ends where they have no flow of their own."""
        many: list[Flow] = []
        denied = False
        for end in ENDS:
            if end in ends:
                continue
            flow = self._folded(end, key, first_us)
            if flow is not None:
                many.append(flow)
            elif (
                end == "dst"
                and (ends or many)
                and folded_key(end, key) not in self._open
                and self._is_spent(key.src, first_us)
            ):
                denied = True
            else:
                return None
        return Together(tuple(many), denied)

    def _folded(self, end: str, key: FlowKey, first_us: int) -> Flow | None:
        place = (end, key.address(end), key.verdict, key.muted)
        try:
            return self._many[place]
        except KeyError:
            flow = self._open.get(folded_key(end, key))
            flow = self._many[place] = flow if flow is not None and self._goes_on(flow, first_us) else None
            return flow

    def _is_spent(self, sender: str, time_us: int) -> bool:
        # An owner has an address from a whole second on.
        try:
            return self._spent[sender]
        except KeyError:
            spent = self._spent[sender] = self._budgets.spent(sender, time_us)
            return spent

    def _goes_on(self, flow: Flow, first_us: int) -> bool:
        """Whether drops of this second are the flow's, however many there are."""
        return (
            self.latest_us - flow.seen_us <= self._idle_us
            and first_us >= flow.trail.edge_us - SECOND_US
            and not (self._hands.times and self._hands.apart(flow.key, flow.opened_us, first_us))
        )
