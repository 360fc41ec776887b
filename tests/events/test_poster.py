"""Delivery: who is told, when, how often, and until when it is tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from kiptail.clock.pacing import TokenBucket
from kiptail.errors import ApiError
from kiptail.events import awaiting, recorder, writer
from kiptail.events import poster as poster_module
from kiptail.events.endpoint import Endpoint, Kind, When
from kiptail.events.event import WITHDRAWN, EventRecord, EventStyle
from kiptail.events.poster import Poster
from kiptail.events.recorder import Recorder
from kiptail.events.stages import Stage
from kiptail.events.tally import Labels, Tally
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.pods.ownership import PodRef
from tests.support.clock import own_clock

STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace")
WEB = PodRef("team-a", "web-0", "uid-web")
CLIENT = PodRef("team-a", "client", "uid-client")
#: Who had the client's address after it, or before.
HEIR = PodRef("team-b", "heir", "uid-heir")
PODS = {"10.0.0.1": CLIENT, "10.0.0.2": WEB}


class EventServer:
    """An API server that keeps the Events, and fails as it is told."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.errors: list[ApiError] = []
        self._changed = threading.Condition()

    def create(self, event: dict[str, Any]) -> None:
        name = event["metadata"]["name"]
        self._call("create", event)
        if name in self.events:
            raise ApiError("exists", status=409, reason="AlreadyExists")
        self._keep(event)

    def update(self, event: dict[str, Any]) -> None:
        self._call("update", event)
        if event["metadata"]["name"] not in self.events:
            raise ApiError("gone", status=404, reason="NotFound")
        self._keep(event)

    def _call(self, operation: str, event: dict[str, Any]) -> None:
        self.calls.append((operation, event["involvedObject"]["name"], event["count"]))
        if self.errors:
            raise self.errors.pop(0)

    def _keep(self, event: dict[str, Any]) -> None:
        with self._changed:
            self.events[event["metadata"]["name"]] = event
            self._changed.notify_all()

    def wait(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (self.calls, self.events)

    def counts(self) -> dict[str, int]:
        return {event["involvedObject"]["name"]: event["count"] for event in self.events.values()}

    def texts(self, name: str) -> list[str]:
        """Of the Events of the pod with this name."""
        return [event["message"] for event in self.events.values() if event["involvedObject"]["name"] == name]


class Directory:
    """Who is at an address; all of it can change during a test."""

    def __init__(self) -> None:
        self.is_ready = self.is_current = True
        self.unnamed = False
        self.strangers: set[str] = set()
        self.owners: dict[str, tuple[PodRef, ...]] = {address: (pod,) for address, pod in PODS.items()}
        self.contested_addresses: set[str] = set()
        self.unowned_addresses: set[str] = set()
        self.cluster_names: dict[str, str] = {}
        #: What pods and Services call ports.
        self.port_names: dict[tuple[str, int | None], str] = {}
        #: Those of whom an owner may still turn out.
        self.awaited: set[str] = set()
        #: Who owned an address until a time.
        self.former: dict[str, tuple[int, PodRef]] = {}

    def ready(self) -> bool:
        return self.is_ready

    def current(self) -> bool:
        return self.is_current

    def locate(self, address: str, when: When, *, patient: bool) -> Endpoint | None:
        if address in self.owners and address not in self.strangers:
            until_us, former = self.former.get(address, (0, WEB))
            pods = (former,) if when.at_us < until_us else self.owners[address]
            return Endpoint(Kind.POD if len(pods) == 1 else Kind.AMBIGUOUS, address, pods)
        if patient and address in self.strangers:
            return None
        return Endpoint(Kind.NOBODY, address, unnamed=self.unnamed, open=address in self.awaited)

    def locate_again(self, endpoint: Endpoint, when: When, *, patient: bool) -> Endpoint | None:
        return self.locate(endpoint.address, when, patient=patient)

    def contested(self, address: str, when: When) -> bool:
        return address in self.contested_addresses

    def unowned(self, address: str, at_us: int) -> bool:
        return address in self.unowned_addresses

    def cluster_name(self, address: str) -> str:
        return self.cluster_names.get(address, "")

    def with_port(self, found: Endpoint, flow: Flow, end: str, before: Endpoint | None = None) -> Endpoint:
        if end != flow.key.service_end:
            return found
        name = self.port_names.get((found.address, flow.key.port), "")
        if not name and before is not None and before.pods == found.pods:
            name = before.port_name
        return found._replace(port_name=name)

    def probes(self, src: Endpoint, dst: Endpoint, port: int) -> bool:
        return False

    def named(self, endpoint: Endpoint) -> Endpoint:
        return endpoint if self.unnamed else endpoint._replace(name="db.example.com", unnamed=False)


class Notebook:
    """An outbox that notes what was stored before it was sent."""

    def __init__(self) -> None:
        self.records: dict[tuple[int, str, str], EventRecord] = {}
        self.endpoints: dict[int, dict[str, Endpoint]] = {}
        self.forgotten: list[int] = []

    def save_endpoints(self, flow_id: int, endpoints: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        self.endpoints[flow_id] = dict(endpoints)
        self.records = {key: record for key, record in self.records.items() if key[0] != flow_id}
        for record in records:
            self.note(record)

    def note(self, record: EventRecord) -> None:
        self.records[record.key] = copy(record)

    def write_notes(self) -> None:
        pass

    def forget(self, flow_ids: Iterable[int]) -> None:
        self.forgotten += flow_ids


def flow(number: int = 1, count: int = 1, *, dst: str = "10.0.0.2", ended: bool = False, age: float = 0.0) -> Flow:
    now_us = round((time.time() - age) * 1e6)
    key = FlowKey("10.0.0.1", dst, "TCP", 80 + number, None, None, False, "calico-drop:", "drop")
    return Flow(number, key, now_us, now_us, now_us, now_us, count, ended)


class Bench:
    """A poster with everything around it."""

    def __init__(self, **options: Any) -> None:
        self.sink, self.directory, self.notebook = EventServer(), Directory(), Notebook()
        settings: dict[str, Any] = {"repeat_interval": 0.3, "give_up_after": 3600.0, "first_updates": ()} | options
        settings.setdefault("own_clock", own_clock(time.time, lambda: 1e9))  # not booted just now
        settings = {"most_ended": 1000} | settings
        self.recorder = Recorder(sink=self.sink, locate=self.directory, outbox=self.notebook, style=STYLE, **settings)
        self.poster = Poster(self.recorder)

    def start(self) -> Bench:
        self.poster.start()
        return self


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BACKOFF_FIRST", 0.02)
    monkeypatch.setattr(writer, "BACKOFF_CAP", 0.1)
    monkeypatch.setattr(writer, "FORBIDDEN_RETRY", 0.2)
    monkeypatch.setattr(writer, "CONFLICT_RETRY", 0.05)
    monkeypatch.setattr(awaiting, "PATIENCE", 0.3)
    monkeypatch.setattr(poster_module, "PATIENCE", 0.3)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench().start()
    yield made
    made.poster.finish(1.0)


def test_both_ends_are_told_once(bench: Bench) -> None:
    bench.poster.offer([flow(count=3)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 3, "web-0": 3})
    assert [call[0] for call in bench.sink.calls] == ["create", "create"]


def test_names_are_stored_before_the_first_send() -> None:
    bench = Bench()

    class Careful(EventServer):
        def create(self, event: dict[str, Any]) -> None:
            assert event["metadata"]["name"] in {r.name for r in bench.notebook.records.values()}
            super().create(event)

    sink = Careful()
    bench.recorder.delivery.sender._sink = sink
    bench.start().poster.offer([flow()])
    sink.wait(lambda: len(sink.events) == 2)
    bench.poster.finish(1.0)


def test_repeats_raise_the_count_at_most_once_an_interval(bench: Bench) -> None:
    bench.poster.offer([flow(count=1)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    for count in range(2, 12):
        bench.poster.offer([flow(count=count)])
    assert bench.sink.counts() == {"client": 1, "web-0": 1}
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 11, "web-0": 11})
    assert len(bench.sink.calls) == 4
    assert len(bench.sink.events) == 2


def test_first_updates_follow_sooner() -> None:
    bench = Bench(repeat_interval=60.0, first_updates=(0.05, 0.1)).start()
    bench.poster.offer([flow(count=1)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    bench.poster.offer([flow(count=2)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 2, "web-0": 2})
    bench.poster.finish(1.0)


def test_the_last_count_is_sent_on_a_stop() -> None:
    bench = Bench(repeat_interval=60.0).start()
    bench.poster.offer([flow(count=1)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    bench.poster.offer([flow(count=9)])
    assert bench.poster.finish(2.0) == 0
    assert bench.sink.counts() == {"client": 9, "web-0": 9}


def test_nothing_is_judged_before_the_index_is_complete(bench: Bench) -> None:
    bench.directory.is_ready = False
    bench.poster.offer([flow()])
    time.sleep(0.3)
    assert bench.notebook.endpoints == {}
    bench.directory.is_ready = True
    bench.poster.wake()
    bench.sink.wait(lambda: len(bench.sink.events) == 2)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ApiError("refused"), id="no answer"),
        pytest.param(ApiError("busy", status=429, retry_after=0.1), id="429"),
        pytest.param(ApiError("broken", status=503), id="503"),
        pytest.param(ApiError("who", status=401), id="401"),
        pytest.param(ApiError("not here", status=403), id="403"),
        pytest.param(ApiError("moment", status=409, reason="Conflict"), id="conflict"),
    ],
)
def test_what_may_pass_is_tried_again(bench: Bench, error: ApiError) -> None:
    bench.sink.errors = [error] * 3
    bench.poster.offer([flow(count=2)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 2, "web-0": 2})


def test_retry_after_is_kept(bench: Bench) -> None:
    bench.sink.errors = [ApiError("busy", status=429, retry_after=0.5)]
    begin = time.monotonic()
    bench.poster.offer([flow()])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    assert time.monotonic() - begin >= 0.5


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ApiError("invalid", status=422), id="422"),
        pytest.param(ApiError("no namespace", status=404), id="404"),
        pytest.param(ApiError("going", status=403, causes=("NamespaceTerminating",)), id="namespace terminating"),
    ],
)
def test_what_can_never_succeed_is_given_up_and_noted(bench: Bench, error: ApiError) -> None:
    bench.sink.errors = [error]
    bench.poster.offer([flow(count=1)])
    bench.sink.wait(lambda: len(bench.sink.events) == 1)
    bench.poster.offer([flow(count=5)])
    bench.sink.wait(lambda: bench.sink.counts() == {"web-0": 5})
    assert bench.notebook.records[1, "src", CLIENT.uid].given_up
    assert [name for _, name, _ in bench.sink.calls].count("client") == 1


