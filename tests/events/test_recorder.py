"""The recorder, moved by hand; tests/events/test_poster.py has it in its thread."""

from __future__ import annotations

from typing import Any

from kiptail.events.recorder import Recorder
from kiptail.events.stages import Stage
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
