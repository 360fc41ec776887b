"""What one sender causes, what it does to its neighbours, and what a whole node writes at worst."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kiptail.config.options import REPEAT_INTERVAL
from kiptail.events.schedule import FIRST_UPDATES
from kiptail.events.writer import Sender
from kiptail.flows.budget import Limits
from kiptail.flows.flow import ENDS, Flow, FlowKey
from kiptail.flows.ledger import IDLE_US, Ledger
from kiptail.pods.ownership import Hands
from kiptail.state.store import Store
from tests.support.packets import PREFIXES, Drop, WrittenLines
from tests.support.pods import pod
from tests.support.simulation import Cluster, Events, Kiptail, WallClock, virtual_time

SECOND = 1_000_000
MINUTE = 60 * SECOND
T0 = 1_800_000_000 * SECOND
LIMITS = Limits()
#: The pod that misbehaves, a client and servers that are known, and a pod that strangers send to.
BAD, CLIENT, TARGET = "10.244.1.66", "10.244.1.3", "10.244.1.4"
SERVERS = SERVER, *_ = ["10.244.1.2", "10.244.1.7", "10.244.1.8"]


def key(src: str, dst: str, port: int) -> FlowKey:
    return FlowKey(src, dst, "TCP", port, None, None, False, "calico-drop:", "drop")


def outside(number: int) -> str:
    return f"203.{number // 65_536 % 256}.{number // 256 % 256}.{number % 256}"


def pod_address(number: int) -> str:
    return f"10.245.{number // 256}.{number % 256}"


class Node:
    """A ledger and its store, on which all is committed."""

    def __init__(self) -> None:
        self.store = Store.in_memory()
        self.ledger = Ledger()
        #: All flows there ever were, as the ledger knows them.
        self.flows: dict[int, Flow] = {}

    def count(self, drops: Sequence[Drop]) -> None:
        for src, dst, port, time_us in drops:
            self.ledger.add(key(src, dst, port), time_us)
            if self.ledger.opened:
                self.commit()
        self.commit()

    def commit(self) -> None:
        changes = self.ledger.changes()
        self.flows |= {flow.id: flow for flow in changes.flows}
        self.store.commit(changes, None)
        self.ledger.committed()

    def restart(self) -> None:
        """What a crash does, and the start after it."""
        saved = self.store.load()
        self.flows |= {each.flow.id: each.flow for each in saved.flows}
        self.ledger = Ledger(
            (each.flow for each in saved.flows),
            next_id=saved.next_flow_id,
            watermark_us=saved.watermark_us,
            last_stamp=saved.last_stamp,
            budget=saved.budget,
        )


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.store.close()


# What attackers do, in ten minutes


def spread(pairs: Iterator[tuple[str, str, int]] | list[tuple[str, str, int]]) -> list[Drop]:
    """One packet for each, evenly over nine minutes."""
    listed = list(pairs)
    return [(*pair, T0 + MINUTE + 9 * MINUTE * n // len(listed)) for n, pair in enumerate(listed)]


def made_up(targets: int, each: int) -> list[tuple[str, str, int]]:
    return [(outside(n), f"10.244.3.{n % targets}", 80) for n in range(targets * each)]


ATTACKS: dict[str, list[Drop]] = {
    "nobody attacks": [],
    "a pod connects to 520 addresses outside": spread([(BAD, outside(n), 443) for n in range(520)]),
    "to 5,000 of them": spread([(BAD, outside(n), 443) for n in range(5_000)]),
    "a pod scans 2,000 pods": spread([(BAD, pod_address(n), 80) for n in range(2_000)]),
    "a pod scans the ports of a pod": spread([(BAD, TARGET, port) for port in range(1, 5_000)]),
    "a pod scans the ports of many pods": spread(
        [(BAD, pod_address(n), port) for n in range(200) for port in range(1, 30)]
    ),
    "the same, port by port": spread([(BAD, pod_address(n), port) for port in range(1, 30) for n in range(200)]),
    "somebody outside scans all pods": spread([(outside(1), pod_address(n), 22) for n in range(2_000)]),
    "senders are made up towards one pod": spread(made_up(1, 3_000)),
    "towards fifty pods": spread(made_up(50, 100)),
    "made-up senders send on to others": spread(
        [*made_up(1, 600), *((outside(n % 600), pod_address(n), 80) for n in range(1_500))]
    ),
    "a pod that thousands send to": spread([(pod_address(n), TARGET, 80) for n in range(3_000)]),
}
#: What uses up the room for pairs that are both new, as it always could.
PAIRS = {"made-up senders to made-up addresses": spread([(outside(n), pod_address(n), 80) for n in range(2_000)])}

#: Fifty new pods each: they send to somebody who is known, are sent to, and know nobody.
NEIGHBOURS: dict[str, list[Drop]] = {
    "clients": [(f"10.244.6.{n}", SERVERS[n % 3], 5432, T0 + 10 * MINUTE + n * SECOND) for n in range(50)],
    "servers": [(CLIENT, f"10.244.7.{n}", 5432, T0 + 10 * MINUTE + n * SECOND) for n in range(50)],
    "with servers outside": [(f"10.244.8.{n}", f"192.0.2.{n}", 53, T0 + 10 * MINUTE + n * SECOND) for n in range(50)],
}


@pytest.mark.parametrize("again", [False, True], ids=["in one run", "after a restart in the middle"])
@pytest.mark.parametrize("attack", [*ATTACKS, *PAIRS])
def test_neighbours_are_told_all_the_same(node: Node, attack: str, again: bool) -> None:
    begin = T0 + MINUTE
    node.count([(CLIENT, server, 5432, begin) for server in SERVERS])
    node.count([(outside(1), TARGET, 80, begin), (BAD, SERVER, 1, begin)])
    node.count((ATTACKS | PAIRS)[attack])
    if again:
        node.restart()
    node.count(sorted((drop for drops in NEIGHBOURS.values() for drop in drops), key=lambda drop: drop[3]))
    untold: Counter[str] = Counter()
    for kind, drops in NEIGHBOURS.items():
        end = "dst" if kind == "servers" else "src"
        flows = (flow for flow in node.flows.values() if flow.spread is None and end in flow.ends)
        told = {flow.key.address(end) for flow in flows}
        untold[kind] = sum(drop[ENDS.index(end)] not in told for drop in drops)
    # docs/guarantees.md says so of pairs that are both new.
    expected = {"with servers outside": 50} if attack in PAIRS else {}
    assert untold == Counter(expected)


def test_somebody_who_draws_a_crowd_leaves_room_for_the_crowds_of_others(node: Node) -> None:
    targets = [f"10.244.3.{n}" for n in range(40)]
    node.count([(CLIENT, target, 1, T0) for target in targets])
    admitted = []
    for number, target in enumerate(targets):
        node.count([(outside(1000 * number + n), target, 80, T0 + SECOND) for n in range(600)])
        sources = {flow.key.src for flow in node.flows.values() if "src" in flow.ends and flow.key.dst == target}
        admitted.append(len(sources - {CLIENT}))
    assert admitted == [500, 250, 125, 63, 31] + [LIMITS.flows_per_address] * 35


def test_a_busy_node_that_starts_with_everything_new_tells_everybody(node: Node) -> None:
    pods = [f"10.244.{4 + n // 100}.{n % 100}" for n in range(200)]
    rng = random.Random(5)
    pairs = [(src, dst) for src in pods for dst in rng.sample([pod for pod in pods if pod != src], 6)]
    pairs = [pair for pair in pairs if sum(other[1] == pair[1] for other in pairs) <= LIMITS.flows_per_address]
    rng.shuffle(pairs)
    node.count([(src, dst, 8080, T0 + n * SECOND // 20) for n, (src, dst) in enumerate(pairs)])
    assert len(pairs) > 1_100
    assert Counter(flow.ends for flow in node.flows.values()) == {ENDS: len(pairs)}
    assert node.ledger.denied == 0


@pytest.mark.parametrize("again", [False, True], ids=["in one run", "after a restart"])
@pytest.mark.parametrize("minutes", [1, 9, 25], ids=lambda minutes: f"{minutes} min later")
@pytest.mark.parametrize("known", ["before", "with the next drop"])
def test_the_next_owner_of_an_address_does_not_pay_for_the_one_before(
    node: Node, minutes: int, known: str, again: bool
) -> None:
    given_us = T0 + (10 + minutes) * MINUTE
    hands = {BAD: Hands((given_us - SECOND,), (given_us - SECOND,))}
    if known == "before":
        node.ledger.hand_over(hands)
    node.count(ATTACKS["a pod scans 2,000 pods"])
    assert node.ledger.spender == BAD
    if again:
        node.restart()
        node.ledger.hand_over(hands)
    if known != "before":
        node.count([(CLIENT, SERVER, 1, given_us)])
        node.ledger.hand_over(hands)
    peers = [pod_address(3_000 + n) for n in range(15)]
    node.count([(BAD, peer, 443, given_us + n * SECOND) for n, peer in enumerate(peers)])
    told = {flow.key.dst: flow.ends for flow in node.flows.values() if flow.key.dst in peers}
    assert told == dict.fromkeys(peers, ENDS)


@pytest.mark.parametrize("attack", [*ATTACKS, *PAIRS])
def test_a_replay_from_any_commit_folds_and_denies_the_same(attack: str) -> None:
    drops = sorted(
        [*(ATTACKS | PAIRS)[attack], *(drop for kind in NEIGHBOURS.values() for drop in kind)], key=lambda drop: drop[3]
    )
    nodes = [Node() for _ in range(3)]
    for node, cut in zip(nodes, (0, len(drops) // 3, len(drops) - 20), strict=True):
        node.count(drops[:cut])
        node.restart()
        node.count(drops[cut:])
        node.store.close()
    told = [{flow.id: _told(flow) for flow in node.flows.values()} for node in nodes]
    assert told[0] == told[1] == told[2]


def _told(flow: Flow) -> tuple[Any, ...]:
    return flow.key, flow.opened_us, flow.last_us, flow.count, flow.ended, flow.ends, flow.stamp


def test_the_number_of_windows_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiptail.flows.budget.MAX_WINDOWS", 100)
    node.count([(outside(n), pod_address(n // 10), 80, T0 + n * SECOND // 10) for n in range(1_000)])
    assert len(node.ledger._budgets._windows) <= 102
    assert node.ledger.untold > 800
    node.count([(CLIENT, SERVER, 80, T0 + 12 * MINUTE)])
    assert node.flows[max(node.flows)].ends == ENDS, "there is room again"


# How much one sender makes, in any hour


def hour_of(pairs: Callable[[int], tuple[str, int]], packets: int) -> list[Drop]:
    """So many packets in 61 minutes."""
    return [(BAD, *pairs(n), T0 + 61 * MINUTE * n // packets) for n in range(packets)]


SCANS: dict[str, list[Drop]] = {
    "2,000 pods, again and again": hour_of(lambda n: (pod_address(n % 2_000), 80), 20_000),
    "2,000 pods, another port in each round": hour_of(lambda n: (pod_address(n % 2_000), 1 + n // 2_000), 20_000),
    "all ports of one pod after the other": hour_of(lambda n: (pod_address(n // 40), 1 + n % 40), 20_000),
    "never the same address twice": hour_of(lambda n: (pod_address(n), 80), 20_000),
    "never the same port of one pod twice": hour_of(lambda n: (TARGET, n), 20_000),
    "a few pods in each window": hour_of(lambda n: (pod_address(n // 20 % 300 + 300 * (n // 3_000)), n % 20), 20_000),
}


def most_events_in_an_hour(limits: Limits) -> int:
    """Of one sender's making, at all ends, by the bounds."""
    flows = 2 * limits.flows_per_sender  # a flow lasts half an hour or longer
    own = (3600 * SECOND // limits.window_us + 1) * limits.flows_per_address
    folded = 2 * flows // limits.flows_per_address  # at others, where it had all places itself; for either verdict
    return flows + own + folded + 2 * 2


def most_writes_in_an_hour(limits: Limits) -> int:
    """Of those: first their own, then every two minutes as long as they are open."""
    shown = 2 * limits.flows_per_sender + 2 * limits.flows_per_sender // limits.flows_per_address + 2
    assert REPEAT_INTERVAL.default == "2m"
    return shown * 30 + most_events_in_an_hour(limits) * (1 + len(FIRST_UPDATES))


@pytest.mark.parametrize("scan", SCANS)
def test_one_sender_makes_no_more_events_in_an_hour_than_is_promised(node: Node, scan: str) -> None:
    node.count(SCANS[scan])
    flows = node.flows
    names = sorted(flow.opened_us for flow in flows.values() for _ in flow.ends)
    for n, first_us in enumerate(names):
        assert sum(us <= first_us + 3600 * SECOND for us in names[n:]) <= most_events_in_an_hour(LIMITS) <= 2_000
        if n > 50 and first_us > T0 + MINUTE:
            break
    assert sum(not flow.ended for flow in flows.values()) <= LIMITS.flows_per_sender * 1.1
    # Every packet once at each end: at the sender's all are told.
    assert sum(flow.count for flow in flows.values() if "src" in flow.ends) == len(SCANS[scan])
    received = sum(flow.count for flow in flows.values() if "dst" in flow.ends)
    assert received + node.ledger.denied == len(SCANS[scan])


def test_what_is_beyond_a_senders_account_is_counted_where_drops_are_folded_already(node: Node) -> None:
    node.count([(pod_address(n), TARGET, 80, T0) for n in range(30)])
    (crowd,) = [flow for flow in node.flows.values() if flow.spread]
    node.count([(BAD, pod_address(n), 80, T0 + SECOND) for n in range(1_000)])
    before = crowd.count, node.ledger.denied
    node.count([(BAD, TARGET, 80, T0 + 2 * SECOND)])
    assert (crowd.count, node.ledger.denied) == (before[0] + 1, before[1])
    assert node.ledger.spender == BAD


# The ceiling that docs/guarantees.md states


def test_the_ceiling_of_a_node_and_of_a_thousand_is_what_the_guarantees_say() -> None:
    class Nowhere:
        def create(self, event: dict[str, Any]) -> None: ...

        def update(self, event: dict[str, Any]) -> None: ...

    bucket = Sender(Nowhere(), paced=True, observe=lambda *_: None, clock=WallClock(0.0))._bucket
    assert bucket is not None
    writes = round(bucket._rate * 3600 + bucket._burst)
    events = most_events_in_an_hour(LIMITS)
    assert IDLE_US == 30 * MINUTE
    text = " ".join((Path(__file__).parents[1] / "docs" / "guarantees.md").read_text().split())
    for figure in (
        f"{LIMITS.flows_per_sender} open flows",
        f"{events:,} Events in any hour",
        f"{most_writes_in_an_hour(LIMITS):,} writes an hour",
        f"{writes:,} writes an hour",
        f"{events * 1000:,} Events",
        f"{round(bucket._rate) * 1000:,} a second",
    ):
        assert figure in text, figure


# A pod that scans 2,000 pods for an hour, as a whole

#: A scanner's packets a second.
RATE = 10


@dataclass
class Seen(Events):
    """How often Events were written, and when each came."""

    clock: WallClock = field(default_factory=lambda: WallClock(0.0))
    writes: int = 0
    came: dict[str, float] = field(default_factory=dict)

    def create(self, event: dict[str, Any]) -> None:
        super().create(event)
        self.writes += 1
        self.came[event["metadata"]["name"]] = self.clock()

    def update(self, event: dict[str, Any]) -> None:
        super().update(event)
        self.writes += 1


def test_a_pod_that_scans_two_thousand_pods_for_an_hour() -> None:
    clock = WallClock(T0 / 1e6)
    scanned = {pod_address(n): f"pod-{n}" for n in range(2_000)}
    neighbours = {f"10.244.2.{n}": f"neighbour-{n}" for n in range(60)}
    names = scanned | neighbours | {BAD: "bad", SERVER: "server"}
    # It begins with all of them at once.
    scan = [(BAD, pod_address(n), 80, T0 + n * SECOND // 4_000) for n in range(2_000)]
    scan += [
        (BAD, pod_address(7 * n % 2_000), 80 + n // 2_000 % 3, T0 + n * SECOND // RATE) for n in range(10, 3600 * RATE)
    ]
    # One after the other, a neighbour's packets begin to be dropped, each minute.
    hurt = [
        (address, SERVER, 5432, T0 + n * MINUTE + again * 20 * SECOND + 7)
        for n, address in enumerate(neighbours)
        for again in range(3)
    ]
    drops = sorted([*scan, *hurt], key=lambda drop: drop[3])
    cluster = Cluster(
        [pod(name, address, node="node1", uid=f"uid-{name}") for address, name in names.items()], changes=[]
    )
    events, store = Seen(clock=clock), Store.in_memory()
    with pytest.MonkeyPatch.context() as patch:
        virtual_time(patch, clock)
        journal = WrittenLines(drops)

        def start() -> Kiptail:
            return Kiptail(
                clock=clock, cluster=cluster, events=events, store=store, journal=journal, prefixes=PREFIXES,
                repeat_interval=120.0, paced=True,
            )  # fmt: skip

        run, denied = start(), 0
        for second in range(3600):
            clock.now = T0 / 1e6 + second + 1
            run.step()
            if second == 1900:
                denied = run.ledger.denied
                run.kill()
                run = start()
        made = dict(events.events)
        writes = events.writes
        run.stop()
        denied += run.ledger.denied
    store.close()
    told: Counter[tuple[str, str]] = Counter()
    for event in events.events.values():
        told[event["involvedObject"]["name"], event["message"].split()[3]] += event["count"]
    truth = Counter((names[drop[0]], "sending") for drop in drops) + Counter(
        (names[drop[1]], "receiving") for drop in drops
    )
    assert told["bad", "sending"] == truth["bad", "sending"] == len(scan)
    assert all(told[f"neighbour-{n}", "sending"] == 3 for n in range(60))
    assert told["server", "receiving"] == 180
    assert all(number <= truth[end] for end, number in told.items())
    assert told.total() + denied == truth.total(), "every packet is counted once at each end"

    theirs = [e for e in made.values() if "neighbour" in e["involvedObject"]["name"] + e["message"]]
    assert len(made) - len(theirs) <= most_events_in_an_hour(LIMITS) <= 2_000
    assert writes - 3 * len(theirs) <= most_writes_in_an_hour(LIMITS)
    first = {drop[0]: drop[3] / 1e6 for drop in reversed(hurt)}
    late = [
        events.came[name] - first[address]
        for address, neighbour in neighbours.items()
        for name, event in events.events.items()
        if event["involvedObject"]["name"] == neighbour
    ]
    assert len(late) == 60
    assert max(late) <= 10.0
