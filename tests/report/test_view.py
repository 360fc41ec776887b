"""What the page of a report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from kiptail.flows.flow import FlowKey
from kiptail.report import view as module
from kiptail.report.ends import By, Ends
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally
from kiptail.report.timeline import Packets
from kiptail.report.view import view_of
from tests.report.pages import SECOND, START, busy, unpacked


def flat(number: int, *, packets: int = 1) -> Report:
    """So many senders of one packet each to one address, a second each."""
    tally = Tally(Ends(None, {}), Period())
    for n in range(number):
        key = FlowKey(
            f"10.0.{n // 200}.{n % 200}", "10.9.0.1", "TCP", 80, None, None, reply=False, prefix="p:", verdict="drop"
        )
        tally.add(key, [START + n * SECOND] * packets)
    return report_of(tally, ())


def table(report: Report, by: By, id_: str) -> Any:
    return next(one for one in view_of(report, by).tables if one.id == id_)


def column(one: Any, name: str) -> int:
    return [column.name for column in one.columns].index(name)


def test_every_table_and_the_matrix_have_all_packets() -> None:
    report = busy()
    for by in By:
        shown = view_of(report, by)
        assert shown.packets.count == report.packets
        for one in shown.tables:
            at = column(one, "sent" if one.id == "peers" else "packets")
            assert sum(row[at].count for row in one.rows) == report.packets
        assert shown.matrix is not None
        assert sum(box.packets.count for box in shown.matrix.boxes) == report.packets
        assert shown.chart is not None
        assert sum(bar.packets.count for bar in shown.chart.bars) == report.packets
        assert sum(packets.count for _, packets in shown.verdicts) == report.packets


def added(numbers: Iterable[Packets]) -> Counter[int]:
    total: Counter[int] = Counter()
    for one in numbers:
        total.update(unpacked(one.when))
    return total


def test_every_table_and_the_matrix_have_all_packets_of_each_bar() -> None:
    for by in By:
        shown = view_of(busy(), by)
        assert shown.chart is not None
        assert shown.matrix is not None
        bars = {bar.at: bar.packets.count for bar in shown.chart.bars if bar.packets.count}
        assert unpacked(shown.packets.when) == bars
        assert added(packets for _, packets in shown.verdicts) == bars
        for one in shown.tables:
            for name in ("sent", "meant for it") if one.id == "peers" else ("packets",):
                assert added(row[column(one, name)] for row in one.rows) == bars
        assert added(box.packets for box in shown.matrix.boxes) == bars
        whole = [box for box in shown.matrix.boxes if not box.table.more]
        assert len(whole) > 3
        for box in whole:
            assert added(row[column(box.table, "packets")] for row in box.table.rows) == unpacked(box.packets.when)


def test_each_number_is_the_sum_of_its_bars() -> None:
    for one in view_of(busy(), By.POD).tables:
        for row in one.rows:
            for number in row:
                assert not isinstance(number, Packets) or sum(unpacked(number.when).values()) == number.count


def test_a_bar_is_as_high_as_its_packets_and_never_invisible() -> None:
    tally = Tally(Ends(None, {}), Period(START, START + 10 * SECOND))
    key = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, reply=False, prefix="p:", verdict="drop")
    tally.add(key, [START] * 1_000_000 + [START + 9 * SECOND])
    chart = view_of(report_of(tally, ()), By.POD).chart
    assert chart is not None
    assert [bar.height for bar in chart.bars] == [160.0, *[0.0] * 8, 2.0]


def test_many_names_are_folded_into_others() -> None:
    report = flat(50)
    shown = view_of(report, By.WORKLOAD).matrix
    assert shown is not None
    assert (len(shown.rows), shown.rows[-1]) == (13, "(others)")
    assert shown.columns == ["10.9.0.1"]
    assert [box.packets.count for box in shown.boxes] == [*[1] * 12, 38]
    assert len({box.id for box in shown.boxes}) == 13


def test_what_is_not_shown_is_said() -> None:
    one = table(flat(2_100, packets=3), By.WORKLOAD, "flows")
    assert len(one.rows) == 2_000
    assert one.more == "100 more with 300 packets are not shown"


def test_many_flows_are_shown_by_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table(busy(), By.POD, "flows").title == "Flows between pods"
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    assert table(busy(), By.POD, "flows").title == "Flows between workloads"
    assert table(busy(), By.NAMESPACE, "flows").title == "Flows between namespaces"


def test_the_matrix_is_by_namespace_unless_by_workload() -> None:
    shown = [view_of(busy(), by).matrix for by in By]
    assert [matrix.by for matrix in shown if matrix] == ["namespace", "workload", "namespace"]


def test_nothing_is_a_page_too() -> None:
    shown = view_of(report_of(Tally(Ends(None, {}), Period()), ()), By.POD)
    assert (shown.packets.count, shown.chart, shown.matrix, list(shown.tables)) == (0, None, None, [])
