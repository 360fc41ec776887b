"""A report for a terminal (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kiptail.clock.dates import kubernetes_time
from kiptail.report.ends import By
from kiptail.report.summary import Group, Report, pair_of, policy_of, port_of, top, verdict_of
from kiptail.report.tally import FlowId
from kiptail.report.trial import Outcome, in_words, sentence
from kiptail.text import one_line, plural, span

__all__ = ["Screen", "as_text"]

#: The height of the timeline, in lines, and how much of one each sign fills: the first nothing, the last all.
_HEIGHT = 5
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:|"
#: Narrower terminals get lines that are too long, wider ones are not filled.
_NARROWEST, _WIDEST = 40, 160
#: Of a row: packets, their share, and when the last one was; and the least of what follows.
_NUMBERS, _SHORTEST_LABEL = 43, 30


@dataclass(frozen=True, slots=True)
class Screen:
    """What the text is for."""

    #: In characters.
    width: int
    #: It can show ▁▂▃▄▅▆▇█ and →.
    blocks: bool

    @property
    def columns(self) -> int:
        """The width that is used."""
        return min(max(_NARROWEST, self.width), _WIDEST)


def as_text(report: Report, *, by: By, most: int, screen: Screen) -> Iterator[str]:
    """Totals, the timeline, and the ``most`` top pairs, ports and policies."""
    yield _head(report)
    for remark in report.remarks:
        yield f"{one_line(remark)}\n"
    if not report.flows:
        return
    yield from _timeline(report, screen)
    arrow = " → " if screen.blocks else " -> "
    ends = {By.POD: "pods", By.WORKLOAD: "workloads", By.NAMESPACE: "namespaces"}[by]
    for title, column, groups in (
        (f"from and to, {ends}", f"from{arrow}to", top(report.flows, pair_of(by))),
        ("ports", "port", top(report.flows, port_of)),
        ("policies", "policy, or log prefix", top(report.flows, policy_of)),
    ):
        shown = f"the first {most} of {len(groups)}" if len(groups) > most else f"{len(groups)} in all"
        yield f"\n{title}: {shown}\n{'packets':>12} {'share':>6}  {'last':<20}  {column}\n"
        for group in groups[:most]:
            yield _row(group, report.packets, arrow.join(map(one_line, group.label)), screen)
    if report.trial is not None:
        yield from _trial(report, report.trial, most, screen)


def _trial(report: Report, trial: Mapping[FlowId, Outcome], most: int, screen: Screen) -> Iterator[str]:
    """What other policies would let through, and what is in the way of the rest."""
    yield f"\n{sentence(report.flows, trial)}\n{'packets':>12} {'share':>6}  {'last':<20}  would be\n"
    groups = top(report.flows, lambda one: (in_words(trial[one]),))
    for group in groups[:most]:
        yield _row(group, report.packets, one_line(group.label[0]), screen)


def _head(report: Report) -> str:
    counted = f"{_number(report.packets)} packet{'' if report.packets == 1 else 's'}"
    if report.from_us is not None and report.to_us is not None:
        counted = f"{kubernetes_time(report.from_us)} to {kubernetes_time(report.to_us)}: {counted}"
    if not report.flows:
        return f"{counted}\n"
    verdicts = ", ".join(
        f"{one_line(group.label[0])} {_number(group.packets)}" for group in top(report.flows, verdict_of)
    )
    senders = plural(len({flow.id.src.address for flow in report.flows}), "address", "addresses")
    receivers = len({flow.id.dst.address for flow in report.flows})
    return f"{counted} ({verdicts}) in {plural(len(report.flows), 'flow')}, from {senders} to {receivers}\n"


def _timeline(report: Report, screen: Screen) -> Iterator[str]:
    """Packets by time, as high as the most of a column; a column that has any shows so."""
    if report.from_us is None or report.to_us is None:
        return
    width = screen.columns
    # No column is narrower than what is known.
    known = -(-(report.to_us - report.from_us) // report.bars.width_us)
    number = min(width, known)
    if number < 2:
        return
    columns = report.bars.columns(report.from_us, report.to_us, number)
    signs = _BLOCKS if screen.blocks else _PLAIN
    most, steps = max(columns), len(signs) - 1
    heights = [-(-count * _HEIGHT * steps // most) for count in columns]
    repeat, wide = width // number, (report.to_us - report.from_us) / number / 1e6
    yield f"\nby time: a column is {span(wide)}, the highest {plural(most, 'packet')}\n"
    for level in reversed(range(_HEIGHT)):
        line = "".join(signs[min(max(0, height - level * steps), steps)] * repeat for height in heights)
        yield f"{line.rstrip()}\n"
    begin, end = kubernetes_time(report.from_us), kubernetes_time(report.to_us)
    gap = repeat * number - len(begin) - len(end)
    yield f"{begin}{' ' * gap}{end}\n" if gap > 0 else f"{begin}\n"


def _row(group: Group, packets: int, label: str, screen: Screen) -> str:
    share = f"{100 * group.packets / packets:.1f}%"
    shown = one_line(label, max(_SHORTEST_LABEL, screen.columns - _NUMBERS))
    return f"{_number(group.packets):>12} {share:>6}  {kubernetes_time(group.last_us)}  {shown}\n"


def _number(count: int) -> str:
    """``1,234,567``."""
    return f"{count:,}"
