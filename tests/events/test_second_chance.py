"""Events that were given up, of flows that go on: tried anew, ever more rarely, and counted once."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.events.recorder import Recorder
from kiptail.events.second_chance import FIRST_PAUSE, LONGEST_PAUSE, SecondChances
from kiptail.events.sink import ApiSink
from kiptail.flows.flow import Flow
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.events.test_poster import CLIENT, STYLE, Directory, EventServer, Notebook
from tests.events.test_poster import flow as flow_at
from tests.support.clock import Clock, own_clock
from tests.support.kube import RawServer, kubeconfig, reply, write

KEY = (1, "src", "uid")


def test_it_is_tried_anew_after_pauses_that_grow_and_only_if_the_flow_went_on() -> None:
    clock = Clock()
    chances = SecondChances(clock)
    assert not chances.due(KEY, 5)
    count, pauses = 5, list[float]()
    assert chances.give_up(KEY, count)
    for _ in range(8):
        begun = clock()
        while not chances.due(KEY, count + 1):
            assert not chances.due(KEY, count), "nothing came"
            clock.now += 60.0
        pauses.append(clock() - begun)
        assert not chances.due(KEY, count)
        count += 1
        assert not chances.give_up(KEY, count), "counted before"
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert chances.delivered(KEY)
    assert not chances.delivered(KEY)
    assert not chances.due(KEY, count + 1)
    clock.now += LONGEST_PAUSE
    assert chances.give_up(KEY, count), "another time"
    clock.now += FIRST_PAUSE
    assert chances.due(KEY, count + 1), "it was well for long"
    assert chances.delivered(KEY)
    clock.now += 60.0
    assert chances.give_up(KEY, count)
    clock.now += FIRST_PAUSE
    assert not chances.due(KEY, count + 1), "it was well for a minute"
    chances.forget(KEY)
    assert len(chances) == 0


class Delivery:
    """A recorder and all around it, moved by hand."""

    def __init__(self, sink: Any = None) -> None:
        self.clock = Clock()
        self.sink, self.notebook = sink or EventServer(), Notebook()
        self.writes: Counter[tuple[str, str]] = Counter()
        self.count = 0
        self.recorder = self.started()

    def started(self) -> Recorder:
        return Recorder(
            sink=self.sink,
            locate=Directory(),
            outbox=self.notebook,
            style=STYLE,
            repeat_interval=60.0,
            give_up_after=86_400.0,
            most_ended=1_000,
            paced=False,
            observe=lambda operation, result: self.writes.update([(operation, result)]),
            clock=self.clock,
            own_clock=own_clock(lambda: time.time() + self.clock.now, lambda: 1e9 + self.clock.now),
        )

    def flow(self, *, ended: bool = False) -> Flow:
        return flow_at(count=self.count, ended=ended, age=-self.clock.now)

    def drop(self, *, ended: bool = False) -> None:
        """Another packet of the flow, a minute later."""
        self.count += not ended
        self.clock.now += 61.0
        self.recorder.arrive(self.flow(ended=ended))
        for _ in range(10):
            self.recorder.step()

    def minutes(self, number: int) -> None:
        for _ in range(number):
            self.drop()

    def told(self) -> Counter[str]:
        """Results of writes."""
        results: Counter[str] = Counter()
        for (_operation, result), number in self.writes.items():
            results[result] += number
        return results


class Refusing(EventServer):
    """An API server that refuses the client's Events while it is told to."""

    error: ApiError | None = None

    def _call(self, operation: str, event: dict[str, Any]) -> None:
        super()._call(operation, event)
        if self.error is not None and event["involvedObject"]["name"] == CLIENT.name:
            raise self.error


