"""Who owned an IP address at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kiptail.ownership import MAX_FORMER, Handover, Interval, Ownership, Pod, PodRef

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
IP, IP2, IP6 = "10.244.1.3", "10.244.1.4", "fd00::3"
NODE = "node-1"

Fact = Callable[[Ownership], list[Handover]]


def us(seconds: float | None) -> int | None:
    return None if seconds is None else T0 + round(seconds * SECOND)


def pod(
    key: str,
    *addresses: str,
    ready: float | None = None,
    start: float | None = None,
    until: float | None = None,
    released: bool = False,
    leaving: bool = False,
    node: str = NODE,
    uid: str = "",
    name: str = "",
) -> Pod:
    """Times are seconds after ``T0``."""
    ref = PodRef("team-a", name or key, uid or key)
    own = addresses or (IP,)
    return Pod(key, ref, own, us(ready), us(start), us(until), released, node, ("192.0.2.1",), leaving)


def listed(at: float, *pods: Pod) -> Fact:
    """A list showed these pods and no others."""
    return lambda ownership: ownership.replace(pods, now_us=us(at) or 0)


def seen(at: float, changed: Pod) -> Fact:
    """A watch showed that the pod was added or changed."""
    return lambda ownership: ownership.put(changed, now_us=us(at) or 0, live=True)


def caught_up(at: float, changed: Pod) -> Fact:
    """A watch that had been interrupted showed what it had missed."""
    return lambda ownership: ownership.put(changed, now_us=us(at) or 0, live=False)


def deleted(at: float, key: str) -> Fact:
    """A watch showed that the pod was deleted."""
    return lambda ownership: ownership.remove(key, now_us=us(at) or 0)


def nodeless(key: str) -> Pod:
    """A pod that has no addresses yet."""
    return pod(key)._replace(addresses=())


def names(owned: tuple[PodRef, ...]) -> str:
    return " ".join(sorted(ref.name for ref in owned))


#: What was seen, and then who owned ``IP`` at which second: nobody, one, or several who may be meant.
RULES: dict[str, tuple[list[Fact], dict[int, str]]] = {
    # Since when: of a pod that was there before
    "listed: since its start": ([listed(100, pod("a", start=0))], {-3: "", -1: "a", 0: "a", 50: "a", 900: "a"}),
    "listed: since its sandbox was ready, which is after its start": (
        [listed(100, pod("a", start=0, ready=60))],
        {30: "", 59: "a", 61: "a"},
    ),
    "listed, and no time at all: always": ([listed(100, pod("a"))], {-999: "a", 100: "a"}),
    "listed, and started later than now: since now, a clock is wrong": (
        [listed(100, pod("a", start=500))],
        {97: "", 99: "a"},
    ),
    "listed, and ready later than now: since now": ([listed(100, pod("a", ready=500))], {97: "", 99: "a"}),
    "missed while the watch was interrupted: since its start": ([caught_up(100, pod("a", start=0))], {50: "a"}),
    # … of a pod that a watch saw appear
    "appeared: since its address was seen, not since its start": (
        [listed(0), seen(60, pod("a", start=0))],
        {30: "", 57: "", 59: "a", 61: "a"},
    ),
    "appeared: since its sandbox was ready, which was before it was seen": (
        [listed(0), seen(60, pod("a", start=0, ready=50))],
        {30: "", 49: "a", 55: "a"},
    ),
    "appeared without an address, and got it later": (
        [listed(0), seen(9, nodeless("a")), seen(60, pod("a", start=0))],
        {30: "", 61: "a"},
    ),
    "no address yet: owns nothing": ([listed(0, nodeless("a"))], {30: ""}),
    "news of a pod that owned already does not make it own later": (
        [listed(0, pod("a", start=0)), seen(60, pod("a", start=0, ready=50))],
        {30: "a", 55: "a"},
    ),
    "nor earlier than its address was seen": (
        [listed(0), seen(60, pod("a")), seen(70, pod("a", ready=50))],
        {55: "", 65: "a"},
    ),
    # Until when
    "until it was deleted": ([listed(0, pod("a", start=0)), deleted(60, "a")], {59: "a", 61: "a", 63: ""}),
    "a terminating pod still owns": (
        [listed(0, pod("a", start=0)), seen(30, pod("a", start=0, leaving=True))],
        {99: "a"},
    ),
    "a terminating pod owns until it is gone": (
        [listed(0, pod("a", start=0)), seen(30, pod("a", start=0, leaving=True)), deleted(60, "a")],
        {50: "a", 63: ""},
    ),
    "finished: until its last container ended": (
        [listed(99, pod("a", start=0, until=60))],
        {-3: "", 1: "a", 59: "a", 61: "a", 63: ""},
    ),
    "finished during the watch: the same": (
        [listed(0, pod("a", start=0)), seen(62, pod("a", start=0, until=60))],
        {59: "a", 63: ""},
    ),
    "finished and deleted later: until it finished": (
        [listed(0, pod("a", start=0)), seen(62, pod("a", start=0, until=60)), deleted(900, "a")],
        {59: "a", 63: "", 899: ""},
    ),
    "finished later than now: until now, a clock is wrong": (
        [listed(50, pod("a", start=0, until=900))],
        {49: "a", 51: "a", 53: ""},
    ),
    "finished before it began: it owned when it began": (
        [listed(50, pod("a", start=0, until=-60))],
        {-3: "", 0: "a", 3: ""},
    ),
    "blanked before our eyes: until then": (
        [listed(0, pod("a", start=0)), seen(60, pod("a", start=0, until=10, released=True))],
        {59: "a", 63: ""},
    ),
    "more news of a pod that was blanked changes nothing": (
        [
            listed(0, pod("a", start=0)),
            seen(60, pod("a", start=0, until=10, released=True)),
            seen(90, pod("a", start=0, until=20, released=True)),
        ],
        {59: "a", 63: ""},
    ),
    "blanked, and then finished: until it finished": (
        [
            listed(0, pod("a", start=0)),
            seen(60, pod("a", start=0, until=10, released=True)),
            seen(90, pod("a", start=0, until=55)),
        ],
        {54: "a", 59: ""},
    ),
    "blanked before it was first seen: until the last sign of it": (
        [listed(99, pod("a", start=0, until=10, released=True))],
        {9: "a", 13: ""},
    ),
    "blanked while nobody watched: perhaps until now": (
        [listed(0, pod("a", start=0)), listed(60, pod("a", start=0, until=10, released=True))],
        {59: "a", 63: ""},
    ),
    "blanked while nobody watched: before its successor started": (
        [listed(0, pod("a", ready=0)), listed(99, pod("a", ready=0, until=9, released=True), pod("b", start=50))],
        {47: "a", 53: "b"},
    ),
    "given back, and given again later": (
        [
            listed(0, pod("a", start=0)),
            seen(30, pod("a", start=0, until=10, released=True)),
            seen(60, pod("a", start=0)),
        ],
        {29: "a", 40: "", 61: "a"},
    ),
    "it got another address": ([listed(0, pod("a", start=0)), seen(61, pod("a", IP2, ready=60))], {59: "a", 63: ""}),
    "its sandbox was made anew, with another address: until that was ready": (
        [listed(0, pod("a", start=0)), seen(100, pod("a", IP2, start=0, ready=60))],
        {59: "a", 63: ""},
    ),
    "an address that came back to it": (
        [listed(0, pod("a", ready=0)), seen(30, pod("a", IP2, ready=29)), seen(60, pod("a", ready=59))],
        {9: "a", 40: "", 61: "a"},
    ),
    # One after the other
    "successor: each its own time, and nobody in between": (
        [listed(0, pod("a", ready=0)), deleted(60, "a"), seen(121, pod("b", ready=120))],
        {59: "a", 90: "", 125: "b"},
    ),
    "successor that waited for the address since long before": (
        [listed(0, pod("a", ready=0)), deleted(60, "a"), seen(90, pod("b", start=30))],
        {59: "a", 80: "", 91: "b"},
    ),
    "within two seconds of a change of hands both may be meant": (
        [listed(0, pod("a", ready=0)), deleted(60, "a"), seen(61, pod("b"))],
        {57: "a", 59: "a b", 60: "a b", 62: "a b", 64: "b"},
    ),
    "successor while the other is still terminating: it had been given back": (
        [
            listed(0, pod("a", ready=0)),
            seen(9, pod("a", ready=0, leaving=True)),
            seen(61, pod("b", ready=60)),
            deleted(99, "a"),
        ],
        {57: "a", 61: "a b", 63: "b", 98: "b"},
    ),
    "a pod that is leaving is not ended by one that left before it was first seen": (
        [seen(11, pod("a", ready=10)), deleted(20, "a"), caught_up(40, pod("b", start=0, leaving=True))],
        {5: "b", 15: "a b", 30: "b", 60: "b"},
    ),
    "but not when only the successor's start is known": (
        [listed(70, pod("a", ready=0, leaving=True), pod("b", start=60))],
        {57: "a", 63: "a b"},
    ),
    "successor, and then the deletion is seen late": (
        [listed(0, pod("a", ready=0)), seen(61, pod("b", ready=60)), deleted(99, "a")],
        {57: "a", 63: "b"},
    ),
    "left while nobody watched: before the next one came": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", ready=50))],
        {47: "a", 53: "b"},
    ),
    "left while nobody watched: before the next one started, when that is all there is": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", start=50))],
        {47: "a", 53: "b"},
    ),
    "left while nobody watched, and nobody came: perhaps until now": (
        [listed(0, pod("a", ready=0)), listed(100)],
        {99: "a", 103: ""},
    ),
    "successor of a finished pod that is still there": (
        [listed(70, pod("a", start=0, until=60)), seen(91, pod("b", ready=90))],
        {59: "a", 75: "", 93: "b"},
    ),
    "three of them": (
        [
            listed(0, pod("a", ready=0)),
            deleted(60, "a"),
            seen(91, pod("b", ready=90)),
            deleted(120, "b"),
            seen(151, pod("c", ready=150)),
        ],
        {59: "a", 75: "", 100: "b", 160: "c"},
    ),
    "a StatefulSet's pod with the same name": (
        [listed(0, pod("1", ready=0, name="web-0")), deleted(60, "1"), seen(71, pod("2", ready=70, name="web-0"))],
        {59: "web-0", 65: "", 75: "web-0"},
    ),
    # At the same time
    "two claim an address: both may be meant": ([listed(0, pod("a", ready=0), pod("b", ready=0))], {50: "a b"}),
    "two that both mean to stay, whoever was first": (
        [listed(70, pod("a", ready=0), pod("b", ready=60))],
        {50: "a", 90: "a b"},
    ),
    "two, and then one": ([listed(0, pod("a", ready=0), pod("b", ready=0)), deleted(60, "b")], {50: "a b", 63: "a"}),
    "two that came at once: nobody tells who was second": (
        [listed(0, pod("a", ready=0, leaving=True), pod("b", ready=0))],
        {50: "a b"},
    ),
    "two that are leaving: the newest start wins": (
        [listed(40, pod("a", ready=0, leaving=True), pod("b", ready=30, leaving=True))],
        {20: "a", 40: "b"},
    ),
    "a mirror pod that was made anew is the same static pod": (
        [
            listed(0, pod("old", ready=0, uid="hash", name="etcd")),
            deleted(60, "old"),
            seen(61, pod("new", ready=0, uid="hash", name="etcd")),
        ],
        {60: "etcd", 30: "etcd"},
    ),
}


@pytest.mark.parametrize(("facts", "owners"), RULES.values(), ids=RULES)
def test_who_owned_the_address(facts: list[Fact], owners: dict[int, str]) -> None:
    ownership = Ownership()
    for fact in facts:
        fact(ownership)
    assert {second: names(ownership.owners(IP, us(second) or 0)) for second in owners} == owners


#: The last of these facts, and the changes of hands it brings: address and second.
HANDOVERS: dict[str, tuple[list[Fact], dict[str, int]]] = {
    "a pod came, with all its addresses": ([listed(9, pod("a", IP, IP6, ready=0))], {IP: 0, IP6: 0}),
    "it appeared": ([listed(0), seen(9, pod("a", start=0))], {IP: 9}),
    "a change that matters to nobody": ([listed(9, pod("a", ready=0)), seen(9, pod("a", ready=0))], {}),
    "it was deleted": ([listed(9, pod("a", ready=0)), deleted(60, "a")], {IP: 60}),
    "it finished": ([listed(9, pod("a", ready=0)), seen(62, pod("a", ready=0, until=60))], {IP: 60}),
    "a pod that had finished was deleted": ([listed(9, pod("a", ready=0, until=5)), deleted(60, "a")], {}),
    "it had finished when it was first seen": ([listed(99, pod("a", ready=0, until=10))], {IP: 10}),
    "blanked": ([listed(0, pod("a", ready=0)), seen(60, pod("a", ready=0, until=5, released=True))], {IP: 60}),
    "another address": ([listed(0, pod("a", ready=0)), seen(61, pod("a", IP2, ready=60))], {IP: 60, IP2: 60}),
    "who came dates it better than the list that lacks who went": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", ready=50))],
        {IP: 50},
    ),
    "a finished pod does not hide since when the living one owns": (
        [listed(0, pod("a", ready=0)), listed(100, pod("b", ready=50), pod("job", ready=0, until=9))],
        {IP: 50},
    ),
    "nor that the one before has left": (
        [listed(0, pod("a", ready=0)), listed(100, pod("job", ready=0, until=9))],
        {IP: 100},
    ),
    "nobody came": ([listed(0, pod("a", ready=0)), listed(100)], {IP: 100}),
    "who was succeeded already had nothing to give away": (
        [listed(0, pod("a", ready=0, leaving=True)), seen(61, pod("b", ready=60)), deleted(99, "a")],
        {},
    ),
    "of two, one is left": ([listed(0, pod("a", ready=0), pod("b", ready=0)), deleted(99, "a")], {IP: 99}),
    "of two, one is leaving": (
        [listed(40, pod("a", ready=0), pod("b", ready=30)), seen(60, pod("a", ready=0, leaving=True))],
        {IP: 60},
    ),
    "one that is leaving still owns": ([listed(0, pod("a", ready=0)), seen(9, pod("a", ready=0, leaving=True))], {}),
}


@pytest.mark.parametrize(("facts", "expected"), HANDOVERS.values(), ids=HANDOVERS)
def test_changes_of_hands(facts: list[Fact], expected: dict[str, int]) -> None:
    ownership = Ownership()
    reported = [fact(ownership) for fact in facts]
    assert dict(reported[-1]) == {address: us(second) for address, second in expected.items()}


@pytest.mark.parametrize("order", [("b", "job"), ("job", "b")])
def test_the_order_of_a_list_does_not_matter(order: tuple[str, str]) -> None:
    pods = {"b": pod("b", ready=60), "job": pod("job", ready=0, until=10)}
    assert listed(99, *(pods[name] for name in order))(Ownership()) == [Handover(IP, T0 + 60 * SECOND)]


def test_all_addresses_of_a_pod_are_its_own() -> None:
    ownership = Ownership()
    listed(0, pod("a", IP, IP6, ready=0))(ownership)
    assert names(ownership.owners(IP, T0)) == names(ownership.owners(IP6, T0)) == "a"
    assert len(ownership) == 1


def test_a_label_that_changes_is_told_from_then_on() -> None:
    ownership = Ownership(node=NODE)
    seen(0, pod("a", ready=0))(ownership)
    ownership.take_local()
    labelled = PodRef("team-a", "a", "a", "web")
    assert seen(9, pod("a", ready=0)._replace(ref=labelled))(ownership) == []
    assert ownership.owners(IP, T0) == (labelled,)
    assert [i.ref for i in ownership.take_local()[IP]] == [labelled]


def test_the_nodes_are_known_by_the_host_addresses_of_pods() -> None:
    ownership = Ownership()
    seen(0, pod("a"))(ownership)
    assert (ownership.node("192.0.2.1"), ownership.node("192.0.2.2")) == (NODE, "")
    assert (ownership.has_node(NODE), ownership.has_node("node-2")) == (True, False)
    listed(9)(ownership)
    assert ownership.node("192.0.2.1") == "", "a list that lacks all its pods forgets a node"


def test_gone_intervals_live_as_long_as_what_keeps_them() -> None:
    gone: dict[str, tuple[Interval, ...]] = {}
    ownership = Ownership(gone=gone)
    seen(0, pod("a", ready=0))(ownership)
    deleted(1, "a")(ownership)
    assert names(ownership.owners(IP, T0)) == "a"
    gone.clear()
    assert names(ownership.owners(IP, T0)) == ""


def test_a_pod_that_is_gone_counts_no_longer() -> None:
    ownership = Ownership()
    seen(0, pod("a"))(ownership)
    deleted(9, "a")(ownership)
    assert (len(ownership), ownership.has_node(NODE)) == (0, False)


def test_what_ended_before_all_drops_that_may_still_be_read_is_forgotten() -> None:
    ownership = Ownership(node=NODE)
    for fact in (seen(0, pod("a", IP, ready=0)), seen(0, pod("b", IP2, ready=0)), deleted(50, "a"), deleted(60, "b")):
        fact(ownership)
    ownership.take_local()
    ownership.forget(T0 + 55 * SECOND)
    assert names(ownership.owners(IP, T0 + 40 * SECOND)) == ""
    assert names(ownership.owners(IP2, T0 + 40 * SECOND)) == "b"
    assert ownership.take_local() == {IP: ()}


def test_what_may_be_meant_by_a_drop_that_may_still_be_read_is_not_forgotten() -> None:
    ownership = Ownership()
    seen(0, pod("a", ready=0))(ownership)
    deleted(50, "a")(ownership)
    ownership.forget(T0 + 52 * SECOND)
    assert names(ownership.owners(IP, T0 + 52 * SECOND)) == "a"


def test_who_shows_that_a_pod_has_left_is_not_forgotten_before_it() -> None:
    ownership = Ownership()
    for fact in (seen(0, pod("a", ready=0)), seen(9, pod("a", ready=0, leaving=True)), seen(20, pod("b", ready=20))):
        fact(ownership)
    deleted(30, "b")(ownership)
    ownership.forget(T0 + 500 * SECOND)
    assert names(ownership.owners(IP, T0 + 600 * SECOND)) == "", "a's address is not its own again"


def test_an_address_keeps_its_latest_few_owners() -> None:
    ownership = Ownership()
    for n in range(MAX_FORMER + 2):
        seen(10 * n, pod(f"p{n}", ready=10 * n))(ownership)
        deleted(10 * n + 5, f"p{n}")(ownership)
    told = [names(ownership.owners(IP, T0 + (10 * n + 2) * SECOND)) for n in range(MAX_FORMER + 2)]
    assert told == ["", ""] + [f"p{n}" for n in range(2, MAX_FORMER + 2)]


def test_the_latest_few_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiptail.ownership.MAX_GONE", 3)
    ownership = Ownership(node=NODE)
    for n in range(5):
        seen(n, pod(f"p{n}", f"10.0.0.{n}", ready=n))(ownership)
        deleted(n, f"p{n}")(ownership)
    assert [names(ownership.owners(f"10.0.0.{n}", T0 + n * SECOND)) for n in range(5)] == ["", "", "p2", "p3", "p4"]
    assert ownership.take_local()["10.0.0.0"] == ()


def restarted(ownership: Ownership, seen_at: float) -> Ownership:
    """Another run, which knows what the first one told."""
    after = Ownership(node=NODE)
    local = ownership.take_local()
    after.restore([(address, i) for address, kept in local.items() for i in kept], seen_us=us(seen_at) or 0)
    return after


#: What was seen before a restart at second 100, what at the list at second 200, and who owned ``IP`` when.
RESTARTS: dict[str, tuple[list[Fact], list[Pod], dict[int, str]]] = {
    "still there: since it was seen": (
        [seen(0, pod("a", start=-50))],
        [pod("a", start=-50)],
        {-9: "", 9: "a", 150: "a", 999: "a"},
    ),
    "left meanwhile: perhaps until now": ([seen(0, pod("a"))], [], {50: "a", 150: "a", 199: "a", 203: ""}),
    "left meanwhile: before its successor came": (
        [seen(0, pod("a"))],
        [pod("b", start=150)],
        {147: "a", 153: "b", 999: "b"},
    ),
    "finished meanwhile": ([seen(0, pod("a"))], [pod("a", until=120)], {119: "a", 150: ""}),
    "gone before": ([seen(0, pod("a")), deleted(50, "a")], [], {49: "a", 53: ""}),
    "gone before, and its successor is there": (
        [seen(0, pod("a")), deleted(50, "a"), seen(60, pod("b"))],
        [pod("b")],
        {49: "a", 55: "", 99: "b"},
    ),
    "finished and gone before": (
        [seen(0, pod("a", until=0)), deleted(50, "a")],
        [pod("b", ready=150)],
        {0: "a", 49: "", 153: "b"},
    ),
    "lost the address and got it again": (
        [seen(0, pod("a")), seen(50, pod("a", IP2))],
        [pod("a", ready=180)],
        {40: "a", 150: "", 201: "a"},
    ),
    "another node's pod is not remembered": ([seen(0, pod("far", node="node-2"))], [], {50: ""}),
}


@pytest.mark.parametrize(("before", "listing", "owners"), RESTARTS.values(), ids=RESTARTS)
def test_a_restart_remembers_this_nodes_pods(before: list[Fact], listing: list[Pod], owners: dict[int, str]) -> None:
    ownership = Ownership(node=NODE)
    for fact in before:
        fact(ownership)
    after = restarted(ownership, 100)
    listed(200, *listing)(after)
    assert {second: names(after.owners(IP, us(second) or 0)) for second in owners} == owners


def test_a_pod_that_had_an_address_twice_is_remembered_through_two_restarts() -> None:
    ownership = Ownership(node=NODE)
    for fact in (seen(0, pod("a")), seen(20, pod("a", IP2)), seen(40, pod("a", ready=40))):
        fact(ownership)
    for second in (100, 200):
        ownership = restarted(ownership, second)
        listed(second + 50, pod("a", ready=40))(ownership)
        ownership.put(pod("a", ready=40)._replace(ref=PodRef("team-a", "a", "a", str(second))), now_us=T0, live=True)
    told = {second: names(ownership.owners(IP, T0 + second * SECOND)) for second in (10, 30, 50, 300)}
    assert told == {10: "a", 30: "", 50: "a", 300: "a"}


def test_after_a_long_time_a_pod_that_is_gone_is_not_taken_for_the_owner() -> None:
    """Others whom nobody saw may have come and gone since."""
    ownership = Ownership(node=NODE)
    seen(0, pod("a", ready=0))(ownership)
    after = restarted(ownership, 100)
    assert listed(90_000)(after) == [Handover(IP, T0 + 3700 * SECOND)]
    assert names(after.owners(IP, T0 + 3600 * SECOND)) == "a"
    assert names(after.owners(IP, T0 + 4000 * SECOND)) == ""


def test_what_is_listed_again_after_a_restart_changed_no_hands() -> None:
    ownership = Ownership(node=NODE)
    seen(0, pod("a", IP, IP6, start=-9))(ownership)
    after = restarted(ownership, 100)
    assert listed(200, pod("a", IP, IP6, start=-9))(after) == []
