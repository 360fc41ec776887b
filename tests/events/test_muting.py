"""Which Events are left out, and what becomes of them when that changes: the recorder, moved by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kiptail.config.ignore_tables import filter_of_text
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.events.muting import ANNOTATED, Muting
from kiptail.events.stages import Stage, Tracked
from kiptail.events.tally import Tally
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.pods.opt_out import OptOut, OptOuts
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.traits import Traits
from kiptail.policies.asker import Missing
from kiptail.quiet.filters import Filters
from tests.events.test_poster import CLIENT, HEIR, WEB, flow
from tests.events.test_recorder import Hand


class PodsThere:
    """What is known of pods; all of it can change during a test."""

    def __init__(self) -> None:
        self.is_ready = True
        #: None: it is gone, and nobody knows what it said.
        self.said: dict[PodRef, OptOut | None] = {}
        self.labels: dict[str, dict[str, str]] = {}

    def ready(self) -> bool:
        return self.is_ready

    def pod(self, address: str, uid: str) -> Pod | None:
        said = {ref.uid: each for ref, each in self.said.items()}
        if said.get(uid, "") is None:
            return None
        labels = self.labels.get(uid)
        traits = Traits(tuple(text for pair in labels.items() for text in pair)) if labels is not None else None
        ref = PodRef("x", "x", uid)
        return Pod(uid, ref, (address,), None, None, None, False, "", (), traits=traits, opt_out=said.get(uid, ""))

    @property
    def opt_outs(self) -> list[OptOuts]:
        made = OptOuts()
        for ref, each in self.said.items():
            made.note(ref[:3], each)
        return [made]


class NamespacesThere:
    def __init__(self) -> None:
        self.answers: dict[str, OptOut | Missing] = {}

    def opt_out(self, namespace: str) -> OptOut | Missing:
        return self.answers.get(namespace, "")


class Journal:
    """Takes flow records."""

    def __init__(self) -> None:
        self.written: list[dict[str, str]] = []

    def write(self, fields: Any) -> None:
        self.written.append(dict(fields))


class Quiet(Hand):
    """A recorder that leaves things out."""

    def __init__(self, *filters: str, **options: Any) -> None:
        self.pods, self.namespaces, self.journal, self.tally = PodsThere(), NamespacesThere(), Journal(), Tally()
        self.filters = Filters([*map(filter_of_text, filters)])
        muting = Muting(self.filters, self.pods, self.namespaces)
        super().__init__(muting=muting, records=self.journal, tally=self.tally, **options)

    def arrive(self, what: Flow) -> None:
        self.recorder.arrive(replace(what))
        self.recorder.arrived()
        self.clock.now += 120.0
        self.steps()

    def tallied(self) -> dict[str, int]:
        """By direction."""
        return {labels.direction: count for labels, count in self.tally.items()}

    def recorded(self) -> list[tuple[str, str, str]]:
        return sorted(
            (each["KIPTAIL_POD"], each["KIPTAIL_COUNT"], each.get("KIPTAIL_MUTED", "")) for each in self.journal.written
        )

    @property
    def muted(self) -> dict[str, int]:
        return dict(self.recorder.progress.muted)


BOTH = [("client", 1), ("web-0", 1)]


@pytest.mark.parametrize(
    ("filters", "posted"),
    [
        ([], BOTH),
        (["namespace=team-a"], []),
        (["namespace=team-b"], BOTH),
        (["namespace=team-a direction=sent"], [("web-0", 1)]),
        (["namespace=team-a direction=received"], [("client", 1)]),
        (["direction=sent", "direction=received"], []),
        (["src=node"], BOTH),
        (["peer=outside"], BOTH),
        (["namespace=team-a port=81"], []),
        (["namespace=team-a port=82"], BOTH),
    ],
)
def test_filters_that_look_at_the_ends(filters: list[str], posted: list[tuple[str, int]]) -> None:
    hand = Quiet(*filters)
    hand.arrive(flow())
    assert hand.posted() == posted
    left_out = len(BOTH) - len(posted)
    assert hand.muted == ({"filter": left_out} if left_out else {})
    assert hand.tallied() == {"sent": 1, "received": 1}
    assert [pod for pod, _, _ in hand.recorded()] == ["client", "web-0"]


def test_what_is_left_out_is_recorded_with_its_reason_and_without_an_event() -> None:
    hand = Quiet("namespace=team-a direction=sent reason=chatty")
    hand.arrive(flow())
    assert hand.recorded() == [("client", "1", "chatty"), ("web-0", "1", "")]
    sent, received = sorted(hand.journal.written, key=lambda each: each["KIPTAIL_POD"])
    assert "KIPTAIL_EVENT" not in sent
    assert received["KIPTAIL_EVENT"].startswith("web-0.")


def test_what_keeps_nothing_is_neither_recorded_nor_in_the_metrics_by_namespace() -> None:
    hand = Quiet("namespace=team-a direction=sent what=all reason=gone")
    hand.arrive(flow())
    hand.arrive(flow(count=3))
    assert hand.posted() == [("web-0", 3)]
    assert {pod for pod, _, _ in hand.recorded()} == {"web-0"}
    assert hand.tallied() == {"received": 3}
    assert hand.muted == {"gone": 3}


def test_a_flow_that_lines_muted_has_no_event() -> None:
    hand = Quiet()
    made = flow()
    hand.arrive(replace(made, key=made.key._replace(muted="scanner")))
    assert (hand.posted(), hand.muted) == ([], {"scanner": 2})
    assert hand.recorded() == [("client", "1", "scanner"), ("web-0", "1", "scanner")]


@pytest.mark.parametrize(
    ("labels", "posted"),
    [({"app": "web"}, []), ({"app": "x"}, BOTH), (None, BOTH)],
    ids=["has it", "has another", "not known"],
)
def test_filters_by_labels(labels: dict[str, str] | None, posted: list[tuple[str, int]]) -> None:
    hand = Quiet("pod=app=web")
    if labels is not None:
        hand.pods.labels[WEB.uid] = labels
    hand.arrive(flow())
    assert hand.posted() == posted


def test_a_pod_that_goes_stays_left_out_by_the_labels_that_it_had() -> None:
    hand = Quiet("pod=app=web")
    hand.pods.labels = {WEB.uid: {"app": "web"}, CLIENT.uid: {}}
    hand.arrive(flow())
    del hand.pods.labels[WEB.uid]
    hand.arrive(flow(count=2))
    assert hand.posted() == []
    hand.pods.labels[WEB.uid] = {"app": "other"}
    hand.arrive(flow(count=3))
    assert hand.posted() == [("client", 3), ("web-0", 3)]


OWN: list[tuple[str, OptOut, list[tuple[str, int]]]] = [
    ("pod", "off", []),
    ("pod", "peers", [("client", 1)]),
    ("namespace", "off", []),
    ("namespace", "peers", [("client", 1)]),
]


@pytest.mark.parametrize(("where", "said", "posted"), OWN)
def test_what_owners_say(where: str, said: OptOut, posted: list[tuple[str, int]]) -> None:
    hand = Quiet()
    hand.directory.owners["10.0.0.1"] = (CLIENT._replace(namespace="team-b"),)
    if where == "pod":
        hand.pods.said[WEB] = said
    else:
        hand.namespaces.answers["team-a"] = said
    hand.arrive(flow())
    assert hand.posted() == posted
    assert hand.muted == {ANNOTATED: len(BOTH) - len(posted)}
    assert len(hand.recorded()) == 2


@pytest.mark.parametrize(("where", "said", "_posted"), OWN)
def test_an_opt_out_that_comes_and_goes_brings_the_next_ones(where: str, said: OptOut, _posted: Any) -> None:
    """What is posted already stays; what comes after it was taken back has the whole count."""
    hand = Quiet()
    hand.arrive(flow())
    assert hand.posted() == BOTH
    opt_outs: dict[Any, Any] = hand.pods.said if where == "pod" else hand.namespaces.answers
    whom = WEB if where == "pod" else "team-a"
    opt_outs[whom] = said
    hand.arrive(flow(count=5))
    assert ("web-0", 1) in hand.posted()
    opt_outs[whom] = ""
    hand.steps()
    assert ("web-0", 1) in hand.posted(), "not before there is something new"
    hand.arrive(flow(count=6))
    assert hand.posted() == [("client", 6), ("web-0", 6)]


def test_a_write_that_waits_for_its_turn_is_left_out_when_an_opt_out_comes_meanwhile() -> None:
    hand = Quiet()
    hand.arrive(flow())
    hand.recorder.arrive(flow(count=2))
    hand.pods.said[WEB] = "off"
    hand.clock.now += 120.0
    hand.steps()
    assert hand.posted() == BOTH
    assert hand.recorder.delivery.pending() == []


def test_who_may_have_been_either_of_two_pods_is_nobodys_opt_out() -> None:
    hand = Quiet()
    hand.directory.owners["10.0.0.2"] = (WEB, HEIR)
    hand.pods.said = {WEB: "off", HEIR: "off"}
    hand.arrive(flow())
    assert hand.posted() == [("client", 1)]


@pytest.mark.parametrize("folded", [True, False])
def test_a_folded_flow_is_left_out_by_what_is_known_of_it(folded: bool) -> None:
    hand = Quiet("namespace=team-a port=0-65535" if folded else "namespace=team-a")
    key = FlowKey("", "10.0.0.2", "", None, None, None, False, "", "drop")
    hand.arrive(replace(flow(), key=key, ends=("dst",), spread=Spread()))
    assert hand.posted() == ([("web-0", 1)] if folded else [])


def test_a_folded_flow_of_a_pod_that_opted_out_is_left_out() -> None:
    hand = Quiet()
    hand.pods.said[WEB] = "peers"
    key = FlowKey("", "10.0.0.2", "", None, None, None, False, "", "drop")
    hand.arrive(replace(flow(), key=key, ends=("dst",), spread=Spread()))
    assert (hand.posted(), hand.muted) == ([], {ANNOTATED: 1})


# -- what is left out is done with ------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [True, False])
def test_a_flow_that_has_ended_does_not_wait(everything: bool) -> None:
    hand = Quiet(f"namespace=team-a what={'all' if everything else 'events'}")
    hand.arrive(flow())
    hand.arrive(flow(count=2, ended=True))
    assert hand.recorder.stages.count(Stage.ENDED) == 0
    assert hand.recorder.progress.unposted == 0
    assert hand.recorder.delivery.pending() == []
    hand.recorder.settled_us = 1 << 60
    hand.clock.now += 120.0
    hand.steps()
    assert (len(hand.recorder.stages), hand.notebook.forgotten) == (0, [1])


def test_many_flows_that_are_left_out_crowd_nobody_out() -> None:
    hand = Quiet("namespace=team-a direction=sent", "namespace=team-a direction=received", most_ended=3)
    for number in range(20):
        hand.recorder.arrive(flow(number + 1, ended=True))
    hand.clock.now += 10.0
    hand.steps(40)
    assert hand.recorder.stages.count(Stage.ENDED) == 0
    assert hand.posted() == []


def test_an_event_that_was_given_up_is_not_tried_while_it_is_left_out() -> None:
    hand = Quiet()
    hand.arrive(flow())
    (record,) = [r for t in hand.recorder.stages for r in t.records.values() if r.end == "dst"]
    record.given_up = "refused"
    hand.recorder.delivery.chances.give_up(record.key, 1)
    hand.pods.said[WEB] = "peers"
    hand.clock.now += 3_600.0
    hand.arrive(flow(count=2))
    assert hand.posted() == [("client", 2), ("web-0", 1)]
    hand.pods.said[WEB] = ""
    hand.clock.now += 3_600.0
    hand.arrive(flow(count=3))
    assert hand.posted() == [("client", 3), ("web-0", 3)]


def test_an_event_that_was_posted_is_withdrawn_also_when_it_is_left_out() -> None:
    """What the API server has of it is wrong, and its owner has read it."""
    hand = Quiet()
    hand.arrive(flow())
    hand.pods.said[WEB] = "peers"
    hand.directory.owners["10.0.0.2"] = (HEIR,)
    hand.recorder.awaiting.reattribute({"10.0.0.2"})
    hand.clock.now += 120.0
    hand.steps()
    assert hand.posted() == [("client", 1), ("heir", 1), ("web-0", 0)]


def test_one_that_was_never_posted_is_not_withdrawn_before_or_after_a_restart() -> None:
    for restarted in (False, True):
        hand = Quiet()
        hand.pods.said[WEB] = "peers"
        hand.arrive(flow())
        if restarted:
            hand = again(hand)
            hand.pods.said[WEB], hand.pods.is_ready = "peers", True
        hand.directory.owners["10.0.0.2"] = (HEIR,)
        hand.recorder.awaiting.reattribute({"10.0.0.2"})
        hand.clock.now += 120.0
        hand.steps()
        assert ("web-0", 0) not in hand.posted()
        assert ("heir", 1) in hand.posted()


# -- restarts ----------------------------------------------------------------------------------------------------


def again(hand: Quiet, *filters: str) -> Quiet:
    """Another run, with what the first stored; pods are not listed yet."""
    after = Quiet(*filters)
    after.pods.is_ready = False
    stored = [replace(record) for record in hand.notebook.records.values()]
    endpoints = {number: dict(ends) for number, ends in hand.notebook.endpoints.items()}
    for tracked in hand.recorder.stages:
        number = tracked.flow.id
        records = [record for record in stored if record.flow_id == number]
        after.recorder.restore(replace(tracked.flow), endpoints[number], records)
    after.notebook.records = {record.key: replace(record) for record in stored}
    after.steps()
    return after


def test_a_restart_holds_to_what_was_decided_while_nothing_is_known_of_the_pod() -> None:
    hand = Quiet()
    hand.pods.said[WEB] = "peers"
    hand.arrive(flow())
    after = again(hand)
    after.arrive(flow(count=2))
    assert after.posted() == [("client", 2)]
    after.pods.is_ready = True
    after.pods.said[WEB] = None  # it is gone
    after.arrive(flow(count=3))
    assert after.posted() == [("client", 3)]
    after.pods.said[WEB] = ""
    after.arrive(flow(count=4))
    assert after.posted() == [("client", 4), ("web-0", 4)]


def test_a_restart_with_other_filters_decides_anew_with_the_next_packets() -> None:
    hand = Quiet("namespace=team-a direction=sent")
    hand.arrive(flow())
    assert hand.posted() == [("web-0", 1)]
    after = again(hand, "namespace=team-a direction=received")
    after.pods.is_ready = True
    after.steps()
    assert after.posted() == [], "what was left out stays so"
    after.arrive(flow(count=2))
    assert after.posted() == [("client", 2)]


def test_a_restart_without_filters_tells_the_next_packets() -> None:
    hand = Quiet("namespace=team-a what=all")
    hand.arrive(flow())
    after = again(hand)
    after.pods.is_ready = True
    after.arrive(flow(count=2))
    assert after.posted() == [("client", 2), ("web-0", 2)]
    assert {pod for pod, _, _ in after.recorded()} == {"client", "web-0"}


# -- namespaces that are asked for -------------------------------------------------------------------------------


def test_the_first_write_waits_a_moment_for_what_a_namespace_says() -> None:
    hand = Quiet()
    hand.namespaces.answers["team-a"] = Missing.AWAITED
    hand.recorder.arrive(flow())
    hand.steps()
    assert hand.posted() == []
    hand.namespaces.answers["team-a"] = "off"
    hand.recorder.explaining.look_again()
    hand.clock.now += 0.5
    hand.steps()
    hand.clock.now += 120.0
    hand.steps()
    assert (hand.posted(), hand.recorder.delivery.pending()) == ([], [])


def test_an_answer_that_comes_later_counts_when_it_comes() -> None:
    hand = Quiet()
    hand.namespaces.answers["team-a"] = "off"
    hand.arrive(flow())
    hand.namespaces.answers["team-a"] = Missing.AWAITED
    hand.arrive(flow(count=2))
    assert hand.posted() == []
    hand.namespaces.answers["team-a"] = ""
    hand.recorder.explaining.look_again()
    hand.steps()
    assert hand.posted() == [("client", 2), ("web-0", 2)]


def test_what_is_held_back_is_counted_once_it_is_known_whether_it_is_left_out() -> None:
    hand = Quiet()
    hand.namespaces.answers["team-a"] = Missing.AWAITED
    hand.recorder.arrive(flow(count=2))
    hand.steps()
    assert (hand.muted, hand.tallied()) == ({}, {})
    hand.namespaces.answers["team-a"] = "off"
    hand.recorder.explaining.look_again()
    hand.clock.now += 0.5
    hand.steps()
    assert (hand.muted, hand.tallied()) == ({ANNOTATED: 4}, {"sent": 2, "received": 2})


def test_nobody_waits_for_long() -> None:
    hand = Quiet()
    hand.namespaces.answers["team-a"] = Missing.AWAITED
    hand.recorder.arrive(flow())
    hand.clock.now += 2.1
    hand.steps()
    assert hand.posted() == BOTH


@pytest.mark.parametrize(
    ("later", "posted"),
    [(Missing.AWAITED, []), (Missing.UNKNOWN, []), (Missing.REFUSED, [("client", 2), ("web-0", 2)])],
)
def test_what_a_namespace_said_last_holds_until_it_may_not_be_read_any_more(later: Missing, posted: Any) -> None:
    hand = Quiet()
    hand.namespaces.answers["team-a"] = "off"
    hand.arrive(flow())
    hand.namespaces.answers["team-a"] = later
    hand.arrive(flow(count=2))
    assert hand.posted() == posted


def test_without_an_index_nothing_is_decided_but_what_lines_told() -> None:
    key = flow().key._replace(muted="x")
    record = EventRecord(1, "dst", WEB, "web-0.1", "text")
    endpoints = {"dst": Endpoint(Kind.POD, "10.0.0.2", (WEB,))}
    tracked = Tracked(replace(flow(), key=key), 0.0, endpoints, {("dst", WEB.uid): record})
    assert Muting().decide(tracked) == [record]
    assert (record.muted, record.ignored) == ("x", False)
    assert Muting().decide(tracked) == []
