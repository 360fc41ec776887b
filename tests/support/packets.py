"""Packets that are dropped, as lines of a journal that grows with a clock: for :mod:`tests.support.simulation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from tests.support.simulation import WallClock

__all__ = ["PREFIXES", "Drop", "WrittenLines"]

PREFIXES = Prefixes([PrefixRule("calico-drop:", Verdict.DROP)])
LINE = (
    "calico-drop: IN=cni0 OUT=eth0 MAC= SRC={} DST={} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={} WINDOW=64240 RES=0x00 SYN URGP=0 "
)

#: Source, destination and destination port of a TCP SYN, and when it was dropped, µs since the epoch.
Drop = tuple[str, str, int, int]


class WrittenLines:
    """A journal of which only what was written by now is there."""

    def __init__(self, drops: Sequence[Drop]) -> None:
        self._drops = drops

    def open(self, position: Position | None, clock: WallClock, _own_clock: object) -> _Reader:
        """A reader of what follows on ``position``."""
        return _Reader(self._drops, int(position.cursor) if position else 0, clock)


@dataclass
class _Reader:
    drops: Sequence[Drop]
    at: int
    clock: WallClock
    known: KnownLines = field(default_factory=lambda: KnownLines(PREFIXES))

    def read(self, limit: int) -> Batch:
        lines: list[KnownLine | str] = []
        times: list[int] = []
        while self.at < len(self.drops) and len(lines) < limit and self.drops[self.at][3] <= self.clock.us():
            *what, time_us = self.drops[self.at]
            text = LINE.format(*what)
            line = self.known.wanted(text.encode())
            lines.append(line if isinstance(line, KnownLine) else text)
            times.append(time_us)
            self.at += 1
        return Batch(lines, times, at_end=True)

    def position(self) -> Position | None:
        return Position(str(self.at), "boot", self.at, self.at, None) if self.at else None
