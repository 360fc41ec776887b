"""The recorder, moved by hand; tests/events/test_poster.py has it in its thread."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.events.awaiting import PATIENCE
from kiptail.events.event import LIMITED, WITHDRAWN
from kiptail.events.recorder import Recorder
from kiptail.events.stages import Stage
from kiptail.flows.counter import LineCounter
from kiptail.flows.flow import Flow
from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.flows.ledger import Ledger
from kiptail.netfilter.prefixes import Prefixes, PrefixRule
from tests.events.test_poster import HEIR, STYLE, Directory, EventServer, Notebook, flow
from tests.support.clock import Clock, own_clock

LINE = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)


class Hand:
    """A recorder and all around it."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.server, self.directory, self.notebook = Clock(), EventServer(), Directory(), Notebook()
        settings: dict[str, Any] = {"repeat_interval": 60.0, "give_up_after": float("inf"), "most_ended": 1000}
        self.recorder = Recorder(
            sink=self.server,
            locate=self.directory,
            outbox=self.notebook,
            paced=False,
            clock=self.clock,
            **settings | {"style": STYLE} | options,
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


LIMITED_STYLE = replace(STYLE, limited=frozenset({"calico-drop:"}))


def after_restart(hand: Hand, stored: Flow, **options: Any) -> Hand:
    """Another recorder that goes on with what this one stored."""
    hand.recorder.delivery.notes.write()
    again = Hand(**options)
    again.server.events, again.directory.owners = hand.server.events, hand.directory.owners
    again.notebook.records = {key: copy(record) for key, record in hand.notebook.records.items()}
    again.notebook.endpoints = hand.notebook.endpoints
    records = [copy(record) for key, record in hand.notebook.records.items() if key[0] == stored.id]
    again.recorder.restore(stored, hand.notebook.endpoints.get(stored.id, {}), records)
    again.clock.now += 3_600.0
    again.steps()
    return again


def limited(hand: Hand) -> list[bool]:
    return [event["message"].endswith(LIMITED) for event in hand.server.events.values()]


@pytest.mark.parametrize("ended", [False, True])
def test_events_of_stored_flows_are_patched_once_where_the_prefix_is_limited_now(ended: bool) -> None:
    hand = Hand()
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    assert limited(hand) == [False, False]
    stored = flow(1, count=3, ended=ended)
    again = after_restart(hand, stored, style=LIMITED_STYLE)
    assert limited(again) == [True, True]
    assert again.server.calls == [("update", "client", 3), ("update", "web-0", 3)]
    third = after_restart(again, stored, style=LIMITED_STYLE)
    assert third.server.calls == []


def test_a_stored_flow_keeps_its_text_otherwise() -> None:
    hand = Hand()
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    style = replace(STYLE, pod_identifier="name", limited=frozenset({"other:"}))
    assert after_restart(hand, flow(1, count=3), style=style).server.calls == []


def test_a_stored_event_that_was_withdrawn_says_nothing_of_a_limited_rate() -> None:
    hand = Hand()
    hand.recorder.arrive(flow(1, count=3))
    hand.steps()
    hand.directory.owners["10.0.0.1"] = (HEIR,)
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    hand.clock.now += 60.0
    hand.steps()
    again = after_restart(hand, flow(1, count=3), style=LIMITED_STYLE)
    texts = {event["involvedObject"]["name"]: event["message"] for event in again.server.events.values()}
    assert {name: text.endswith(LIMITED) for name, text in texts.items()} == {
        "client": False, "heir": True, "web-0": True
    }  # fmt: skip
    assert texts["client"].endswith(WITHDRAWN)


def test_a_stored_flow_whose_peer_is_still_to_be_found_is_not_reworded_without_it() -> None:
    hand = Hand()
    web = hand.directory.owners.pop("10.0.0.2")
    hand.directory.awaited = {"10.0.0.2"}
    hand.recorder.arrive(flow(1, count=3))
    hand.clock.now += PATIENCE
    hand.steps()
    assert (hand.posted(), list(hand.notebook.endpoints[1])) == ([("client", 3)], ["src"])
    hand.directory.owners["10.0.0.2"] = web
    again = after_restart(hand, flow(1, count=3), style=LIMITED_STYLE)
    text = "Packet dropped when sending traffic to team-a/web-0 (10.0.0.2) on port 81/TCP" + LIMITED
    again.clock.now += 3_600.0
    again.steps()
    assert again.server.calls == [("create", "web-0", 3), ("update", "client", 3)]
    assert text in [event["message"] for event in again.server.events.values()]


def test_packets_that_two_policies_log_are_two_events() -> None:
    """From the lines on: the same packets, but for the policy that the line names, and a third without one."""
    prefixes = Prefixes([PrefixRule("{verdict} by {policy}:"), PrefixRule("drop:")])
    ledger = Ledger()
    counter = LineCounter(prefixes, ledger, own_clock(lambda: 1_800_000_000), expire_after=None)
    said = ["drop by a/deny:", "drop by b/deny:", "drop by b/deny:", "reject by b/deny:", "accept by c/allow:", "drop:"]
    known = KnownLines(prefixes)
    for prefix in said:
        line = known.wanted(LINE.format(prefix=prefix).encode())
        assert isinstance(line, KnownLine)
        counter.count([line], [1_800_000_000_000_000])
    hand = Hand()
    for one in ledger.changes().flows:
        hand.recorder.arrive(one.copy())
    hand.steps()
    sent = {(e["message"], e["count"]) for e in hand.server.events.values() if e["involvedObject"]["name"] == "client"}
    to_web = "when sending traffic to team-a/web-0 (10.0.0.2) on port 80/TCP"
    assert sent == {
        (f"Packet dropped {to_web}, by policy a/deny", 1),
        (f"Packet dropped {to_web}, by policy b/deny", 2),
        (f"Packet rejected {to_web}, by policy b/deny", 1),
        (f"Packet dropped {to_web}", 1),
    }
    assert len(hand.server.events) == 8, "as many at the other end, and no two of one name"


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


def test_a_ports_name_stays_in_the_text_when_nobody_knows_it_any_more() -> None:
    """The pod may be gone when its end is looked at again: the text says what it said."""
    hand = Hand()
    hand.directory.port_names["10.0.0.2", 81] = "http"
    hand.recorder.arrive(flow(count=1))
    hand.steps()
    texts = {event["message"] for event in hand.server.events.values()}
    assert all(" on port 81/TCP (http)" in text for text in texts)
    assert hand.notebook.endpoints[1]["dst"].port_name == "http"
    hand.directory.port_names.clear()
    hand.recorder.awaiting.reattribute({"10.0.0.2"})
    hand.recorder.arrive(flow(count=2))
    hand.clock.now += 120
    hand.steps()
    assert [call[0] for call in hand.server.calls] == ["create", "create", "update", "update"]
    assert {event["message"] for event in hand.server.events.values()} == texts


def test_somebody_else_at_the_end_has_names_of_its_own() -> None:
    hand = Hand()
    hand.directory.port_names["10.0.0.2", 81] = "http"
    hand.recorder.arrive(flow(count=1))
    hand.steps()
    hand.directory.port_names.clear()
    hand.directory.owners["10.0.0.2"] = (HEIR,)
    hand.recorder.awaiting.reattribute({"10.0.0.2"})
    hand.steps()
    assert hand.server.texts("heir") == [
        "Packet dropped when receiving traffic from team-a/client (10.0.0.1) on port 81/TCP"
    ]


def test_a_service_that_is_named_late_names_its_port() -> None:
    hand = Hand()
    hand.directory.owners.pop("10.0.0.2")
    hand.recorder.arrive(flow(count=1))
    hand.steps()
    hand.directory.cluster_names["10.0.0.2"] = "service team-a/db"
    hand.directory.port_names["10.0.0.2", 81] = "sql"
    hand.recorder.rename_strangers()
    hand.clock.now += 120
    hand.steps()
    assert hand.server.texts("client") == [
        "Packet dropped when sending traffic to service team-a/db (10.0.0.2) on port 81/TCP (sql)"
    ]


def test_a_pod_whose_workload_an_earlier_version_did_not_store_is_not_another_one() -> None:
    hand = Hand()
    hand.recorder.arrive(flow(count=1))
    hand.steps()
    hand.directory.owners["10.0.0.1"] = (hand.directory.owners["10.0.0.1"][0]._replace(workload="deploy/client"),)
    hand.recorder.awaiting.reattribute({"10.0.0.1"})
    hand.recorder.arrive(flow(count=2))
    hand.clock.now += 120
    hand.steps()
    assert hand.recorder.progress.reattributed == 0
    noted = [json.loads(event["metadata"]["annotations"]["kiptail/flow"]) for event in hand.server.events.values()]
    assert [(each.get("workload"), each.get("peer_workload")) for each in noted] == [
        ("deploy/client", None),
        (None, "deploy/client"),
    ]
