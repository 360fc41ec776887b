"""Events of the Node: which drops they tell, in which words, how many there are, and that each drop is counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kiptail.config.ignore_tables import filter_of_text
from kiptail.errors import ApiError, StoreUnavailableError
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import WITHDRAWN
from kiptail.events.muting import Muting
from kiptail.events.node_event import ELSE, NodeEvent, Subject, node_event_body, node_event_text, subject_of
from kiptail.events.node_events import NodeEvents
from kiptail.events.node_shares import MOST_AN_HOUR
from kiptail.events.recorder import Recorder
from kiptail.events.stages import Tracked
from kiptail.flows.budget import BudgetState
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.flows.ledger import Changes
from kiptail.flows.trail import Trail
from kiptail.pods.ownership import PodRef
from kiptail.quiet.filters import Filters
from kiptail.state.node_events import NodeEventRows
from kiptail.state.store import Store
from tests.events.test_poster import STYLE, Directory, EventServer
from tests.support.clock import Clock
from tests.support.fuzzing import cases

NODE = STYLE.node_name
SCANNER, ME, POD = "192.0.2.7", "10.1.0.3", "10.0.0.2"
BEGIN_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000


def key(src: str = SCANNER, dst: str = ME, port: int | None = 22, **more: Any) -> FlowKey:
    return FlowKey(src, dst, "TCP", port, None, None, False, "fw drop:", "drop", "dst")._replace(**more)


def flow(number: int = 1, of: FlowKey | None = None, count: int = 1, *, at_us: int = BEGIN_US, **more: Any) -> Flow:
    made = Flow(number, of or key(), at_us, at_us, at_us, at_us, count, stamp=at_us + number, trail=Trail.begun(at_us))
    return replace(made, **more)


class Machine:
    """A recorder on a state file, which can be killed and started again."""

    def __init__(self, directory: Path, *filters: str) -> None:
        self.muting = Muting(Filters([*map(filter_of_text, filters)]))
        self.path, self.server, self.directory = directory, EventServer(), Directory()
        self.clock = Clock()
        self.store = Store.open(directory)
        self.recorder = self._start()

    def _start(self, *, anew: bool = False) -> Recorder:
        self.clock.now += 1.0
        recorder = Recorder(
            sink=self.server,
            locate=self.directory,
            outbox=self.store,
            node_book=self.store.node_events,
            style=STYLE,
            repeat_interval=5.0,
            give_up_after=float("inf"),
            most_ended=1_000,
            paced=False,
            clock=self.clock,
            anew=anew,
            muting=self.muting,
        )
        recorder.settled_us = 2**62
        for saved in self.store.load().flows:
            recorder.restore(saved.flow.copy(), saved.endpoints, saved.records)
        return recorder

    def again(self) -> None:
        """Killed, and started again."""
        self.store.close()
        self.store = Store.open(self.path)
        self.recorder = self._start()

    def commit(self, *flows: Flow) -> None:
        """The journal loop's part."""
        self.store.commit(Changes([replace(one) for one in flows], BEGIN_US, 1_000, 0, BudgetState()), None)
        for one in flows:
            self.recorder.arrive(one.copy())
        self.recorder.arrived()

    def steps(self, seconds: float = 30.0) -> None:
        for _ in range(20):
            self.clock.now += seconds / 20
            for _ in range(3):
                self.recorder.step()

    def told(self) -> dict[str, int]:
        """Of the Node's Events, by their texts."""
        told: Counter[str] = Counter()
        for event in self.server.events.values():
            if event["involvedObject"]["kind"] == "Node":
                told[event["message"]] += event["count"]
        return {text: count for text, count in told.items() if count}


@contextmanager
def machine(*filters: str) -> Iterator[Machine]:
    with TemporaryDirectory() as directory:
        made = Machine(Path(directory), *filters)
        yield made
        made.store.close()


# -- which drops, in which words --------------------------------------------------------------------------------


def tracked(of: Flow, **ends: Endpoint) -> Tracked:
    found = {end: Endpoint(Kind.NOBODY, of.key.address(end)) for end in ("src", "dst") if of.key.address(end)}
    return Tracked(of, 0.0, found | ends)


