"""The promise of the whole: whatever dies or fails in between, the Events tell what a plain count of the entries tells.

Journal loop, ledger, store and delivery are the real ones; the journal is a list, the clock stands still unless it
is moved, and the API server fails as it is told. A crash leaves what was committed, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiptail.errors import ApiError, StoreUnavailableError
from kiptail.events.endpoint import Endpoint, Kind, When
from kiptail.events.event import EventStyle
from kiptail.events.recorder import Recorder
from kiptail.flows.budget import Limits
from kiptail.flows.flow import Flow
from kiptail.flows.intake import Follower
from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.flows.ledger import IDLE_US, Changes, Ledger
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.pods.ownership import PodRef
from kiptail.state.store import Store
from tests.support.clock import Clock, own_clock
from tests.support.fuzzing import cases

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace")
LINE = (
    "calico-drop: IN=a OUT=b MAC= SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)
PREFIXES = Prefixes([PrefixRule("calico-drop:", Verdict.DROP)])
#: Budgets that no example exceeds, and some that most do.
AMPLE = Limits(flows_per_address=1_000, new_addresses=1_000)
TIGHT = Limits(flows_per_address=1, open_flows=8)
#: A sender has one flow, and what is beyond is told only where it is folded.
MEAN = Limits(flows_per_address=1, sender_factor=1)

Drop = tuple[str, str, int, int]
Journal = list[Drop]

drops = st.lists(
    st.tuples(
        st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        st.sampled_from(["10.0.1.1", "10.0.1.2"]),
        st.integers(80, 81),
        # Within minutes of each other in any order, or so far apart that a flow ends in between.
        (st.integers(0, 300) | st.integers(0, 4 * IDLE_US // SECOND)).map(lambda seconds: T0 + seconds * SECOND),
    ),
    min_size=1,
    max_size=40,
)

actions = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.sampled_from([1, 1, 6, 60])),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("read and send"), st.integers(1, 9)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("disk full"), st.integers(0, 1)),
    ),
    max_size=40,
)
#: What a write comes to: it succeeds, its answer gets lost, it never gets there, or the server fails or refuses it.
answers = st.lists(st.sampled_from(["ok", "ok", "lost", "refused", "503", "429", "409", "403"]), max_size=30)


@dataclass
class Reader:
    """The journal from an entry on; ``allowed`` more entries have been written so far."""

    drops: Journal
    at: int
    allowed: int = 0
    known: KnownLines = field(default_factory=lambda: KnownLines(PREFIXES))

    def read(self, limit: int) -> Batch:
        end = min(len(self.drops), self.at + self.allowed)
        page = self.drops[self.at : end]
        self.at, self.allowed = end, 0
        lines = [self.understood(LINE.format(src=s, dst=d, port=p)) for s, d, p, _ in page]
        return Batch(lines, [time_us for *_, time_us in page], at_end=True)

    def understood(self, text: str) -> KnownLine | str:
        """As the journal gives a line out."""
        line = self.known.wanted(text.encode())
        return line if isinstance(line, KnownLine) else text

    def position(self) -> Position | None:
        return Position(str(self.at), "boot", self.at, T0, None) if self.at else None


class Server:
    """An API server's Events, by name."""

    def __init__(self, answers: list[str]) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.created: Counter[str] = Counter()
        self._answers = list(answers)

    def create(self, event: dict[str, Any]) -> None:
        self._write(event, new=True)

    def update(self, event: dict[str, Any]) -> None:
        self._write(event, new=False)

    def _write(self, event: dict[str, Any], *, new: bool) -> None:
        answer = self._answers.pop(0) if self._answers else "ok"
        name = event["metadata"]["name"]
        if answer == "refused":
            raise ApiError("refused")
        if answer.isdigit():
            raise ApiError(answer, status=int(answer), reason="Conflict" if answer == "409" else "")
        if new and name in self.events:
            raise ApiError("exists", status=409, reason="AlreadyExists")
        if not new and name not in self.events:
            raise ApiError("gone", status=404, reason="NotFound")
        self.events[name] = event
        self.created[name] += new
        if answer == "lost":
            raise ApiError("reset")


class Records:
    """journald, which keeps what it takes and takes nothing at times."""

    def __init__(self, refuses: list[bool]) -> None:
        self.entries: list[dict[str, str]] = []
        self._refuses = list(refuses)

    def write(self, fields: Mapping[str, str]) -> None:
        if self._refuses and self._refuses.pop(0):
            raise BlockingIOError("full")
        self.entries.append(dict(fields))

    def last(self) -> list[dict[str, str]]:
        """Of each flow and end."""
        return list({entry["KIPTAIL_FLOW"]: entry for entry in self.entries}.values())


