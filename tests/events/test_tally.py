"""Drops by namespace: bounded, and counted once an end."""

from __future__ import annotations

import random

from kiptail.daemon.metrics import Metrics, Reading
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.tally import MOST, Labels, Tally
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.pods.ownership import PodRef


def endpoint(*namespaces: str, kind: Kind | None = None) -> Endpoint:
    pods = tuple(PodRef(namespace, "p", "uid", "") for namespace in namespaces)
    known = Kind.POD if len(pods) == 1 else Kind.AMBIGUOUS if pods else Kind.NOBODY
    return Endpoint(kind or known, "10.0.0.1", pods)


def flow(*, ends: tuple[str, ...] = ("src", "dst"), protocol: str = "TCP", folded: bool = False) -> Flow:
    key = FlowKey("10.0.0.1", "10.0.0.2", protocol, 80, None, None, reply=False, prefix="x:", verdict="drop")
    return Flow(1, key, 0, 0, 0, 0, 1, ends=ends, spread=Spread() if folded else None)


def test_each_end_counts_by_itself() -> None:
    tally = Tally()
    tally.add(flow(), {"src": endpoint("a"), "dst": endpoint("b")}, 3)
    tally.add(flow(), {"src": endpoint("a"), "dst": endpoint("b")}, 2)
    assert dict(tally.items()) == {
        Labels("drop", "TCP", "sent", "a", "b"): 5,
        Labels("drop", "TCP", "received", "b", "a"): 5,
    }


def test_strangers_are_external_and_have_no_count_of_their_own() -> None:
    tally = Tally()
    tally.add(flow(protocol=""), {"src": endpoint("a"), "dst": endpoint()}, 1)
    assert dict(tally.items()) == {Labels("drop", "unknown", "sent", "a", "external"): 1}


def test_an_end_that_the_flow_does_not_tell_is_another_flows() -> None:
    tally = Tally()
    tally.add(flow(ends=("dst",)), {"src": endpoint("a"), "dst": endpoint("b")}, 1)
    tally.add(flow(ends=("src",), protocol="", folded=True), {"src": endpoint("a")}, 1)
    assert dict(tally.items()) == {
        Labels("drop", "TCP", "received", "b", "a"): 1,
        Labels("drop", "several", "sent", "a", "several"): 1,
    }


def test_nobody_is_blamed_where_it_may_have_been_several() -> None:
    tally = Tally()
    tally.add(flow(), {"src": endpoint("a", "b"), "dst": endpoint("c")}, 1)
    tally.add(flow(), {"src": endpoint("a", "a"), "dst": endpoint("c")}, 1)
    assert dict(tally.items()) == {
        Labels("drop", "TCP", "received", "c", "several"): 1,
        Labels("drop", "TCP", "received", "c", "a"): 1,
    }


def test_an_end_that_is_not_known_is_external() -> None:
    tally = Tally()
    tally.add(flow(), {"src": endpoint("a")}, 1)
    assert dict(tally.items()) == {Labels("drop", "TCP", "sent", "a", "external"): 1}


def test_drops_that_come_after_an_end_was_decided_anew_are_the_new_ones() -> None:
    """A counter never falls: what was counted for the pod that was taken for the owner before stays there."""
    tally = Tally()
    tally.add(flow(ends=("src",)), {"src": endpoint("a"), "dst": endpoint("c")}, 3)
    tally.add(flow(ends=("src",)), {"src": endpoint("b"), "dst": endpoint("c")}, 2)
    assert dict(tally.items()) == {
        Labels("drop", "TCP", "sent", "a", "c"): 3,
        Labels("drop", "TCP", "sent", "b", "c"): 2,
    }


def test_ten_thousand_pairs_of_namespaces_and_as_many_strangers_are_bounded_and_all_counted() -> None:
    tally = Tally()
    names = [f"team-{n}" for n in range(100)]
    pairs = [(source, target) for source in names for target in names]
    random.Random(1).shuffle(pairs)
    for source, target in pairs:
        tally.add(flow(), {"src": endpoint(source), "dst": endpoint(target)}, 1)
        tally.add(flow(protocol=str(len(tally))), {"src": endpoint(), "dst": endpoint(target)}, 1)
    assert len(tally) <= MOST
    counts = dict(tally.items())
    assert sum(counts.values()) == 3 * len(pairs)
    assert counts[Labels("drop", "other", "sent", "other", "other")] > 8_000
    metrics = Metrics()
    metrics.read_from(lambda: (Reading("kiptail_pod_drops", "Drops.", n, t._asdict()) for t, n in tally.items()))
    (family,) = [f for f in metrics.registry.collect() if f.name == "kiptail_pod_drops"]
    assert len(family.samples) == len(tally)


def test_workloads_are_told_apart_where_that_is_asked_for_and_the_room_is_the_same() -> None:
    def of(workload: str, namespace: str = "a") -> Endpoint:
        return Endpoint(Kind.POD, "10.0.0.1", (PodRef(namespace, "p", "u", workload=workload),))

    tally = Tally(workloads=True)
    tally.add(flow(), {"src": of("deploy/web"), "dst": of("sts/db", "b")}, 2)
    tally.add(flow(ends=("dst",)), {"src": endpoint(), "dst": of("")}, 1)
    tally.add(flow(ends=("src",), folded=True), {"src": of("ds/agent")}, 1)
    two = Endpoint(Kind.AMBIGUOUS, "10.0.0.1", (*of("deploy/web").pods, *of("deploy/api").pods))
    tally.add(flow(ends=("dst",)), {"src": two, "dst": of("sts/db")}, 1)
    assert dict(tally.items()) == {
        Labels("drop", "TCP", "sent", "a", "b", "deploy/web", "sts/db"): 2,
        Labels("drop", "TCP", "received", "b", "a", "deploy/web", "sts/db"): 2,
        Labels("drop", "TCP", "received", "a", "external", "external", "unknown"): 1,
        Labels("drop", "several", "sent", "a", "several", "ds/agent", "several"): 1,
        Labels("drop", "TCP", "received", "a", "a", "several", "sts/db"): 1,
    }
    for n in range(3_000):
        tally.add(flow(), {"src": of(f"deploy/web-{n}"), "dst": of("sts/db", "b")}, 1)
    assert len(tally) <= MOST
    assert sum(count for labels, count in tally.items() if labels.direction == "sent") == 2 + 1 + 3_000
    assert {labels.src_workload for labels, _ in tally.items() if labels.namespace == "other"} == {"other"}
