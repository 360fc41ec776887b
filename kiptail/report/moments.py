"""When the packets of each flow were: exact to a stretch of time, which grows with what there is to keep (pure)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

__all__ = ["SHORTEST_US", "Counted", "Moments", "wider"]

#: The shortest stretch, in µs.
SHORTEST_US = 1_000_000
#: Counts that are kept, of a flow and a stretch each: 16 bytes.
MOST_CELLS = 1_000_000
#: Stretches as people divide time, in seconds, each a multiple of the one before; beyond a day they double.
_LENGTHS = (1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400)


def wider(width_us: int) -> int:
    """The length of stretch that comes after this one, which divides it; in µs."""
    return next((length * 1_000_000 for length in _LENGTHS if length * 1_000_000 > width_us), width_us * 2)


class Counted(Protocol):
    """A flow (:class:`kiptail.report.tally.Flow`), which is itself and no other."""

    #: Packets.
    count: int
    #: The time of the last of them, in µs since the epoch.
    last_us: int


class Moments:
    """How many packets each flow had in each stretch."""

    def __init__(self) -> None:
        self.width_us = SHORTEST_US
        # Stretch and count, again and again, a stretch perhaps more than once. A flow whose packets are all of the
        # stretch of its last one has none: most flows of a scan are a packet or two.
        self._cells: dict[Counted, array[int]] = {}
        self._number = 0

    def add(self, flow: Counted, counts: Mapping[int, int]) -> None:
        """Keep how many packets there were at which time, which are not counted in the flow yet. The flow's last time
        is one of its packets', or of these if it has none yet.
        """
        width_us = self.width_us
        cells = self._cells.get(flow)
        if cells is None:
            last = flow.last_us // width_us
            if min(counts) // width_us == last == max(counts) // width_us:
                return
            cells = self._cells[flow] = array("q", (last, flow.count) if flow.count else ())
            self._number += len(cells) // 2
        stretches: Counter[int] = Counter()
        for time_us, count in counts.items():
            stretches[time_us // width_us] += count
        self._number -= len(cells) // 2
        _extend(cells, stretches.items())
        self._number += len(cells) // 2
        while self._number > MOST_CELLS:
            self._widen()

    def of(self, flow: Counted) -> Iterator[tuple[int, int]]:
        """The beginnings of stretches, µs since the epoch, and how many packets of the flow each has. One may be
        repeated."""
        cells = self._cells.get(flow)
        if cells is None:
            yield flow.last_us // self.width_us * self.width_us, flow.count
        else:
            yield from zip((at * self.width_us for at in cells[::2]), cells[1::2], strict=True)

    def _widen(self) -> None:
        before_us, self.width_us = self.width_us, wider(self.width_us)
        factor = self.width_us // before_us
        self._number = 0
        for flow, cells in list(self._cells.items()):
            counts: Counter[int] = Counter()
            for at, count in zip(cells[::2], cells[1::2], strict=True):
                counts[at // factor] += count
            if len(counts) == 1:
                del self._cells[flow]
                continue
            wide = self._cells[flow] = array("q")
            _extend(wide, counts.items())
            self._number += len(counts)


def _extend(cells: array[int], counts: Iterable[tuple[int, int]]) -> None:
    for at, count in counts:
        if cells and cells[-2] == at:
            cells[-1] += count
        else:
            cells.extend((at, count))
