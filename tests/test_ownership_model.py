"""Ownership against a naive model: it keeps every fact there ever was, and answers by going through all of them.

What :class:`Ownership` does besides (closing, retiring, forgetting, storing, restoring) must not show in its answers.
Seconds here are whole ones, so that the two seconds around a change of hands are met often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiptail.ownership import Interval, Ownership, Pod, PodRef

ADDRESSES = ("10.0.0.1", "10.0.0.2")
HERE, THERE = "node-1", "node-2"
BEGIN = 1_000  # the first second of all histories: start times before it are times as well


#: Seconds between two facts: mostly few, so that they meet; some longer than what a restart takes for granted.
PAUSES = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 9, 4_000])


@dataclass
class Tenure:
    """One pod's time with one address, in seconds."""

    key: str
    since: int
    #: It had the address then for sure.
    sure: int
    until: int | None = None
    unseen: bool = False
    #: It is neither gone nor leaving nor finished.
    stays: bool = True


class Naive:
    """All facts in their order: ``("list", second, pods)``, ``("seen" or "missed", second, pod)``,

    ``("deleted" or "missed deletion", second, key)``, and ``("restart", second, None)``.
    """

    def __init__(self) -> None:
        self.facts: list[tuple[str, int, Any]] = []

    def owners(self, address: str, at: int) -> set[str]:
        tenures = [tenure for key in self._keys() for tenure in self._tenures(key, address)]
        return {tenure.key for tenure in tenures if tenure.since - 2 <= at <= self._end(tenure, tenures) + 2}

    def _keys(self) -> set[str]:
        pods = [p for _, _, fact in self.facts for p in (fact if isinstance(fact, list) else [fact])]
        return {p.key for p in pods if isinstance(p, Pod)}

    def _end(self, tenure: Tenure, tenures: list[Tenure]) -> float:
        ends: list[float] = [math.inf if tenure.until is None else tenure.until]
        if not tenure.stays:
            others = [other for other in tenures if other.key != tenure.key]
            ends += [other.sure for other in others if other.sure > tenure.sure]
            ends += [other.since for other in others if tenure.unseen and other.since > tenure.sure]
        return min(ends)

    def _news(self, key: str) -> Iterator[tuple[str, int, int, Pod | None]]:
        """What there was of one pod: kind, second, the latest second of an unseen end, and the pod or None."""
        limit, latest = None, 0
        for kind, now, fact in self._remembered(key):
            if kind == "restart":
                limit = latest + 3600
                yield kind, now, now, None
                continue
            unseen = now if limit is None else min(now, limit)
            if kind == "list":
                yield kind, now, unseen, next((p for p in fact if p.key == key), None)
                limit = None
            elif key == (fact.key if isinstance(fact, Pod) else fact):
                yield kind, now, unseen, fact if isinstance(fact, Pod) else None
            latest = now

    def _remembered(self, key: str) -> list[tuple[str, int, Any]]:
        restarts = [n for n, (kind, _, _) in enumerate(self.facts) if kind == "restart"]
        return self.facts if key.startswith("here") or not restarts else self.facts[restarts[-1] + 1 :]

    def _tenures(self, key: str, address: str) -> list[Tenure]:
        found: list[Tenure] = []
        mine: Tenure | None = None
        before: Pod | None = None
        for kind, now, unseen, pod in self._news(key):
            live = kind in ("seen", "deleted")
            if kind == "restart":
                before = None  # whatever is shown next is new
            elif pod is None or address not in pod.addresses:
                if mine is not None:
                    if mine.until is None:
                        anew = now if pod is None or pod.ready_us is None else min(now, pod.ready_us)
                        mine.until = max(mine.since, anew if live else min(anew, unseen))
                        mine.unseen = not live
                    mine.stays = False
                mine, before = None, pod
            elif pod != before:
                if mine is not None and mine.until is not None and pod.until_us is None:
                    mine.stays, mine = False, None
                if mine is None:
                    lost = max((t.until or 0 for t in found), default=0)
                    since = pod.ready_us if pod.ready_us is not None else now if live else pod.start_us or 0
                    since = max(min(now, since), lost)
                    mine = Tenure(key, since, since if pod.ready_us is not None or live else now)
                    found.append(mine)
                    if pod.until_us is not None:
                        mine.until = max(min(now, pod.until_us), mine.since)
                        mine.sure = min(mine.sure, mine.until)
                elif pod.released:
                    if mine.until is None:
                        mine.until, mine.unseen = max(now if live else unseen, mine.since), not live
                elif pod.until_us is not None:
                    mine.until, mine.unseen = max(min(now, pod.until_us), mine.since), False
                mine.stays = mine.until is None and not pod.leaving
                before = pod
        return found


