"""The wall clock is wrong, and set: what is told is what it would be if it had been right all the time.

The machine of tests/histories, whose kubelet and journal go by a clock that is hours, days or years off; the API server
has a clock of its own, which is right, and is away while the machine's is set.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kiptail.clock.own import OwnClock
from kiptail.clock.steady import Timeline
from kiptail.events.recorder import Recorder
from kiptail.flows.budget import Limits
from kiptail.flows.flow import ENDS, Flow, FlowKey
from kiptail.flows.intake import Follower, Step
from kiptail.flows.known_lines import KnownLines
from kiptail.flows.ledger import Ledger
from kiptail.journal import follow
from kiptail.journal.follow import Journal
from kiptail.state.store import Store
from tests.clock.test_steady import Line
from tests.support.clock import Machine
from tests.support.histories import BEGIN, History, history
from tests.support.journald import Fields, export_to_journal, kernel_entry
from tests.support.simulation import STYLE, Events, WallClock
from tests.test_exactly_once import Everybody
from tests.test_ownership_model import PREFIXES, Faults, check, play, told

HOUR = 3600.0
#: As an RTC in local time, a restored VM, a battery that is empty: seconds.
ERRORS = {"-24h": -24 * HOUR, "-1h": -HOUR, "+8h": 8 * HOUR, "+24h": 24 * HOUR, "+3y": 3 * 365 * 24 * HOUR}
BOOTED = BEGIN - 600.0


def dated_by(story: History, machine: Machine) -> History:
    """The same history, of a machine whose kubelet's clock is wrong."""

    def wrong(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: wrong(item) for key, item in value.items()}
        if isinstance(value, list):
            return [wrong(item) for item in value]
        if isinstance(value, str) and value.endswith("Z"):
            at = datetime.fromisoformat(value).timestamp()
            return datetime.fromtimestamp(at + machine.error(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return value

    changes = [(at, kind, {**pod, "status": wrong(pod["status"])}) for at, kind, pod in story.changes]
    return dataclasses.replace(story, changes=changes)


def no_faults(index: str) -> Faults:
    return Faults([], [], [], 0.0, index)


@pytest.mark.parametrize(("seed", "index"), [(0, "node"), (3, "cluster")])
@pytest.mark.parametrize("wrong", ["from the start", "for a while"])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_nobody_is_told_anything_else(error: float, wrong: str, seed: int, index: str) -> None:
    story = history(seed)
    middle = (BEGIN + story.end) / 2
    errors = [(BOOTED, error), (middle, 0.0)]
    if wrong == "for a while":
        errors = [(BEGIN + 1.0, error), (middle, 0.0)]
    machine, away = Machine(BOOTED, errors), (middle - 3.0, middle + 4.0)
    played = play(dated_by(story, machine), no_faults(index), machine, away=away)
    check(story, played)
    undisturbed = play(story, no_faults(index), away=away)
    assert told(played.events) == told(undisturbed.events)


# What is counted, through a real journal and restarts, where the machine is booted in between

LINE = (
    "calico-drop: IN=cni0 OUT=eth0 MAC= SRC=10.0.0.{host} DST=10.0.9.9 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF"
    " PROTO=TCP SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)
BOOTS = ["b0" * 16, "b1" * 16]
MINUTE = 60.0
#: What is compared of a flow: its key, count, whether it has ended, how long it lasted in µs, and the ends it tells.
Told = tuple[FlowKey, int, bool, int, tuple[str, ...]]


def drops(rng: random.Random) -> list[tuple[float, str]]:
    """Four hours of drops: of flows that go on, pause for longer than a flow lasts, and are too many for a window."""
    lines = []
    for host in range(3):
        at = BEGIN + rng.uniform(0, MINUTE)
        while at < BEGIN + 4 * HOUR:
            for _ in range(rng.randint(1, 12)):
                lines.append((at, LINE.format(host=host, port=80 + rng.randint(0, 5))))
                at += rng.choice([0.1, 1.0, 20.0, 4 * MINUTE])
            at += rng.choice([2 * MINUTE, 9 * MINUTE, 12 * MINUTE, 26 * MINUTE, 45 * MINUTE])
    return sorted(lines)


def counted(directory: Path, machines: Sequence[Machine], lines: Sequence[tuple[float, str]], seed: int) -> list[Told]:
    """The flows that a kiptail counts which is stopped, killed and started again and again."""
    rng, store = random.Random(seed), Store.in_memory()
    flows: dict[int, Flow] = {}
    written, end = 0, lines[-1][0] + 1.0
    # How old what is read of an earlier boot is, only the wall clock tells: it is read before.
    moments = [BEGIN + rng.uniform(0, 4 * HOUR) for _ in range(6)] + [*(m.booted - 1.0 for m in machines[1:]), end]
    moments += [BEGIN + n * 50 * MINUTE for n in range(1, 5)]
    for now in sorted(moments):
        fresh = [line for line in lines[written:] if line[0] <= now]
        written += len(fresh)
        machine = at_work(machines, now)
        if fresh:
            export_to_journal(
                [entry_of(at_work(machines, at), at, text) for at, text in fresh], directory / "a.journal"
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(follow, "running_boot", lambda boot_id=machine.boot_id: boot_id)
            run(
                directory, machine.clock(lambda at=now: at, timeline_of(store)), store, flows, killed=rng.random() < 0.5
            )
    told = [(flow.key, flow.count, flow.ended, flow.last_us - flow.first_us, flow.ends) for flow in flows.values()]
    store.close()
    return sorted(told, key=repr)


def at_work(machines: Sequence[Machine], at: float) -> Machine:
    """The machine as it was booted last."""
    return next(machine for machine in reversed(machines) if machine.booted <= at)


def entry_of(machine: Machine, at: float, text: str) -> Fields:
    wall_us, monotonic_us = machine.wall_us(at), machine.monotonic_us(at)
    return kernel_entry(text, realtime_us=wall_us, monotonic_us=monotonic_us, boot_id=machine.boot_id)


def timeline_of(store: Store) -> Timeline:
    position = store.load().position
    return Timeline(position.times if position else None)


def run(directory: Path, clock: OwnClock, store: Store, flows: dict[int, Flow], *, killed: bool) -> None:
    """Read all there is."""
    saved = store.load()
    with Journal(
        directory=directory, wanted=KnownLines(PREFIXES).wanted, position=saved.position, clock=clock
    ) as reader:
        follower = Follower(
            journal=reader,
            prefixes=PREFIXES,
            ledger=Ledger(
                (flow.flow for flow in saved.flows),
                next_id=saved.next_flow_id,
                watermark_us=saved.watermark_us,
                last_stamp=saved.last_stamp,
                budget=saved.budget,
                limits=Limits(flows_per_address=3),
            ),
            book=store,
            offer=lambda changed: flows.update((flow.id, flow) for flow in changed),
            keep_position=True,
            expire_after=HOUR,
            own_clock=clock,
        )
        while follower.step() is not Step.AT_END:
            pass
        if not killed:
            follower.commit()
        assert follower.intake.expired == 0


MIDDLE = BEGIN + 2 * HOUR
ONE_BOOT = [Machine(BOOTED, boot_id=BOOTS[0])]
TWO_BOOTS = [*ONE_BOOT, Machine(MIDDLE - 12 * MINUTE, boot_id=BOOTS[1])]
LINES = drops(random.Random(7))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    return counted(tmp_path_factory.mktemp("right"), ONE_BOOT, LINES, 1)


@pytest.mark.parametrize(
    ("machines", "since"),
    [(ONE_BOOT, BOOTED), (ONE_BOOT, MIDDLE - HOUR), (TWO_BOOTS, BOOTED)],
    ids=["from the start", "for a while", "after a boot"],
)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_the_same_flows_are_counted(
    error: float,
    machines: list[Machine],
    since: float,
    undisturbed: list[Told],
    tmp_path: Path,
) -> None:
    """The clock is wrong until it is set, as by NTP, minutes later."""
    *before, last = machines
    wrong = [*before, dataclasses.replace(last, errors=[(since, error), (MIDDLE, 0.0)])]
    found = counted(tmp_path, wrong, LINES, 1)
    for end in ENDS:
        assert sum(drops for _, drops, _, _, ends in found if end in ends) == len(LINES)
    # How long a machine was off, only its wall clock tells: flows end, or go on, by that.
    if len(machines) == 1:
        assert found == undisturbed


# What waits to be told while the API server is away


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("booted", [False, True], ids=["the same boot", "counted before a boot"])
def test_nothing_is_given_up_because_the_clock_was_set(error: float, booted: bool) -> None:
    """An hour's outage, in which the clock is wrong, is set right, or both; a day is too long."""
    clock, events = WallClock(BEGIN), Events(away=True)
    machine = Machine(BOOTED, [(BOOTED, error), (BEGIN + 600.0, 0.0)], BOOTS[0])
    own_clock, before, store = machine.clock(clock), Machine(BOOTED - 9000.0, boot_id=BOOTS[1]), Store.in_memory()
    lost = Line(BOOTED - 60.0, before) if booted else Line(BEGIN - 5.0, machine)
    time_us = lost.seen_by(own_clock.timeline)
    recorder = Recorder(
        sink=events,
        locate=Everybody(),
        outbox=store,
        style=STYLE,
        repeat_interval=1.0,
        give_up_after=24 * HOUR,
        most_ended=100,
        paced=False,
        clock=clock,
        own_clock=own_clock,
    )
    ledger = Ledger()
    ledger.add(FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, False, "x", "drop"), time_us)
    store.commit(ledger.changes(), None)
    (flow,) = ledger.changes().flows
    recorder.arrive(flow)
    for clock.now in range(int(BEGIN), int(BEGIN + 3600), 30):
        own_clock.check()
        recorder.step()
    assert events.events == {}
    events.away = False
    for clock.now in range(int(BEGIN + 3600), int(BEGIN + 3700), 5):
        recorder.step()
    assert [event["count"] for event in events.events.values()] == [1, 1]
    right = datetime.fromtimestamp(int(lost.at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert {event["lastTimestamp"] for event in events.events.values()} == {right}
    store.close()