def test_what_is_too_old_is_given_up() -> None:
    bench = Bench(give_up_after=10.0).start()
    bench.poster.offer([flow(number=1, age=60.0), flow(number=2)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    assert bench.poster.finish(1.0) == 0
    assert {record.given_up for (number, _, _), record in bench.notebook.records.items() if number == 1} != {""}


def test_an_event_that_is_gone_is_told_anew_only_with_news_and_three_times(bench: Bench) -> None:
    bench.poster.offer([flow(count=1)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    for count in range(2, 7):
        bench.sink.events.clear()
        time.sleep(0.35)
        assert bench.sink.events == {}, "nothing to tell"
        bench.poster.offer([flow(count=count)])
        if count <= 4:
            bench.sink.wait(lambda: len(bench.sink.events) == 2)
    bench.poster.finish(1.0)
    assert bench.sink.events == {}
    assert {record.rounds for record in bench.notebook.records.values()} == {3}


def test_what_was_dropped_first_is_told_first_after_an_outage(bench: Bench) -> None:
    bench.sink.errors = [ApiError("refused")] * 4
    for number in range(1, 6):
        bench.poster.offer([flow(number)])
        time.sleep(0.01)
    bench.sink.wait(lambda: len(bench.sink.events) == 10)
    ports = [int(e["message"].rsplit(" ", 1)[1].split("/")[0]) for e in bench.sink.events.values()]
    assert ports == sorted(ports)


def test_a_restart_goes_on_with_the_stored_names_and_sends_only_what_is_missing() -> None:
    first = Bench().start()
    first.poster.offer([flow(count=1)])
    first.sink.wait(lambda: len(first.sink.events) == 2)
    first.poster.finish(1.0)
    second = Bench()
    second.sink.events = first.sink.events
    second.poster.restore(flow(count=4), first.notebook.endpoints[1], map(copy, first.notebook.records.values()))
    second.start()
    second.sink.wait(lambda: second.sink.counts() == {"client": 4, "web-0": 4})
    assert [call[0] for call in second.sink.calls] == ["update", "update"]
    assert second.poster.finish(1.0) == 0


def test_an_answer_that_got_lost_does_not_double_the_event() -> None:
    bench = Bench()
    lost = [True]
    create = bench.sink.create

    def create_and_lose(event: dict[str, Any]) -> None:
        create(event)
        if lost:
            lost.clear()
            raise ApiError("reset")

    bench.sink.create = create_and_lose  # type: ignore[method-assign]
    bench.start().poster.offer([flow(count=2)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 2, "web-0": 2})
    bench.poster.finish(1.0)
    assert len(bench.sink.events) == 2


def test_told_and_ended_flows_are_forgotten(bench: Bench) -> None:
    bench.poster.offer([flow(1, ended=True), flow(2, dst="192.0.2.7", ended=True)])
    bench.sink.wait(lambda: len(bench.sink.events) == 3)
    bench.poster.finish(1.0)
    assert sorted(bench.notebook.forgotten) == [1, 2]
    assert len(bench.recorder.stages) == 0


def test_a_name_is_waited_for_a_moment_and_told_when_it_comes_late(bench: Bench) -> None:
    bench.directory.unnamed = True
    bench.poster.offer([flow(dst="192.0.2.7")])
    bench.sink.wait(lambda: len(bench.sink.events) == 1)
    (event,) = bench.sink.events.values()
    assert "to 192.0.2.7 on" in event["message"]
    bench.directory.unnamed = False
    bench.poster.wake()

    def named() -> bool:
        (event,) = bench.sink.events.values()
        return "to db.example.com (192.0.2.7) on" in event["message"]

    bench.sink.wait(named)
    assert len(bench.sink.events) == 1, "a patch of the text"


def test_while_held_everything_is_told_once_at_the_end() -> None:
    bench = Bench(hold=True, paced=False).start()
    for count in range(1, 50):
        bench.poster.offer([flow(count=count)])
    time.sleep(0.1)
    assert bench.sink.calls == []
    assert bench.poster.finish(5.0, drain=True) == 0
    assert [call[2] for call in bench.sink.calls] == [49, 49]


def test_requests_are_paced() -> None:
    bench = Bench().start()
    begin = time.monotonic()
    bench.poster.offer([flow(number) for number in range(1, 71)])
    bench.sink.wait(lambda: len(bench.sink.events) == 140)
    assert time.monotonic() - begin >= (140 - 100) / 50 - 0.1
    bench.poster.finish(1.0)


def test_draining_outlasts_an_outage_and_tells_what_is_left_when_it_does_not() -> None:
    bench = Bench(hold=True).start()
    bench.sink.errors = [ApiError("refused")] * 5
    bench.poster.offer([flow()])
    assert bench.poster.finish(5.0, drain=True) == 0
    hopeless = Bench(hold=True).start()
    hopeless.sink.errors = [ApiError("refused")] * 1000
    hopeless.poster.offer([flow()])
    assert hopeless.poster.finish(0.5, drain=True) == 2


def test_a_pod_that_was_taken_for_a_stranger_is_told_when_it_becomes_known(bench: Bench) -> None:
    bench.directory.strangers = {"10.0.0.2"}
    bench.poster.offer([flow(count=3)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 3})
    (event,) = bench.sink.events.values()
    assert "to 10.0.0.2 on" in event["message"]
    bench.directory.strangers = set()
    bench.poster.reattribute(["10.0.0.2"])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 3, "web-0": 3})
    bench.sink.wait(lambda: "to team-a/web-0 (10.0.0.2)" in str(bench.sink.events))


def test_a_stranger_is_waited_for_longer_while_no_news_arrives(bench: Bench) -> None:
    bench.directory.strangers, bench.directory.is_current = {"10.0.0.2"}, False
    bench.poster.offer([flow()])
    time.sleep(0.6)
    assert bench.sink.calls == []
    bench.directory.strangers, bench.directory.is_current = set(), True
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 1, "web-0": 1})


