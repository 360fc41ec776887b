"""The intervals of every address: of the pods there are, of those that are gone, and which of them changed (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from kiptail.pods.pod import PodRef
from kiptail.pods.tenancy import NEVER, Interval, ceil_s, ends, floor_s

__all__ = ["IntervalRegister"]

#: Former owners of one address that are remembered at most, and addresses that any are remembered of.
MAX_FORMER = 8
MAX_GONE = 65_536


class IntervalRegister:
    """Of one pod there is one interval of an address, and those of times before."""

    def __init__(self) -> None:
        #: What the pods there are own, or owned before they finished …
        self._present: dict[str, tuple[Interval, ...]] = {}
        #: … and what was owned before.
        self._gone: dict[str, tuple[Interval, ...]] = {}
        #: Addresses of which something else is known of this node's pods.
        self._touched: set[str] = set()

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """All that is known of the address."""
        return (*self._gone.get(address, ()), *self._present.get(address, ()))

    def present(self, address: str, key: str) -> Interval | None:
        """What is known of the time that the pod with this ``metadata.uid`` has the address."""
        return next((i for i in self._present.get(address, ()) if i.key == key), None)

    def former_us(self, address: str, key: str) -> int:
        """Until when this pod had the address before that, at the latest; 0 when it never had."""
        return max((i.until_us or 0 for i in self._gone.get(address, ()) if i.key == key), default=0)

    def put(self, address: str, interval: Interval) -> None:
        """That is what is known of the pod's time with the address now."""
        self.restore(address, interval)
        self._touch(address, (interval,))

    def restore(self, address: str, interval: Interval) -> None:
        """As :meth:`put`, for what was taken before by :meth:`take_local`."""
        others = (i for i in self._present.get(address, ()) if i.key != interval.key)
        self._present[address] = (*others, interval)

    def rename(self, address: str, key: str, ref: PodRef) -> None:
        """The pod is named in another way."""
        renamed = tuple(i._replace(ref=ref) if i.key == key else i for i in self._present.get(address, ()))
        self._present[address] = renamed
        self._touch(address, renamed)

    def close(self, address: str, key: str, held_us: int | None, until_us: int, *, unseen: bool = False) -> bool:
        """The pod no longer has the address; what an earlier change said of its end is more exact.

        ``unseen``: nobody saw that end. False when the pod did not have it.
        """
        mine = self.present(address, key)
        if mine is None:
            return False
        if mine.until_us is None:
            until_us = max(ceil_s(until_us), mine.since_us)
            known_us = mine.held_us if mine.held_us is not None else mine.sure_us
            held_us = known_us if held_us is None else max(floor_s(held_us), min(known_us, mine.sure_us))
            mine = mine._replace(
                held_us=min(held_us, until_us),
                until_us=until_us,
                sure_us=min(mine.sure_us, until_us),
                unseen_end=unseen,
            )
        self.retire(address, mine)
        return True

    def retire(self, address: str, interval: Interval) -> None:
        """The pod's time with the address is over: remembered are the latest few of it, of the latest addresses."""
        others = tuple(i for i in self._present.get(address, ()) if i.key != interval.key)
        if others:
            self._present[address] = others
        else:
            self._present.pop(address, None)
        former = self._gone.pop(address, ())
        self._gone[address] = (*former[1 - MAX_FORMER :], interval)
        self._touch(address, (interval,))
        while len(self._gone) > MAX_GONE:
            oldest = next(iter(self._gone))
            self._touch(oldest, self._gone.pop(oldest))

    # -- memory ---------------------------------------------------------------------------------------------

    def forget(self, before_us: int) -> None:
        """No drop from before ``before_us`` will be asked about any more."""
        for address in list(self._gone):
            gone = self._gone[address]
            # Who came after somebody who is still there may be all that shows until when that one had the address.
            first_us = min((i.sure_us for i in self._present.get(address, ())), default=NEVER)
            ended = zip(gone, ends(self.intervals(address)), strict=False)
            kept = tuple(i for i, end_us in ended if end_us >= before_us or i.sure_us > first_us)
            if len(kept) < len(gone):
                self._touch(address, gone)
                if kept:
                    self._gone[address] = kept
                else:
                    del self._gone[address]

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """All that is known of this node's pods, for each address of which that changed since the last call."""
        touched, self._touched = self._touched, set()
        return {address: tuple(i for i in self.intervals(address) if i.local) for address in touched}

    def _touch(self, address: str, intervals: Iterable[Interval]) -> None:
        if any(interval.local for interval in intervals):
            self._touched.add(address)
