"""What the page of a report shows, in texts and numbers that only have to be set (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kiptail.clock.dates import kubernetes_time
from kiptail.report.ends import By
from kiptail.report.summary import Group, Report, pair_of, policy_of, port_of, top, verdict_of
from kiptail.report.tally import Flow, FlowId
from kiptail.text import one_line, plural, span

__all__ = ["Bar", "Box", "Chart", "Column", "Matrix", "Table", "View", "view_of"]

#: The timeline's columns at most, and its size in SVG units.
_BARS, WIDTH, HEIGHT = 96, 960, 160
#: Rows and columns of the matrix; the others are added up in one more.
_SIDES = 12
#: Rows of a table; flows beyond that are added up by workload.
MOST_ROWS = 2_000
#: Rows of a cell of the matrix at most, and of all of them.
_CELL_ROWS, _ALL_CELL_ROWS = 20, 2_000
#: Shades of the matrix' cells.
_SHADES = 5
_OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class Bar:
    """The packets of a part of the period."""

    x: float
    y: float
    width: float
    height: float
    count: int
    begin: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The timeline."""

    bars: Sequence[Bar]
    #: How long a bar is, and its most packets, in words.
    step: str
    most: str


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table."""

    name: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the most packets first."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | int]]
    #: What is not shown, in words, or "".
    more: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A cell of the matrix that has packets, and what it opens to."""

    id: str
    src: str
    dst: str
    packets: int
    #: 1 to 5.
    shade: int
    table: Table


@dataclass(frozen=True, slots=True)
class Matrix:
    """Who sent (rows) and for whom it was (columns)."""

    #: "namespace" or "workload".
    by: str
    rows: Sequence[str]
    columns: Sequence[str]
    #: By row, then by column; None where there was nothing.
    cells: Sequence[Sequence[Box | None]]

    @property
    def boxes(self) -> list[Box]:
        """The cells that have packets, row by row."""
        return [box for row in self.cells for box in row if box is not None]


@dataclass(frozen=True, slots=True)
class View:
    """The page."""

    begin: str
    end: str
    packets: int
    flows: int
    #: What became of the packets, in words.
    verdicts: str
    remarks: Sequence[str]
    #: None where all packets are of one moment.
    chart: Chart | None
    matrix: Matrix | None
    tables: Sequence[Table]


def view_of(report: Report, by: By) -> View:
    """The page of a report, whose flows are shown as they are, or added up ``by`` workload or namespace."""
    shown = by
    if by is By.POD and len(report.flows) > MOST_ROWS:
        shown = By.WORKLOAD
    return View(
        begin="" if report.from_us is None else kubernetes_time(report.from_us),
        end="" if report.to_us is None else kubernetes_time(report.to_us),
        packets=report.packets,
        flows=len(report.flows),
        verdicts=", ".join(f"{one_line(g.label[0])} {g.packets:,}" for g in top(report.flows, verdict_of)),
        remarks=[one_line(remark) for remark in report.remarks],
        chart=_chart(report),
        matrix=_matrix(report.flows, By.WORKLOAD if by is By.WORKLOAD else By.NAMESPACE) if report.flows else None,
        tables=[
            _flows(report.flows, shown),
            _grouped("policies", "Policies, or log prefixes", "policy", top(report.flows, policy_of)),
            _grouped("ports", "Ports", "port", top(report.flows, port_of)),
            _peers(report.flows, shown),
        ]
        if report.flows
        else [],
    )


