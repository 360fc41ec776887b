"""How a flow's count grew, second by second, so that it can be cut afterwards (pure).

That an address changed hands is learned after the first drops of its new owner were counted. With the trail, they can
be distinguished from the old owner's: by the whole second, which is as exactly as Kubernetes says when it was.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["SECOND_US", "Part", "Trail"]

SECOND_US = 1_000_000

#: The most seconds with drops that are known one by one; what is older is one with all that was before.
KEPT = 60
#: The most spans while pods cannot be followed, and nobody knows yet what is to be cut: beyond, the oldest grow longer.
KEPT_BLIND = 240

_NO_EDGE = -1


class Part(NamedTuple):
    """Some of a flow's drops, one after the other."""

    #: The first second, and the end of the last one, in µs since the epoch; None for the oldest part's first second,
    #: which is that of the flow.
    first_us: int | None
    until_us: int
    drops: int
    #: It may hold drops from before and after a cut, and nobody can tell which.
    mixed: bool = False


# More than 15 methods: six are Python's own, for a trail is compared, stored, and made when it is asked for.
class Trail:
    """Spans of time, one after the other, and how many drops of the flow were counted before each.

    The newest spans are single seconds. The oldest drops, before the first span, are known as a sum only.
    """

    __slots__ = ("_befores", "_coarse", "_starts", "edge_us")

    def __init__(self) -> None:
        #: Where spans begin, in whole seconds since the epoch …
        self._starts = array("q")
        #: … and the flow's count before them.
        self._befores = array("q")
        #: How many of the oldest spans reach up to the next one; the others are one second.
        self._coarse = 0
        #: The end of the newest second: a drop from then on begins another span. In µs.
        self.edge_us = _NO_EDGE

    @classmethod
    def begun(cls, time_us: int) -> Trail:
        """The trail of a flow that is about to count its first drop."""
        trail = cls.__new__(cls)
        trail.edge_us = (time_us // SECOND_US + 1) * SECOND_US
        return trail

    def __getattr__(self, name: str) -> Any:
        """Most flows last no longer than a second: their one span is made when it is asked for."""
        if name not in ("_starts", "_befores", "_coarse"):
            raise AttributeError(name)
        self._starts, self._befores, self._coarse = array("q", (self.edge_us // SECOND_US - 1,)), array("q", (0,)), 0
        return object.__getattribute__(self, name)

    @classmethod
    def restored(cls, data: bytes) -> Trail:
        """What :meth:`__bytes__` gave; ValueError when it cannot be that."""
        numbers = array("q")
        numbers.frombytes(data)
        spans, odd = divmod(len(numbers) - 1, 2)
        trail = cls()
        trail._starts, trail._befores = numbers[:spans], numbers[spans : 2 * spans]
        rises = list(trail._starts) == sorted(set(trail._starts)) and list(trail._befores) == sorted(trail._befores)
        # Before 1970, too: a line was written some minutes before its receipt by a clock that was not set yet.
        if odd or spans < 1 or not rises or not -(2**40) < numbers[0] < 2**40 or trail._befores[0] < 0:
            raise ValueError("no trail")
        trail._coarse = min(max(0, numbers[-1]), spans)
        trail.edge_us = (trail._starts[-1] + 1) * SECOND_US
        return trail

    def __bytes__(self) -> bytes:
        return (self._starts + self._befores + array("q", (self._coarse,))).tobytes()

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trail) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Trail({list(zip(self._starts, self._befores, strict=True))}, coarse={self._coarse})"

    def turn(self, time_us: int, before: int, *, blind: bool = False) -> None:
        """The next drop, at ``time_us``, begins a new second; ``before``: the flow's count so far."""
        second = time_us // SECOND_US
        self._starts.append(second)
        self._befores.append(before)
        self.edge_us = (second + 1) * SECOND_US
        if len(self._starts) > KEPT:
            if not blind:
                # A quarter at once: what is cut off is paid for once in many seconds.
                self._merge_into_the_oldest(len(self._starts) - KEPT + KEPT // 4)
            elif len(self._starts) > KEPT_BLIND:
                self._coarsen(KEPT_BLIND // 2)

    def count_late(self, time_us: int, count: int) -> None:
        """``count`` drops are added to the flow that were in a second before the newest one."""
        second = time_us // SECOND_US
        at = bisect_right(self._starts, second)
        for later in range(at, len(self._befores)):
            self._befores[later] += count
        known = at and (self._starts[at - 1] == second or at <= self._coarse)
        older = not at and self._befores[0] > count
        if not known and not older:
            self._starts.insert(at, second)
            self._befores.insert(at, self._befores[at] - count)
            if len(self._starts) > KEPT_BLIND:
                self._coarsen(KEPT_BLIND // 2)

    def parts(self, cuts: Sequence[int], count: int) -> list[Part]:
        """The drops between the ``cuts`` (µs, in their order) of a flow that has counted ``count``.

        Nothing is cut that is older than the first span.
        """
        parts: list[Part] = []
        if not self._starts:
            return [Part(None, 0, count)]
        if self._befores[0]:
            parts.append(Part(None, self._starts[0] * SECOND_US, self._befores[0]))
        afters = [*self._befores[1:], count]
        for at, (start, before, after) in enumerate(zip(self._starts, self._befores, afters, strict=True)):
            if before == after:
                continue
            begin_us, until_us = start * SECOND_US, (start + 1) * SECOND_US
            if at < self._coarse and at + 1 < len(self._starts):
                until_us = self._starts[at + 1] * SECOND_US
            mixed = any(begin_us < cut < until_us for cut in cuts)
            last = parts[-1] if parts else None
            if last is None or mixed or last.mixed or any(last.until_us <= cut <= begin_us for cut in cuts):
                parts.append(Part(begin_us if parts else None, until_us, after - before, mixed))
            else:
                parts[-1] = last._replace(until_us=until_us, drops=last.drops + after - before)
        return parts

    def of(self, part: Part) -> Trail:
        """The spans of a part, for the flow that its drops become."""
        begin = 0 if part.first_us is None else bisect_left(self._starts, part.first_us // SECOND_US)
        stop = bisect_left(self._starts, part.until_us // SECOND_US)
        offset = 0 if part.first_us is None else self._befores[begin]
        trail = Trail()
        trail._starts = self._starts[begin:stop]
        trail._befores = array("q", (before - offset for before in self._befores[begin:stop]))
        trail._coarse = min(max(0, self._coarse - begin), stop - begin)
        if trail._coarse == len(trail._starts):
            # Nothing is a single second, and the last span would seem to be one: where it ends has to be said.
            trail._starts.append(part.until_us // SECOND_US)
            trail._befores.append(part.drops)
        trail.edge_us = (trail._starts[-1] + 1) * SECOND_US
        return trail

    def take_out(self, count: int, other: Trail, others: int) -> None:
        """Of the flow's ``count`` drops, ``others`` are no longer its own: those in ``other``.

        Where either is not known by the second, the rest is not either.
        """
        if not self._starts:
            return
        exact = self._starts[-1] + 1
        if other._starts:
            # Before a trail that is complete there was nothing, so that time is known by the second as well.
            trails = (self, other) if other._befores[0] or other._coarse else (self,)
            exact = max(trail._starts[min(trail._coarse, len(trail) - 1)] for trail in trails)
        at = bisect_left(self._starts, exact)
        starts = self._starts[at:]
        befores = [
            before - other._before(second, others) for second, before in zip(starts, self._befores[at:], strict=True)
        ]
        if not starts or befores != sorted(befores) or befores[0] < 0 or befores[-1] > count - others:
            # Nothing is known by the second.
            starts, befores = array("q", (max(exact, self._starts[-1] + 1),)), [count - others]
        self._starts, self._befores, self._coarse = starts, array("q", befores), 0
        self.edge_us = (starts[-1] + 1) * SECOND_US

    def extent(self, count: int) -> tuple[int | None, int | None]:
        """When the first second of the flow's ``count`` drops begins and the last one ends; None if nothing tells."""
        if not self._starts:
            return None, None
        afters = [*self._befores[1:], count]
        held = [at for at, (before, after) in enumerate(zip(self._befores, afters, strict=True)) if before < after]
        first_us = None if self._befores[0] or not held else self._starts[held[0]] * SECOND_US
        stop = self._starts[held[-1]] + 1 if held else self._starts[0]
        if held and held[-1] < self._coarse and held[-1] + 1 < len(self._starts):
            stop = self._starts[held[-1] + 1]
        return first_us, stop * SECOND_US

    def _before(self, second: int, count: int) -> int:
        """How many of ``count`` drops were before this second."""
        at = bisect_left(self._starts, second)
        return self._befores[at] if at < len(self._befores) else count

    def _merge_into_the_oldest(self, spans: int) -> None:
        del self._starts[:spans], self._befores[:spans]
        self._coarse = max(0, self._coarse - spans)

    def _coarsen(self, spans: int) -> None:
        """Make every two of the oldest ``spans`` one."""
        for column in (self._starts, self._befores):
            column[:spans] = column[:spans:2]
        self._coarse = max(self._coarse - spans // 2, (spans + 1) // 2)
