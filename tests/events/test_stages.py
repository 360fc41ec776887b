"""The stages of a tracked flow."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.events.stages import Stage, Stages, Tracked
from kiptail.flows.flow import ENDS, Flow, FlowKey
from kiptail.pods.ownership import PodRef


def tracked(number: int, *, ended: bool = False) -> Tracked:
    """A flow between two addresses of nobody's, so that nothing of it is left to post."""
    key = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, False, "calico-drop:", "drop")
    endpoints = {end: Endpoint(Kind.NOBODY, key.address(end)) for end in ENDS}
    return Tracked(Flow(number, key, 0, 0, 0, 0, 1, ended), 0.0, endpoints)


def test_a_flow_goes_on_then_has_ended_then_rests_and_is_dropped() -> None:
    stages, flow = Stages(), tracked(1)
    seen = []

    def look() -> None:
        seen.append(tuple(stages.count(stage) for stage in (Stage.OPEN, Stage.ENDED, Stage.RESTING)))

    stages.track(flow)
    look()
    flow.flow = replace(flow.flow, ended=True)
    stages.track(flow)
    look()
    stages.rest(flow)
    look()
    stages.track(flow)
    look()
    assert (flow.stage, stages.get(1), list(stages)) == (Stage.RESTING, flow, [flow])
    stages.drop(1)
    look()
    assert seen == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1), (0, 0, 0)]
    assert (len(stages), stages.get(1), 1 in stages) == (0, None, False)
    stages.drop(1)


def test_the_first_of_a_stage_is_who_came_to_it_first_whatever_is_heard_of_it_later() -> None:
    stages = Stages()
    flows = {number: tracked(number, ended=True) for number in (3, 1, 2)}
    for flow in (*flows.values(), *flows.values()):
        stages.track(flow)
    assert stages.first(Stage.ENDED) is flows[3]
    for number in (2, 3, 1, 2):
        stages.rest(flows[number])
    assert stages.first(Stage.RESTING) is flows[2]
    stages.drop(2)
    assert stages.first(Stage.RESTING) is flows[3]


def test_a_flow_that_rests_is_reopened_when_something_is_to_be_attributed_or_posted_anew() -> None:
    stages, flow = Stages(), tracked(1, ended=True)
    stages.track(flow)
    stages.reopen(flow)
    assert flow.stage is Stage.ENDED, "it does not rest"
    stages.rest(flow)
    stages.reopen(flow)
    assert (flow.stage, flow.is_done()) == (Stage.RESTING, True), "there is nothing"
    flow.to_reattribute = {"src"}
    stages.reopen(flow)
    assert (flow.stage, flow.is_done()) == (Stage.REOPENED, False)
    stages.track(flow)
    assert (flow.stage, stages.count(Stage.REOPENED)) == (Stage.REOPENED, 1)
    flow.to_reattribute = set()
    stages.rest(flow)
    pod = PodRef("team-a", "web-0", "uid")
    flow.records["src", "uid"] = EventRecord(1, "src", pod, "web-0.1", "text")
    stages.reopen(flow)
    assert (flow.stage, stages.count(Stage.RESTING)) == (Stage.REOPENED, 0)


def test_a_flow_that_was_dropped_is_not_reopened() -> None:
    stages, flow = Stages(), tracked(1, ended=True)
    stages.track(flow)
    stages.rest(flow)
    stages.drop(1)
    flow.to_reattribute = {"src"}
    stages.reopen(flow)
    assert (len(stages), sum(map(stages.count, Stage))) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from(["track", "end", "rest", "doubt", "drop"]), st.integers(1, 4)), max_size=40))
def test_each_flow_is_at_one_stage(moves: list[tuple[str, int]]) -> None:
    stages = Stages()
    flows = {number: tracked(number) for number in range(1, 5)}
    for move, number in moves:
        flow = flows[number]
        if move == "end":
            flow.flow = replace(flow.flow, ended=True)
        if move in {"track", "end"}:
            stages.track(flow)
        elif move == "rest" and flow.flow.ended and number in stages:
            flow.to_reattribute.clear()
            stages.rest(flow)
        elif move == "doubt":
            flow.to_reattribute.add("src")
            stages.reopen(flow)
        elif move == "drop":
            stages.drop(number)
            flows[number] = tracked(number)
        assert sum(map(stages.count, Stage)) == len(stages)
        for each in stages:
            assert each.flow.ended is (each.stage is not Stage.OPEN)
        for stage in Stage:
            assert stages.count(stage) == sum(each.stage is stage for each in stages)