REFUSALS = {
    "invalid": ApiError("a webhook", status=400),
    "another verb": ApiError("no", status=405),
    "no namespace": ApiError("no namespace", status=404, reason="NotFound"),
    "the namespace ends": ApiError("going", status=403, causes=("NamespaceTerminating",)),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("after", [1, 0], ids=["an update", "a create"])
def test_a_flow_that_goes_on_is_not_mute_for_good(refusal: str, after: int) -> None:
    sink = Refusing()
    delivery = Delivery(sink)
    delivery.minutes(after)
    sink.error = REFUSALS[refusal]
    delivery.minutes(40)
    tries = sum(name == CLIENT.name for _, name, _ in sink.calls)
    assert 3 <= tries <= 8, "at once, after 10 minutes, after 20 more"
    assert delivery.notebook.records[1, "src", CLIENT.uid].given_up
    assert delivery.told()["given_up"] == 1, "one Event"
    assert sink.counts()["web-0"] == delivery.count, "the other one goes on all the while"
    sink.error = None
    delivery.minutes(60)
    assert sink.counts() == {"client": delivery.count, "web-0": delivery.count}
    assert (delivery.told()["given_up"], delivery.told()["revived"]) == (1, 1)
    assert not delivery.notebook.records[1, "src", CLIENT.uid].given_up
    assert len(sink.events) == 2, "under its old name"


def test_an_event_that_somebody_deletes_again_and_again_is_created_ever_more_rarely() -> None:
    delivery = Delivery()
    created = list[int]()
    for minute in range(24 * 60):
        delivery.sink.events.clear()
        before = len(delivery.sink.calls)
        delivery.drop()
        calls = delivery.sink.calls[before:]
        created += [minute] * (("create", CLIENT.name) in [(operation, name) for operation, name, _ in calls])
    assert created[:4] == [0, 1, 2, 3]
    pauses = [after - before for before, after in pairwise(created[3:])]
    assert 4 <= len(pauses) <= 12
    assert pauses[0] >= 10
    assert pauses[-1] > pauses[0]


def test_a_flow_that_ended_is_forgotten_though_its_event_was_given_up() -> None:
    sink = Refusing()
    delivery = Delivery(sink)
    sink.error = REFUSALS["invalid"]
    delivery.minutes(2)
    delivery.drop(ended=True)
    assert delivery.notebook.forgotten == [1]
    assert len(delivery.recorder.delivery.chances) == 0


def test_the_last_count_is_tried_when_the_flow_ends() -> None:
    sink = Refusing()
    delivery = Delivery(sink)
    delivery.drop()
    sink.error = REFUSALS["invalid"]
    delivery.minutes(3)
    sink.error = None
    assert sink.counts()["client"] == 1
    delivery.clock.now += FIRST_PAUSE
    delivery.drop(ended=True)
    assert sink.counts() == {"client": delivery.count, "web-0": delivery.count}


def test_what_an_earlier_run_gave_up_is_tried_anew_when_the_flow_goes_on() -> None:
    sink = Refusing()
    delivery = Delivery(sink)
    sink.error = REFUSALS["no namespace"]
    delivery.minutes(3)
    sink.error = None
    delivery.recorder = delivery.started()
    delivery.recorder.restore(delivery.flow(), delivery.notebook.endpoints[1], delivery.notebook.records.values())
    delivery.minutes(5)
    assert sink.counts() == {"web-0": delivery.count}
    delivery.minutes(15)
    assert sink.counts() == {"client": delivery.count, "web-0": delivery.count}


# -- a gateway in front, over real HTTP ---------------------------------------------------------------------------

PAGES: dict[str, tuple[str, str, bytes]] = {
    "404": ("404 Not Found", "", b"<html>no such backend</html>"),
    "404 in words": ("404 Not Found", "", b"default backend - 404"),
    "302": ("302 Found", "Location: https://login.invalid/\r\n", b"<a href=x>Found</a>"),
    "400": ("400 Bad Request", "", b"<h1>400</h1><hr>nginx"),
    "200": ("200 OK", "", b"<html>Welcome to nginx!</html>"),
    "200 and JSON": ("200 OK", "", b'{"status":"ok"}'),
    "204": ("204 No Content", "", b""),
    "401": ("401 Unauthorized", "", b'{"type":"error","status":"401","message":"must authenticate"}'),
    "403": ("403 Forbidden", "", b"<html>blocked by policy</html>"),
    "413": ("413 Payload Too Large", "", b""),
    "422": ("422 Unprocessable Entity", "", b"{}"),
}


@pytest.mark.parametrize("page", PAGES)
def test_while_a_gateway_answers_nothing_is_given_up_and_nothing_taken_for_delivered(page: str, tmp_path: Path) -> None:
    status, headers, body = PAGES[page]
    with (
        contextlib.ExitStack() as stack,
        ApiServer() as server,
        RawServer(reply(body, status=status, headers=headers)) as gateway,
    ):
        server.namespaces.put({"metadata": {"name": "team-a"}})
        direct = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "direct"))
        front = write(tmp_path / "front", kubeconfig(cluster={"server": gateway.url}))
        through = KubeApi.from_kubeconfig(front)
        stack.callback(direct.close)
        stack.callback(through.close)

        class Changing:
            """The API server, or what stands in front of it."""

            api = direct

            def create_event(self, namespace: str, event: dict[str, Any]) -> None:
                self.api.create_event(namespace, event)

            def patch_event(self, namespace: str, name: str, event: dict[str, Any]) -> None:
                self.api.patch_event(namespace, name, event)

        way = Changing()
        delivery = Delivery(ApiSink(way))
        delivery.drop()
        assert [event["count"] for event in server.events()] == [1, 1]
        way.api = through
        delivery.minutes(30)
        assert gateway.heads
        assert set(delivery.told()) == {"ok", "retry"}
        assert [event["count"] for event in server.events()] == [1, 1]
        assert delivery.recorder.progress.trouble
        way.api = direct
        delivery.minutes(2)
        assert [event["count"] for event in server.events()] == [delivery.count] * 2
        assert not delivery.recorder.progress.trouble
