"""Who owned an IP address at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kiptail.pods.ownership import Hands, Owned, Ownership, Pod, PodRef, hands_of
from kiptail.pods.register import MAX_FORMER

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
IP, IP2, IP6 = "10.244.1.3", "10.244.1.4", "fd00::3"
NODE, OTHER_NODE = "node-1", "node-2"

Fact = Callable[[Ownership], set[str]]


def us(seconds: float | None) -> int | None:
    return None if seconds is None else T0 + round(seconds * SECOND)


def pod(
    key: str,
    *addresses: str,
    ready: float | None = None,
    start: float | None = None,
    until: float | None = None,
    blank: float | None = None,
    runs: bool = False,
    leaving: bool = False,
    running: float | None = None,
    ran: float | None = None,
    lost: float | None = None,
    stopped: float | None = None,
    asked: float | None = None,
    grace: float = 0,
    node: str = NODE,
    uid: str = "",
    name: str = "",
) -> Pod:
    """Times are seconds after ``T0``; ``blank``: its annotation is, and then it was last seen alive."""
    return Pod(
        key=key,
        ref=PodRef("team-a", name or key, uid or key),
        addresses=addresses or (IP,),
        ready_us=us(ready),
        start_us=us(start),
        until_us=us(until),
        released=False,
        node=node,
        host_addresses=("192.0.2.1",),
        leaving=leaving or asked is not None,
        running_us=us(running),
        ran_us=us(ran),
        lost_us=us(lost),
        stopped_us=us(stopped),
        asked_us=us(asked),
        grace_us=round(grace * SECOND),
        shown=int(blank is None),
        blank=int(blank is not None),
        runs=runs,
        alive_us=us(blank) or 0,
    )


def far(key: str, *addresses: str, **times: float) -> Pod:
    """A pod of another node."""
    return pod(key, *addresses, node=OTHER_NODE, **times)  # type: ignore[arg-type]  # no flag is passed


def listed(at: float, *pods: Pod, watched: float | None = None) -> Fact:
    """A list showed these pods and no others; nobody had watched them since ``watched``, or never before."""
    return lambda ownership: ownership.replace(pods, now_us=us(at) or 0, seen_us=us(watched) or 0)


def seen(at: float, changed: Pod) -> Fact:
    """A watch showed that the pod was added or changed."""
    return lambda ownership: ownership.put(changed, now_us=us(at) or 0, live=True)


def caught_up(at: float, changed: Pod) -> Fact:
    """A watch that had been interrupted showed what it had missed."""
    return lambda ownership: ownership.put(changed, now_us=us(at) or 0, live=False)


def deleted(at: float, key: str) -> Fact:
    """A watch showed that the pod was deleted."""
    return lambda ownership: ownership.remove(key, now_us=us(at) or 0)


def deletion_caught_up(at: float, key: str) -> Fact:
    """A watch that had been interrupted showed that the pod had been deleted meanwhile."""
    return lambda ownership: ownership.remove(key, now_us=us(at) or 0, live=False)


def nodeless(key: str) -> Pod:
    """A pod that has no addresses yet."""
    return pod(key)._replace(addresses=())


def told(owned: Owned) -> str:
    """The names; ``?``: it is one that may not have been; ``*``: or somebody of whom nobody knows."""
    names = sorted(ref.name for ref in owned.pods)
    assert not (owned.sure and (len(names) != 1 or owned.stranger))
    return " ".join(names) + "?" * (len(names) == 1 and not owned.sure) + "*" * owned.stranger


def owners(ownership: Ownership, seconds: float, address: str = IP) -> str:
    return told(ownership.owned(address, us(seconds) or 0))


def after(*facts: Fact) -> Ownership:
    ownership = Ownership(node=NODE)
    for fact in facts:
        fact(ownership)
    return ownership


#: What was seen, and then who owned ``IP`` at which second: nobody, one, or several who may be meant, as in told().
RULES: dict[str, tuple[list[Fact], dict[float, str]]] = {
    # Since when: of a pod that was there before
    "listed: since its start, and surely since now": (
        [listed(100, pod("a", start=0))],
        {-1: "", 0: "a?", 99: "a?", 100: "a", 900: "a"},
    ),
    "listed: since the second in which its sandbox was ready, which is after its start": (
        [listed(100, pod("a", start=0, ready=60))],
        {59.9: "", 60: "a?", 60.9: "a?", 61: "a"},
    ),
    "a container that ran before the sandbox was said to be ready had the network": (
        [listed(100, pod("a", start=0, ready=60, running=50))],
        {49.9: "", 50: "a?", 51: "a"},
    ),
    "where nothing is said of the sandbox, the first container tells": (
        [listed(100, pod("a", start=0, running=50))],
        {49.9: "", 50: "a?", 51: "a"},
    ),
    "containers that were started anew do not make it own later": (
        [listed(100, pod("a", start=0, ready=60, running=90))],
        {59.9: "", 60: "a?", 61: "a"},
    ),
    "listed, and no time at all: always": ([listed(100, pod("a"))], {-999: "a?", 99: "a?", 100: "a"}),
    "listed, and started later than now: since now, a clock is wrong": (
        [listed(100, pod("a", start=500))],
        {99: "", 100: "a"},
    ),
    "listed, and ready later than now: since now": ([listed(100, pod("a", ready=500))], {99: "", 100: "a"}),
    "listed in the middle of a second: no later than when that is over": (
        [listed(100.5, pod("a", ready=500))],
        {99: "", 100: "a?", 101: "a"},
    ),
    "missed while the watch was interrupted: since its start": (
        [caught_up(100, pod("a", start=0))],
        {-1: "", 0: "a?", 100: "a"},
    ),
    # … of a pod that a watch saw appear
    "appeared: at most two seconds before its address was seen, not since its start": (
        [listed(0), seen(60, pod("a", start=0))],
        {57: "", 58: "a?", 60: "a"},
    ),
    "appeared, and started just now": ([listed(0), seen(60.5, pod("a", start=60))], {59: "", 60: "a?", 61: "a"}),
    "appeared: since its sandbox was ready, which was before it was seen": (
        [listed(0), seen(60, pod("a", start=0, ready=50))],
        {49: "", 50: "a?", 51: "a"},
    ),
    "appeared without an address, and got it later": (
        [listed(0), seen(9, nodeless("a")), seen(60, pod("a", start=0))],
        {57: "", 58: "a?", 60: "a"},
    ),
    "no address yet: owns nothing": ([listed(0, nodeless("a"))], {30: ""}),
    "when it is told later that its sandbox was ready after its start: since then": (
        [listed(100, pod("a", start=0)), seen(110, pod("a", start=0, ready=50))],
        {49: "", 50: "a?", 51: "a"},
    ),
    "of one that appeared, that is known well enough": (
        [listed(0), seen(60, pod("a")), seen(70, pod("a", running=69))],
        {57: "", 58: "a?", 60: "a"},
    ),
    "an earlier run of a container was in the same sandbox": (
        [listed(100, pod("a", start=0, ran=40, running=90))],
        {39.9: "", 40: "a?", 41: "a"},
    ),
    "unless the sandbox is said to have been ready later": (
        [listed(100, pod("a", start=0, ran=40, running=90, ready=60))],
        {59.9: "", 60: "a?", 61: "a"},
    ),
    "or the pod had another address then": (
        [listed(70, pod("a", IP2, start=0, running=40)), seen(100, pod("a", start=0, ran=40, running=90))],
        {89.9: "", 90: "a?", 91: "a"},
    ),
    "a sandbox that was made anew with the same address does not make it own later": (
        [listed(0, pod("a", ready=0)), seen(60, pod("a", ready=59))],
        {-1: "", 30: "a", 99: "a"},
    ),
    "nor does one that is not ready yet, while the containers of the former are shown": (
        [
            listed(0, pod("a", ready=0, running=1)),
            seen(50, pod("a", running=1, leaving=True)),
            seen(60, pod("a", ready=59, running=1)),
        ],
        {30: "a", 99: "a"},
    ),
    # Until when
    "deleted, and nothing told of it before: by force, two seconds around it": (
        [listed(0, pod("a", start=0)), deleted(60, "a")],
        {57: "a", 58: "a?", 61: "a?", 62: ""},
    ),
    "deleted by force: its containers outlive it by their grace period": (
        [listed(0, pod("a", start=0, grace=30)), deleted(60, "a")],
        {57: "a", 58: "a?", 91: "a?", 92: ""},
    ),
    "asked to go, and then deleted by force: its grace period began when it was asked": (
        [listed(0, pod("a", start=0, grace=30)), seen(40, pod("a", start=0, grace=30, asked=40)), deleted(45, "a")],
        {37: "a", 38: "a?", 73: "a?", 74: ""},
    ),
    "and no later than it is gone, should the clock that says when it was asked be wrong": (
        [listed(0, pod("a", start=0, grace=30)), seen(40, pod("a", start=0, grace=30, asked=900)), deleted(45, "a")],
        {44: "a", 76.9: "a", 77: ""},
    ),
    "asked, gone after its grace period, and never said to have stopped": (
        [listed(0, pod("a", start=0, grace=5)), seen(40, pod("a", start=0, grace=5, asked=40)), deleted(900, "a")],
        {37: "a", 38: "a?", 48: "a?", 49: ""},
    ),
    "deleted when all its containers had ended: until then": (
        [
            listed(0, pod("a", start=0, grace=30)),
            seen(50, pod("a", start=0, grace=30, asked=40, stopped=49)),
            deleted(55, "a"),
        ],
        {48: "a", 49: "a?", 50: ""},
    ),
    "its deletion was missed: surely only until it was known for the last time": (
        [listed(0, pod("a", ready=0, grace=30)), deletion_caught_up(60, "a")],
        {0: "a?", 91: "a?", 92: ""},
    ),
    "a terminating pod still owns, perhaps": (
        [listed(0, pod("a", start=0)), seen(30, pod("a", start=0, asked=30))],
        {27: "a", 28: "a?", 99: "a?"},
    ),
    "one that is leaving, nobody says since when, owns perhaps": (
        [listed(0, pod("a", ready=0)), seen(30, pod("a", leaving=True))],
        {0: "a?", 99: "a?"},
    ),
    "its sandbox is gone: until then": (
        [listed(0, pod("a", ready=0)), seen(40, pod("a", lost=30, stopped=29))],
        {28.9: "a", 29: "a?", 30.9: "a?", 31: ""},
    ),
    "its sandbox is gone, and nothing is said of its containers": (
        [listed(0, pod("a", ready=0)), seen(40, pod("a", lost=30))],
        {-1: "", 0: "a?", 30.9: "a?", 31: ""},
    ),
    "its sandbox is gone, and is made anew with the same address": (
        [listed(0, pod("a", ready=0)), seen(40, pod("a", lost=30, stopped=29)), seen(60, pod("a", ready=59))],
        {28.9: "a", 30.9: "a?", 31: "", 58.9: "", 59: "a?", 60: "a"},
    ),
    "its sandbox is gone, and another has the address, and then it is deleted": (
        [listed(0, pod("a", ready=0)), seen(9, pod("a", lost=8)), seen(61, pod("b", ready=60)), deleted(99, "a")],
        {8.9: "a?", 9: "", 59: "", 60: "b?", 61: "b", 98: "b"},
    ),
    "finished: in the second in which its last container ended": (
        [listed(99, pod("a", ready=0, until=60))],
        {-1: "", 0: "a?", 1: "a", 59.9: "a", 60: "a?", 60.9: "a?", 61: ""},
    ),
    "finished, and only its start is known": (
        [listed(99, pod("a", start=0, until=60))],
        {-1: "", 0: "a?", 60: "a?", 61: ""},
    ),
    "finished during the watch: the same": (
        [listed(0, pod("a", start=0)), seen(62, pod("a", start=0, until=60))],
        {59: "a", 60: "a?", 61: ""},
    ),
    "finished and deleted later: until it finished": (
        [listed(0, pod("a", start=0)), seen(62, pod("a", start=0, until=60)), deleted(900, "a")],
        {59: "a", 60: "a?", 61: "", 899: ""},
    ),
    "finished later than now: until now, a clock is wrong": (
        [listed(50, pod("a", start=0, until=900))],
        {49: "a?", 50: "a?", 51: ""},
    ),
    "finished before it began: it may have owned in the second when it began": (
        [listed(50, pod("a", start=0, until=-60))],
        {-1: "", 0: "a?", 1: ""},
    ),
    "blanked before our eyes: between the last sign of it and now": (
        [listed(0, pod("a", start=0)), seen(60, pod("a", start=0, blank=10))],
        {9: "a", 10: "a?", 59: "a?", 60: ""},
    ),
    "more news of a pod that was blanked changes nothing": (
        [
            listed(0, pod("a", start=0)),
            seen(60, pod("a", start=0, blank=10)),
            seen(90, pod("a", start=0, blank=20)),
        ],
        {9: "a", 10: "a?", 59: "a?", 60: ""},
    ),
    "blanked, and then finished: until it finished": (
        [
            listed(0, pod("a", start=0)),
            seen(60, pod("a", start=0, blank=10)),
            seen(90, pod("a", start=0, until=55)),
        ],
        {54: "a", 55: "a?", 56: ""},
    ),
    "blank when it was first seen: anybody may have written that": (
        [listed(99, pod("a", start=0, blank=10))],
        {9: "a?", 98: "a?", 99: "a", 999: "a"},
    ),
    "blanked while a container runs: it is not believed": (
        [listed(0, pod("a", start=0)), seen(60, pod("a", start=0, blank=10, runs=True))],
        {9: "a", 60: "a", 999: "a"},
    ),
    "blanked while a container is said to run, until the kubelet says that none does": (
        [
            listed(0, pod("a", start=0)),
            seen(60, pod("a", start=0, blank=10, runs=True)),
            seen(62, pod("a", start=0, blank=59)),
        ],
        {58: "a", 59: "a?", 61: "a?", 62: ""},
    ),
    "no longer blank, but nothing runs: it is not given again": (
        [listed(0, pod("a", start=0)), seen(60, pod("a", start=0, blank=10)), seen(70, pod("a", start=0))],
        {9: "a", 59: "a?", 60: "", 999: ""},
    ),
    "it goes on after it was given back, and is not believed again": (
        [
            listed(0, pod("a", start=0)),
            seen(30, pod("a", start=0, blank=10)),
            seen(60, pod("a", start=0, runs=True)),
            seen(90, pod("a", start=0, blank=80)),
            seen(91, pod("a", start=0)),
        ],
        {9: "a", 30: "", 57: "", 60: "a", 999: "a"},
    ),
    "it was given back, and again in another sandbox": (
        [
            listed(0, pod("a", ready=0)),
            seen(30, pod("a", ready=0, blank=10)),
            seen(60, pod("a", ready=55, runs=True)),
            seen(90, pod("a", ready=55, blank=80)),
        ],
        {9: "a", 30: "", 54: "", 55: "a?", 56: "a", 79: "a", 80: "a?", 90: ""},
    ),
    "blanked while nobody watched: perhaps until now": (
        [listed(0, pod("a", start=0)), listed(60, pod("a", start=0, blank=10))],
        {9: "a", 10: "a?", 59: "a?", 60: ""},
    ),
    "blanked while nobody watched: before its successor started": (
        [listed(0, pod("a", ready=0)), listed(99, pod("a", ready=0, blank=9), pod("b", start=50))],
        {8: "a", 9: "a?", 49: "a?", 50: "a b", 51: "b?", 99: "b"},
    ),
    "given back, and given again later": (
        [
            listed(0, pod("a", start=0)),
            seen(30, pod("a", start=0, blank=10)),
            seen(60, pod("a", start=0, runs=True)),
        ],
        {9: "a", 29: "a?", 30: "", 57: "", 58: "a?", 60: "a"},
    ),
    "given back and given again at once: not before it was given back": (
        [
            listed(0, pod("a", start=0)),
            seen(59, pod("a", start=0, blank=10)),
            seen(60, pod("a", start=0, runs=True)),
        ],
        {9: "a", 58.9: "a?", 59: "a?", 60: "a"},
    ),
    "it got another address: until its new sandbox was ready": (
        [listed(0, pod("a", start=0)), seen(61, pod("a", IP2, ready=60))],
        {-1: "", 59: "a?", 60: "a?", 61: ""},
    ),
    "its sandbox was made anew, with another address, long before that was seen": (
        [listed(0, pod("a", start=0)), seen(100, pod("a", IP2, start=0, ready=60))],
        {59: "a?", 60: "a?", 61: ""},
    ),
    "it got another address, nobody says since when: until now": (
        [listed(0, pod("a", start=0)), seen(60, pod("a", IP2))],
        {59: "a?", 60: ""},
    ),
    "an address that came back to it": (
        [listed(0, pod("a", ready=0)), seen(30, pod("a", IP2, ready=29)), seen(60, pod("a", ready=59))],
        {9: "a?", 29: "a?", 30: "", 58: "", 59: "a?", 60: "a"},
    ),
    # One after the other
    "successor: each its own time, and nobody in between": (
        [listed(0, pod("a", ready=0)), deleted(60, "a"), seen(121, pod("b", ready=120))],
        {57: "a", 61: "a?", 62: "", 119: "", 120: "b?", 121: "b"},
    ),
    "successor that waited for the address since long before": (
        [listed(0, pod("a", ready=0)), deleted(60, "a"), seen(90, pod("b", start=30))],
        {61: "a?", 62: "", 87: "", 88: "b?", 90: "b"},
    ),
    "where their bounds meet, both may be meant": (
        [listed(0, pod("a", ready=0)), deleted(60, "a"), seen(61, pod("b"))],
        {57: "a", 58: "a?", 59: "a b", 60.9: "a b", 61: "b"},
    ),
    "dated successor of a pod that was deleted by force: that one's grace period ends": (
        [listed(0, pod("a", ready=0, grace=30)), deleted(60, "a"), seen(66, pod("b", ready=65))],
        {57: "a", 64.9: "a?", 65: "a b", 65.9: "a b", 66: "b", 91: "b"},
    ),
    "who waited for the address came when the one before could have left, not earlier": (
        [listed(0, pod("a", ready=0)), seen(61, pod("a", ready=0, until=60)), seen(61, pod("b", start=0))],
        {59: "a", 60: "a b", 60.9: "a b", 61: "b"},
    ),
    "successor while the other is still terminating: it had been given back": (
        [
            listed(0, pod("a", ready=0, grace=90)),
            seen(9, pod("a", ready=0, asked=9, grace=90)),
            seen(61, pod("b", ready=60)),
            deleted(99, "a"),
        ],
        {6: "a", 7: "a?", 59: "a?", 60: "a b", 61: "b", 98: "b"},
    ),
    "successor of a pod that was leaving, nobody says since when, and is then deleted": (
        [
            listed(0, pod("a", ready=0)),
            seen(9, pod("a", leaving=True)),
            seen(61, pod("b", ready=60)),
            deleted(99, "a"),
        ],
        {59: "a?", 60: "a b", 61: "b", 98: "b"},
    ),
    "a pod that is leaving is not ended by one that left before it was first seen": (
        [seen(11, pod("a", ready=10)), deleted(20, "a"), caught_up(40, pod("b", start=0, leaving=True))],
        {9: "", 10: "a?", 11: "a", 17: "a", 18: "a b", 22: "b?", 60: "b?"},
    ),
    "a pod that is leaving has surely gone only when its successor surely has the address": (
        [listed(70, pod("a", ready=0, leaving=True), pod("b", start=60))],
        {59: "a?", 60: "a b", 69.9: "a b", 70: "b"},
    ),
    "successor of a pod that meant to stay until it was seen to be deleted: nobody knows whose it was meanwhile": (
        [listed(0, pod("a", ready=0)), seen(61, pod("b", ready=60)), deleted(99, "a")],
        {60: "a", 61: "a b", 96: "a b", 97: "b", 101: "b"},
    ),
    "successor of a pod whose deletion was missed: that was before": (
        [listed(0, pod("a", ready=0)), caught_up(98, pod("b", ready=60)), deletion_caught_up(99, "a")],
        {59: "a?", 60: "a b", 61: "b", 98: "b"},
    ),
    "left while nobody watched: before the next one came": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", ready=50), watched=30)],
        {29: "a", 30: "a?", 49: "a?", 50: "a b*", 51: "b"},
    ),
    "left while nobody watched: before the next one started, when that is all there is": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", start=50), watched=30)],
        {29: "a", 30: "a?", 49: "a?", 50: "a b*", 51: "b?", 99: "b?", 100: "b"},
    ),
    "left while nobody watched, and nobody came: perhaps until now": (
        [listed(0, pod("a", ready=0)), listed(100, watched=30)],
        {29: "a", 30: "a?", 99: "a?", 100: ""},
    ),
    "began while nobody watched: in its first second, somebody of whom nobody knows may be meant": (
        [listed(100, pod("a", ready=50), watched=30)],
        {49: "", 50: "a?*", 50.9: "a?*", 51: "a"},
    ),
    "began a minute before, of which nobody may have heard": (
        [listed(100, pod("a", ready=-30), watched=30)],
        {-30: "a?*", -29: "a"},
    ),
    "began long before": ([listed(100, pod("a", ready=-31), watched=30)], {-31: "a?", -30: "a"}),
    "began while nobody watched, and that is told later": (
        [listed(100, watched=30), seen(101, pod("a", ready=99))],
        {99: "a?*", 100: "a"},
    ),
    "began when pods were watched again": (
        [listed(100, watched=30), seen(101, pod("a", ready=100))],
        {100: "a?", 101: "a"},
    ),
    "was known before": (
        [listed(9, pod("a", ready=5)), listed(100, pod("a", ready=5, grace=1), watched=30)],
        {5: "a?", 6: "a"},
    ),
    "elsewhere: nobody watches there": ([listed(100, far("a", ready=50), watched=30)], {48: "a?", 53: "a"}),
    "successor of a finished pod that is still there": (
        [listed(70, pod("a", ready=0, until=60)), seen(91, pod("b", ready=90))],
        {59: "a", 60: "a?", 61: "", 89: "", 90: "b?", 91: "b"},
    ),
    "three of them": (
        [
            listed(0, pod("a", ready=0)),
            deleted(60, "a"),
            seen(91, pod("b", ready=90)),
            deleted(120, "b"),
            seen(151, pod("c", ready=150)),
        ],
        {57: "a", 62: "", 90: "b?", 91: "b", 117: "b", 118: "b?", 122: "", 150: "c?", 151: "c"},
    ),
    "a StatefulSet's pod with the same name": (
        [listed(0, pod("1", ready=0, name="web-0")), deleted(60, "1"), seen(71, pod("2", ready=70, name="web-0"))],
        {57: "web-0", 62: "", 70: "web-0?", 71: "web-0"},
    ),
    # At the same time
    "two claim an address: both may be meant": (
        [listed(0, pod("a", ready=0), pod("b", ready=0))],
        {0: "a b", 50: "a b"},
    ),
    "two that both mean to stay, whoever was first": (
        [listed(70, pod("a", ready=0), pod("b", ready=60))],
        {50: "a", 60: "a", 61: "a b", 90: "a b"},
    ),
    "two, and then one": (
        [listed(0, pod("a", ready=0), pod("b", ready=0)), deleted(60, "b")],
        {50: "a b", 57: "a b", 58: "a", 63: "a"},
    ),
    "two that came at once, of which one is leaving: the other": (
        [listed(0, pod("a", ready=0, leaving=True), pod("b", ready=0))],
        {50: "b"},
    ),
    "two that are leaving: the newest start wins": (
        [listed(40, pod("a", ready=0, leaving=True), pod("b", ready=30, leaving=True))],
        {20: "a?", 30: "a b", 31: "b?", 40: "b?"},
    ),
    "a mirror pod that was made anew is the same static pod": (
        [
            listed(0, pod("old", ready=0, uid="hash", name="etcd")),
            deleted(60, "old"),
            seen(61, pod("new", ready=0, uid="hash", name="etcd")),
        ],
        {30: "etcd", 60: "etcd", 99: "etcd"},
    ),
    # Pods of other nodes, whose kubelets have clocks of their own: two seconds to either side
    "elsewhere: ready": ([listed(100, far("a", ready=60))], {57.9: "", 58: "a?", 63: "a"}),
    "elsewhere: ready just now": ([listed(61, far("a", ready=60))], {57.9: "", 58: "a?", 61: "a"}),
    "elsewhere: appeared": ([listed(0), seen(60, far("a", start=0))], {57: "", 58: "a?", 60: "a"}),
    "elsewhere: finished": (
        [listed(99, far("a", ready=0, until=60))],
        {3: "a", 57.9: "a", 58: "a?", 62.9: "a?", 63: ""},
    ),
    "elsewhere: stopped, and then deleted": (
        [listed(0, far("a", ready=0)), seen(50, far("a", ready=0, asked=40, stopped=49)), deleted(55, "a")],
        {46.9: "a", 47: "a?", 51.9: "a?", 52: ""},
    ),
    "elsewhere: blanked before our eyes": (
        [listed(0, far("a", start=0)), seen(60, pod("a", node=OTHER_NODE, start=0, blank=10))],
        {7: "a", 8: "a?", 59: "a?", 60: ""},
    ),
    "elsewhere: asked to go": (
        [listed(0, far("a", start=0)), seen(30, far("a", start=0, asked=30))],
        {27: "a", 28: "a?", 99: "a?"},
    ),
}


@pytest.mark.parametrize(("facts", "expected"), RULES.values(), ids=RULES)
def test_who_owned_the_address(facts: list[Fact], expected: dict[float, str]) -> None:
    ownership = after(*facts)
    assert {second: owners(ownership, second) for second in expected} == expected


#: The last of these facts, the addresses of which something else is known then, and the changes of hands of ``IP``.
CHANGES: dict[str, tuple[list[Fact], set[str], list[float]]] = {
    "a pod came, with all its addresses": ([listed(9, pod("a", IP, IP6, ready=0))], {IP, IP6}, [0]),
    "it appeared": ([listed(0), seen(9, pod("a", start=0))], {IP}, [7]),
    "a change that matters to nobody": ([listed(9, pod("a", ready=0)), seen(9, pod("a", ready=0))], set(), [0]),
    "a change of something else": ([listed(9, pod("a", ready=0)), seen(9, pod("a", ready=0, grace=5))], set(), [0]),
    "its start is dated later": ([listed(9, pod("a", start=0)), seen(9, pod("a", start=0, ready=5))], {IP}, [5]),
    "it was deleted": ([listed(9, pod("a", ready=0)), deleted(60, "a")], {IP}, [0, 62]),
    "nobody knows it": ([deleted(60, "a")], set(), []),
    "it finished": ([listed(9, pod("a", ready=0)), seen(62, pod("a", ready=0, until=60))], {IP}, [0, 61]),
    "it had finished when it was first seen": ([listed(99, pod("a", ready=0, until=10))], {IP}, [0, 11]),
    "blanked": (
        [listed(0, pod("a", ready=0)), seen(60, pod("a", ready=0, blank=5))],
        {IP},
        [0, 60],
    ),
    "another address": ([listed(0, pod("a", ready=0)), seen(61, pod("a", IP2, ready=60))], {IP, IP2}, [0, 61]),
    "who came dates it better than the list that lacks who went": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", ready=50))],
        {IP},
        [0, 50, 51],
    ),
    "a finished pod does not hide since when the living one owns": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", ready=50), pod("job", ready=20, until=29))],
        {IP},
        [0, 20, 21, 30, 50],
    ),
    "nobody came": ([listed(0, pod("a", ready=0)), listed(100)], {IP}, [0, 100]),
    "whose drops are those of the first second after a gap is a question of its own": (
        [listed(100, pod("a", ready=50), watched=30)],
        {IP},
        [50, 51],
    ),
    "who was succeeded already has nothing to give away": (
        [
            listed(0, pod("a", ready=0, grace=90)),
            seen(5, pod("a", ready=0, grace=90, asked=5)),
            seen(61, pod("b", ready=60)),
            deleted(70, "a"),
        ],
        {IP},
        [0, 60, 61],
    ),
    "of two, one is left": ([listed(0, pod("a", ready=0), pod("b", ready=0)), deleted(99, "a")], {IP}, [0, 97]),
    "of two, one is leaving": (
        [listed(40, pod("a", ready=0), pod("b", ready=30)), seen(60, pod("a", ready=0, asked=59))],
        {IP},
        [0, 31],
    ),
    "one that is leaving still owns": (
        [listed(0, pod("a", ready=0)), seen(9, pod("a", ready=0, leaving=True))],
        {IP},
        [0],
    ),
}


@pytest.mark.parametrize(("facts", "changed", "hands"), CHANGES.values(), ids=CHANGES)
def test_changes_of_hands(facts: list[Fact], changed: set[str], hands: list[float]) -> None:
    ownership = Ownership(node=NODE)
    reported = [fact(ownership) for fact in facts]
    assert reported[-1] == changed
    assert list(hands_of(ownership.register.intervals(IP)).changes) == [us(second) for second in hands]


def test_an_address_of_which_nothing_is_known_never_changed_hands() -> None:
    assert hands_of(()) == Hands((), ())


@pytest.mark.parametrize("order", [("b", "job"), ("job", "b")])
def test_the_order_of_a_list_does_not_matter(order: tuple[str, str]) -> None:
    pods = {"b": pod("b", ready=60), "job": pod("job", ready=0, until=10)}
    ownership = after(listed(99, *(pods[name] for name in order)))
    assert {second: owners(ownership, second) for second in (5, 30, 70)} == {5: "job", 30: "", 70: "b"}
    assert list(hands_of(ownership.register.intervals(IP)).changes) == [us(0), us(11), us(60)]


def test_all_addresses_of_a_pod_are_its_own() -> None:
    ownership = after(listed(9, pod("a", IP, IP6, ready=0)))
    assert owners(ownership, 5, IP) == owners(ownership, 5, IP6) == "a"
    assert len(ownership) == 1


def test_a_label_that_changes_is_told_from_then_on() -> None:
    ownership = after(seen(0, pod("a", ready=0)))
    ownership.register.take_local()
    labelled = PodRef("team-a", "a", "a", "web")
    assert seen(9, pod("a", ready=0)._replace(ref=labelled))(ownership) == set()
    assert ownership.owned(IP, T0) == Owned((labelled,), sure=True)
    assert [i.ref for i in ownership.register.take_local()[IP]] == [labelled]


def test_the_nodes_are_known_by_the_host_addresses_of_pods() -> None:
    ownership = after(seen(0, pod("a")))
    assert (ownership.node("192.0.2.1"), ownership.node("192.0.2.2")) == (NODE, "")
    assert (ownership.has_node(NODE), ownership.has_node("node-2")) == (True, False)
    listed(9)(ownership)
    assert ownership.node("192.0.2.1") == "", "a list that lacks all its pods forgets a node"


def test_a_pod_that_is_gone_counts_no_longer() -> None:
    ownership = after(seen(0, pod("a")), deleted(9, "a"))
    assert (len(ownership), ownership.has_node(NODE)) == (0, False)


def claiming(key: str, start: float, node: str = NODE) -> Pod:
    """A pod whose sandbox is being made."""
    return pod(key, start=start, node=node)._replace(addresses=(), claiming=True)


#: Facts, and at which seconds some pod of this node may have been about to be given an address.
CLAIMS: dict[str, tuple[list[Fact], dict[float, bool]]] = {
    "a pod is being started": ([seen(60, claiming("a", 59))], {58: False, 59: True, 99: True}),
    "it has its address": ([seen(60, claiming("a", 59)), seen(62, pod("a", start=59))], {61: False}),
    "it was deleted before": ([seen(60, claiming("a", 59)), deleted(62, "a")], {61: False}),
    "it is missing in a list": ([seen(60, claiming("a", 59)), listed(62)], {61: False}),
    "it is still there in a list": (
        [seen(60, claiming("a", 59)), listed(62, claiming("b", 61))],
        {60: False, 61: True},
    ),
    "another node's": ([seen(60, claiming("a", 59, OTHER_NODE))], {99: False}),
}


@pytest.mark.parametrize(("facts", "expected"), CLAIMS.values(), ids=CLAIMS)
def test_pods_that_are_about_to_have_an_address(facts: list[Fact], expected: dict[float, bool]) -> None:
    ownership = after(*facts)
    assert {second: ownership.claimed(us(second) or 0) for second in expected} == expected


def test_nobody_claims_anything_where_no_node_is_this_one() -> None:
    ownership = Ownership()
    seen(60, claiming("a", 59, ""))(ownership)
    assert not ownership.claimed(us(99) or 0)


def test_the_probes_of_a_pod_are_known_while_it_is_there() -> None:
    ownership = after(seen(0, pod("a")._replace(probes=(80, 8080))))
    (kept,) = ownership.pods_at(pod("a").addresses[0])
    assert kept.probes == (80, 8080)
    deleted(9, "a")(ownership)
    assert ownership.pods_at(pod("a").addresses[0]) == []


def test_what_ended_before_all_drops_that_may_still_be_read_is_forgotten() -> None:
    ownership = after(
        seen(0, pod("a", IP, ready=0)), seen(0, pod("b", IP2, ready=0)), deleted(50, "a"), deleted(60, "b")
    )
    ownership.register.take_local()
    ownership.register.forget(T0 + 55 * SECOND)
    assert owners(ownership, 40, IP) == ""
    assert owners(ownership, 40, IP2) == "b"
    assert ownership.register.take_local() == {IP: ()}


def test_what_may_be_meant_by_a_drop_that_may_still_be_read_is_not_forgotten() -> None:
    ownership = after(seen(0, pod("a", ready=0)), deleted(50, "a"))
    ownership.register.forget(T0 + 51 * SECOND)
    assert owners(ownership, 51) == "a?"


def test_who_shows_that_a_pod_has_left_is_not_forgotten_before_it() -> None:
    ownership = after(
        seen(0, pod("a", ready=0)), seen(9, pod("a", ready=0, asked=9)), seen(20, pod("b", ready=20)), deleted(30, "b")
    )
    ownership.register.forget(T0 + 500 * SECOND)
    assert owners(ownership, 600) == "", "a's address is not its own again"


def test_an_address_keeps_its_latest_few_owners() -> None:
    ownership = Ownership(node=NODE)
    for n in range(MAX_FORMER + 2):
        seen(10 * n, pod(f"p{n}", ready=10 * n))(ownership)
        deleted(10 * n + 5, f"p{n}")(ownership)
    assert [owners(ownership, 10 * n + 2) for n in range(MAX_FORMER + 2)] == ["", ""] + [
        f"p{n}" for n in range(2, MAX_FORMER + 2)
    ]


def test_the_latest_few_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiptail.pods.register.MAX_GONE", 3)
    ownership = Ownership(node=NODE)
    for n in range(5):
        seen(n, pod(f"p{n}", f"10.0.0.{n}", ready=n))(ownership)
        deleted(n + 3, f"p{n}")(ownership)
    assert [owners(ownership, n, f"10.0.0.{n}") for n in range(5)] == ["", "", "p2", "p3", "p4"]
    assert ownership.register.take_local()["10.0.0.0"] == ()


def restarted(ownership: Ownership, seen_at: float) -> Ownership:
    """Another run, which knows what the first one told."""
    another = Ownership(node=NODE)
    local = ownership.register.take_local()
    another.restore([(address, i) for address, kept in local.items() for i in kept], seen_us=us(seen_at) or 0)
    return another


#: What was seen before a restart at second 100, what at the list at second 200, and who owned ``IP`` when.
RESTARTS: dict[str, tuple[list[Fact], list[Pod], dict[float, str]]] = {
    "still there: since it was seen": (
        [seen(0, pod("a", start=-50))],
        [pod("a", start=-50)],
        {-3: "", -2: "a?", 0: "a", 150: "a", 999: "a"},
    ),
    "still there, and now it is known since when": (
        [listed(0, pod("a", start=-50))],
        [pod("a", start=-50, ready=-10)],
        {-11: "", -10: "a?", -9: "a", 999: "a"},
    ),
    "left meanwhile: perhaps until now": (
        [seen(0, pod("a"))],
        [],
        {50: "a", 99: "a", 100: "a?", 199: "a?", 200: ""},
    ),
    "left meanwhile: before its successor came": (
        [seen(0, pod("a"))],
        [pod("b", start=150)],
        {99: "a", 149: "a?", 150: "a b*", 151: "b?", 200: "b", 999: "b"},
    ),
    "left meanwhile: when its successor was ready": (
        [seen(0, pod("a"))],
        [pod("b", ready=150)],
        {99: "a", 149: "a?", 150: "a b*", 151: "b", 999: "b"},
    ),
    "finished meanwhile": ([seen(0, pod("a"))], [pod("a", until=120)], {119: "a", 120: "a?", 121: ""}),
    "blank meanwhile: nobody knows any more that it held the address": (
        [seen(0, pod("a"))],
        [pod("a", blank=120)],
        {119: "a", 200: "a", 999: "a"},
    ),
    "blanked before, and it is still blank": (
        [seen(0, pod("a")), seen(50, pod("a", blank=40))],
        [pod("a", blank=40)],
        {39: "a", 40: "a?", 49: "a?", 50: "", 999: ""},
    ),
    "was leaving, and is still there": (
        [seen(0, pod("a")), seen(50, pod("a", asked=50))],
        [pod("a", asked=50)],
        {47: "a", 48: "a?", 999: "a?"},
    ),
    "gone before": ([seen(0, pod("a")), deleted(50, "a")], [], {47: "a", 48: "a?", 51: "a?", 52: ""}),
    "gone before, and its successor is there": (
        [seen(0, pod("a")), deleted(50, "a"), seen(60, pod("b"))],
        [pod("b")],
        {47: "a", 52: "", 57: "", 58: "b?", 60: "b", 99: "b"},
    ),
    "finished and gone before": (
        [seen(0, pod("a", ready=-9, until=0)), deleted(50, "a")],
        [pod("b", ready=150)],
        {-8: "a", 0: "a?", 1: "", 49: "", 150: "b?*", 151: "b"},
    ),
    "lost the address and got it again": (
        [seen(0, pod("a")), seen(50, pod("a", IP2))],
        [pod("a", ready=180)],
        {49: "a?", 50: "", 150: "", 180: "a?*", 181: "a"},
    ),
    "another node's pod is not remembered": ([seen(0, far("a"))], [], {50: ""}),
}


@pytest.mark.parametrize(("before", "listing", "expected"), RESTARTS.values(), ids=RESTARTS)
def test_a_restart_remembers_this_nodes_pods(
    before: list[Fact], listing: list[Pod], expected: dict[float, str]
) -> None:
    ownership = restarted(after(*before), 100)
    listed(200, *listing, watched=100)(ownership)
    assert {second: owners(ownership, second) for second in expected} == expected


def test_a_pod_that_had_an_address_twice_is_remembered_through_two_restarts() -> None:
    ownership = after(seen(0, pod("a")), seen(20, pod("a", IP2)), seen(40, pod("a", ready=40)))
    for second in (100, 200):
        ownership = restarted(ownership, second)
        listed(second + 50, pod("a", ready=40), watched=second)(ownership)
        ownership.put(pod("a", ready=40)._replace(ref=PodRef("team-a", "a", "a", str(second))), now_us=T0, live=True)
    assert {second: owners(ownership, second) for second in (10, 30, 50, 300)} == {10: "a?", 30: "", 50: "a", 300: "a"}


def test_after_a_long_time_a_pod_that_is_gone_is_not_taken_for_the_owner() -> None:
    """Others whom nobody saw may have come and gone since."""
    ownership = restarted(after(seen(0, pod("a", ready=0))), 100)
    assert listed(90_000, watched=100)(ownership) == {IP}
    assert [owners(ownership, second) for second in (3699, 3700, 4000)] == ["a?", "", ""]


def test_once_a_list_has_confirmed_it_a_pod_may_be_missed_longer() -> None:
    ownership = restarted(after(seen(0, pod("a", ready=0))), 100)
    listed(200, pod("a", ready=0), watched=100)(ownership)
    listed(90_000, watched=300)(ownership)
    assert [owners(ownership, second) for second in (299, 89_999, 90_000)] == ["a", "a?", ""]


def test_what_is_listed_again_after_a_restart_changed_no_hands() -> None:
    ownership = restarted(after(seen(0, pod("a", IP, IP6, start=-9))), 100)
    assert listed(200, pod("a", IP, IP6, start=-9), watched=100)(ownership) == set()
