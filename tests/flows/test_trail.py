"""How a count grew, and where it can be cut."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.flow import Flow, FlowKey
from kiptail.flows.trail import KEPT, KEPT_BLIND, SECOND_US, Part, Trail

T0 = 1_800_000_000
KEY = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, False, "calico-drop:", "drop")
#: The latest seconds with drops are told apart, at least so many of them.
TOLD_APART = KEPT - KEPT // 4


def us(seconds: float) -> int:
    return round((T0 + seconds) * SECOND_US)


def fed(times: list[float], *, blind: bool = False) -> Flow:
    """A flow that counted drops at these times, in this order."""
    first_us = us(times[0])
    flow = Flow(1, KEY, first_us, first_us, first_us, first_us, 1, trail=Trail.begun(first_us))
    for seconds in times[1:]:
        flow.add(us(seconds), us(seconds), blind=blind)
    return flow


def naive(times: Sequence[float], cuts: Sequence[float]) -> list[tuple[int, bool]]:
    """How many drops there were between the cuts, second by second; a second with a cut in it stands for itself."""
    parts: list[tuple[int, bool]] = []
    before = None
    for second, count in sorted(Counter(int(seconds) for seconds in times).items()):
        mixed = any(second < cut < second + 1 for cut in cuts)
        alone = before is None or mixed or parts[-1][1] or any(before < cut <= second for cut in cuts)
        if alone:
            parts.append((count, mixed))
        else:
            parts[-1] = (parts[-1][0] + count, mixed)
        before = second
    return parts


def cut(flow: Flow, cuts: Sequence[float]) -> list[Part]:
    return flow.trail.parts(sorted(map(us, cuts)), flow.count)


quarters = st.integers(0, 4 * (KEPT - 2)).map(lambda n: n / 4)
whole = st.integers(-2, KEPT + 2)


@given(st.lists(quarters, min_size=1, max_size=60), st.lists(whole | quarters, max_size=5))
def test_what_is_told_apart_is_cut_as_if_every_second_had_been_kept(times: list[float], cuts: list[float]) -> None:
    flow = fed(times)
    parts = cut(flow, cuts)
    assert [(part.drops, part.mixed) for part in parts] == naive(times, cuts)
    assert parts[0].first_us is None
    for part in parts[1:]:
        assert part.first_us is not None
        inside = [seconds for seconds in times if part.first_us <= us(seconds) < part.until_us]
        assert len(inside) == part.drops
        assert us(int(min(inside))) == part.first_us
        assert us(int(max(inside)) + 1) == part.until_us


@given(st.lists(st.tuples(quarters, st.integers(1, 9)), min_size=1, max_size=40), st.lists(whole, max_size=5))
def test_drops_that_are_counted_together_are_cut_like_single_ones(
    batches: list[tuple[float, int]], cuts: list[float]
) -> None:
    trail, count = Trail(), 0
    for seconds, drops in batches:
        if us(seconds) >= trail.edge_us:
            trail.turn(us(seconds), count)
        elif us(seconds) < trail.edge_us - SECOND_US:
            trail.count_late(us(seconds), drops)
        count += drops
    times = [seconds for seconds, drops in batches for _ in range(drops)]
    assert [(p.drops, p.mixed) for p in trail.parts(sorted(map(us, cuts)), count)] == naive(times, cuts)


far_apart = st.integers(0, 1_500)


def history(length: int, chance: Random) -> list[float]:
    """The times of so many drops, mostly in their order, some late."""
    now, times = 0, []
    for _ in range(length):
        now += chance.choice([0, 1, 1, 1, 2, 3, 9])
        late = chance.randrange(40) if chance.random() < 0.1 else 0
        times.append(float(max(0, now - late)))
    return times


#: Up to what has to be merged several times.
long_times = st.builds(history, st.integers(1, 500), st.randoms(use_true_random=False))


@given(long_times, st.booleans(), st.lists(far_apart, max_size=5), st.data())
def test_whatever_was_merged_all_drops_are_there_and_each_part_has_those_of_its_time(
    times: list[float], blind: bool, cuts: list[float], data: st.DataObject
) -> None:
    flow = fed(times, blind=blind)
    if data.draw(st.booleans(), "the pods are followed again"):
        times = [*times, max(times) + 1]
        flow.add(us(times[-1]), us(times[-1]))
    parts = cut(flow, cuts)
    assert sum(part.drops for part in parts) == flow.count == len(times)
    before_us = 0
    for part in parts:
        first_us = part.first_us or 0
        assert before_us <= first_us < part.until_us
        assert part.drops == sum(first_us <= us(seconds) < part.until_us for seconds in times) > 0
        assert part.mixed == any(first_us < us(at) < part.until_us for at in cuts) or part is parts[0]
        before_us = part.until_us


@given(long_times, st.data())
def test_the_latest_seconds_are_always_told_apart(times: list[float], data: st.DataObject) -> None:
    flow = fed(times)
    at = data.draw(st.sampled_from(sorted({int(seconds) for seconds in times})[-TOLD_APART:]))
    later = sum(part.drops for part in cut(flow, [at]) if part.first_us is not None and part.first_us >= us(at))
    earlier = sum(seconds < at for seconds in times)
    assert later == (len(times) - earlier if earlier else 0)


@given(long_times, st.booleans(), st.lists(far_apart, max_size=3), st.lists(far_apart, max_size=3))
def test_cut_once_more_it_is_as_if_it_had_been_cut_at_once(
    times: list[float], blind: bool, first: list[float], more: list[float]
) -> None:
    flow = fed(times, blind=blind)
    at_once = [(part.drops, part.until_us, part.mixed) for part in cut(flow, [*first, *more])]
    one_by_one = []
    for part in cut(flow, first):
        rest = flow.trail.of(part)
        again = rest.parts(sorted(map(us, [*first, *more])), part.drops)
        one_by_one += [(p.drops, p.until_us, p.mixed) for p in again]
    assert one_by_one == at_once


@given(st.lists(quarters, min_size=1, max_size=40), st.lists(whole, min_size=1, max_size=3), st.data())
def test_a_part_goes_on_like_a_flow_of_its_own(times: list[float], cuts: list[float], data: st.DataObject) -> None:
    """What is added to the last part, in any order, is told apart from what it had."""
    flow = fed(times)
    last = cut(flow, cuts)[-1]
    began = int((last.first_us or us(min(times))) / SECOND_US) - T0
    own = [seconds for seconds in times if seconds >= began]
    rest = Flow(2, KEY, us(began), us(began), us(began), 0, last.drops, trail=flow.trail.of(last))
    later = data.draw(st.lists(quarters.map(lambda seconds: began + seconds), max_size=20))
    for seconds in later:
        rest.add(us(seconds), us(seconds))
    again = data.draw(st.lists(st.integers(began, KEPT + began), max_size=4))
    if len({int(seconds) for seconds in [*own, *later]}) <= KEPT:
        assert [(part.drops, part.mixed) for part in cut(rest, again)] == naive([*own, *later], again)


@given(long_times, st.randoms(use_true_random=False), st.booleans(), st.booleans(), st.lists(far_apart, max_size=4))
def test_drops_that_are_taken_out_are_gone_and_the_others_are_told_apart(
    times: list[float], chance: Random, blind: bool, other_blind: bool, cuts: list[float]
) -> None:
    own, others = [], []
    for seconds in times:
        (others if chance.random() < 0.3 else own).append(seconds)
    whole, part = fed(times, blind=blind), fed(others or times, blind=other_blind)
    whole.trail.take_out(whole.count, part.trail, part.count)
    whole.count -= part.count
    own = own if others else []
    assert sum(found.drops for found in cut(whole, cuts)) == len(own)
    for found in cut(whole, cuts):
        first_us = found.first_us or 0
        assert found.drops == sum(first_us <= us(seconds) < found.until_us for seconds in own) > 0
    first_us, until_us = whole.trail.extent(whole.count)
    if own:
        assert first_us is None or first_us == us(int(min(own)))
        assert until_us is not None
        assert until_us == us(int(max(own)) + 1) or first_us is None
        assert until_us > us(max(own))
    whole.add(us(5_000), us(5_000))
    assert [found.drops for found in cut(whole, [4_000])] == [*[len(own)] * bool(own), 1]


def test_what_was_taken_out_is_told_apart_no_more_exactly_than_it_was() -> None:
    whole, part = fed([1, 1, 2, 3, 3, 9]), fed([1, 3])
    whole.trail.take_out(6, part.trail, 2)
    assert [found.drops for found in whole.trail.parts([us(2), us(3), us(9)], 4)] == [1, 1, 1, 1]
    unknown = fed([1, 1, 2, 3, 3, 9])
    unknown.trail.take_out(6, Trail(), 2)
    assert unknown.trail.parts([us(2), us(3), us(9)], 4) == [Part(None, us(10), 4)]
    elsewhere = fed([5, 5])
    elsewhere.trail.take_out(2, fed([9]).trail, 1)
    assert [found.drops for found in elsewhere.trail.parts([us(2), us(5)], 1)] == [1]
    nothing = Trail()
    nothing.take_out(6, part.trail, 2)
    assert nothing == Trail()
    assert nothing.extent(4) == (None, None)
    assert fed([3, 1, 9]).trail.extent(3) == (us(1), us(10))


@given(long_times, st.booleans(), st.lists(quarters, max_size=9))
def test_it_is_the_same_after_being_stored(times: list[float], blind: bool, later: list[float]) -> None:
    flow = fed(times, blind=blind)
    stored = Trail.restored(bytes(flow.trail))
    assert stored == flow.trail
    again = Flow(1, KEY, flow.opened_us, flow.first_us, flow.last_us, flow.seen_us, flow.count, trail=stored)
    for each in (flow, again):
        for seconds in later:
            each.add(us(seconds), us(seconds))
    assert again == flow


@given(long_times, st.booleans())
def test_it_is_bounded(times: list[float], blind: bool) -> None:
    assert len(fed(times, blind=blind).trail) <= (KEPT_BLIND if blind else KEPT + 31)


def test_while_pods_cannot_be_followed_an_hour_is_kept_though_not_by_the_second() -> None:
    times = [float(second) for second in range(3_600)]
    flow = fed(times, blind=True)
    parts = cut(flow, [1_000, 3_500])
    assert len(flow.trail) <= KEPT_BLIND
    assert sum(part.drops for part in parts) == 3_600
    assert sum(part.drops for part in parts if part.first_us and part.first_us >= us(3_500)) == 100
    clear = [part.drops for part in parts if not part.mixed]
    assert 400 < clear[0] <= 1_000


def test_of_a_flow_that_an_earlier_version_stored_nothing_is_told_apart() -> None:
    assert Trail().parts([us(5)], 7) == [Part(None, 0, 7)]
    flow = Flow(1, KEY, us(0), us(0), us(9), us(9), 7)
    flow.add(us(8), us(9))
    flow.add(us(20), us(20))
    assert [part.drops for part in cut(flow, [10])] == [8, 1]


GARBAGE = {
    "empty": b"",
    "half a number": bytes(8 * 3 + 4),
    "one number": bytes(8),
    "an even number of numbers": bytes(8 * 4),
    "seconds that do not rise": array("q", (5, 5, 0, 1, 0)).tobytes(),
    "seconds that fall": array("q", (5, 4, 0, 1, 0)).tobytes(),
    "before all time": array("q", (-(2**50), 0, 0)).tobytes(),
    "after all time": array("q", (2**50, 0, 0)).tobytes(),
    "counts that fall": array("q", (4, 5, 3, 2, 0)).tobytes(),
    "counts below nothing": array("q", (4, 5, -3, 2, 0)).tobytes(),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_no_trail(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"trail|bytes"):
        Trail.restored(data)


@given(st.binary(max_size=80) | st.lists(st.integers(0, 9), max_size=9).map(lambda n: array("q", n).tobytes()))
def test_whatever_is_stored_is_a_trail_or_an_error(data: bytes) -> None:
    try:
        trail = Trail.restored(data)
    except ValueError:
        return
    count = 10_000
    assert bytes(Trail.restored(bytes(trail))) == bytes(trail)
    assert sum(part.drops for part in trail.parts([us(0)], count)) == count
