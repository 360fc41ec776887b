"""What those who may change a pod can do to the ownership of its addresses: next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import pytest

from kiptail.pods.ownership import Ownership, hands_of
from kiptail.pods.pod_object import reduce_pod
from kiptail.state.store import Store
from tests.support.packets import PREFIXES, Drop, WrittenLines
from tests.support.pods import pod
from tests.support.simulation import Cluster, Events, Kiptail, WallClock, virtual_time

CALICO, AMAZON = "cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips"
IP, PEER = "10.244.1.3", "10.244.1.9"
NODE = "worker-3"
SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
STARTED = "2026-01-01T00:00:02Z"
RUNS = {"running": {"startedAt": STARTED}}
CRASHED = {"terminated": {"startedAt": STARTED, "finishedAt": "2027-01-15T08:00:00Z", "exitCode": 1}}

Step = dict[str, Any]


def shown(**step: Any) -> dict[str, Any]:
    """The pod as it is after a step: its ``state``, and metadata."""
    state = step.pop("state", RUNS)
    obj = pod("web", IP, uid="u", **step)
    obj["status"]["containerStatuses"] = [{"name": "c", "state": state}]
    return obj


def notes(**values: str) -> Step:
    """Annotations, by short names."""
    names = {"calico": CALICO, "amazon": AMAZON, "mirror": "kubernetes.io/config.mirror"}
    names["multus"] = "k8s.v1.cni.cncf.io/network-status"
    return {"annotations": {names[name]: value for name, value in values.items()}}


#: What is done again and again to a pod that runs all the time.
TOGGLED: dict[str, list[Step]] = {
    "an annotation of a plugin that is not in use": [notes(amazon=""), {}],
    "both plugins'": [notes(amazon="", calico=""), notes(amazon="")],
    "a value that is no address": [notes(amazon="me"), notes(amazon="")],
    "another pod's address": [notes(amazon=PEER), notes(amazon="")],
    "its own address": [notes(amazon=IP), notes(amazon="")],
    "its own address, as Calico writes it": [notes(calico=f"{IP}/32"), notes(calico="")],
    "another plugin's than the one in use": [notes(calico=f"{IP}/32"), notes(calico=f"{IP}/32", amazon="")],
    "what no plugin takes back": [notes(multus="[]"), notes(multus="")],
    "labels and finalizers": [{"labels": {"app": "x"}, "finalizers": ["example.com/never"]}, {}],
    "a mirror's UID": [notes(mirror="another"), notes(mirror="")],
    "a deletion that a finalizer keeps from ending": [
        {
            "finalizers": ["example.com/never"],
            "deletionTimestamp": "2027-01-15T08:00:30Z",
            "deletionGracePeriodSeconds": 30,
            **notes(calico=value),
        }
        for value in (f"{IP}/32", "")
    ],
}
#: The same while its containers crash and start again, which is a sign that it has ended.
CRASHING: dict[str, list[Step]] = {
    "while it crashes": [
        notes(calico=f"{IP}/32"),
        notes(calico="") | {"state": CRASHED},
        notes(calico=""),
        notes(calico=f"{IP}/32") | {"state": CRASHED},
    ],
    "only between two runs": [notes(calico=f"{IP}/32"), notes(calico="") | {"state": CRASHED}],
}


def played(steps: list[Step], times: int) -> tuple[Ownership, int]:
    """The pod after so many rounds of steps, one a second, and how often something else was known of its address."""
    ownership, changes = Ownership(node=NODE), 0
    for second, step in enumerate(islice(cycle(steps), times)):
        reduced = reduce_pod(shown(**step))
        assert reduced is not None
        now_us = T0 + second * SECOND
        changes += bool(ownership.put(reduced, now_us=now_us, live=second > 0))
    return ownership, changes


@pytest.mark.parametrize("steps", TOGGLED.values(), ids=TOGGLED)
def test_a_pod_that_runs_has_its_address_whatever_is_written_on_it(steps: list[Step]) -> None:
    ownership, changes = played(steps, 100)
    assert changes <= 2, "it came, and it may be leaving"
    for second in (0, 1, 50, 99, 1_000):
        owned = ownership.owned(IP, T0 + second * SECOND)
        assert [ref.name for ref in owned.pods] == ["web"]
    assert len(hands_of(ownership.register.intervals(IP)).changes) == 1


@pytest.mark.parametrize("steps", CRASHING.values(), ids=CRASHING)
def test_a_pod_that_only_seemed_to_end_is_not_believed_again(steps: list[Step]) -> None:
    ownership, changes = played(steps, 100)
    assert changes <= 3, "it came, seemed to end and came again"
    assert [ref.name for ref in ownership.owned(IP, T0 + 99 * SECOND).pods] == ["web"]
    # Each may be the beginning of another budget.
    assert len(hands_of(ownership.register.intervals(IP)).boundaries) <= 6


def events_after(steps: list[Step]) -> tuple[Events, int]:
    """The Events of a pod that sends all the time, while somebody writes on it each second for a minute and a half."""
    clock = WallClock(T0 / 1e6)
    peer = pod("peer", PEER, node="node1", uid="peer-uid")
    objects: Iterator[Step] = islice(cycle(steps), 90)
    made = [shown(**step) | {"spec": {"nodeName": "node1"}} for step in objects]
    changes = [(T0 / 1e6 + second + 0.5, "MODIFIED", obj) for second, obj in enumerate(made[1:], 1)]
    cluster = Cluster([peer, made[0]], changes)
    drops: list[Drop] = [(IP, PEER, 80, T0 + n * SECOND // 2) for n in range(200)]
    events, store = Events(), Store.in_memory()
    with pytest.MonkeyPatch.context() as patch:
        virtual_time(patch, clock)
        run = Kiptail(
            clock=clock, cluster=cluster, events=events, store=store, journal=WrittenLines(drops), prefixes=PREFIXES
        )
        for quarter in range(4 * 170):
            clock.now = T0 / 1e6 + quarter / 4
            run.step()
        run.stop()
    store.close()
    return events, len(drops)


@pytest.mark.parametrize("steps", TOGGLED.values(), ids=TOGGLED)
def test_its_packets_are_told_in_one_event_at_each_end(steps: list[Step]) -> None:
    events, sent = events_after(steps)
    told = {event["involvedObject"]["name"]: event["count"] for event in events.events.values()}
    assert told == {"web": sent, "peer": sent}
    assert len(events.events) == 2 or "mirror" in str(steps)
    assert not any("another pod" in event["message"] for event in events.events.values() if event["count"])
