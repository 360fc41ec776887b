"""kiptail against an oracle that knows everything, over random histories of a node.

The oracle keeps who truly had an address, to the microsecond. kiptail hears late and by the second, is stopped, killed
and cut off. It must never blame a pod for another's packets; whatever a living pod lost it is told, unless that was
within a second of a change of hands, and then it is counted as ambiguous; and all counts are exact.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from kiptail.clock.own import OwnClock
from kiptail.flows.budget import Limits
from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.state.store import Store
from tests.support.clock import Machine
from tests.support.histories import ADDRESSES, BEGIN, CLIENT, SHARED_IN, SHARED_OUT, History, Packet, Tenancy, history
from tests.support.simulation import RIGHT, Cluster, Events, Kiptail, Recorded, WallClock, virtual_time

#: So many histories are played; `make replays` asks for more.
HISTORIES = int(os.environ.get("KIPTAIL_TEST_HISTORIES", "150"))
PREFIXES = Prefixes([PrefixRule("calico-drop:", Verdict.DROP)])
LINE = (
    "calico-drop: IN=cni0 OUT=eth0 MAC= SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)
AMPLE = Limits(flows_per_address=100_000, new_addresses=100_000)
#: So late the API server tells at most of an end, in seconds.
TELLING = 2.0
#: What may be left out before and after a change of hands, in seconds.
WINDOW = 1.0


class Written:
    """A journal of which only what was written by now is there."""

    def __init__(self, packets: Sequence[Packet], machine: Machine = RIGHT) -> None:
        self._packets, self._machine = packets, machine

    def open(self, position: Position | None, clock: WallClock, own_clock: OwnClock) -> _Reader:
        return _Reader(self._packets, int(position.cursor) if position else 0, clock, self._machine, own_clock)


@dataclass
class _Reader:
    packets: Sequence[Packet]
    at: int
    clock: WallClock
    machine: Machine
    own_clock: OwnClock

    def __post_init__(self) -> None:
        self._known = KnownLines(PREFIXES)

    def read(self, limit: int) -> Batch:
        lines: list[KnownLine | str] = []
        times: list[int] = []
        while self.at < len(self.packets) and len(lines) < limit and self.packets[self.at].at <= self.clock():
            packet = self.packets[self.at]
            text = LINE.format(src=packet.src, dst=packet.dst, port=packet.port)
            line = self._known.wanted(text.encode())
            lines.append(line if isinstance(line, KnownLine) else text)
            machine, at = self.machine, packet.at
            times.append(
                self.own_clock.timeline.observe(machine.boot_id, machine.monotonic_us(at), machine.wall_us(at))
            )
            self.at += 1
        self.own_clock.check()
        return Batch(lines, times, at_end=True)

    def position(self) -> Position | None:
        times = self.own_clock.timeline.times
        return Position(str(self.at), "boot", self.at, self.at, None, times) if self.at else None


@dataclass(frozen=True)
class Faults:
    """What goes wrong, in seconds since the epoch."""

    downs: list[tuple[float, float]]
    #: How each of them began.
    kills: list[bool]
    broken: list[tuple[float, float]]
    lag: float
    index: str

    @classmethod
    def drawn(cls, seed: int, end: float) -> Faults:
        rng = random.Random(seed)
        moments = sorted(rng.uniform(BEGIN, end) for _ in range(2 * rng.choice([0, 0, 1, 2])))
        downs = list(zip(moments[::2], moments[1::2], strict=True))
        begin = rng.uniform(BEGIN, end)
        broken = [(begin, begin + rng.choice([0.3, 2.0, 12.0]))] if rng.random() < 0.4 else []
        lag = rng.choice([0.0, 0.0, 0.0, 0.5, 3.0, 12.0])
        return cls(downs, [rng.random() < 0.5 for _ in downs], broken, lag, rng.choice(["node", "cluster"]))

    def not_heard(self) -> list[tuple[float, float]]:
        """When kiptail did not run, or could not list pods after a start."""
        return [
            (
                min([begin, *(cut for cut, end in self.broken if cut <= begin < end)]),
                max([up, *(end for cut, end in self.broken if cut <= up < end)]),
            )
            for begin, up in self.downs
        ]


@dataclass
class Played:
    events: Events
    recorded: Recorded
    #: What kiptail was shown: by UID, address and since when it took that for the pod's, until when; in seconds.
    heard: dict[tuple[str, str, float], float]
    ambiguous: int
    faults: Faults


def play(story: History, faults: Faults, machine: Machine = RIGHT, away: tuple[float, float] = (0.0, 0.0)) -> Played:
    """Play it to kiptail on this machine; no Event can be written while the API server is ``away``."""
    # Steady time goes on from what the wall clock shows when it is first seen.
    ahead = machine.error(BEGIN - 1.0)
    clock = WallClock(BEGIN - 1.0)
    end = story.end
    downs, broken = faults.downs, faults.broken
    kills = iter(faults.kills)
    cluster = Cluster([story.client], story.changes, lag=faults.lag, broken=broken)
    events, recorded, store, ambiguous = Events(), Recorded(), Store.in_memory(), 0
    heard: dict[tuple[str, str, float], float] = {}
    times = {at for at, *_ in story.changes} | {packet.at for packet in story.packets} | {end}
    times |= {cluster.heard_at(at) for at, *_ in story.changes} | {at for pair in downs + broken for at in pair}
    last = max(times) + 8.0
    times |= {BEGIN + half / 2 for half in range(int((last - BEGIN) * 2))}
    with pytest.MonkeyPatch.context() as patch:
        virtual_time(patch, clock)

        def start() -> Kiptail:
            return Kiptail(
                clock=clock, cluster=cluster, events=events, store=store, journal=Written(story.packets, machine),
                prefixes=PREFIXES, index=faults.index, limits=AMPLE, machine=machine, records=recorded,
            )  # fmt: skip

        run: Kiptail | None = start()
        for clock.now in sorted(times):
            events.away = away[0] <= clock.now < away[1]
            down = any(begin <= clock.now < up for begin, up in downs)
            if run is not None and down:
                run.step()
                ambiguous += run.recorder.progress.ambiguous
                run.kill() if next(kills) else run.stop()
                run = None
            elif run is None and not down:
                run = start()
            if run is not None:
                run.step()
                heard |= {
                    (i.ref.uid, address, i.since_us / 1e6 - ahead): (
                        float("inf") if i.until_us is None else i.until_us / 1e6 - ahead
                    )
                    for address in ADDRESSES
                    for i in run.index.local.intervals(address)
                }
        assert run is not None
        run.stop()
        ambiguous += run.recorder.progress.ambiguous
    store.close()
    return Played(events, recorded, heard, ambiguous, faults)


class Oracle:
    def __init__(self, story: History, played: Played) -> None:
        self.story, self._heard, self._faults = story, played.heard, played.faults

    def heard(self, tenancy: Tenancy) -> bool:
        """kiptail could know that the pod had the address then."""
        return any(
            (uid, address) == (tenancy.uid, tenancy.address) and since <= tenancy.started <= until
            for (uid, address, since), until in self._heard.items()
        )

    def owner(self, address: str, at: float) -> Tenancy | None:
        """Whose container ran at the address."""
        return next((t for t in self.story.tenancies if t.address == address and t.started <= at <= t.ended), None)

    def may_be_left_out(self, tenancy: Tenancy, at: float) -> bool:
        """Another one had the address within the window, or nobody could know this one."""
        if not self.heard(tenancy):
            return True
        others = [t for t in self.story.tenancies if t.address == tenancy.address and t is not tenancy]
        if tenancy.deleted <= at and self._missed(tenancy.deleted):
            return True  # by force while nobody looked: it seems to be gone
        before = any(t.given < tenancy.given for t in others) and at < tenancy.started + WINDOW
        after = any(t.given > tenancy.given for t in others) and at > tenancy.ended - WINDOW
        return before or after

    def _missed(self, moment: float) -> bool:
        """Nobody listened when the API server told of what happened then."""
        return any(
            begin <= moment + TELLING + self._faults.lag and moment <= up for begin, up in self._faults.not_heard()
        )

    def unknowable(self, uid: str, truth: Tenancy, at: float) -> bool:
        """Its owner came and went unseen: just before or after this one, or after it when nobody saw its end."""
        known = self.heard(truth) and not (truth.deleted <= at and self._missed(truth.deleted))
        return not known and any(
            min(abs(at - moment) for moment in (t.given, t.started, t.ended)) < WINDOW
            or t.ended < at < t.doubtful
            or (t.ended < at and self._missed(t.ended))
            for t in self.story.tenancies
            if t.address == truth.address and t.uid == uid
        )

    def may_be_told(self, uid: str, address: str, at: float) -> bool:
        """What was for the address may have been for this pod, whose container need not run yet, or any more."""
        return any(
            t.given - WINDOW <= at and (at <= max(t.ended + 2 * WINDOW, t.doubtful) or self._missed(t.ended))
            for t in self.story.tenancies
            if t.address == address and t.uid == uid
        )


def told(events: Events) -> dict[str, Counter[str]]:
    """Which pods were told of a port, and of how many packets."""
    ports: dict[str, Counter[str]] = {}
    for (uid, text), count in events.told().items():
        found = re.search(r"when (sending|receiving) .* on port (\d+)/TCP", text)
        assert found is not None, text
        ports.setdefault(f"{found[1]} {found[2]}", Counter())[uid] += count
    return ports


def check(story: History, played: Played) -> None:
    posted = {name: event["count"] for name, event in played.events.events.items() if event["count"]}
    recorded = {name: count for name, count in played.recorded.last.items() if count}
    assert recorded == posted, "the journal's last records count what the Events count"
    oracle = Oracle(story, played)
    ports = told(played.events)
    shared: Counter[tuple[str, str]] = Counter()
    untold = 0
    for packet in story.packets:
        if packet.port in (SHARED_OUT, SHARED_IN):
            continue
        sent, received = (
            ports.pop(f"sending {packet.port}", Counter()),
            ports.pop(f"receiving {packet.port}", Counter()),
        )
        where = f"{packet} at {packet.at - BEGIN:.3f}"
        if packet.src == CLIENT:
            assert sent == {"uid-client": 1}, f"{where}: the sender is told {dict(sent)}"
            truth = oracle.owner(packet.dst, packet.at)
            assert len(received) <= 1, where
            for uid, count in received.items():
                assert count == 1, where
                right = oracle.may_be_told(uid, packet.dst, packet.at)
                if truth is not None:
                    right = truth.uid == uid or oracle.unknowable(uid, truth, packet.at)
                assert right, f"{where}: {uid} is blamed, not {truth}"
            if truth is not None and not received:
                assert oracle.may_be_left_out(truth, packet.at), f"{where}: {truth} is not told"
            continue
        truth = oracle.owner(packet.src, packet.at)
        assert truth is not None
        assert not received
        for uid in sent:
            right = uid == truth.uid or oracle.unknowable(uid, truth, packet.at)
            assert right, f"{where}: {dict(sent)} is blamed, not {truth}"
        if sent:
            assert sum(sent.values()) == 1, where
            shared.update((uid, packet.src) for uid in sent)
        else:
            assert oracle.may_be_left_out(truth, packet.at), f"{where}: {truth} is not told"
            untold += 2 * oracle.heard(truth)
    # The flow that goes on from one owner to the next is told as the packets beside it that had flows of their own.
    by_pod: Counter[str] = Counter()
    for (uid, _), count in shared.items():
        by_pod[uid] += count
    goes_on = ports.pop(f"sending {SHARED_OUT}", Counter())
    assert goes_on == by_pod, f"the flow that goes on is told {goes_on}, those beside it {by_pod}"
    assert ports.pop(f"sending {SHARED_IN}")["uid-client"] == sum(p.port == SHARED_IN for p in story.packets)
    ports.pop(f"receiving {SHARED_IN}", None)
    assert not ports, "nobody is told of what was not sent"
    if not played.faults.downs:
        assert played.ambiguous >= untold, f"{untold} are left out, {played.ambiguous} are counted"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tenth", range(10))
def test_random_histories_are_told_as_they_were(tenth: int) -> None:
    for seed in range(tenth, HISTORIES, 10):
        story = history(seed)
        faults = Faults.drawn(seed, story.end)
        try:
            check(story, play(story, faults))
        except AssertionError as error:
            raise AssertionError(f"history {seed}, {faults}: {error}") from error