WEB = Endpoint(Kind.POD, POD, (PodRef("team-a", "web-0", "u"),))
SELF = Endpoint(Kind.NOBODY, ME, name=f"node/{NODE}")
MANY = Spread()


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (
            subject_of(tracked(flow()), NODE),
            'Packets dropped when receiving traffic on port 22/TCP, logged as "fw drop:"',
        ),
        (
            subject_of(tracked(flow(of=key(reply=True, here="src", verdict="reject", port=443))), NODE),
            'Packets rejected when sending replies from port 443/TCP, logged as "fw drop:"',
        ),
        (
            subject_of(tracked(flow(of=key(here="", protocol="GRE", port=None))), NODE),
            "Packets dropped when forwarding traffic between addresses that are no pods', protocol GRE,"
            ' logged as "fw drop:"',
        ),
        (
            subject_of(tracked(flow(of=key(here="")), dst=SELF), NODE),
            'Packets dropped when receiving traffic on port 22/TCP, logged as "fw drop:"',
        ),
        (
            subject_of(
                tracked(
                    flow(of=key("", protocol="", port=None, prefix="", here=""), ends=("dst",), spread=MANY),
                    dst=SELF,
                ),
                NODE,
            ),
            "Packets dropped when receiving traffic with many addresses or on many ports",
        ),
        (ELSE, "Packets dropped or rejected on further ports, or logged with further prefixes"),
        (Subject("drop", 'a"\x1b[31m\n', "received", False, "\x07", None), None),
    ],
)
def test_what_the_operator_reads(subject: Subject, text: str | None) -> None:
    made = node_event_text(subject)
    assert text is None or made == text
    assert made.isprintable()
    assert len(made) < 1_000


@pytest.mark.parametrize(
    "told_elsewhere",
    [
        tracked(flow(), src=WEB),
        tracked(flow(), dst=WEB._replace(kind=Kind.AMBIGUOUS)),
        # A folded flow at this end counts them.
        tracked(flow(ends=("src",))),
        tracked(flow(of=key(here=""), ends=("src",))),
        # Pods may be among the many others.
        tracked(flow(of=key(dst="", here="", protocol="", port=None), ends=("src",), spread=MANY)),
        tracked(flow(of=key("", "203.0.113.9", here="", protocol="", port=None), ends=("dst",), spread=MANY)),
    ],
)
def test_what_is_told_elsewhere_is_not_told_on_the_node(told_elsewhere: Tracked) -> None:
    assert subject_of(told_elsewhere, NODE) is None


def test_the_event_is_about_the_node_as_the_kubelet_names_it() -> None:
    subject = subject_of(tracked(flow()), NODE)
    assert subject is not None
    body = node_event_body(NodeEvent(1, subject, "n.1", 0, 5_000_000, 65_000_000, count=7), STYLE)
    assert body["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": NODE}
    assert body["metadata"] == {"name": "n.1", "namespace": "default"}
    assert (body["count"], body["reason"], body["type"]) == (7, "PacketDrop", "Warning")
    assert (body["firstTimestamp"], body["lastTimestamp"]) == ("1970-01-01T00:00:05Z", "1970-01-01T00:01:05Z")


# -- how many ---------------------------------------------------------------------------------------------------


def test_flows_of_one_prefix_port_and_direction_are_one_event() -> None:
    with machine() as node:
        node.commit(*(flow(number, key(f"192.0.2.{number}"), number) for number in range(1, 11)))
        node.steps()
        assert node.told() == {'Packets dropped when receiving traffic on port 22/TCP, logged as "fw drop:"': 55}
        assert len(node.server.events) == 1