class Everybody:
    """Each address is a pod's."""

    def ready(self) -> bool:
        return True

    def current(self) -> bool:
        return True

    def locate(self, address: str, when: When, *, patient: bool) -> Endpoint | None:
        return Endpoint(Kind.POD, address, (PodRef("team-a", address, f"uid-{address}"),))

    def locate_again(self, endpoint: Endpoint, when: When, *, patient: bool) -> Endpoint | None:
        return endpoint

    def contested(self, address: str, when: When) -> bool:
        return False

    def named(self, endpoint: Endpoint) -> Endpoint:
        return endpoint

    def unowned(self, address: str, at_us: int) -> bool:
        return False

    def cluster_name(self, address: str) -> str:
        return ""

    def with_port(self, found: Endpoint, flow: Flow, end: str, before: Endpoint | None = None) -> Endpoint:
        return found

    def probes(self, src: Endpoint, dst: Endpoint, port: int) -> bool:
        return False


@dataclass
class Disk:
    """The store, on a disk that can be full."""

    store: Store = field(default_factory=Store.in_memory)
    full: bool = False
    committed: dict[int, int] = field(default_factory=dict)

    def commit(self, changes: Changes, position: Position | None) -> None:
        self._check()
        self.store.commit(changes, position)
        self.committed |= {flow.id: flow.count for flow in changes.flows}

    def save_endpoints(self, *arguments: Any) -> None:
        self._check()
        self.store.save_endpoints(*arguments)

    def note(self, record: Any) -> None:
        self.store.note(record)

    def write_notes(self) -> None:
        self._check()
        self.store.write_notes()

    def forget(self, flow_ids: Any) -> None:
        self._check()
        self.store.forget(flow_ids)

    def _check(self) -> None:
        if self.full:
            raise StoreUnavailableError("database or disk is full")


class Process:
    """A kiptail from its start to its crash."""

    def __init__(  # noqa: PLR0917 - the six things around it
        self, journal: Journal, disk: Disk, server: Server, clock: Clock, limits: Limits, records: Records | None
    ) -> None:
        self._disk = disk
        saved = disk.store.load()
        self.reader = Reader(journal, int(saved.position.cursor) if saved.position else 0)
        self.recorder = Recorder(
            sink=server,
            locate=Everybody(),
            outbox=disk,
            style=STYLE,
            repeat_interval=5.0,
            give_up_after=float("inf"),
            most_ended=1_000,
            clock=clock,
            own_clock=own_clock(lambda: T0 / 1e6 + clock.now),
            records=records,
        )
        for flow in saved.flows:
            self.recorder.restore(flow.flow.copy(), flow.endpoints, flow.records)
        ledger = Ledger(
            (saved_flow.flow for saved_flow in saved.flows),
            next_id=saved.next_flow_id,
            watermark_us=saved.watermark_us,
            last_stamp=saved.last_stamp,
            budget=saved.budget,
            limits=limits,
        )
        self.follower = Follower(
            journal=self.reader,
            prefixes=PREFIXES,
            ledger=ledger,
            book=disk,
            offer=self._arrive,
            keep_position=True,
            expire_after=None,
            clock=clock,
        )

    def _arrive(self, flows: list[Flow]) -> None:
        for flow in flows:
            assert self._disk.committed[flow.id] == flow.count, "nothing is offered that is not committed"
            self.recorder.arrive(flow)

    def send(self, steps: int) -> None:
        for _ in range(steps):
            self.recorder.step()

    def read(self, entries: int) -> None:
        self.reader.allowed = entries
        self.follower.step()


def told(
    journal: Journal, story: list[tuple[str, int]], server: Server, limits: Limits, records: Records | None = None
) -> Counter[Any]:
    """Let the story happen, then go on until all is told; gives the counts at the server."""
    disk, clock = Disk(), Clock()
    process = Process(journal, disk, server, clock, limits, records)
    for action, amount in story:
        if action == "read":
            process.read(amount)
        elif action == "wait":
            clock.now += amount
            process.read(0)
        elif action == "read and send":
            clock.now += 6
            process.read(amount)
            process.send(9)
        elif action == "send":
            process.send(amount)
        elif action == "crash":
            disk.store._notes.clear()
            process = Process(journal, disk, server, clock, limits, records)
        else:
            disk.full = bool(amount)
    disk.full = False
    for _ in range(400):
        clock.now += 61
        process.read(len(journal))
        process.recorder.step()
    assert process.reader.at == len(journal)
    assert not process.recorder.delivery.pending()
    disk.store.close()
    assert all(times == 1 for times in server.created.values()), "no Event twice"
    counts: Counter[Any] = Counter()
    for event in server.events.values():
        place = (event["involvedObject"]["name"], event["message"])
        counts[place, event["firstTimestamp"], event["lastTimestamp"]] += event["count"]
    return counts


