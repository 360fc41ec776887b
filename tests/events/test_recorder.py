"""The recorder, moved by hand; tests/events/test_poster.py has it in its thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.events.awaiting import PATIENCE
from kiptail.events.recorder import Recorder
from kiptail.events.stages import Stage
from kiptail.flows.flow import Flow
from tests.events.test_poster import HEIR, STYLE, Directory, EventServer, Notebook, flow
from tests.support.clock import Clock


class Hand:
    """A recorder and all around it."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.server, self.directory, self.notebook = Clock(), EventServer(), Directory(), Notebook()
        settings: dict[str, Any] = {"repeat_interval": 60.0, "give_up_after": float("inf"), "most_ended": 1000}
        self.recorder = Recorder(
            sink=self.server,
            locate=self.directory,
            outbox=self.notebook,
            style=STYLE,
            paced=False,
            clock=self.clock,
            **settings | options,
        )
        self.recorder.settled_us = 0

    def steps(self, number: int = 10) -> None:
        for _ in range(number):
            self.recorder.step()

    def last_round(self) -> None:
        self.recorder.attribute_waiting(final=True)
        self.recorder.delivery.last_round(retry=False)
        while self.recorder.delivery.due is not None:
            self.recorder.send_next()

    def posted(self) -> list[tuple[str, int]]:
        return sorted((event["involvedObject"]["name"], event["count"]) for event in self.server.events.values())


def test_what_it_tells_of_itself_is_how_it_is() -> None:
    hand = Hand(hold=True)
    hand.directory.strangers = {"10.0.0.2"}
    hand.recorder.arrive(flow(1))
    hand.recorder.arrive(flow(2, dst="10.0.0.4", ended=True))
    hand.steps()
    progress = hand.recorder.progress
    assert (progress.unattributed, progress.unposted, progress.ended, progress.trouble) == (1, 1, 1, "")
    hand.directory.strangers = set()
    hand.last_round()
    progress = hand.recorder.progress
    assert (progress.unattributed, progress.unposted, progress.ended) == (0, 0, 0)
    assert hand.posted() == [("client", 1), ("client", 1), ("web-0", 1)]


def test_it_rests_until_something_is_due() -> None:
    hand = Hand()
    hand.recorder.arrive(flow(1))
    assert hand.recorder.pause() <= 0
    hand.steps()
    assert 0 < hand.recorder.pause() <= 0.25, "what was sent is noted soon"
    hand.clock.now += 0.25
    hand.steps(1)
    assert hand.recorder.pause() > 50, "until it is swept"


def test_in_the_last_round_what_rests_is_kept_for_the_event_that_is_to_be_withdrawn() -> None:
    """A flow that is posted in that round rests, and with it there are more than may rest."""
    hand = Hand(most_ended=1)
    hand.recorder.arrive(flow(2, count=3, ended=True))
    hand.steps()
    hand.recorder.arrive(flow(1, count=4))
    hand.steps()
    assert hand.recorder.stages.count(Stage.RESTING) == 1
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    hand.recorder.arrive(flow(1, count=5, ended=True))
    hand.last_round()
    assert hand.posted() == [("client", 0), ("client", 0), ("heir", 3), ("heir", 5), ("web-0", 3), ("web-0", 5)]
    assert hand.notebook.forgotten == []


def stranger(number: int) -> Flow:
    """An ended flow of nobody's: it rests as soon as it is looked at, whatever the server does."""
    made = flow(number, dst="198.51.100.8", ended=True)
    return replace(made, key=made.key._replace(src="198.51.100.7"))


def crowd(hand: Hand, *numbers: int) -> None:
    """More flows than may rest come and rest."""
    for number in numbers:
        hand.recorder.arrive(stranger(number))
        hand.clock.now += 0.2
        hand.steps(1)


def test_a_resting_flow_whose_event_is_to_be_withdrawn_is_kept_until_that_is_written() -> None:
    hand = Hand(most_ended=2)
    hand.recorder.arrive(flow(1, count=3, ended=True))
    hand.steps()
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    hand.server.errors = [ApiError("away", status=503)] * 9
    crowd(hand, 2, 3, 4, 5)
    assert hand.notebook.forgotten == [2, 3], "those that rest longest, of those that have nothing to say"
    assert ("client", 3) in hand.posted()
    hand.server.errors = []
    hand.clock.now += 60.0
    hand.steps()
    assert hand.posted() == [("client", 0), ("heir", 3), ("web-0", 3)]
    crowd(hand, 6, 7)
    assert hand.notebook.forgotten == [2, 3, 4, 5, 1], "then it rests anew"


def test_a_resting_flow_whose_owner_is_being_found_anew_is_kept_until_it_is() -> None:
    hand = Hand(most_ended=2)
    hand.recorder.arrive(flow(1, count=3, ended=True))
    hand.steps()
    hand.directory.strangers = {"10.0.0.1"}
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    crowd(hand, 2, 3, 4, 5)
    assert hand.notebook.forgotten == [2, 3]
    hand.directory.strangers, hand.directory.owners["10.0.0.1"] = set(), (HEIR,)
    hand.clock.now += 0.2
    hand.steps()
    assert hand.posted() == [("client", 0), ("heir", 3), ("web-0", 3)]


def test_a_resting_flow_that_lost_drops_to_another_is_kept_until_its_events_say_so() -> None:
    hand = Hand(most_ended=2)
    whole = flow(1, count=3, ended=True)
    hand.recorder.arrive(whole)
    hand.steps()
    hand.server.errors = [ApiError("away", status=503)] * 9
    hand.recorder.arrive(replace(whole, count=1))
    crowd(hand, 2, 3, 4, 5)
    assert hand.notebook.forgotten == [2, 3]
    hand.server.errors = []
    hand.clock.now += 60.0
    hand.steps()
    assert hand.posted() == [("client", 1), ("web-0", 1)]


def test_names_that_come_late_are_written_before_a_resting_flow_is_dropped() -> None:
    hand = Hand(most_ended=2)
    hand.directory.unnamed = True
    hand.recorder.arrive(flow(1, dst="192.0.2.7", ended=True))
    hand.steps(1)
    hand.clock.now += PATIENCE
    hand.steps()
    hand.directory.unnamed = False
    hand.server.errors = [ApiError("away", status=503)] * 9
    crowd(hand, 2, 3, 4, 5)
    assert hand.notebook.forgotten == [2, 3]
    hand.server.errors = []
    hand.clock.now += 60.0
    hand.steps()
    assert "db.example.com" in hand.server.texts("client")[0]


def test_only_so_many_flows_that_rested_wait_to_be_posted_anew(caplog: pytest.LogCaptureFixture) -> None:
    hand = Hand(most_ended=2)
    for number in (1, 2):
        hand.recorder.arrive(flow(number, ended=True))
        hand.steps()
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    hand.server.errors = [ApiError("away", status=503)] * 99
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    crowd(hand, 3)
    hand.directory.strangers = {"198.51.100.7"}
    hand.recorder.awaiting.reattribute({"198.51.100.7"})
    assert hand.recorder.stages.count(Stage.REOPENED) == 3
    hand.steps(1)
    hand.recorder.arrive(stranger(4))
    given_up = {record.name for record in hand.notebook.records.values() if record.given_up}
    assert given_up == {record.name for record in hand.notebook.records.values() if record.flow_id == 1}
    assert "too many flows wait to be posted" in caplog.text
    assert hand.recorder.stages.count(Stage.REOPENED) == 2
