"""The bars of a report's page, and what each number of it has in each bar (pure)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kiptail.clock.dates import kubernetes_time
from kiptail.report.moments import SHORTEST_US, Moments
from kiptail.report.summary import Report
from kiptail.report.tally import Flow
from kiptail.text import span

__all__ = [
    "HEIGHT",
    "WIDTH",
    "Bar",
    "Chart",
    "Packets",
    "Tick",
    "Timeline",
    "chart_of",
    "packed",
    "timeline_of",
]

#: The chart's columns at most, and its size in SVG units.
_BARS, WIDTH, HEIGHT = 100, 1_000, 160
#: Lengths of bars as people divide time, in seconds; beyond the last one they double.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)
#: Of more packets than these there are half as many, or the numbers by bars would take more than 5 MB of page.
_MANY_PACKETS = 2_000_000
#: Where fewer bars than these could be distinguished by flow, more are drawn that cannot.
_LEAST_BARS = 12
#: Times below the chart, at most, and how far from its ends at least, in % of its width.
_TICKS, _MARGIN = 6, 4
_MINUTE_US, _DAY_US = 60_000_000, 86_400_000_000
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Packets:
    """A number of packets, and how many of them each bar has, as :func:`packed`; "" where that is not known."""

    count: int
    when: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """The packets of a part of the period."""

    #: Which one it is, from the left.
    at: int
    x: float
    y: float
    width: float
    height: float
    packets: Packets
    begin: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A time below the chart, at this part of its width in %."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The timeline."""

    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    #: How long a bar is, and its most packets, in words.
    step: str
    most: str
    #: The time of the first bar in s since the epoch and the length of each in s, where a part of the time can be
    #: chosen; else 0.
    start_s: int
    step_s: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bars of one length, which begin at round times, and flows' packets in them: exact."""

    moments: Moments
    start_us: int
    step_us: int
    number: int

    def counts(self, flows: Iterable[Flow]) -> Counter[int]:
        """The packets of these flows by bar."""
        counts: Counter[int] = Counter()
        start_us, step_us, of = self.start_us, self.step_us, self.moments.of
        for flow in flows:
            for at_us, count in of(flow):
                counts[(at_us - start_us) // step_us] += count
        return counts


def timeline_of(report: Report) -> Timeline | None:
    """The period in bars; None where all packets are of one moment, or where it cannot be said by flow."""
    if report.from_us is None or report.to_us is None or not report.packets:
        return None
    # The period's end does not belong to it, but the last packet does.
    last_us = max((flow.last_us for flow in report.flows), default=0)
    last_us = max(report.to_us - 1, last_us)
    most = _BARS if report.packets <= _MANY_PACKETS else _BARS // 2
    width_us = report.moments.width_us
    step_us = next(
        step_us
        for step_us in _steps_us()
        if step_us % width_us == 0 and last_us // step_us - report.from_us // step_us < most
    )
    first = report.from_us // step_us
    number = last_us // step_us - first + 1
    if number < (2 if width_us == SHORTEST_US else _LEAST_BARS):
        return None
    return Timeline(report.moments, first * step_us, step_us, number)


def _steps_us() -> Iterator[int]:
    yield from (step * 1_000_000 for step in _STEPS)
    yield from (_DAY_US << doubled for doubled in itertools.count(1))


def chart_of(report: Report, timeline: Timeline | None) -> Chart | None:
    """What is drawn: of a timeline, or of all packets where there is none; None where all are of one moment."""
    if timeline is not None:
        counts = timeline.counts(report.flows)
        return _drawn(
            [counts[at] for at in range(timeline.number)],
            [timeline.start_us + at * timeline.step_us for at in range(timeline.number + 1)],
            chosen=True,
        )
    if report.from_us is None or report.to_us is None or not report.packets:
        return None
    span_us = report.to_us - report.from_us
    number = min(_BARS, -(-span_us // report.bars.width_us))
    if number < 2:
        return None
    edges_us = [report.from_us + span_us * at // number for at in range(number + 1)]
    return _drawn(report.bars.columns(report.from_us, report.to_us, number), edges_us, chosen=False)


def _drawn(counts: Sequence[int], edges_us: Sequence[int], *, chosen: bool) -> Chart:
    number, most, width = len(counts), max(counts), WIDTH / len(counts)
    step_us = (edges_us[-1] - edges_us[0]) // number
    bars = []
    for at, count in enumerate(counts):
        # What there is can be seen, also beside a flood.
        height = max(2.0, HEIGHT * count / most) if count else 0.0
        when = packed({at: count}) if chosen and count else ""
        begin = kubernetes_time(edges_us[at])
        place = round(at * width, 1), round(HEIGHT - height, 1), round(width * 0.9, 1)
        bars.append(Bar(at, *place, height, Packets(count, when), begin))
    return Chart(
        bars,
        list(_ticks(edges_us[0], edges_us[-1])),
        span(step_us / 1e6),
        f"{most:,} packet{'' if most == 1 else 's'}",
        edges_us[0] // 1_000_000 if chosen else 0,
        step_us // 1_000_000 if chosen else 0,
    )


def _ticks(from_us: int, to_us: int) -> Iterator[Tick]:
    step_us = next(step_us for step_us in _steps_us() if (to_us - from_us) // step_us <= _TICKS)
    for at_us in range(-(-from_us // step_us) * step_us, to_us, step_us):
        percent = 100 * (at_us - from_us) / (to_us - from_us)
        if _MARGIN <= percent <= 100 - _MARGIN:
            date, _, time = kubernetes_time(at_us).rstrip("Z").partition("T")
            if at_us % _DAY_US == 0:
                time = date[5:]
            elif step_us % _MINUTE_US == 0:
                time = time[:5]
            yield Tick(round(percent, 2), time)


def packed(counts: Mapping[int, int]) -> str:
    """How many packets there are in each bar: their numbers, to the base of 36, separated by blanks; after each number
    comes that of the next bar, unless ``-`` and the number of bars without packets stand before it.
    """
    words = []
    after = 0
    for at in sorted(counts):
        if at > after:
            words.append("-" + _base36(at - after))
        words.append(_base36(counts[at]))
        after = at + 1
    return " ".join(words)


def _base36(number: int) -> str:
    text = ""
    while number >= 36:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return _DIGITS[number] + text