def test_at_most_twenty_begin_in_an_hour_and_the_last_tells_all_else() -> None:
    with machine() as node:
        flows = [flow(port, key(port=port), at_us=BEGIN_US + port * 1_000_000) for port in range(1, 101)]
        node.commit(*flows)
        node.steps()
        assert len(node.server.events) == MOST_AN_HOUR
        assert node.told()[node_event_text(ELSE)] == 100 - (MOST_AN_HOUR - 1)
        assert sum(node.told().values()) == 100
        # Half an hour after the last drop another flow is another Event, which does not begin within this hour.
        later_us = BEGIN_US + 45 * MINUTE_US
        node.commit(*(flow(200 + port, key(port=port), at_us=later_us) for port in range(1, 11)))
        node.steps()
        assert len(node.server.events) == MOST_AN_HOUR
        next_hour_us = BEGIN_US + 110 * MINUTE_US
        node.commit(*(flow(300 + port, key(port=port), at_us=next_hour_us) for port in range(1, 11)))
        node.steps()
        assert len(node.server.events) == MOST_AN_HOUR + 10
        assert sum(node.told().values()) == 120


def test_an_event_is_written_at_the_repeat_interval_and_no_more_often() -> None:
    with machine() as node:
        for count in range(1, 101):
            node.commit(flow(count=count))
            node.steps(1.0)
        # Once at once, after 2 s, and then each 5 s (the repeat interval, which is shorter than 8 and 32 s).
        assert 20 <= len(node.server.calls) <= 23
        node.steps()
        assert sum(node.told().values()) == 100


# -- each drop once ---------------------------------------------------------------------------------------------


def test_without_a_book_there_are_none() -> None:
    with machine() as node:
        vars(node.recorder.node_events)["_book"] = None
        node.commit(flow())
        node.steps()
        assert not node.server.events
        assert node.recorder.node_events.due is None


def test_drops_that_turn_out_to_be_a_pods_are_taken_back() -> None:
    with machine() as node:
        of = key(dst=POD, here="")
        node.directory.owners = {}
        node.commit(flow(1, of, 5))
        node.steps()
        assert sum(node.told().values()) == 5
        node.directory.owners = {POD: (PodRef("team-a", "web-0", "u"),)}
        node.recorder.awaiting.reattribute({POD})
        node.steps()
        assert node.told() == {}
        texts = [e["message"] for e in node.server.events.values() if e["involvedObject"]["kind"] == "Node"]
        assert [text.endswith(WITHDRAWN) for text in texts] == [True]


def test_while_it_is_found_out_whose_drops_are_they_stay_where_they_are() -> None:
    with machine() as node:
        node.directory.owners = {}
        node.commit(flow(1, key(dst=POD, here=""), 5))
        node.steps()
        node.directory.strangers = {POD}
        found = node.recorder.stages.get(1)
        assert found is not None
        found.to_reattribute = {"dst"}
        node.recorder.node_events.plan(found)
        node.steps(1.0)
        assert sum(node.told().values()) == 5


def test_what_cannot_be_stored_is_not_sent_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine() as node:

        def full(*_: object) -> None:
            raise StoreUnavailableError("full")

        with monkeypatch.context() as patch:
            patch.setattr(NodeEventRows, "save", full)
            node.commit(flow(count=4, ended=True))
            node.steps()
            assert not node.server.events
            assert 0 < node.recorder.pause() <= 1.5
            assert node.recorder.stages.get(1) is not None, "what is not stored yet is kept"
        node.steps()
        assert sum(node.told().values()) == 4
        assert node.recorder.stages.get(1) is None


def test_one_that_is_refused_is_given_up_and_a_later_flow_begins_another() -> None:
    with machine() as node:
        node.server.errors = [ApiError("never", status=422, reason="Invalid")]
        node.commit(flow(1))
        node.steps()
        assert not node.server.events
        node.commit(flow(2, key("192.0.2.8"), 3))
        node.steps()
        assert sum(node.told().values()) == 3


def test_what_is_over_is_forgotten_after_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine() as node:
        node.commit(flow(ended=True))
        node.steps()
        events: NodeEvents = node.recorder.node_events
        assert len(node.store.node_events.load()[0]) == 1
        assert node.store.node_events.load()[1] == [], "the share went with its flow"
        # It began years ago by this machine's clock.
        events.expire(float("inf"))
        assert node.store.node_events.load() == ([], [])
        node.commit(flow(2, at_us=BEGIN_US + MINUTE_US))
        node.steps()
        assert len(node.server.events) == 2