class World:
    """The same history for both."""

    def __init__(self) -> None:
        self.ownership = Ownership(node=HERE)
        self.naive = Naive()
        self.stored: dict[str, tuple[Interval, ...]] = {}
        self.now = BEGIN
        self.news_at = self.forgotten = 0
        #: Seconds at which something may have changed.
        self.times = {BEGIN}

    def tell(self, kind: str, fact: Any) -> None:
        """Both learn it, and whoever owns an address differently now was reported."""
        before = {a: self.naive.owners(a, self.now + 9_000) for a in ADDRESSES}
        self.naive.facts.append((kind, self.now, fact))
        self.news_at = self.now
        for pod in fact if isinstance(fact, list) else [fact]:
            if isinstance(pod, Pod):
                self.times |= {t for t in (self.now, pod.ready_us, pod.start_us, pod.until_us) if t is not None}
        match kind:
            case "list":
                handovers = self.ownership.replace(fact, now_us=self.now)
            case "seen" | "missed":
                handovers = self.ownership.put(fact, now_us=self.now, live=kind == "seen")
            case _:
                handovers = self.ownership.remove(fact, now_us=self.now, live=kind == "deleted")
        changed = {a for a in ADDRESSES if before[a] != self.naive.owners(a, self.now + 9_000)}
        if self.naive.facts[-2:][0][0] != "restart":  # a run that has just begun tells of what it finds
            assert changed <= {handover.address for handover in handovers}

    def save(self) -> None:
        self.stored.update(self.ownership.take_local())

    def restart(self) -> None:
        self.save()
        self.ownership = Ownership(node=HERE)
        kept = [(address, i) for address, intervals in self.stored.items() for i in intervals]
        self.ownership.restore(kept, seen_us=self.news_at)
        self.naive.facts.append(("restart", self.now, None))

    def compare(self, address: str, at: int) -> None:
        told = {ref.uid for ref in self.ownership.owners(address, at)}
        assert told == self.naive.owners(address, at), (address, at, self.naive.facts)


@st.composite
def changed_pod(draw: st.DrawFn, pod: Pod, now: int) -> Pod:
    """The pod as it may look next: coherent in that one that is leaving or has finished stays so."""
    if pod.until_us is not None and not pod.released:
        return pod._replace(leaving=pod.leaving or draw(st.booleans()))
    addresses = tuple(draw(st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=2)))
    times = st.integers(now - 12, now + 4)
    pod = pod._replace(
        addresses=addresses,
        ready_us=draw(st.none() | st.none() | times),
        start_us=draw(st.none() | st.integers(now - 40, now + 4)),
        leaving=pod.leaving or draw(st.integers(0, 3)) == 0,
        until_us=None,
        released=False,
    )
    match draw(st.sampled_from(["runs", "runs", "runs", "finished", "released"])):
        case "finished":
            return pod._replace(until_us=draw(times))
        case "released":
            return pod._replace(until_us=draw(times), released=True)
    return pod


@settings(max_examples=500)
@given(st.data())
def test_ownership_equals_a_model_that_forgets_nothing(data: st.DataObject) -> None:
    draw = data.draw
    with pytest.MonkeyPatch.context() as patch:
        # Histories here are longer than what is kept of one address; that bound has a test of its own.
        patch.setattr("kiptail.ownership.MAX_FORMER", 1_000)
        patch.setattr("kiptail.ownership.SLACK_US", 2)
        patch.setattr("kiptail.ownership.UNWATCHED_US", 3_600)
        _history(draw)


def _history(draw: Any) -> None:
    world = World()
    alive: dict[str, Pod] = {}
    #: Addresses that a pod had once and lost.
    lost: dict[str, set[str]] = {}

    def change(key: str) -> Pod:
        before = alive[key]
        after: Pod = draw(changed_pod(before, world.now))
        if after.until_us is not None:  # what it lost, it gets back only while it runs
            after = after._replace(addresses=tuple(a for a in after.addresses if a not in lost[key]))
        lost[key] |= {a for a in before.addresses if a not in after.addresses}
        alive[key] = after
        return after

    def appear(step: int) -> Pod:
        key = f"{draw(st.sampled_from(['here', 'here', 'there']))}-{step}"
        node = HERE if key.startswith("here") else THERE
        alive[key] = Pod(key, PodRef("n", key, key), (), None, None, None, False, node, ())
        lost[key] = set()
        return change(key)

    for step in range(draw(st.integers(1, 14))):
        world.now += draw(PAUSES)
        match draw(
            st.sampled_from(["new", "new", "new", "change", "change", "go", "go", "list", "list", "restart", "keep"])
        ):
            case "new":
                world.tell(draw(st.sampled_from(["seen", "missed"])), appear(step))
            case "change" if alive:
                key = draw(st.sampled_from(sorted(alive)))
                world.tell(draw(st.sampled_from(["seen", "missed"])), change(key))
            case "go" if alive:
                key = draw(st.sampled_from(sorted(alive)))
                del alive[key]
                world.tell(draw(st.sampled_from(["deleted", "missed deletion"])), key)
            case "restart" | "list" as kind:
                if kind == "restart":
                    world.restart()
                    world.now += draw(PAUSES)
                for key in draw(st.sets(st.sampled_from(sorted(alive)))) if alive else ():
                    if draw(st.booleans()):
                        del alive[key]
                    else:
                        change(key)
                if draw(st.booleans()):
                    appear(step)
                world.tell("list", list(alive.values()))
            case "keep":
                world.save()
                world.forgotten = max(world.forgotten, draw(st.integers(BEGIN - 20, world.now)))
                world.ownership.forget(world.forgotten)
        # Lines of the log that are read late, and one that is read at once.
        late = st.sampled_from(sorted(world.times)).flatmap(lambda at: st.integers(at - 4, at + 4))
        for address in ADDRESSES:
            for at in (*draw(st.lists(late, max_size=4)), world.now):
                world.compare(address, max(at, world.forgotten))