def test_one_event_that_always_fails_does_not_hold_up_the_others(bench: Bench) -> None:
    create = bench.sink.create

    def poisoned(event: dict[str, Any]) -> None:
        if event["involvedObject"]["name"] == "client":
            raise ApiError("webhook", status=500)
        create(event)

    bench.sink.create = poisoned  # type: ignore[method-assign]
    bench.poster.offer([flow(number) for number in range(1, 21)])
    bench.sink.wait(lambda: len(bench.sink.events) == 20)
    assert {event["involvedObject"]["name"] for event in bench.sink.events.values()} == {"web-0"}


def test_last_counts_are_sent_on_a_stop_however_many_flows_there_are() -> None:
    bench = Bench(repeat_interval=60.0, paced=False)
    bench.start().poster.offer([flow(number) for number in range(1, 501)])
    bench.sink.wait(lambda: len(bench.sink.events) == 1000, timeout=20)
    bench.recorder.delivery.sender._bucket = TokenBucket(50, 5)
    bench.poster.offer([flow(500, count=7)])
    begin = time.monotonic()
    assert bench.poster.finish(5.0) == 0
    assert time.monotonic() - begin < 2.0


def test_what_is_sent_is_what_was_committed_whatever_comes_meanwhile() -> None:
    bench = Bench(repeat_interval=0.2)
    create = bench.sink.create

    def slow(event: dict[str, Any]) -> None:
        bench.poster.offer([flow(count=9)])
        create(event)

    bench.sink.create = slow  # type: ignore[method-assign]
    bench.start().poster.offer([flow(count=1)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 9, "web-0": 9})
    bench.poster.finish(1.0)


