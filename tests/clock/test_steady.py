"""Steady time, against a machine of which all is known: its boots, and how wrong its wall clock was when."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.clock.steady import SLACK_US, Stretch, Timeline, Times
from tests.support.clock import Machine

SECOND = 1_000_000
HOUR = 3600
T0 = 1_800_000_000
BOOTS = ["b0" * 16, "b1" * 16, "b2" * 16]


@dataclass(frozen=True)
class Line:
    """Something in a journal: when it truly was, and where."""

    at: float
    machine: Machine

    def seen_by(self, timeline: Timeline) -> int:
        machine, at = self.machine, self.at
        return timeline.observe(machine.boot_id, machine.monotonic_us(at), machine.wall_us(at))

    def kubelet_us(self) -> int:
        """How a kubelet dates it."""
        return self.machine.wall_us(self.at) // SECOND * SECOND


def continued(timeline: Timeline) -> Timeline:
    """What another run makes of what was stored."""
    return Timeline(Times.restored(json.loads(json.dumps(timeline.times))))


#: Seconds. What is less than the slack is let pass, and may make one boot seem to begin before the end of another.
SMALL, LARGE = [3, -8], [0, 0, 60, -HOUR, 8 * HOUR, -24 * HOUR, 24 * HOUR, 3 * 8760 * HOUR]


@st.composite
def lives(draw: st.DrawFn, sizes: Sequence[int] = (*SMALL, *LARGE)) -> list[Line]:
    """Lines of a machine with a few boots, in the order in which they were written."""
    wrong = st.sampled_from(sizes)
    lines, at = [], float(T0)
    for boot_id in BOOTS[: draw(st.integers(1, 3))]:
        at += draw(st.integers(5, 5 * HOUR))
        booted, errors, moments = at, [(at, draw(wrong))], []
        for _ in range(draw(st.integers(1, 12))):
            at += draw(st.sampled_from([0.0, 0.25, 1.0, 30.0, 2000.0]))
            if draw(st.integers(0, 3)) == 0:
                errors.append((at, draw(wrong)))
            moments.append(at)
        machine = Machine(booted, errors, boot_id)
        lines += [Line(moment, machine) for moment in moments]
    return lines


@given(lives())
def test_time_passes_as_it_truly_does_within_a_boot(lines: list[Line]) -> None:
    timeline = Timeline()
    seen = [(line, line.seen_by(timeline)) for line in lines]
    for (earlier, before_us), (later, after_us) in itertools.pairwise(seen):
        assert after_us >= before_us - SLACK_US
        if earlier.machine is later.machine:
            # Small settings, of less than the slack, are let pass, and a large one is rounded to the second.
            passed_us = round((later.at - earlier.at) * 1e6)
            assert abs(after_us - before_us - passed_us) <= SLACK_US


@given(lives(), st.data())
def test_another_run_goes_on_alike_wherever_the_first_one_stopped(lines: list[Line], data: st.DataObject) -> None:
    whole, timeline = Timeline(), Timeline()
    at = data.draw(st.integers(0, len(lines)))
    for line in lines[:at]:
        assert line.seen_by(timeline) == line.seen_by(whole)
    timeline = continued(timeline)
    for line in lines[at:]:
        assert line.seen_by(timeline) == line.seen_by(whole)
    assert timeline.times == whole.times


@given(lives(LARGE))
def test_the_wall_clock_is_told_as_it_was_set_in_the_end(lines: list[Line]) -> None:
    timeline = Timeline()
    seen = [(line, line.seen_by(timeline)) for line in lines]
    for line, steady_us in seen:
        machine = line.machine
        last = next(later for later in reversed(lines) if later.machine is machine)
        right_us = round((line.at + machine.error(last.at)) * 1e6)
        assert abs(timeline.wall(steady_us) - right_us) <= SLACK_US * len(machine.errors)


@given(lives(LARGE))
def test_what_the_kubelet_dated_is_found_again_unless_its_clock_showed_it_twice(lines: list[Line]) -> None:
    timeline = Timeline()
    seen = [(line, line.seen_by(timeline)) for line in lines]
    machines = list({line.machine.boot_id: line.machine for line in lines}.values())
    ends = [*(machine.booted for machine in machines[1:]), lines[-1].at]
    shown = [
        (begin + error, until + error)
        for machine, end in zip(machines, ends, strict=True)
        for (begin, error), (until, _) in itertools.pairwise([*machine.errors, (end, 0)])
    ]
    for line, steady_us in seen:
        if line.machine is not machines[-1]:
            continue  # how long an earlier boot lasted, nobody knows
        wall_s = line.machine.wall_us(line.at) / 1e6
        if sum(begin - 12 <= wall_s <= until + 12 for begin, until in shown) == 1:
            found_us = timeline.steady(line.kubelet_us(), seen[-1][1])
            assert abs(found_us - steady_us) <= SLACK_US + SECOND


class TestTable:
    def test_a_clock_that_is_right_is_steady_time(self) -> None:
        timeline = Timeline()
        assert timeline.observe(BOOTS[0], 5, 1_000_005) == 1_000_005
        assert timeline.is_steady()
        assert (timeline.wall(7), timeline.steady(7, 9)) == (7, 7)

    @pytest.mark.parametrize("error_s", [-24 * HOUR, -HOUR, 8 * HOUR, 24 * HOUR, 3 * 8760 * HOUR])
    def test_a_clock_that_is_set(self, error_s: int) -> None:
        machine = Machine(T0, [(T0, error_s), (T0 + 100, 0)], BOOTS[0])
        timeline = Timeline()
        before_us = Line(T0 + 99, machine).seen_by(timeline)
        assert before_us == (T0 + 99 + error_s) * SECOND
        assert Line(T0 + 101, machine).seen_by(timeline) == before_us + 2 * SECOND
        assert timeline.wall(before_us) == (T0 + 99) * SECOND
        assert timeline.steady((T0 + 99 + error_s) * SECOND, before_us + 3 * SECOND) == before_us
        assert timeline.steady((T0 + 101) * SECOND, before_us + 3 * SECOND) == before_us + 2 * SECOND

    def test_a_boot_whose_clock_is_behind_is_still_later(self) -> None:
        timeline = Timeline()
        last_us = Line(T0 + 50, Machine(T0, boot_id=BOOTS[0])).seen_by(timeline)
        behind = Machine(T0 + 100, [(T0 + 100, -24 * HOUR), (T0 + 200, 0)], BOOTS[1])
        assert Line(T0 + 110, behind).seen_by(timeline) - last_us == 11 * SECOND
        assert Line(T0 + 210, behind).seen_by(timeline) - last_us == 111 * SECOND
        assert timeline.wall(last_us) == last_us

    def test_a_boot_whose_clock_is_ahead_leaves_earlier_times_as_they_are(self) -> None:
        timeline = Timeline()
        last_us = Line(T0 + 50, Machine(T0, boot_id=BOOTS[0])).seen_by(timeline)
        ahead = Machine(T0 + 100, [(T0 + 100, 8 * HOUR), (T0 + 200, 0)], BOOTS[1])
        for at in (T0 + 110, T0 + 210):
            now_us = Line(at, ahead).seen_by(timeline)
        assert timeline.wall(last_us) == last_us
        assert timeline.wall(now_us) == (T0 + 210) * SECOND

    def test_entries_of_several_boots_may_alternate(self) -> None:
        """As where journals of several machines are read together."""
        timeline = Timeline()
        machines = [Machine(T0 - 1000 * n, boot_id=BOOTS[n]) for n in range(3)]
        for second in range(30):
            assert Line(T0 + second, machines[second % 3]).seen_by(timeline) == (T0 + second) * SECOND
        assert len(timeline.stretches) == 3

    @pytest.mark.parametrize("ahead_s", [8 * HOUR, 3 * 8760 * HOUR])
    def test_a_wrong_time_that_an_earlier_version_stored_heals(self, ahead_s: int) -> None:
        watermark_us = (T0 + ahead_s) * SECOND
        timeline = Timeline.begun(BOOTS[0], 100 * SECOND, T0 * SECOND, not_before_us=watermark_us)
        machine = Machine(T0 - 100, boot_id=BOOTS[0])
        assert Line(T0 + 5, machine).seen_by(timeline) == watermark_us + 5 * SECOND
        assert timeline.wall(watermark_us) == T0 * SECOND

    @pytest.mark.parametrize("monotonic_us", [2**63, 10**18, -1])
    def test_an_uptime_that_cannot_be_moves_nothing(self, monotonic_us: int) -> None:
        timeline = Timeline()
        machine = Machine(T0 - 100, [(T0, 8 * HOUR)], BOOTS[0])
        before_us = Line(T0 - 1, machine).seen_by(timeline)
        assert Line(T0 + 1, machine).seen_by(timeline) == before_us + 2 * SECOND
        times = timeline.times
        assert timeline.observe(BOOTS[0], monotonic_us, machine.wall_us(T0 + 2)) == before_us + 3 * SECOND
        assert timeline.times == times

    def test_what_is_kept_is_bounded(self) -> None:
        timeline = Timeline()
        errors = [(T0 + second, 8 * HOUR * (second % 2)) for second in range(1000)]
        machine = Machine(T0, errors, BOOTS[0])
        for second in range(1000):
            assert Line(T0 + second, machine).seen_by(timeline) == (T0 + second) * SECOND
        assert len(timeline.stretches) <= 32


@pytest.mark.parametrize("stored", [None, 1, "x", [], [1], [[1], 2], [[["a", 1, 2]], 3], [[["a", 1, 2, 3, 4]], 3]])
def test_what_is_no_timeline_is_refused(stored: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        Times.restored(stored)


@example("b", 0, 0)
@given(st.text(max_size=4), st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_any_times_can_be_observed(boot_id: str, monotonic_us: int, wall_us: int) -> None:
    timeline = Timeline(Times((Stretch(BOOTS[0], 0, 0, 0),), T0))
    steady_us = timeline.observe(boot_id, monotonic_us, wall_us)
    timeline.wall(steady_us)
    timeline.steady(wall_us, steady_us)
