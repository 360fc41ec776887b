"""Recorded changes of hands, played by a clock of their own: nobody is blamed for another's packets, or left without.

Journal files, pod index, ledger, store and delivery are the real ones; kiptail is stopped and started, the watch lags
and breaks at every moment that could matter. tests/test_handover.py plays some of them in real time, to a process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from kiptail.clock.own import OwnClock
from kiptail.flows.known_lines import KnownLines
from kiptail.journal.follow import Batch, Journal
from kiptail.journal.position import Position
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.state.store import Store
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.judge import judge
from tests.support.recordings import RECORDINGS, Recording
from tests.support.simulation import Cluster, Events, Kiptail, WallClock, virtual_time

PREFIXES = Prefixes([PrefixRule("rc-drop:", Verdict.DROP)])
BOOT = "b0070000000000000000000000000002"
#: `make replays` plays all pairs of moments, `make test` one in so many.
ALL = os.environ.get("KIPTAIL_TEST_REPLAYS") == "all"
SAMPLE = 19
#: What is played after everything is heard, in seconds.
AFTER = 5.0

load = cache(Recording.load)


class Growing:
    """A real journal of a recording's lines, of which only those that are written by now are read."""

    def __init__(self, directory: Path, recording: Recording) -> None:
        self._directory = directory
        lines = list(recording.kernel_lines)
        self._times = [line.at for line in lines]
        self._booted_us = lines[0].realtime_us - 3_600_000_000
        entries = [
            kernel_entry(
                line.message,
                realtime_us=line.realtime_us,
                monotonic_us=line.realtime_us - self._booted_us,
                boot_id=BOOT,
                _SOURCE_MONOTONIC_TIMESTAMP=line.realtime_us - self._booted_us - line.delay_us,
            )
            for line in lines
        ]
        export_to_journal(entries, directory / "system.journal")

    def open(self, position: Position | None, clock: WallClock, own_clock: OwnClock) -> _Reader:
        read_us = 0 if position is None else position.monotonic_us + self._booted_us
        read = sum(round(at * 1e6) <= read_us for at in self._times)
        journal = Journal(
            directory=self._directory,
            wanted=KnownLines(PREFIXES).wanted,
            needle=PREFIXES.needle,
            position=position,
            follow=False,
            clock=own_clock,
        )
        return _Reader(journal, self._times, read, clock)


class _Reader:
    def __init__(self, journal: Journal, times: Sequence[float], read: int, clock: WallClock) -> None:
        self._journal, self._times, self._read, self._clock = journal, times, read, clock

    def read(self, limit: int) -> Batch:
        written = sum(at <= self._clock() for at in self._times) - self._read
        if not written:
            return Batch(at_end=True)
        batch = self._journal.read(min(written, limit))
        self._read += len(batch.lines)
        return batch

    def position(self) -> Position | None:
        return self._journal.position()

    def close(self) -> None:
        self._journal.close()


@dataclass(frozen=True)
class Faults:
    """What goes wrong, in seconds since the epoch."""

    lag: float = 0.0
    #: The API server cannot be reached from one time to the other.
    broken: tuple[float, float] | None = None
    #: kiptail does not run from one time to the other; it was stopped, or killed.
    down: tuple[float, float] | None = None
    kill: bool = False


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Growing]:
    return {name: Growing(tmp_path_factory.mktemp("journal"), load(name)) for name in RECORDINGS}