def test_flows_that_can_never_be_told_are_let_go_while_the_cluster_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_EXPIRY_INTERVAL", 0.1)
    bench = Bench(give_up_after=10.0).start()
    bench.directory.is_ready = False
    bench.poster.offer([flow(number, ended=True, age=60.0) for number in range(1, 6)])
    bench.poster.offer([flow(6, age=1.0)])
    deadline = time.monotonic() + 5
    while len(bench.notebook.forgotten) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(bench.notebook.forgotten) == [1, 2, 3, 4, 5]
    bench.poster.finish(0.1)


def test_a_crowd_of_strangers_is_not_looked_at_all_the_time() -> None:
    bench = Bench(hold=True)
    bench.directory.strangers = {"10.0.0.2"}
    looks = []
    locate = bench.directory.locate

    def counted(address: str, when: When, *, patient: bool) -> Endpoint | None:
        looks.append(address)
        return locate(address, when, patient=patient)

    bench.directory.locate = counted  # type: ignore[method-assign]
    bench.start()
    for number in range(1, 501):
        bench.poster.offer([flow(number)])
        time.sleep(0.001)
    deadline = time.monotonic() + 5
    while bench.poster.progress.unattributed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(looks) < 2 * 500 * 20
    bench.poster.finish(1.0)


@pytest.mark.parametrize("status", [500, 403])
def test_draining_tells_what_can_be_told_and_obeys_a_stop(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FORBIDDEN_RETRY", 60.0)
    bench = Bench(hold=True)
    create = bench.sink.create

    def poisoned(event: dict[str, Any]) -> None:
        if event["involvedObject"]["name"] == "client":
            raise ApiError("no", status=status)
        create(event)

    bench.sink.create = poisoned  # type: ignore[method-assign]
    stopped = threading.Event()
    bench.start().poster.offer([flow()])
    threading.Timer(1.0, stopped.set).start()
    begin = time.monotonic()
    assert bench.poster.finish(30.0, drain=True, stop=stopped.is_set) == 1
    assert time.monotonic() - begin < 3.0
    assert bench.sink.counts() == {"web-0": 1}


def test_a_doubt_is_looked_at_before_the_end_that_came_with_it() -> None:
    bench = Bench()
    bench.directory.strangers = {"10.0.0.1", "10.0.0.2"}
    bench.start().poster.offer([flow()])
    deadline = time.monotonic() + 5
    while not bench.notebook.endpoints and time.monotonic() < deadline:
        time.sleep(0.02)
    bench.directory.strangers = set()
    with bench.poster._wakeup:
        bench.poster._inbox.addresses.update(["10.0.0.1", "10.0.0.2"])
        bench.poster._inbox.flows[1] = flow(ended=True)
    bench.poster.wake()
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 1, "web-0": 1})
    bench.poster.finish(1.0)


