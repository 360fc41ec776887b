"""What policies say comes into Events: with the first write if it is known soon, else later, and once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiptail.errors import StateError
from kiptail.events.awaiting import PATIENCE
from kiptail.events.stages import Tracked
from kiptail.flows.flow import Spread
from kiptail.pods.ownership import PodRef
from tests.events.test_poster import HEIR, WEB, flow
from tests.events.test_recorder import Hand, after_restart

SENT = "Packet dropped when sending traffic to team-a/web-0 (10.0.0.2) on port 81/TCP"
RECEIVED = "Packet dropped when receiving traffic from team-a/client (10.0.0.1) on port 81/TCP"
SAID = {"src": ": isolated by NetworkPolicy team-a/deny", "dst": ": no rule of NetworkPolicy deny allows it"}


class Policies:
    """What policies say; it can change during a test."""

    def __init__(self, said: Mapping[str, str] | None) -> None:
        self.said = said
        #: How often that was asked for, with an answer.
        self.answered = 0
        self.asked_about: list[tuple[PodRef, ...]] = []

    def explain(self, tracked: Tracked) -> Mapping[str, str] | None:
        self.asked_about.append(tuple(pod for end in ("src", "dst") for pod in tracked.endpoints[end].pods))
        self.answered += self.said is not None
        return self.said


def hand_of(policies: Policies, **options: Any) -> Hand:
    return Hand(explain=policies.explain, **options)


def texts(hand: Hand) -> dict[str, str]:
    return {event["involvedObject"]["name"]: event["message"] for event in hand.server.events.values()}


def later(hand: Hand) -> None:
    """What has changed is planned, and then it is time for it."""
    hand.steps()
    hand.clock.now += 60.0
    hand.steps()


EXPLAINED = {"client": SENT + SAID["src"], "web-0": RECEIVED + SAID["dst"]}
PLAIN = {"client": SENT, "web-0": RECEIVED}


def test_what_is_known_at_once_is_stored_and_posted_with_the_first_write() -> None:
    policies = Policies(SAID)
    hand = hand_of(policies)
    hand.recorder.arrive(flow(1))
    hand.steps()
    assert texts(hand) == EXPLAINED
    assert {record.message for record in hand.notebook.records.values()} == set(EXPLAINED.values())
    assert [call[0] for call in hand.server.calls] == ["create", "create"]
    assert policies.answered == 1
    for count in (2, 3, 4):
        policies.said = {}
        hand.recorder.arrive(flow(1, count=count))
        later(hand)
    assert (texts(hand), policies.answered) == (EXPLAINED, 1), "whatever the policies are by then"


def test_the_first_write_waits_a_moment_and_nothing_else_does() -> None:
    policies = Policies(None)
    hand = hand_of(policies)
    hand.recorder.arrive(flow(1))
    hand.steps()
    assert (hand.server.calls, hand.recorder.progress.unattributed) == ([], 0)
    assert len(hand.notebook.records) == 2, "who it is is decided, and stored"
    assert 0 < hand.recorder.pause() <= PATIENCE, "it does not run in circles"
    hand.clock.now += PATIENCE / 2
    policies.said = SAID
    hand.steps()
    assert hand.server.calls == [], "nobody said that there is an answer"
    hand.recorder.explaining.look_again()
    hand.steps()
    assert texts(hand) == EXPLAINED
    assert [call[0] for call in hand.server.calls] == ["create", "create"]
    assert len(hand.recorder.explaining) == 0


def test_what_comes_late_is_patched() -> None:
    policies = Policies(None)
    hand = hand_of(policies)
    hand.recorder.arrive(flow(1))
    hand.steps()
    hand.clock.now += PATIENCE
    hand.steps()
    assert texts(hand) == PLAIN
    policies.said = SAID
    hand.recorder.explaining.look_again()
    later(hand)
    assert texts(hand) == EXPLAINED
    assert [call[0] for call in hand.server.calls] == ["create", "create", "update", "update"]
    assert {record.message for record in hand.notebook.records.values()} == set(EXPLAINED.values())


def test_that_there_is_nothing_to_say_ends_the_wait() -> None:
    policies = Policies(None)
    hand = hand_of(policies)
    hand.recorder.arrive(flow(1))
    hand.steps()
    policies.said = {}
    hand.recorder.explaining.look_again()
    hand.steps()
    assert (texts(hand), policies.answered) == (PLAIN, 1)


def test_somebody_else_at_an_end_is_explained_anew() -> None:
    policies = Policies(SAID)
    hand = hand_of(policies)
    hand.recorder.arrive(flow(1))
    hand.steps()
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    policies.said = {"src": ": isolated by NetworkPolicy team-a/other"}
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    later(hand)
    assert policies.asked_about[-1] == (HEIR, WEB)
    assert texts(hand)["heir"] == SENT + policies.said["src"]
    assert "NetworkPolicy" not in texts(hand)["client"], "it is withdrawn"
    assert "NetworkPolicy" not in texts(hand)["web-0"]
    assert policies.answered == 2


def test_a_name_that_comes_late_changes_nothing_of_it() -> None:
    policies = Policies(SAID)
    hand = hand_of(policies)
    hand.directory.unnamed = True
    hand.recorder.arrive(flow(1, dst="10.0.0.4"))
    hand.clock.now += PATIENCE
    hand.steps()
    hand.directory.unnamed = False
    hand.recorder.awaiting.look_again()
    later(hand)
    assert texts(hand)["client"].endswith("db.example.com (10.0.0.4) on port 81/TCP" + SAID["src"])
    assert policies.answered == 1


def test_a_restart_holds_to_what_was_said() -> None:
    hand = hand_of(Policies(SAID))
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    policies = Policies({})
    again = after_restart(hand, flow(1, count=3), explain=policies.explain)
    assert (again.server.calls, policies.answered) == ([], 0)
    again.recorder.awaiting.reattribute({"10.0.0.1", "10.0.0.2"})
    again.directory.cluster_names = {"10.0.0.9": "node/x"}
    again.recorder.arrive(flow(1, count=4))
    later(again)
    assert (texts(again), policies.answered) == (EXPLAINED, 0)


def test_after_a_restart_nothing_is_added_to_what_was_posted_without() -> None:
    hand = hand_of(Policies({}))
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    policies = Policies(SAID)
    again = after_restart(hand, flow(1, count=3), explain=policies.explain)
    again.recorder.awaiting.reattribute({"10.0.0.1"})
    again.steps()
    assert (again.server.calls, texts(again)) == ([], PLAIN)


def test_after_a_restart_what_was_never_posted_is_explained() -> None:
    hand = hand_of(Policies(None), hold=True)
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    policies = Policies(SAID)
    again = after_restart(hand, flow(1, count=3), explain=policies.explain)
    again.recorder.awaiting.reattribute({"10.0.0.1"})
    later(again)
    assert texts(again) == EXPLAINED


def test_a_full_disk_delays_it() -> None:
    policies = Policies(None)
    hand = hand_of(policies)
    hand.recorder.arrive(flow(1))
    hand.steps()
    policies.said = SAID
    save, full = hand.notebook.save_endpoints, True

    def save_endpoints(*arguments: Any) -> None:
        if full:
            raise StateError("database or disk is full")
        save(*arguments)

    hand.notebook.save_endpoints = save_endpoints  # type: ignore[method-assign]
    hand.recorder.explaining.look_again()
    hand.steps()
    assert (hand.server.calls, len(hand.recorder.explaining)) == ([], 1), "nothing that is not stored is sent"
    full = False
    hand.clock.now += 1.0
    hand.steps()
    assert texts(hand) == EXPLAINED


def test_a_flow_that_is_dropped_waits_no_longer() -> None:
    hand = hand_of(Policies(None))
    hand.recorder.settled_us = 1 << 60
    hand.recorder.arrive(flow(1, ended=True))
    hand.clock.now += PATIENCE
    hand.steps()
    hand.clock.now += PATIENCE
    hand.steps()
    assert texts(hand) == PLAIN
    assert hand.notebook.forgotten == [1]
    assert len(hand.recorder.explaining) == 0


def test_the_end_waits_for_nothing() -> None:
    hand = hand_of(Policies(None))
    hand.recorder.arrive(flow(1))
    hand.steps()
    assert hand.server.calls == []
    hand.last_round()
    assert texts(hand) == PLAIN


def test_a_folded_flow_goes_on_as_ever() -> None:
    hand = hand_of(Policies({}))
    folded = flow(1)
    folded.spread = Spread()
    hand.recorder.arrive(folded)
    hand.steps()
    assert len(hand.server.events) == 2