def complaints(recording: Recording, journal: Growing, index: str, faults: Faults) -> list[str]:
    """Play a recording and judge the Events."""
    clock = WallClock(recording.began)
    changes = [(change.at, change.type, dict(change.pod)) for change in recording.pod_changes]
    broken = [faults.broken] if faults.broken else []
    cluster = Cluster([dict(pod) for pod in recording.listed], changes, lag=faults.lag, broken=broken)
    events, store = Events(), Store.in_memory()
    times = {step.at for step in recording.steps} | {cluster.heard_at(at) for at, *_ in changes}
    times |= {*(faults.down or ()), *(faults.broken or ())}
    end = max(times) + AFTER
    times |= {clock.now + half / 2 for half in range(int((end - clock.now) * 2))}
    with pytest.MonkeyPatch.context() as patch:
        virtual_time(patch, clock)

        def start() -> Kiptail:
            return Kiptail(
                clock=clock,
                cluster=cluster,
                events=events,
                store=store,
                journal=journal,
                prefixes=PREFIXES,
                index=index,
            )

        run, down = start(), False
        for clock.now in sorted(times):
            if faults.down is not None and not down and faults.down[0] <= clock.now < faults.down[1]:
                run.step()
                run.kill() if faults.kill else run.stop()
                down = True
            if faults.down is not None and down and clock.now >= faults.down[1]:
                run, down = start(), False
            if not down:
                run.step()
        run.stop()
    store.close()
    told = run.dispatcher.progress.ambiguous if faults.down is None else None
    return judge(recording, events.events.values(), ambiguous=told, unseen=unseen(recording, faults))


def unseen(recording: Recording, faults: Faults) -> list[str]:
    """The pods of which the API server never showed kiptail that they had the address."""
    found = []
    for owner, pod in recording.pods.items():
        changes = [change for change in recording.pod_changes if change.pod["metadata"]["uid"] == pod.uid]
        shown = min(change.at for change in changes if change.has_address) + faults.lag
        gone = min((change.at for change in changes if change.type == "DELETED"), default=float("inf")) + faults.lag
        if faults.down is not None and shown > faults.down[0] and gone <= faults.down[1]:
            found.append(owner)
    return found


def moments(recording: Recording) -> list[float]:
    """Between the first packet of a and the last of b: around each thing that happens, and in between."""
    packets = recording.packets
    begin, end = packets[0].received, packets[-1].received
    times = {change.at + shift for change in recording.pod_changes for shift in (-0.001, 0.001)}
    times |= {
        recording.began + recording.since_began(*which) + shift
        for which in (("a", -1), ("b", 0))
        for shift in (-0.05, 0.001)
    }
    times |= {begin + 0.001, end - 0.001, *(begin + step for step in range(int(end - begin)))}
    return [at for at in sorted(times) if begin <= at <= end]


CASES = [pytest.param(name, index, id=f"{name}-{index}") for name in RECORDINGS for index in ("node", "cluster")]


@pytest.mark.parametrize("lag", [0.0, 0.5, 3.0, 20.0])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_watch_that_lags(name: str, index: str, lag: float, journals: dict[str, Growing]) -> None:
    assert complaints(load(name), journals[name], index, Faults(lag=lag)) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_watch_that_breaks_and_is_resumed(name: str, index: str, journals: dict[str, Growing]) -> None:
    recording = load(name)
    points = moments(recording)
    for number, (begin, end) in enumerate(itertools.combinations(points, 2)):
        if ALL or number % SAMPLE == (index == "node"):
            where = f"broken from {begin - recording.began:.3f} to {end - recording.began:.3f}"
            faults = Faults(broken=(begin, end))
            assert (where, complaints(recording, journals[name], index, faults)) == (where, [])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lag", [0.0, 3.0])
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_run_that_ends_at_any_moment_and_another_that_begins_later(
    name: str, index: str, kill: bool, lag: float, journals: dict[str, Growing]
) -> None:
    recording = load(name)
    points = moments(recording)
    # Each moment as an end and as a beginning, in some pairs here and in others there.
    turn = 2 * kill + (index == "node") + 4 * bool(lag)
    for number, (end, begin) in enumerate(itertools.combinations(points, 2)):
        if ALL or number % SAMPLE == turn:
            where = f"down from {end - recording.began:.3f} to {begin - recording.began:.3f}"
            faults = Faults(down=(end, begin), kill=kill, lag=lag)
            assert (where, complaints(recording, journals[name], index, faults)) == (where, [])