def test_only_so_many_ended_flows_wait_for_the_cluster_and_the_oldest_are_given_up() -> None:
    bench = Bench(most_ended=3)
    bench.sink.errors = [ApiError("refused")] * 100_000
    bench.start()
    for number in range(1, 6):
        bench.poster.offer([flow(number, ended=True)])
        deadline = time.monotonic() + 5
        while number not in bench.notebook.endpoints and time.monotonic() < deadline:
            time.sleep(0.01)
    bench.poster.finish(0.1)
    assert bench.notebook.forgotten == [1, 2]
    assert {number for (number, _, _), record in bench.notebook.records.items() if record.given_up} == {1, 2}
    assert bench.poster.progress.ended == 3


def test_the_last_count_of_a_flow_that_has_ended_does_not_wait_for_its_interval() -> None:
    bench = Bench(repeat_interval=60.0).start()
    bench.poster.offer([flow(count=1)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    bench.poster.offer([flow(count=7)])
    bench.poster.offer([flow(count=8, ended=True)])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 8, "web-0": 8})
    bench.poster.finish(1.0)
    assert bench.notebook.forgotten == [1]


def folded(number: int, peers: int, count: int) -> Flow:
    made = flow(number, count)
    spread = Spread()
    for peer in range(peers):
        spread.peers.add(peer)
    key = FlowKey("", "10.0.0.2", "", None, None, None, False, "", "drop")
    return replace(made, key=key, ends=("dst",), spread=spread)


def test_a_folded_flow_is_told_at_its_one_end_and_its_text_follows_its_size(bench: Bench) -> None:
    bench.poster.offer([folded(1, peers=1, count=1)])
    bench.sink.wait(lambda: bench.sink.counts() == {"web-0": 1})
    bench.poster.offer([folded(1, peers=40, count=41)])
    bench.sink.wait(lambda: bench.sink.counts() == {"web-0": 41})
    (event,) = bench.sink.events.values()
    assert event["message"] == "Packets dropped when receiving traffic from more than 20 addresses"
    assert "related" not in event


def test_an_end_that_is_folded_has_no_event_but_is_named_in_the_others(bench: Bench) -> None:
    bench.poster.offer([replace(flow(), ends=("src",))])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 1})
    (event,) = bench.sink.events.values()
    assert "to team-a/web-0 (10.0.0.2)" in event["message"]
    assert event["related"]["name"] == "web-0"
    assert set(bench.notebook.endpoints[1]) == {"src", "dst"}


def test_an_owner_that_is_still_looked_for_at_a_stop_is_told_after_the_next_start() -> None:
    first = Bench().start()
    first.directory.strangers = first.directory.awaited = {"10.0.0.2"}
    first.poster.offer([flow(count=2, ended=True)])
    first.sink.wait(lambda: first.sink.counts() == {"client": 2})
    first.poster.finish(1.0)
    assert set(first.notebook.endpoints[1]) == {"src"}
    assert first.notebook.forgotten == []
    second = Bench()
    second.sink.events = first.sink.events
    records = map(copy, first.notebook.records.values())
    second.poster.restore(flow(count=2, ended=True), first.notebook.endpoints[1], records)
    second.start()
    second.sink.wait(lambda: second.sink.counts() == {"client": 2, "web-0": 2})
    second.sink.wait(lambda: "to team-a/web-0 (10.0.0.2)" in str(second.sink.events))
    second.poster.finish(1.0)
    assert second.notebook.forgotten == [1]


def test_what_is_looked_for_is_asked_again_when_nobody_brought_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_EXPIRY_INTERVAL", 0.1)
    bench = Bench().start()
    bench.directory.strangers = bench.directory.awaited = {"10.0.0.2"}
    bench.poster.offer([flow()])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 1})
    bench.directory.strangers = set()
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 1, "web-0": 1})
    bench.poster.finish(1.0)


# A decision holds until something contradicts it


def until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def told() -> Iterator[Bench]:
    """Three packets from client to web-0 are told at both ends; updates of what is true would take a minute."""
    made = Bench(repeat_interval=60.0)
    made.poster.settle(0)
    made.start().poster.offer([flow(count=3)])
    made.sink.wait(lambda: made.sink.counts() == {"client": 3, "web-0": 3})
    until(lambda: len(made.notebook.records) == 2 and all(r.sent_count for r in made.notebook.records.values()))
    made.sink.calls.clear()
    yield made
    made.poster.finish(1.0)


def is_withdrawn(bench: Bench, name: str) -> bool:
    return bench.sink.counts()[name] == 0 and all(text.endswith(WITHDRAWN) for text in bench.sink.texts(name))


def test_packets_that_were_another_pods_are_counted_there_and_nowhere_else(told: Bench) -> None:
    told.directory.owners["10.0.0.1"] = (HEIR,)
    told.poster.reattribute(["10.0.0.1"])
    told.sink.wait(lambda: told.sink.counts() == {"client": 0, "heir": 3, "web-0": 3})
    assert is_withdrawn(told, "client")
    told.poster.offer([flow(count=3, ended=True)])
    told.sink.wait(lambda: "from team-b/heir (10.0.0.1)" in told.sink.texts("web-0")[0])
    assert sorted(call for call in told.sink.calls if call[1] != "web-0") == [
        ("create", "heir", 3),
        ("update", "client", 0),
    ]
    assert told.poster.progress.reattributed == 1
    until(lambda: told.notebook.records[1, "src", CLIENT.uid].withdrawn)
    assert told.notebook.endpoints[1]["src"].pods == (HEIR,)


