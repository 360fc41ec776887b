"""When each flow's packets were."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.flow import FlowKey
from kiptail.report import moments as module
from kiptail.report.ends import Ends
from kiptail.report.moments import SHORTEST_US, Moments, wider
from kiptail.report.tally import Flow, Period, Tally

SECOND = 1_000_000


def key(port: int) -> FlowKey:
    return FlowKey("10.0.0.1", "10.0.0.2", "TCP", port, None, None, reply=False, prefix="p:", verdict="drop")


def counted(batches: list[tuple[int, list[int]]]) -> Tally:
    """Of each port's flow, packets at these times, in µs."""
    tally = Tally(Ends(None, {}), Period())
    for port, times_us in batches:
        tally.add(key(port), times_us)
    return tally


def of(moments: Moments, flow: Flow) -> Counter[int]:
    counts: Counter[int] = Counter()
    for at_us, count in moments.of(flow):
        counts[at_us] += count
    return counts


TIMES = st.lists(st.integers(0, 400_000_000 * SECOND) | st.integers(0, 20 * SECOND), min_size=1, max_size=20)


@given(st.lists(st.tuples(st.integers(1, 4), TIMES), max_size=20), st.integers(8, 200))
def test_each_packet_is_in_the_stretch_of_its_time(batches: list[tuple[int, list[int]]], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_CELLS", most)
        tally = counted(batches)
        moments = tally.moments
        naive: dict[int, Counter[int]] = {}
        for port, times_us in batches:
            counts = naive.setdefault(port, Counter())
            counts.update(time_us // moments.width_us * moments.width_us for time_us in times_us)
        assert {flow.id.port: of(moments, flow) for flow in tally.flows.values()} == naive
        assert moments._number == sum(len(cells) // 2 for cells in moments._cells.values()) <= most


def test_stretches_are_seconds_until_there_is_too_much() -> None:
    tally = counted([(80, [at * SECOND for at in range(1_000)])])
    assert tally.moments.width_us == SHORTEST_US


def test_a_scan_keeps_nothing() -> None:
    tally = counted([(port, [port * SECOND, port * SECOND + 7]) for port in range(1_000)])
    assert tally.moments._cells == {}


def test_lengths_are_those_of_clocks_and_divide_one_another() -> None:
    lengths = [SHORTEST_US]
    while len(lengths) < 40:
        lengths.append(wider(lengths[-1]))
    assert all(after % before == 0 and after > before for before, after in pairwise(lengths))
    assert {60, 3_600, 86_400, 2 * 86_400} <= {length // SECOND for length in lengths}