def test_files_that_are_read_once_more_count_what_they_counted_before() -> None:
    """They are read from their start: the same Events under the same names, with the same counts."""
    with machine() as node:
        node.commit(flow(1, count=7, ended=True))
        node.steps()
        before = node.told()
        node.store.close()
        node.store = Store.open(node.path)
        node.recorder = node._start(anew=True)
        node.commit(replace(flow(2, count=7, ended=True), stamp=flow(1).stamp))
        node.steps()
        assert node.told() == before


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 12), st.integers(1, 50)),
        st.tuples(st.just("move"), st.integers(1, 12), st.integers(1, 50)),
        st.tuples(st.just("end"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("owner"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("kill"), st.just(0), st.just(0)),
        st.tuples(st.just("away"), st.just(0), st.integers(1, 5)),
        st.tuples(st.just("steps"), st.just(0), st.integers(1, 8)),
    ),
    max_size=30,
)


@settings(max_examples=cases(60))
@given(OPERATIONS)
# What was sent was not noted yet, and the count is again what was noted before.
@example([("grow", 9, 1), ("steps", 0, 1), ("grow", 3, 1), ("steps", 0, 3), ("kill", 0, 0), ("owner", 3, 0)])
def test_each_drop_is_counted_once_whatever_happens(operations: list[tuple[str, int, int]]) -> None:
    """Flows grow, are cut, end and turn out to be pods'; kiptail is killed, the API server away. The oracle adds up."""
    with machine() as node:
        node.directory.owners = {}
        flows: dict[int, Flow] = {}
        gone: set[int] = set()
        for operation, number, amount in operations:
            one = flows.get(number)
            if operation == "grow" and number not in gone:
                of = key(f"192.0.2.{number}", f"10.2.0.{number}", 20 + number % 3, here=("dst", "src", "")[number % 3])
                one = flows[number] = one or flow(number, of, 0)
                one.count += amount
                node.commit(one)
            elif operation == "move" and one is not None and number not in gone and one.count > amount:
                one.count -= amount
                node.commit(one)
            elif operation == "end" and one is not None and number not in gone:
                one.ended = True
                gone.add(number)
                node.commit(one)
            elif operation == "owner" and number not in gone:
                address = f"10.2.0.{number}"
                node.directory.owners[address] = (PodRef("team-a", f"pod-{number}", f"u{number}"),)
                node.recorder.awaiting.reattribute({address})
            elif operation == "kill":
                node.again()
                # What is known of pods is heard of again.
                node.recorder.awaiting.reattribute(set(node.directory.owners))
            elif operation == "away":
                node.server.errors = [ApiError("no answer")] * amount
            elif operation == "steps":
                node.steps(amount)
        node.server.errors = []
        node.steps(60.0)
        expected: Counter[str] = Counter()
        for one in flows.values():
            if one.key.dst not in node.directory.owners:
                subject = subject_of(tracked(one), NODE)
                assert subject is not None
                expected[node_event_text(subject)] += one.count
        assert node.told() == {text: count for text, count in expected.items() if count}


# -- what is left out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "of", "told"),
    [
        ([], key(), 3),
        ([], key(muted="scanner"), 0),
        (["src=outside"], key(), 0),
        (["src=outside direction=received"], key(), 0),
        (["src=outside direction=sent"], key(), 3),
        (["src=outside direction=received"], key(here=""), 3),
        (["namespace=*"], key(), 3),
        (["peer=service"], key(), 3),
    ],
)
def test_what_filters_leave_out_is_not_told_on_the_node(filters: list[str], of: FlowKey, told: int) -> None:
    with machine(*filters) as node:
        node.commit(flow(of=of, count=3))
        node.steps()
        assert sum(node.told().values()) == told


def test_a_filter_that_comes_later_takes_back_what_is_not_of_interest_any_more() -> None:
    with machine() as node:
        node.commit(flow(count=3), flow(2, key(port=80)))
        node.steps()
        assert sum(node.told().values()) == 4
        node.muting = Muting(Filters([filter_of_text("src=outside port=22")]))
        node.again()
        node.commit(flow(count=4), flow(2, key(port=80), count=2))
        node.steps()
        assert list(node.told().values()) == [2]
