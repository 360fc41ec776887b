"""kiptail on a node with a clock of its own: index, ledger, store and delivery are the real ones, and time is a number.

The API server's watch and the kernel's lines come when a script says so, late or not at all; kiptail is stopped, killed
and started at any moment; what it told is read from the Events. No thread of kiptail runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from kiptail.clock.own import OwnClock
from kiptail.clock.steady import Timeline
from kiptail.errors import ApiError
from kiptail.events.event import WITHDRAWN, EventStyle
from kiptail.events.locator import Locator
from kiptail.events.recorder import Recorder
from kiptail.flows.budget import Limits
from kiptail.flows.intake import Follower
from kiptail.flows.ledger import Ledger
from kiptail.journal.position import Position
from kiptail.netfilter.prefixes import Prefixes
from kiptail.pods import freshness, live, reflector
from kiptail.pods.live import LiveIndex, NodeMode
from kiptail.pods.memory import PodMemory
from kiptail.pods.ownership import Pod
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import Hooks
from kiptail.state.store import Store
from tests.support.clock import Clock, Machine
from tests.support.pods import NoNames

__all__ = ["RIGHT", "Cluster", "Events", "JournalSource", "Kiptail", "Recorded", "WallClock", "virtual_time"]

STYLE = EventStyle("PacketDrop", "kiptail", "node1", "name_with_namespace")
SETTLE_S = 40.0


#: A machine whose wall clock is right.
RIGHT = Machine(booted=0.0)


class WallClock(Clock):
    """Seconds since the epoch."""

    def us(self) -> int:
        return round(self.now * 1e6)


def virtual_time(patch: pytest.MonkeyPatch, clock: WallClock) -> None:
    """Have the pod index tell the time by ``clock``."""
    stand_in = SimpleNamespace(monotonic=clock, time_ns=lambda: clock.us() * 1000)
    for module in (freshness, live, reflector):
        patch.setattr(module, "time", stand_in)


@dataclass
class Cluster:
    """What the API server says of pods, and when."""

    #: The pods at the beginning, and then every change: its time, ``ADDED``, ``MODIFIED`` or ``DELETED``, the object.
    listed: list[dict[str, Any]]
    changes: list[tuple[float, str, dict[str, Any]]]
    #: Everything is heard so many seconds late …
    lag: float = 0.0
    #: … and nothing in these intervals; what was missed comes after.
    broken: list[tuple[float, float]] = field(default_factory=list)

    def heard_at(self, at: float) -> float:
        """When a change at this time is heard."""
        heard = at + self.lag
        for begin, end in self.broken:
            if begin <= heard < end:
                return end
        return heard

    def is_broken(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self.broken)

    def state(self, now: float) -> tuple[list[dict[str, Any]], int]:
        """What a list shows, and how many changes are in it."""
        pods = {pod["metadata"]["uid"]: pod for pod in self.listed}
        seen = 0
        for at, kind, pod in self.changes:
            if at + self.lag > now:
                break
            seen += 1
            if kind == "DELETED":
                pods.pop(pod["metadata"]["uid"], None)
            else:
                pods[pod["metadata"]["uid"]] = pod
        return list(pods.values()), seen

    def list_pods_page(self, **_: object) -> dict[str, Any]:
        raise AssertionError("no thread lists these pods")

    def watch_pods(self, **_: object) -> Any:
        raise AssertionError("no thread follows these pods")


@dataclass
class Events:
    """An API server's Events, by name: what is written last counts."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Every request fails.
    away: bool = False

    def create(self, event: dict[str, Any]) -> None:
        name = self._reached(event)
        if name in self.events:
            raise ApiError("exists", status=409, reason="AlreadyExists")
        self.events[name] = event

    def update(self, event: dict[str, Any]) -> None:
        name = self._reached(event)
        if name not in self.events:
            raise ApiError("gone", status=404, reason="NotFound")
        self.events[name] = event

    def _reached(self, event: dict[str, Any]) -> str:
        if self.away:
            raise ApiError("refused")
        return str(event["metadata"]["name"])

    def told(self) -> dict[tuple[str, str], int]:
        """How many packets, by the UID of the pod and the text."""
        told: dict[tuple[str, str], int] = {}
        for event in self.events.values():
            assert event["message"].endswith(WITHDRAWN) <= (event["count"] == 0)
            if event["count"]:
                key = (event["involvedObject"]["uid"], event["message"])
                told[key] = told.get(key, 0) + event["count"]
        return told


@dataclass
class Recorded:
    """A journal's flow records, by the Events that tell the same: the last one counts."""

    last: dict[str, int] = field(default_factory=dict)
    #: All of them, as they were written.
    entries: list[dict[str, str]] = field(default_factory=list)

    def write(self, fields: Mapping[str, str]) -> None:
        self.entries.append(dict(fields))
        self.last[fields["KIPTAIL_EVENT"]] = int(fields["KIPTAIL_COUNT"])


class JournalSource(Protocol):
    """A journal of which only what was written by now is there."""

    def open(self, position: Position | None, clock: WallClock, own_clock: OwnClock) -> Any:
        """Something to read from, after ``position``; ``own_clock`` is the machine's."""


