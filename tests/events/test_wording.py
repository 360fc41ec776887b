"""What Events say when they are written: of other pods nothing that flaps, and nothing that costs a write."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

from kiptail.events.event import LIMITED, EventRecord
from kiptail.events.recorder import Recorder
from kiptail.flows.flow import Flow, FlowKey
from kiptail.pods.ownership import PodRef
from tests.events.test_poster import STYLE, Directory, EventServer, Notebook
from tests.support.clock import Clock, own_clock

BASE = 1_800_000_000
DB = PodRef("team-b", "db-0", "uid-db", workload="sts/db")
ALSO = re.compile(r" \(also more than ([0-9,]+) other pods of deploy/web\)$")
REPEAT = 120.0


class Server(EventServer):
    """Notes each write, and when it was."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.written: list[tuple[float, str, str, int]] = []
        self.said: dict[str, list[tuple[float, str]]] = defaultdict(list)

    def _call(self, operation: str, event: dict[str, Any]) -> None:
        super()._call(operation, event)
        pod = event["involvedObject"]["name"]
        self.written.append((self.clock(), operation, pod, event["count"]))
        self.said[pod].append((self.clock(), event["message"]))


class Deployment:
    """Pods that each send a packet a second to a database, and may not."""

    def __init__(self, *, workload: str = "deploy/web", **options: Any) -> None:
        self.workload, self.options = workload, options
        self.clock, self.directory, self.notebook = Clock(0.0), Directory(), Notebook()
        self.server = Server(self.clock)
        self.directory.owners = {"10.1.0.1": (DB,)}
        self.flows: dict[int, Flow] = {}
        self.numbers = 0
        self.recorder = self.made()

    def made(self) -> Recorder:
        settings: dict[str, Any] = {"repeat_interval": REPEAT, "give_up_after": 1e9, "most_ended": 1000, "style": STYLE}
        recorder = Recorder(
            sink=self.server,
            locate=self.directory,
            outbox=self.notebook,
            paced=False,
            clock=self.clock,
            own_clock=own_clock(lambda: BASE + self.clock.now),
            **settings | self.options,
        )
        recorder.settled_us = 0
        return recorder

    def begin(self) -> None:
        """One more pod."""
        self.numbers += 1
        address = f"10.0.0.{self.numbers}"
        pod = PodRef("team-a", f"web-{self.numbers}", f"uid-{self.numbers}", workload=self.workload)
        self.directory.owners[address] = (pod,)
        now_us = self._now_us()
        key = FlowKey(address, "10.1.0.1", "TCP", 5432, None, None, reply=False, prefix="x:", verdict="drop")
        self.flows[self.numbers] = Flow(self.numbers, key, now_us, now_us, now_us, now_us, 0, ends=("src",))

    def second(self) -> None:
        """Each pod sends a packet; whatever is due is done."""
        for made in self.flows.values():
            made.count, made.last_us = made.count + 1, self._now_us()
            self.recorder.arrive(copy(made))
        self.recorder.arrived()
        while self.recorder.pause() <= 0:
            self.recorder.step()
        self.clock.now += 1

    def _now_us(self) -> int:
        return round((BASE + self.clock.now) * 1e6)

    def restart(self) -> None:
        """From what is stored, as the store gives it."""
        stored = [
            replace(record, also=0, also_us=0, recorded_unnoted=False) for record in self.notebook.records.values()
        ]
        endpoints = dict(self.notebook.endpoints)
        self.recorder = self.made()
        for number, made in self.flows.items():
            records: list[EventRecord] = [record for record in stored if record.flow_id == number]
            self.recorder.restore(copy(made), endpoints[number], records)


def rolling_update(workload: str) -> Deployment:
    """Twelve pods for ten minutes, each then replaced by another, one every 20 seconds, and ten minutes more."""
    fleet = Deployment(workload=workload)
    for _ in range(12):
        fleet.begin()
    for second in range(1_440):
        if 600 <= second < 840 and second % 20 == 0:
            del fleet.flows[min(fleet.flows)]
            fleet.begin()
        fleet.second()
    return fleet


def numbers(said: list[tuple[float, str]]) -> list[tuple[float, int]]:
    found = ((at, ALSO.search(text)) for at, text in said)
    return [(at, int(match[1].replace(",", "")) if match else 0) for at, match in found]


def test_a_rolling_update_neither_makes_texts_flap_nor_costs_a_write() -> None:
    fleet, alone = rolling_update("deploy/web"), rolling_update("")
    assert fleet.server.written == alone.server.written, "the same writes at the same times"
    assert len(fleet.server.said) == 24
    for pod, said in fleet.server.said.items():
        told = numbers(said)
        assert [also for _, also in told] == sorted(also for _, also in told), pod
        changes = [at for (at, also), (_, before) in zip(told[1:], told, strict=False) if also != before]
        assert all(later - earlier >= REPEAT for earlier, later in pairwise(changes)), pod
        assert told[-1][1] in (10, 20), pod
        assert len({ALSO.sub("", text) for _, text in said}) == 1, "nothing else changes"
    assert not any(ALSO.search(text) for said in alone.server.said.values() for _, text in said)


def test_a_few_pods_are_not_worth_a_word_and_more_are_told_of_with_the_next_count() -> None:
    fleet = Deployment()
    for _ in range(3):
        fleet.begin()
    for _ in range(60):
        fleet.second()
    assert {also for said in fleet.server.said.values() for _, also in numbers(said)} == {0}
    fleet.begin()
    for _ in range(200):
        fleet.second()
    assert {numbers(said)[-1][1] for said in fleet.server.said.values()} == {2}


def test_a_text_is_not_written_for_the_number_of_others_alone() -> None:
    """The first pod's packets stop: nothing is due of its Event any more, whatever befalls others."""
    fleet = Deployment()
    fleet.begin()
    fleet.second()
    fleet.flows.clear()
    for _ in range(9):
        fleet.begin()
    for _ in range(300):
        fleet.second()
    assert len(fleet.server.said["web-1"]) == 1
    assert numbers(fleet.server.said["web-2"])[-1][1] == 5, "the first one's were over before"


def test_after_a_restart_the_text_says_what_it_said_and_is_not_written_again_for_that() -> None:
    fleet = Deployment()
    for _ in range(12):
        fleet.begin()
    for _ in range(30):
        fleet.second()
    fleet.recorder.delivery.notes.write()
    fleet.recorder.attribute_waiting(final=True)
    fleet.recorder.delivery.last_round(retry=False)
    while fleet.recorder.delivery.due is not None:
        fleet.recorder.send_next()
    before, written = dict(fleet.server.said), len(fleet.server.written)
    assert {numbers(said)[-1][1] for said in before.values()} == {10}
    for number in range(2, 13):
        del fleet.flows[number]
    fleet.restart()
    while fleet.recorder.pause() <= 0:
        fleet.recorder.step()
    assert len(fleet.server.written) == written
    for _ in range(300):
        fleet.second()
    assert {also for _, also in numbers(fleet.server.said["web-1"])} == {10}, "though the others are gone"


def test_what_is_limited_says_so_last() -> None:
    fleet = Deployment(style=replace(STYLE, limited=frozenset({"x:"})))
    for _ in range(5):
        fleet.begin()
    fleet.second()
    for said in fleet.server.said.values():
        assert said[-1][1].endswith(f"5432/TCP (also more than 2 other pods of deploy/web){LIMITED}")
    note = json.loads(next(iter(fleet.server.events.values()))["metadata"]["annotations"]["kiptail/flow"])
    assert (note["workload"], note["peer_workload"], note["limited"]) == ("deploy/web", "sts/db", True)
