"""When all pods are read for second addresses, and for which."""

from __future__ import annotations

import random

import pytest

from kiptail.pods import dual_stack_plan
from kiptail.pods.dual_stack_plan import FAILED_RETRY, FIRST_WITHIN, INTERVAL, MAX_WAITING, DualStackPlan
from kiptail.pods.dual_stack_plan import SMALL_FIRST_WITHIN as SOON
from tests.support.clock import Clock

T0 = 1_700_000_000_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """All jitter is as long as it can be."""
    clock = Clock(1000.0)
    monkeypatch.setattr(dual_stack_plan.time, "monotonic", clock)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return clock


@pytest.fixture
def plan(clock: Clock) -> DualStackPlan:
    return DualStackPlan()


def test_nothing_is_read_unless_somebody_waits(plan: DualStackPlan) -> None:
    assert plan.next() == (frozenset(), None)
    assert len(plan) == 0


def test_a_small_cluster_comes_first_and_others_when_their_time_has_come(clock: Clock, plan: DualStackPlan) -> None:
    assert plan.add("fd00::1", T0)
    assert plan.next() == (frozenset(), SOON)
    clock.now += SOON
    assert plan.add("fd00::2", T0)
    assert plan.next() == ({"fd00::1", "fd00::2"}, 0.0)
    assert plan.is_early()
    plan.postpone()
    assert plan.next() == (frozenset(), FIRST_WITHIN - SOON)
    clock.now += FIRST_WITHIN - SOON
    assert not plan.is_early()
    assert plan.next()[0]


def test_a_list_answers_whom_it_was_read_for_and_nobody_waits_on(clock: Clock, plan: DualStackPlan) -> None:
    plan.add("fd00::1", T0)
    plan.add("fd00::late", T0)
    assert plan.complete(frozenset(("fd00::1",)), T0 + 5) == {"fd00::1", "fd00::late"}
    assert len(plan) == 0
    assert [plan.answers("fd00::1", T0 + 5), plan.answers("fd00::1", T0 + 6)] == [True, False]
    assert not plan.answers("fd00::late", T0)
    assert not plan.add("fd00::late", T0 + 5), "it was read for that one too, but whoever had it was not kept"
    assert plan.add("fd00::late", T0 + 6)
    assert plan.next() == (frozenset(), INTERVAL * 1.2)


def test_a_failure_leaves_waiting_who_waits_ever_longer(clock: Clock, plan: DualStackPlan) -> None:
    plan.add("fd00::1", T0)
    pauses = []
    for _ in range(7):
        plan.failed()
        pauses.append(plan.next()[1])
        assert "fd00::1" in plan
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, INTERVAL, INTERVAL]
    plan.reached()
    plan.failed()
    assert plan.next()[1] == FAILED_RETRY


def test_while_it_is_off_nobody_waits(clock: Clock, plan: DualStackPlan) -> None:
    plan.add("fd00::1", T0)
    plan.turn_off(60.0)
    plan.drop()
    assert plan.is_off()
    assert plan.next() == (frozenset(), None)
    assert not plan.add("fd00::1", T0)
    clock.now += 60.0
    assert not plan.is_off()
    assert plan.add("fd00::1", T0)


def test_only_so_many_wait(plan: DualStackPlan) -> None:
    assert all(plan.add(f"fd00::{n:x}", T0) for n in range(MAX_WAITING))
    assert not plan.add("fd01::", T0)
    assert len(plan) == MAX_WAITING
