"""What is known of this node's pods, from one run to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pytest

from kiptail.errors import StoreUnavailableError
from kiptail.pods.memory import KEEP_US, NEWS_INTERVAL_US, PodMemory
from kiptail.pods.ownership import Interval, Ownership, Pod, PodRef
from kiptail.state.intervals import MAX_ENDED
from kiptail.state.store import Store

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
A = Pod("a", PodRef("team-a", "a", "hash", "web"), ("10.0.0.1", "fd00::1"), T0, T0, None, False, "here", ())
B = A._replace(key="b", ref=PodRef("team-a", "b", "b"), addresses=("10.0.0.1",), ready_us=None, start_us=T0)


class Index(Ownership):
    """An index of a node's pods whose watch runs, or not."""

    def __init__(self) -> None:
        super().__init__(node="here")
        self.watches = True

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        return self.owned(address, at_us).pods

    def current(self) -> bool:
        return self.watches

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        return self.register.take_local()


def remembered(index: Index, disk: Store) -> PodMemory:
    return PodMemory(index, disk, current=index.current, forget=index.register.forget)


class Disk(Store):
    """A store that counts what it is told, and may be full."""

    saves = 0
    full = False

    def save_intervals(self, changes: Mapping[str, Iterable[Interval]], *, news_us: int) -> None:
        if self.full:
            raise StoreUnavailableError("no room")
        self.saves += 1
        super().save_intervals(changes, news_us=news_us)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk.in_memory()
    assert isinstance(disk, Disk)
    yield disk
    disk.close()


def test_the_next_run_knows_who_is_gone(disk: Disk) -> None:
    index = Index()
    memory = remembered(index, disk)
    index.put(A, now_us=T0, live=True)
    memory.save(T0 + SECOND)
    after = Index()
    remembered(after, disk)
    after.replace([B._replace(start_us=T0 + 60 * SECOND)], now_us=T0 + 90 * SECOND, seen_us=T0 + SECOND)
    assert after.owners("10.0.0.1", T0 + 30 * SECOND) == (A.ref,)
    assert after.owners("10.0.0.1", T0 + 70 * SECOND) == (B.ref,)
    assert after.owners("fd00::1", T0 + 70 * SECOND) == (A.ref,)


def test_every_field_of_an_interval_is_kept(disk: Disk) -> None:
    kept = [
        ("10.0.0.1", Interval("a", A.ref, T0, T0 + 1, None, None, local=True)),
        ("10.0.0.1", Interval("b", B.ref, T0, T0 + 5, T0 + 7, T0 + 9, unseen_end=True, local=True, after_gap=True)),
        ("10.0.0.1", Interval("c", B.ref, T0, T0 + 5, T0 + 7, None, local=True)),
        ("fd00::1", Interval("a", A.ref, T0 - 9, T0 - 8, T0 - 1, T0, local=True)),
    ]
    disk.save_intervals({a: [i for other, i in kept if other == a] for a in ("10.0.0.1", "fd00::1")}, news_us=7)
    loaded, news_us = disk.load_intervals()
    assert sorted(loaded, key=lambda entry: (entry[0], entry[1].key)) == kept
    assert news_us == 7
    disk.save_intervals({"10.0.0.1": []}, news_us=8)
    assert disk.load_intervals() == ([kept[3]], 8)


def test_many_changes_are_one_commit_and_no_change_is_none(disk: Disk) -> None:
    index = Index()
    memory = remembered(index, disk)
    memory.save(T0)  # that there is news at all
    for n in range(200):
        index.put(A._replace(key=f"p{n}", addresses=(f"10.0.1.{n}",)), now_us=T0, live=True)
    memory.save(T0 + SECOND)
    memory.save(T0 + 2 * SECOND)
    assert disk.saves == 2
    assert len(disk.load_intervals()[0]) == 200


def test_the_time_of_the_latest_news_is_kept_but_not_while_there_is_none(disk: Disk) -> None:
    index = Index()
    memory = remembered(index, disk)
    memory.save(T0)
    memory.save(T0 + NEWS_INTERVAL_US + SECOND)
    assert disk.load_intervals() == ([], T0 + NEWS_INTERVAL_US + SECOND)
    index.watches = False
    memory.save(T0 + 9 * NEWS_INTERVAL_US)
    assert disk.load_intervals() == ([], T0 + NEWS_INTERVAL_US + SECOND)


def test_until_when_pods_were_watched_is_stored_at_the_end(disk: Disk) -> None:
    memory = remembered(Index(), disk)
    memory.save(T0)
    memory.save(T0 + SECOND)
    assert disk.load_intervals() == ([], T0)
    memory.save(T0 + 2 * SECOND, last=True)
    assert disk.load_intervals() == ([], T0 + 2 * SECOND)


def test_what_cannot_be_stored_now_is_stored_later(disk: Disk) -> None:
    index = Index()
    memory = remembered(index, disk)
    index.put(A, now_us=T0, live=True)
    disk.full = True
    memory.save(T0)
    index.remove("a", now_us=T0 + SECOND)
    memory.save(T0 + SECOND)
    assert disk.load_intervals()[0] == []
    disk.full = False
    memory.save(T0 + 2 * SECOND)
    assert {(address, i.until_us) for address, i in disk.load_intervals()[0]} == {
        ("10.0.0.1", T0 + 3 * SECOND),
        ("fd00::1", T0 + 3 * SECOND),
    }


def test_a_pod_that_is_gone_is_remembered_until_the_journal_has_been_read_past_it(disk: Disk) -> None:
    index = Index()
    memory = remembered(index, disk)
    index.put(A, now_us=T0, live=True)
    memory.save(T0)
    index.remove("a", now_us=T0 + 60 * SECOND)
    memory.forget(T0 - 3600 * SECOND)  # a backlog is being read, an hour behind
    assert index.owners("10.0.0.1", T0 + 30 * SECOND) == (A.ref,)
    memory.save(T0)
    assert [i.until_us for _, i in disk.load_intervals()[0]] == [T0 + 62 * SECOND] * 2
    memory.forget(T0 + 62 * SECOND + KEEP_US)
    assert index.owners("10.0.0.1", T0 + 30 * SECOND) == (A.ref,), "a drop from the end itself may be read"
    memory.forget(T0 + 62 * SECOND + KEEP_US + 1)
    assert index.owners("10.0.0.1", T0 + 30 * SECOND) == ()
    memory.save(T0)
    assert disk.load_intervals()[0] == []


def test_the_rows_are_bounded_and_those_of_living_pods_are_not_the_ones_that_go(disk: Disk) -> None:
    living = {f"10.1.{n // 250}.{n % 250}": [Interval(f"l{n}", A.ref, 0, 1, None, None)] for n in range(300)}
    ended = {f"10.2.{n // 250}.{n % 250}": [Interval(f"e{n}", A.ref, 0, 0, 0, n)] for n in range(MAX_ENDED + 9)}
    disk.save_intervals(living | ended, news_us=0)
    loaded, _news_us = disk.load_intervals()
    assert sum(i.until_us is None for _, i in loaded) == 300
    assert sorted(i.until_us for _, i in loaded if i.until_us is not None) == list(range(9, MAX_ENDED + 9))


def test_another_nodes_pods_are_not_stored(disk: Disk) -> None:
    index = Index()
    memory = remembered(index, disk)
    index.put(A._replace(node="there"), now_us=T0, live=True)
    memory.save(T0)
    assert disk.load_intervals() == ([], T0)