def test_packets_that_may_have_been_either_pods_are_nobodys(told: Bench) -> None:
    told.directory.owners["10.0.0.1"] = (CLIENT, HEIR)
    told.poster.reattribute(["10.0.0.1"])
    told.sink.wait(lambda: told.sink.counts() == {"client": 0, "web-0": 3})
    assert is_withdrawn(told, "client")
    until(lambda: told.poster.progress.ambiguous == 3)
    told.poster.offer([flow(count=5)])
    until(lambda: told.poster.progress.ambiguous == 5)
    told.poster.finish(1.0)
    assert told.sink.counts() == {"client": 0, "web-0": 5}
    assert "from team-a/client or team-b/heir (10.0.0.1)" in told.sink.texts("web-0")[0]


def test_packets_of_an_end_that_the_flow_does_not_tell_are_not_counted_as_nobodys() -> None:
    bench = Bench().start()
    bench.directory.owners["10.0.0.1"] = (CLIENT, HEIR)
    bench.poster.offer([replace(flow(count=3), ends=("dst",)), flow(2, count=4)])
    bench.sink.wait(lambda: len(bench.sink.events) == 2)
    assert bench.poster.progress.ambiguous == 4
    bench.poster.finish(1.0)


def test_a_pod_that_is_cleared_and_blamed_again_has_its_event_back(told: Bench) -> None:
    names = set(told.sink.events)
    told.directory.owners["10.0.0.1"] = (CLIENT, HEIR)
    told.poster.reattribute(["10.0.0.1"])
    told.sink.wait(lambda: told.sink.counts() == {"client": 0, "web-0": 3})
    told.directory.owners["10.0.0.1"] = (CLIENT,)
    told.poster.reattribute(["10.0.0.1"])
    until(lambda: not told.notebook.records[1, "src", CLIENT.uid].withdrawn)
    assert told.poster.finish(1.0) == 0
    assert told.sink.counts() == {"client": 3, "web-0": 3}
    assert set(told.sink.events) == names
    assert WITHDRAWN not in told.sink.texts("client")[0]
    assert told.poster.progress.reattributed == 2


def test_a_pod_is_cleared_also_when_the_next_one_claims_its_uid(told: Bench) -> None:
    """As the mirror of a static pod can: its UID is an annotation."""
    told.directory.owners["10.0.0.1"] = (HEIR._replace(uid=CLIENT.uid),)
    told.poster.reattribute(["10.0.0.1"])
    told.sink.wait(lambda: told.sink.counts() == {"client": 0, "web-0": 3})
    assert is_withdrawn(told, "client")


def test_a_pod_that_was_no_pod_then_is_cleared(told: Bench) -> None:
    told.directory.strangers = {"10.0.0.1"}
    told.poster.reattribute(["10.0.0.1"])
    told.sink.wait(lambda: told.sink.counts() == {"client": 0, "web-0": 3})
    assert is_withdrawn(told, "client")
    assert told.poster.progress.ambiguous == 0


def test_a_doubt_that_changes_nothing_writes_nothing(told: Bench) -> None:
    told.poster.reattribute(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    until(lambda: told.poster.progress.unattributed == 0 and not told.poster._inbox)
    assert told.poster.finish(1.0) == 0
    assert told.sink.calls == []
    assert told.poster.progress.reattributed == 0


def test_who_was_blamed_before_anything_was_sent_never_hears_of_it() -> None:
    bench = Bench(hold=True).start()
    bench.poster.offer([flow(count=3)])
    until(lambda: len(bench.notebook.records) == 2)
    bench.directory.owners["10.0.0.1"] = (HEIR,)
    bench.poster.reattribute(["10.0.0.1"])
    until(lambda: (1, "src", HEIR.uid) in bench.notebook.records)
    assert (1, "src", CLIENT.uid) not in bench.notebook.records
    assert bench.poster.finish(5.0, drain=True) == 0
    assert sorted(bench.sink.calls) == [("create", "heir", 3), ("create", "web-0", 3)]


@pytest.mark.parametrize("got_through", [False, True])
def test_an_event_whose_answer_got_lost_is_withdrawn_if_it_is_there(got_through: bool) -> None:
    bench = Bench()
    create, tried = bench.sink.create, threading.Event()

    def lossy(event: dict[str, Any]) -> None:
        if event["involvedObject"]["name"] != "client":
            create(event)
            return
        if got_through and not tried.is_set():
            create(event)
        tried.set()
        raise ApiError("webhook", status=500)

    bench.sink.create = lossy  # type: ignore[method-assign]
    bench.start().poster.offer([flow(count=3)])
    assert tried.wait(5)
    bench.directory.owners["10.0.0.1"] = (HEIR,)
    bench.poster.reattribute(["10.0.0.1"])
    expected = {"heir": 3, "web-0": 3} | ({"client": 0} if got_through else {})
    bench.sink.wait(lambda: bench.sink.counts() == expected)
    until(lambda: not bench.recorder.delivery.pending())
    record = bench.notebook.records[1, "src", CLIENT.uid]
    assert (record.withdrawn, record.sent_count, record.given_up) == (True, 0, "")
    assert bench.poster.finish(1.0) == 0
    assert bench.sink.counts() == expected


def test_a_flow_that_is_cut_while_its_events_are_there_is_two_and_their_counts_are_exact() -> None:
    tally = Tally()
    bench = Bench(repeat_interval=60.0, tally=tally).start()
    whole = flow(count=5)
    bench.poster.offer([whole])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 5, "web-0": 5})
    cut_us = whole.opened_us + 2_000_000
    bench.directory.owners["10.0.0.1"] = (HEIR,)
    bench.directory.former["10.0.0.1"] = (cut_us, CLIENT)
    bench.poster.reattribute(["10.0.0.1"])
    first = replace(whole, count=2, ended=True)
    second = replace(whole, id=2, opened_us=cut_us, first_us=cut_us, last_us=cut_us, count=3, stamp=7)
    bench.poster.offer([first, second])
    bench.sink.wait(lambda: bench.sink.counts().get("heir") == 3 and len(bench.sink.events) == 4)
    counts = {(event["involvedObject"]["name"], event["count"]) for event in bench.sink.events.values()}
    bench.sink.wait(lambda: bench.sink.counts()["client"] == 2)
    bench.poster.finish(1.0)
    counts = {(event["involvedObject"]["name"], event["count"]) for event in bench.sink.events.values()}
    assert counts == {("client", 2), ("heir", 3), ("web-0", 2), ("web-0", 3)}
    assert WITHDRAWN not in str(bench.sink.events)
    assert bench.notebook.forgotten == [1]
    received = Labels("drop", "TCP", "received", "team-a", "team-a")
    assert sum(count for labels, count in tally.items() if labels.direction == "received") == 5
    assert dict(tally.items())[received] == 5, "what was tallied is not tallied once more"