def counted(journal: Journal) -> Counter[Any]:
    """The plain count: what each end of each flow has to be told, one entry after the other."""
    flows: dict[tuple[str, str, int], list[Any]] = {}
    done: list[tuple[tuple[str, str, int], list[Any]]] = []
    watermark = 0
    for src, dst, port, time_us in journal:
        watermark = max(watermark, time_us)
        key = (src, dst, port)
        if key in flows and watermark - flows[key][0] > IDLE_US:
            done.append((key, flows.pop(key)))
        flow = flows.setdefault(key, [watermark, []])
        flow[0] = watermark
        flow[1].append(time_us)
    counts: Counter[Any] = Counter()
    for (src, dst, port), (_, times) in [*done, *flows.items()]:
        for pod, text in (
            (src, f"Packet dropped when sending traffic to team-a/{dst} ({dst}) on port {port}/TCP"),
            (dst, f"Packet dropped when receiving traffic from team-a/{src} ({src}) on port {port}/TCP"),
        ):
            counts[(pod, text), _text(min(times)), _text(max(times))] += len(times)
    return counts


def _text(time_us: int) -> str:
    import datetime  # noqa: PLC0415 - an independent way to write the time

    return datetime.datetime.fromtimestamp(time_us / 1e6, datetime.UTC).isoformat().replace("+00:00", "Z")


patient = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=cases(200))


TWICE = [("10.0.0.1", "10.0.1.1", 80, T0), ("10.0.0.1", "10.0.1.1", 80, T0 + SECOND)]


@given(drops, actions, answers)
@example(TWICE, [("read and send", 1), ("read and send", 1)], ["lost", "lost"])
@example(TWICE, [("read and send", 1), ("crash", 0), ("read and send", 1)], ["lost", "lost"])
@patient
def test_the_events_tell_what_a_plain_count_of_the_entries_tells(
    journal: Journal, story: list[tuple[str, int]], said: list[str]
) -> None:
    assert told(journal, story, Server(said), AMPLE) == counted(journal)


@given(drops, actions, answers)
@patient
def test_folded_events_tell_the_same_as_without_crashes_and_each_pod_all_its_drops(
    journal: Journal, story: list[tuple[str, int]], said: list[str]
) -> None:
    counts = told(journal, story, Server(said), TIGHT)
    assert counts == told(journal, [], Server([]), TIGHT)
    by_pod: Counter[str] = Counter()
    for (pod, _text), _first, _last in counts:
        by_pod[pod] += counts[(pod, _text), _first, _last]
    assert by_pod == Counter(d[0] for d in journal) + Counter(d[1] for d in journal)


@given(drops, actions, answers, st.lists(st.booleans(), max_size=30), st.sampled_from([AMPLE, TIGHT]))
@patient
def test_the_last_flow_records_add_up_to_a_plain_count_of_the_entries(
    journal: Journal, story: list[tuple[str, int]], said: list[str], refuses: list[bool], limits: Limits
) -> None:
    server, records = Server(said), Records(refuses)
    told(journal, story, server, limits, records)
    sums: Counter[tuple[str, str]] = Counter()
    for entry in records.last():
        sums[entry["KIPTAIL_POD"], entry["KIPTAIL_DIRECTION"]] += int(entry["KIPTAIL_COUNT"])
    lines = Counter((src, "sent") for src, *_ in journal) + Counter((dst, "received") for _, dst, *_ in journal)
    assert sums == lines
    last = {entry["KIPTAIL_EVENT"]: int(entry["KIPTAIL_COUNT"]) for entry in records.last()}
    assert last == {name: event["count"] for name, event in server.events.items()}


@pytest.mark.parametrize("limits", [AMPLE, TIGHT, MEAN], ids=["ample", "tight", "mean"])
def test_a_crash_between_any_two_steps_changes_nothing(limits: Limits) -> None:
    journal = [(f"10.0.0.{n % 3}", "10.0.1.1", 80 + n % 2, T0 + n * 7 * SECOND % 300) for n in range(12)]
    whole = told(journal, [], Server([]), limits)
    steps = [step for _ in range(6) for step in (("read", 2), ("send", 2), ("wait", 3))]
    for at in range(len(steps)):
        story = [*steps[:at], ("crash", 0), *steps[at:]]
        assert told(journal, story, Server([]), limits) == whole, at
