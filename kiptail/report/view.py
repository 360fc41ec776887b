"""What the page of a report shows, in texts and numbers that only have to be set (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kiptail.clock.dates import kubernetes_time
from kiptail.report.ends import By
from kiptail.report.summary import Group, Report, pair_of, policy_of, port_of, top, verdict_of
from kiptail.report.tally import Flow, FlowId
from kiptail.report.timeline import Chart, Packets, Timeline, chart_of, packed, timeline_of
from kiptail.report.trial import sentence
from kiptail.text import one_line, plural

__all__ = ["Box", "Column", "Matrix", "Table", "View", "view_of"]

#: Rows and columns of the matrix; the others are added up in one more.
_SIDES = 12
#: Rows of a table; flows beyond that are added up by workload.
MOST_ROWS = 2_000
#: Rows of a cell of the matrix at most, and of all of them.
_CELL_ROWS, _ALL_CELL_ROWS = 20, 2_000
#: Shades of the matrix' cells.
_SHADES = 5
_OTHERS = "(others)"

#: Groups with their packets, and those that are not shown.
_Ranked = tuple[Sequence[tuple[Group, Packets]], Sequence[Group]]


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
    rows: Sequence[Sequence[str | int | Packets]]
    #: What is not shown, in words, or "".
    more: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A cell of the matrix that has packets, and what it opens to."""

    id: str
    src: str
    dst: str
    packets: Packets
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
    packets: Packets
    flows: int
    #: What became of the packets: a word, and of how many.
    verdicts: Sequence[tuple[str, Packets]]
    remarks: Sequence[str]
    #: None where all packets are of one moment.
    chart: Chart | None
    matrix: Matrix | None
    tables: Sequence[Table]


def view_of(report: Report, by: By) -> View:
    """The page of a report, whose flows are shown as they are, or added up ``by`` workload or namespace."""
    flows, shown = report.flows, by
    if by is By.POD and len(flows) > MOST_ROWS:
        shown = By.WORKLOAD
    timeline = timeline_of(report)
    return View(
        begin="" if report.from_us is None else kubernetes_time(report.from_us),
        end="" if report.to_us is None else kubernetes_time(report.to_us),
        packets=Packets(report.packets, packed(timeline.counts(flows)) if timeline else ""),
        flows=len(flows),
        verdicts=[
            (one_line(group.label[0]), packets) for group, packets in _ranked(flows, verdict_of, timeline, MOST_ROWS)[0]
        ],
        remarks=[
            *map(one_line, report.remarks),
            *(() if report.trial is None else [sentence(flows, report.trial)]),
        ],
        chart=chart_of(report, timeline),
        matrix=_matrix(flows, By.WORKLOAD if by is By.WORKLOAD else By.NAMESPACE, timeline) if flows else None,
        tables=[
            _flows(flows, shown, timeline),
            _grouped("policies", "Policies, or log prefixes", "policy", _ranked(flows, policy_of, timeline, MOST_ROWS)),
            _grouped("ports", "Ports", "port", _ranked(flows, port_of, timeline, MOST_ROWS)),
            _peers(flows, shown, timeline),
        ]
        if flows
        else [],
    )


def _ranked(
    flows: Sequence[Flow], label: Callable[[FlowId], tuple[str, ...]], timeline: Timeline | None, most: int
) -> _Ranked:
    groups = top(flows, label)
    return [(group, _packets(group, timeline)) for group in groups[:most]], groups[most:]


def _packets(group: Group, timeline: Timeline | None) -> Packets:
    return Packets(group.packets, packed(timeline.counts(group.flows)) if timeline else "")


def _matrix(flows: Sequence[Flow], by: By, timeline: Timeline | None) -> Matrix:
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
        packets = Packets(sums[place], packed(timeline.counts(cells[place])) if timeline else "")
        boxes[place] = Box(id_, src, dst, packets, shade, _pairs(id_, cells[place], timeline, rows_each))
    return Matrix(
        by.value,
        list(map(one_line, rows)),
        list(map(one_line, columns)),
        [[boxes.get((row, column)) for column in columns] for row in rows],
    )


def _sides(groups: Sequence[Group]) -> list[str]:
    labels = [group.label[0] for group in groups[:_SIDES]]
    return [*labels, _OTHERS] if len(groups) > _SIDES else labels


def _pairs(id_: str, flows: Sequence[Flow], timeline: Timeline | None, most: int) -> Table:
    """What a cell of the matrix opens to: pods."""
    pair = pair_of(By.POD)
    ranked, rest = _ranked(flows, lambda one: (*pair(one), *port_of(one)), timeline, most)
    return Table(
        id_,
        "",
        (Column("from"), Column("to"), Column("port"), Column("packets", number=True), Column("last")),
        [(*_texts(group), packets, _time(group.last_us)) for group, packets in ranked],
        _more(rest),
    )


def _flows(flows: Sequence[Flow], by: By, timeline: Timeline | None) -> Table:
    pair = pair_of(by)

    def label(one: FlowId) -> tuple[str, ...]:
        return (*pair(one), *port_of(one), *policy_of(one), one.verdict)

    ranked, rest = _ranked(flows, label, timeline, MOST_ROWS)
    names = {By.POD: "pods", By.WORKLOAD: "workloads", By.NAMESPACE: "namespaces"}[by]
    return Table(
        "flows",
        f"Flows between {names}",
        (
            *map(Column, ("from", "to", "port", "policy", "verdict")),
            Column("packets", number=True),
            Column("last"),
        ),
        [(*_texts(group), packets, _time(group.last_us)) for group, packets in ranked],
        _more(rest),
    )


def _grouped(id_: str, title: str, name: str, ranked: _Ranked) -> Table:
    groups, rest = ranked
    return Table(
        id_,
        title,
        (Column(name), Column("flows", number=True), Column("packets", number=True), Column("last")),
        [(*_texts(group), len(group.flows), packets, _time(group.last_us)) for group, packets in groups],
        _more(rest),
    )


def _peers(flows: Sequence[Flow], by: By, timeline: Timeline | None) -> Table:
    """Both ends: how many of the lost packets each sent, and how many were for it."""

    sent = {group.label: group for group in top(flows, lambda one: (one.src.label(by),))}
    meant = {group.label: group for group in top(flows, lambda one: (one.dst.label(by),))}
    peers = [(sent.get(label, Group(label)), meant.get(label, Group(label))) for label in sent | meant]
    peers.sort(key=lambda peer: (-peer[0].packets - peer[1].packets, one_line(peer[0].label[0])))
    return Table(
        "peers",
        "Peers",
        (Column("peer"), Column("sent", number=True), Column("meant for it", number=True), Column("last")),
        [
            (*_texts(out), _packets(out, timeline), _packets(into, timeline), _time(max(out.last_us, into.last_us)))
            for out, into in peers[:MOST_ROWS]
        ],
        f"{len(peers) - MOST_ROWS:,} more are not shown" if len(peers) > MOST_ROWS else "",
    )


def _texts(group: Group) -> tuple[str, ...]:
    return tuple(map(one_line, group.label))


def _time(us: int) -> str:
    """In UTC, for people."""
    return kubernetes_time(us).replace("T", " ").rstrip("Z")


def _more(rest: Sequence[Group]) -> str:
    return f"{len(rest):,} more with {plural(sum(g.packets for g in rest), 'packet')} are not shown" if rest else ""