def test_the_drops_of_a_flow_that_are_told_by_others_after_all_are_withdrawn() -> None:
    """Its address had another owner: what was folded are flows of their own."""
    bench = Bench(repeat_interval=60.0).start()
    bench.poster.offer([folded(1, peers=40, count=41), replace(flow(2, count=41), ends=("src",))])
    bench.sink.wait(lambda: bench.sink.counts() == {"web-0": 41, "client": 41})
    bench.poster.offer([folded(1, peers=40, count=0), flow(2, count=41)])
    bench.sink.wait(lambda: len(bench.sink.events) == 3)
    bench.poster.finish(1.0)
    assert sorted(event["count"] for event in bench.sink.events.values()) == [0, 41, 41]
    assert [text for text in bench.sink.texts("web-0") if text.endswith(WITHDRAWN)] == [
        f"Packets dropped when receiving traffic from more than 20 addresses{WITHDRAWN}"
    ]


def test_drops_that_cannot_be_told_apart_any_more_are_asked_for_by_both_times(told: Bench) -> None:
    asked: list[When] = []
    locate = told.directory.locate

    def noted(address: str, when: When, *, patient: bool) -> Endpoint | None:
        asked.append(when)
        return locate(address, when, patient=patient)

    told.directory.locate = noted  # type: ignore[method-assign]
    mixed = replace(flow(count=3), mixed=True)
    told.poster.offer([mixed])
    until(lambda: asked)
    assert set(asked) == {When(mixed.opened_us, mixed.last_us)}


def test_names_that_the_cluster_gives_later_are_told(told: Bench) -> None:
    outside = flow(2, dst="192.0.2.7")
    told.poster.offer([outside])
    told.sink.wait(lambda: len(told.sink.events) == 3)
    told.directory.cluster_names = {"192.0.2.7": "node/worker-9", "10.0.0.2": "service team-a/db"}
    told.poster.rename()
    until(lambda: told.notebook.endpoints[2]["dst"].name == "node/worker-9")
    told.poster.offer([replace(outside, ended=True)])
    told.sink.wait(lambda: any("to node/worker-9 (192.0.2.7)" in text for text in told.sink.texts("client")))
    assert any("to team-a/web-0 (10.0.0.2)" in text for text in told.sink.texts("client")), "a pod keeps its name"


def test_ended_flows_rest_until_no_change_of_hands_can_concern_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_EXPIRY_INTERVAL", 0.05)
    bench = Bench(repeat_interval=60.0)
    ended = flow(count=3, ended=True)
    bench.poster.settle(ended.last_us)
    bench.start().poster.offer([ended])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 3, "web-0": 3})
    until(lambda: bench.recorder.stages.count(Stage.RESTING))
    assert bench.poster.progress.ended == 0, "it does not wait for anything to be told"
    bench.directory.owners["10.0.0.1"] = (HEIR,)
    bench.poster.reattribute(["10.0.0.1"])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 0, "heir": 3, "web-0": 3})
    assert bench.notebook.forgotten == []
    bench.poster.settle(ended.last_us + 1)
    until(lambda: bench.notebook.forgotten == [1])
    bench.poster.finish(1.0)


def rests(bench: Bench, number: int) -> bool:
    tracked = bench.recorder.stages.get(number)
    return tracked is not None and tracked.stage is Stage.RESTING


def test_only_so_many_flows_rest() -> None:
    bench = Bench(most_ended=3, paced=False)
    bench.poster.settle(0)
    bench.start()
    for number in range(1, 6):
        bench.poster.offer([flow(number, ended=True)])
        until(lambda number=number: rests(bench, number))  # type: ignore[misc]  # bound now
    assert bench.notebook.forgotten == [1, 2]
    bench.poster.finish(1.0)