class Kiptail:
    """One run of kiptail, from its start to its stop or its end."""

    def __init__(
        self,
        *,
        clock: WallClock,
        cluster: Cluster,
        events: Events,
        store: Store,
        journal: JournalSource,
        prefixes: Prefixes,
        index: str = "node",
        limits: Limits | None = None,
        machine: Machine = RIGHT,
        repeat_interval: float = 1.0,
        paced: bool = False,
        records: Recorded | None = None,
    ) -> None:
        self.clock, self.cluster, self.events, self.store = clock, cluster, events, store
        saved = store.load()
        times = saved.position.times if saved.position else None
        self.own_clock = machine.clock(clock, Timeline(times))
        self.own_clock.others = clock.us
        self.changed: set[str] = set()
        self.index = self._made(index)
        self.freshness = self.index.local.freshness
        self.memory = PodMemory(self.index.local, store, current=self.index.owners.current, forget=self.index.forget)
        self.heard = -1
        self._live_at = 0.0
        self.recorder = Recorder(
            sink=events,
            locate=Locator(self.index.owners, lambda _: ""),
            outbox=store,
            style=STYLE,
            repeat_interval=repeat_interval,
            give_up_after=float("inf"),
            most_ended=10_000,
            paced=paced,
            remember=lambda: self.memory.save(self.own_clock.now_us()),
            clock=clock,
            own_clock=self.own_clock,
            records=records,
        )
        self.recorder.settled_us = 0
        for flow in saved.flows:
            self.recorder.restore(flow.flow.copy(), flow.endpoints, flow.records)
        self.ledger = Ledger(
            (flow.flow for flow in saved.flows),
            next_id=saved.next_flow_id,
            watermark_us=saved.watermark_us,
            last_stamp=saved.last_stamp,
            budget=saved.budget,
            limits=limits,
        )
        self.journal = journal.open(saved.position, clock, self.own_clock)
        self.follower = Follower(
            journal=self.journal,
            prefixes=prefixes,
            ledger=self.ledger,
            book=store,
            offer=self._offer,
            keep_position=True,
            expire_after=None,
            clock=clock,
            own_clock=self.own_clock,
        )
        self._saved_at = clock()

    def _made(self, kind: str) -> LiveIndex:
        node_mode = NodeMode(
            on_found=lambda addresses: self.recorder.awaiting.reattribute(set(addresses)), how_to_grant=lambda: ""
        )
        index = LiveIndex(
            self.cluster,
            node="node1",
            label=None,
            ranges=PodRanges(),
            names=NoNames(),
            hooks=Hooks(self._note, lambda: None, lambda: None, lambda _: None),
            clock=self.own_clock,
            node_mode=node_mode if kind == "node" else None,
        )
        # There are no other nodes, and look-ups have threads, which live by the real time.
        vars(index._others)["ask"] = lambda *_: False
        return index

    def _note(self, addresses: set[str]) -> None:
        self.changed |= addresses

    def _offer(self, flows: Iterable[Any]) -> None:
        for flow in flows:
            self.recorder.arrive(flow)
        self.recorder.arrived()

    # -- time passes ----------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear what the API server has said by now."""
        now = self.clock()
        watch: Any = self.index._reflector
        if self.cluster.is_broken(now):
            self.freshness.interrupted()
            return
        if self.heard < 0:
            state, self.heard = self.cluster.state(now)
            pods: list[Pod] = [pod for obj in state if (pod := watch._feed._reducer.reduced(obj))]
            watch._feed = _Listed(watch._feed, pods)
            watch._list()
        if not self.freshness.current():
            self.freshness.follow(True)
            self._live_at = now + 1.0
        while self.heard < len(self.cluster.changes):
            at, kind, pod = self.cluster.changes[self.heard]
            if self.cluster.heard_at(at) > now:
                break
            self.heard += 1
            version = {"metadata": pod["metadata"] | {"resourceVersion": str(1 + self.heard)}}
            obj = pod | {"kind": "Pod", "apiVersion": "v1"} | version
            watch._take(json.dumps({"type": kind, "object": obj}).encode(), self._live_at)
            assert not watch.refused

    def step(self) -> None:
        """Read, hear, decide and send what there is at this moment."""
        self.read()
        self.listen()
        self.settle()
        self.read()
        self.deliver()

    def settle(self) -> None:
        if self.changed and self.index.ready():
            addresses, self.changed = self.changed, set()
            self.follower.hand_over({address: self.index.owners.hands(address) for address in addresses})
            self.memory.save(self.own_clock.now_us())
            self.recorder.awaiting.reattribute(addresses)
        if self.index.ready():
            settled_us = self.index.fresh_us() - round(SETTLE_S * 1e6)
            self.follower.settle(settled_us, blind=not self.index.owners.current())
            self.recorder.settled_us = settled_us
        if self.clock() >= self._saved_at + 1.0:
            self.memory.save(self.own_clock.now_us())
            self._saved_at = self.clock()

    def read(self) -> None:
        self.follower.step()

    def deliver(self) -> None:
        for _ in range(50):
            self.recorder.step()
            if self.recorder.pause() > 0:
                break

    # -- the end --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """An orderly stop: what is known is committed and sent."""
        self.follower.commit()
        self.recorder.attribute_waiting(final=True, leave=True)
        self.recorder.journaling.write_all(1.0)
        delivery = self.recorder.delivery
        delivery.last_round(retry=False)
        while delivery.due is not None:
            if delivery.due > self.clock():
                self.clock.now = delivery.due
            self.recorder.send_next()
        self.memory.save(self.own_clock.now_us(), last=True)
        self.kill()

    def kill(self) -> None:
        """Nothing is done any more."""
        stop: Callable[[float], None] = self.index.stop
        stop(0.5)
        close = getattr(self.journal, "close", None)
        if close is not None:
            close()


class _Listed:
    """The feed, whose list is what was heard."""

    def __init__(self, feed: Any, pods: list[Pod]) -> None:
        self._feed, self._pods = feed, pods

    def all(self) -> tuple[list[Pod], str]:
        return self._pods, "1"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)
