"""When addresses change hands, as far as drops from around then may still be counted (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from kiptail.flows.flow import FlowKey
from kiptail.pods.ownership import Hands

__all__ = ["LATE_US", "ChangesOfHands"]

#: How long after a change of hands was seen drops from before it may still be read, in µs of event time.
LATE_US = 10 * 60 * 1_000_000

#: The most addresses that are remembered.
MAX_ADDRESSES = 65_536


class ChangesOfHands:
    """The changes of hands that matter to flows. Times are µs since the epoch."""

    def __init__(self) -> None:
        #: By address, in their order; no address is without any. The ledger looks whether there are any with each drop.
        self.times: dict[str, tuple[int, ...]] = {}

    def replace(self, hands: Mapping[str, Hands], *, after_us: int) -> None:
        """Take these for all there is to know of these addresses, if it was after ``after_us`` or is to come."""
        for address, known in hands.items():
            times = tuple(at_us for at_us in known.changes if at_us > after_us)
            if not times:
                self.times.pop(address, None)
            elif address in self.times or len(self.times) < MAX_ADDRESSES:
                self.times[address] = times

    def forget(self, before_us: int) -> None:
        """No drop from before is counted any more."""
        for address in [address for address, times in self.times.items() if times[-1] <= before_us]:
            del self.times[address]

    def of(self, key: FlowKey) -> list[int]:
        """When either address changes hands, in order."""
        return sorted({*self.times.get(key.src, ()), *self.times.get(key.dst, ())})

    def apart(self, key: FlowKey, one_us: int, other_us: int) -> bool:
        """Whether an address changes hands between the two times: drops then are of two flows."""
        if key.src not in self.times and key.dst not in self.times:
            return False
        earlier_us, later_us = sorted((one_us, other_us))
        return any(earlier_us < at_us <= later_us for at_us in self.of(key))

    def last_before(self, key: FlowKey, time_us: int) -> int:
        """The last change of hands of either address up to then; 0 when there is none."""
        return max((at_us for at_us in self.of(key) if at_us <= time_us), default=0)