def test_whom_news_may_still_contradict_is_left_to_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "PATIENCE", 60.0)
    bench = Bench()
    bench.directory.strangers = {"10.0.0.2", "10.0.0.4"}
    bench.directory.contested_addresses = {"10.0.0.2"}
    bench.start().poster.offer([flow(1), flow(2, dst="10.0.0.4")])
    until(lambda: bench.poster.progress.unattributed == 2)
    assert bench.poster.finish(1.0) == 1
    assert set(bench.notebook.endpoints) == {2}, "nobody is left to wait where nothing is doubtful"
    assert bench.sink.counts() == {"client": 1}


def test_at_the_end_of_a_journal_it_is_told_as_it_seems() -> None:
    bench = Bench(hold=True)
    bench.directory.strangers = bench.directory.contested_addresses = {"10.0.0.2"}
    bench.start().poster.offer([flow(1)])
    assert bench.poster.finish(5.0, drain=True) == 0
    assert bench.sink.counts() == {"client": 1}


@pytest.mark.parametrize("settled", [False, True])
def test_what_an_earlier_run_decided_is_doubted_while_it_may_turn_out_to_be_wrong(told: Bench, settled: bool) -> None:
    told.poster.finish(1.0)
    second = Bench(repeat_interval=60.0)
    second.sink.events = told.sink.events
    second.directory.owners["10.0.0.1"] = (HEIR,)
    stored = flow(count=3)
    second.poster.settle(stored.last_us + 1 if settled else stored.last_us)
    second.poster.restore(stored, told.notebook.endpoints[1], map(copy, told.notebook.records.values()))
    second.start().poster.offer([flow(2)])
    until(lambda: 2 in second.notebook.endpoints and second.poster.progress.unattributed == 0)
    second.poster.finish(1.0)
    wrong = {(event["involvedObject"]["name"], event["count"]) for event in second.sink.events.values()}
    assert (("client", 3) in wrong) is settled
    assert (("heir", 3) in wrong) is not settled


def test_what_an_earlier_run_wrote_and_did_not_note_is_not_taken_for_right_by_chance() -> None:
    first = Bench()
    first.poster.offer([flow(count=3)])
    first.start()
    first.sink.wait(lambda: len(first.sink.events) == 2)
    first.poster.finish(5.0)
    second = Bench(repeat_interval=3600.0)
    second.sink.events = first.sink.events
    # It had told 5 when it died, and noted 3; then two of them turn out to be somebody else's.
    for event in second.sink.events.values():
        event["count"] = 5
    second.poster.restore(flow(count=5), first.notebook.endpoints[1], map(copy, first.notebook.records.values()))
    assert {record.sent_message for record in second.notebook.records.values()} == {""}, "nor by the next run"
    second.poster.offer([flow(count=3)])
    second.start().poster.finish(5.0)
    assert {event["count"] for event in second.sink.events.values()} == {3}


def test_nobody_is_looked_for_while_a_flow_may_still_have_to_be_cut() -> None:
    uncut = {"10.0.0.2"}
    bench = Bench(uncut=uncut.__contains__).start()
    bench.poster.offer([flow(1), flow(2, dst="10.0.0.4")])
    bench.sink.wait(lambda: bench.sink.counts() == {"client": 1})
    assert set(bench.notebook.endpoints) == {2}
    uncut.clear()
    bench.poster.wake()
    bench.sink.wait(lambda: len(bench.sink.events) == 3)
    bench.poster.finish(1.0)


def test_at_the_end_of_a_journal_what_has_still_to_be_cut_is_waited_for() -> None:
    uncut = {"10.0.0.2"}
    bench = Bench(hold=True, uncut=uncut.__contains__)
    bench.start().poster.offer([flow(count=5)])
    begin = time.monotonic()

    def cut() -> None:
        if uncut and time.monotonic() - begin > 0.5:  # later than anybody is waited for
            first = flow(count=2, ended=True)
            bench.poster.offer([first, replace(first, id=2, count=3, ended=False, stamp=7)])
            uncut.clear()

    assert bench.poster.finish(10.0, drain=True, meanwhile=cut) == 0
    assert sorted(bench.sink.calls) == sorted(
        ("create", name, count) for name in ("client", "web-0") for count in (2, 3)
    )


@pytest.mark.parametrize("sent_before", [False, True])
def test_a_stranger_is_meant_only_where_somebody_unknown_sent_before(sent_before: bool) -> None:
    """The pod began while nobody watched, and the packets are of its first second."""
    bench = Bench(hold=True)
    locate = bench.directory.locate

    def perhaps(address: str, when: When, *, patient: bool) -> Endpoint | None:
        found = locate(address, when, patient=patient)
        return found and found._replace(stranger=found.kind is Kind.POD and address == "10.0.0.1")

    bench.directory.locate = perhaps  # type: ignore[method-assign]
    bench.directory.strangers = {"10.0.0.1"}
    bench.start()
    if sent_before:
        bench.poster.offer([flow(1, age=60)])
        until(lambda: 1 in bench.notebook.endpoints)
    bench.directory.unowned_addresses = bench.directory.strangers
    bench.directory.strangers = set()
    bench.poster.offer([flow(2)])
    until(lambda: 2 in bench.notebook.endpoints)
    assert bench.notebook.endpoints[2]["src"].kind is (Kind.AMBIGUOUS if sent_before else Kind.POD)
    bench.poster.finish(1.0)
