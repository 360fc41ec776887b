"""What a pod says of its time with its addresses. Whole stories: test_ownership.py."""

from __future__ import annotations

import pytest

from kiptail.pods.evidence import CLOCKS_US, KILL_US, Seen, begin, deleted, end, has_again, margin_us
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.tenancy import Interval

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
POD = Pod("a", PodRef("team-a", "a", "a"), ("10.0.0.1",), None, None, None, False, "here", ())
NOW = 100


def us(second: float | None) -> int | None:
    return None if second is None else T0 + round(second * SECOND)


def seconds(bound: int | None) -> float | None:
    return bound if bound is None or bound < T0 // 2 else (bound - T0) / SECOND


def seen(*, live: bool = True, limit: float = NOW, margin: int = 0) -> Seen:
    return Seen(T0 + NOW * SECOND, live, T0 + round(limit * SECOND), margin)


def test_only_this_nodes_clock_is_ours() -> None:
    assert [margin_us(POD, node=node) for node in ("here", "there", "")] == [0, CLOCKS_US, CLOCKS_US]
    assert margin_us(POD._replace(node=""), node="") == CLOCKS_US


#: A pod, how it was seen, and the bounds of its beginning.
BEGINS: dict[str, tuple[Pod, Seen, tuple[float, float]]] = {
    "its sandbox is dated": (POD._replace(ready_us=us(50)), seen(), (50, 51)),
    "by another node": (POD._replace(ready_us=us(50)), seen(margin=2 * SECOND), (48, 53)),
    "a container is dated": (POD._replace(running_us=us(60), ran_us=us(55)), seen(), (55, 56)),
    "and its sandbox": (POD._replace(ready_us=us(50), running_us=us(60), ran_us=us(45)), seen(), (50, 51)),
    "later than now": (POD._replace(ready_us=us(500)), seen(), (100, 100)),
    "only its start, and it was listed": (POD._replace(start_us=us(50)), seen(live=False), (50, 100)),
    "only its start, long before it was seen": (POD._replace(start_us=us(50)), seen(), (98, 100)),
    "only its start, just now": (POD._replace(start_us=us(99)), seen(), (99, 100)),
    "nothing": (POD, seen(live=False), (0, 100)),
}


@pytest.mark.parametrize(("pod", "how", "expected"), BEGINS.values(), ids=BEGINS)
def test_since_when(pod: Pod, how: Seen, expected: tuple[float, float]) -> None:
    since_us, sure_us = begin(pod, how, moved=False)
    assert (seconds(since_us), seconds(sure_us)) == expected


def test_an_earlier_run_may_have_been_in_another_sandbox_with_another_address() -> None:
    pod = POD._replace(running_us=us(60), ran_us=us(55))
    assert seconds(begin(pod, seen(), moved=True)[0]) == 60


MINE = Interval("a", POD.ref, T0, T0 + SECOND, None, None)
#: A pod, how it was seen, what was known of its time, and the bounds of its end, and whether nobody saw it.
ENDS: dict[str, tuple[Pod, Seen, Interval | None, tuple[float | None, float | None, bool]]] = {
    "it stays": (POD, seen(), MINE, (None, None, False)),
    "finished": (POD._replace(until_us=us(50.0)), seen(), MINE, (50, 51, False)),
    "finished, by another clock": (POD._replace(until_us=us(99)), seen(margin=2 * SECOND), MINE, (97, 100, False)),
    "leaving": (POD._replace(leaving=True), seen(), MINE, (1, None, False)),
    "leaving, and asked to": (POD._replace(leaving=True, asked_us=us(50)), seen(), MINE, (48, None, False)),
    "its sandbox is lost": (POD._replace(lost_us=us(50)), seen(), MINE, (1, 51, False)),
    "and its containers had ended": (POD._replace(lost_us=us(50), stopped_us=us(40)), seen(), MINE, (40, 51, False)),
    "released just now": (POD._replace(released=True, until_us=us(50)), seen(), MINE, (50, 100, False)),
    "released unseen": (POD._replace(released=True, until_us=us(50)), seen(live=False, limit=70), MINE, (50, 70, True)),
    "released before it was known": (POD._replace(released=True, until_us=us(50)), seen(), None, (50, 51, False)),
    "as an earlier run saw": (POD, seen(), MINE._replace(held_us=us(7), until_us=us(8)), (7, 8, False)),
}


@pytest.mark.parametrize(("pod", "how", "mine", "expected"), ENDS.values(), ids=ENDS)
def test_until_when(
    pod: Pod, how: Seen, mine: Interval | None, expected: tuple[float | None, float | None, bool]
) -> None:
    found = end(pod, how, mine)
    assert (seconds(found.held_us), seconds(found.until_us), found.unseen) == expected


#: A pod that was deleted, how that was seen, and the bounds of its end.
DELETED: dict[str, tuple[Pod, Seen, tuple[float | None, float]]] = {
    "after its containers": (POD._replace(stopped_us=us(90)), seen(), (90, 91)),
    "with a grace period": (POD._replace(asked_us=us(50), grace_us=30 * SECOND), seen(), (48, 84)),
    "by force": (POD._replace(grace_us=30 * SECOND), seen(), (98, 132)),
    "by force, some time before": (POD, seen(live=False), (None, 102)),
    "while it left": (POD._replace(leaving=True), seen(), (None, 102)),
}


@pytest.mark.parametrize(("pod", "how", "expected"), DELETED.values(), ids=DELETED)
def test_until_when_one_that_was_deleted(pod: Pod, how: Seen, expected: tuple[float | None, float]) -> None:
    assert KILL_US == 2 * SECOND
    assert tuple(map(seconds, deleted(pod, how))) == expected


def test_who_has_an_address_again() -> None:
    until_us = T0 + 50 * SECOND
    ran_later = POD._replace(until_us=us(90), running_us=us(60))
    again = {
        "it is shown with it": POD,
        "finished later": ran_later,
        "blank, but it runs": POD._replace(blank=1, runs=True),
        "blank": POD._replace(blank=1),
        "released": POD._replace(released=True, until_us=us(60)),
        "lost": POD._replace(lost_us=us(50)),
        "finished before": ran_later._replace(running_us=us(40)),
    }
    expected = ["it is shown with it", "finished later", "blank, but it runs"]
    assert [name for name, pod in again.items() if has_again(pod, until_us, margin_us=0)] == expected
    assert has_again(ran_later._replace(running_us=us(49)), until_us, margin_us=2 * SECOND)