def _chart(report: Report) -> Chart | None:
    if report.from_us is None or report.to_us is None or not report.packets:
        return None
    span_us = report.to_us - report.from_us
    number = min(_BARS, -(-span_us // report.bars.width_us))
    if number < 2:
        return None
    counts = report.bars.columns(report.from_us, report.to_us, number)
    most, step = max(counts), WIDTH / number
    bars = []
    for at, count in enumerate(counts):
        # What there is can be seen, also beside a flood.
        height = max(2.0, HEIGHT * count / most) if count else 0.0
        begin = kubernetes_time(report.from_us + span_us * at // number)
        bars.append(Bar(round(at * step, 1), round(HEIGHT - height, 1), round(step * 0.9, 1), height, count, begin))
    return Chart(bars, span(span_us / number / 1e6), plural(most, "packet"))


def _matrix(flows: Sequence[Flow], by: By) -> Matrix:
    rows = _sides(top(flows, lambda one: (one.src.label(by),)))
    columns = _sides(top(flows, lambda one: (one.dst.label(by),)))
    known = frozenset(rows), frozenset(columns)
    cells: dict[tuple[str, str], list[Flow]] = {}
    for flow in flows:
        src, dst = flow.id.src.label(by), flow.id.dst.label(by)
        place = src if src in known[0] else _OTHERS, dst if dst in known[1] else _OTHERS
        cells.setdefault(place, []).append(flow)
    sums = {place: sum(flow.count for flow in some) for place, some in cells.items()}
    most = max(sums.values())
    rows_each = min(_CELL_ROWS, _ALL_CELL_ROWS // len(sums))
    boxes: dict[tuple[str, str], Box] = {}
    for number, place in enumerate(sorted(sums, key=lambda place: (-sums[place], place))):
        id_ = f"cell-{number}"
        src, dst = map(one_line, place)
        # By magnitude: one flood must not make all else look alike.
        shade = max(1, _SHADES - (len(bin(most)) - len(bin(sums[place]))) // 2)
        boxes[place] = Box(id_, src, dst, sums[place], shade, _pairs(id_, cells[place], rows_each))
    return Matrix(
        by.value,
        list(map(one_line, rows)),
        list(map(one_line, columns)),
        [[boxes.get((row, column)) for column in columns] for row in rows],
    )


def _sides(groups: Sequence[Group]) -> list[str]:
    labels = [group.label[0] for group in groups[:_SIDES]]
    return [*labels, _OTHERS] if len(groups) > _SIDES else labels


def _pairs(id_: str, flows: Iterable[Flow], most: int) -> Table:
    """What a cell of the matrix opens to: pods."""
    pair = pair_of(By.POD)
    groups = top(flows, lambda one: (*pair(one), *port_of(one)))
    return Table(
        id_,
        "",
        (Column("from"), Column("to"), Column("port"), Column("packets", number=True), Column("last")),
        [(*_texts(group), group.packets, kubernetes_time(group.last_us)) for group in groups[:most]],
        _more(groups, most),
    )


def _flows(flows: Iterable[Flow], by: By) -> Table:
    pair = pair_of(by)

    def label(one: FlowId) -> tuple[str, ...]:
        return (*pair(one), *port_of(one), *policy_of(one), one.verdict)

    groups = top(flows, label)
    names = {By.POD: "pods", By.WORKLOAD: "workloads", By.NAMESPACE: "namespaces"}[by]
    return Table(
        "flows",
        f"Flows between {names}",
        (
            *map(Column, ("from", "to", "port", "policy", "verdict")),
            Column("packets", number=True),
            Column("last"),
        ),
        [(*_texts(group), group.packets, kubernetes_time(group.last_us)) for group in groups[:MOST_ROWS]],
        _more(groups, MOST_ROWS),
    )


def _grouped(id_: str, title: str, name: str, groups: Sequence[Group]) -> Table:
    return Table(
        id_,
        title,
        (Column(name), Column("flows", number=True), Column("packets", number=True), Column("last")),
        [(*_texts(group), group.flows, group.packets, kubernetes_time(group.last_us)) for group in groups[:MOST_ROWS]],
        _more(groups, MOST_ROWS),
    )


def _peers(flows: Sequence[Flow], by: By) -> Table:
    """Both ends: how many of the lost packets each sent, and how many were for it."""
    sent = {group.label: group for group in top(flows, lambda one: (one.src.label(by),))}
    meant = {group.label: group for group in top(flows, lambda one: (one.dst.label(by),))}
    none = Group(())
    peers = []
    for label in sent | meant:
        out, into = sent.get(label, none), meant.get(label, none)
        peers.append((one_line(label[0]), out.packets, into.packets, max(out.last_us, into.last_us)))
    peers.sort(key=lambda peer: (-peer[1] - peer[2], peer[0]))
    return Table(
        "peers",
        "Peers",
        (Column("peer"), Column("sent", number=True), Column("meant for it", number=True), Column("last")),
        [(*peer[:3], kubernetes_time(peer[3])) for peer in peers[:MOST_ROWS]],
        f"{len(peers) - MOST_ROWS:,} more are not shown" if len(peers) > MOST_ROWS else "",
    )


def _texts(group: Group) -> tuple[str, ...]:
    return tuple(map(one_line, group.label))


def _more(groups: Sequence[Group], most: int) -> str:
    rest = groups[most:]
    return f"{len(rest):,} more with {plural(sum(g.packets for g in rest), 'packet')} are not shown" if rest else ""
