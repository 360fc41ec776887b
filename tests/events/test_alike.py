"""Pods of one workload whose packets fare alike: which do, and how many others each Event tells of."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.events.alike import Alike
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.events.stages import Stages, Tracked
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.pods.ownership import PodRef

MINUTE = 60_000_000
T0 = 1_800_000_000_000_000
DB = PodRef("team-b", "db-0", "uid-db", workload="sts/db")
KEY = FlowKey("", "10.1.0.1", "TCP", 5432, None, None, reply=False, prefix="calico-drop:", verdict="drop")


class Crowd:
    """Flows of pods, all of one Deployment to one database unless a test says otherwise."""

    def __init__(self) -> None:
        self.stages = Stages()
        self.alike = Alike(self.stages.get, interval_us=2 * MINUTE)

    def add(
        self,
        number: int,
        *,
        workload: str = "deploy/web",
        namespace: str = "team-a",
        peer: Endpoint | None = None,
        at_us: int = T0,
        uid: str = "",
        end: str = "src",
        spread: Spread | None = None,
        withdrawn: bool = False,
        **key: Any,
    ) -> Tracked:
        pod = PodRef(namespace, f"web-{number}", uid or f"uid-{number}", workload=workload)
        address = f"10.0.{number // 250}.{number % 250}"
        ends = (address, "10.1.0.1") if end == "src" else ("10.1.0.1", address)
        made = Flow(number, KEY._replace(src=ends[0], dst=ends[1], **key), at_us, at_us, at_us, at_us, 1, spread=spread)
        here = Endpoint(Kind.POD, address, (pod,))
        there = peer or Endpoint(Kind.POD, "10.1.0.1", (DB,))
        endpoints = {"src": here, "dst": there} if end == "src" else {"src": there, "dst": here}
        record = EventRecord(number, end, pod, f"{pod.name}.{number}", "text", withdrawn=withdrawn)
        tracked = Tracked(made, 0.0, endpoints, {(end, pod.uid): record})
        self.stages.track(tracked)
        self.alike.note(tracked)
        return tracked

    def says(self, tracked: Tracked, now_us: int = T0) -> int:
        (record,) = tracked.records.values()
        self.alike.grown(tracked, record, now_us)
        return record.also


@pytest.mark.parametrize(
    ("others", "said"),
    [(0, 0), (2, 0), (3, 2), (5, 2), (6, 5), (10, 5), (11, 10), (20, 10), (21, 20), (101, 100), (1_001, 1_000)],
)
def test_others_are_told_of_in_steps(others: int, said: int) -> None:
    crowd = Crowd()
    first, *_ = [crowd.add(number) for number in range(1, others + 2)]
    assert crowd.says(first) == said


def test_each_pod_is_one_whatever_it_sends() -> None:
    crowd = Crowd()
    first = crowd.add(1)
    for number in range(2, 40):
        crowd.add(number, uid=f"uid-{number % 3}")
    assert crowd.says(first) == 0, "two others, of which one is at 13 flows' ends"
    crowd.add(40, uid="another")
    assert crowd.says(first) == 2


DIFFERENT: list[dict[str, Any]] = [
    {"workload": "deploy/api"},
    {"namespace": "team-c"},
    {"peer": Endpoint(Kind.POD, "10.1.0.1", (DB._replace(workload="sts/cache"),))},
    {"peer": Endpoint(Kind.POD, "10.1.0.1", (DB._replace(namespace="team-c"),))},
    {"peer": Endpoint(Kind.NOBODY, "10.1.0.1")},
    {"peer": Endpoint(Kind.AMBIGUOUS, "10.1.0.1", (DB, DB._replace(uid="2")))},
    {"port": 5433},
    {"protocol": "UDP"},
    {"prefix": "other:"},
    {"verdict": "reject"},
    {"reply": True},
    {"policy": "team-b/deny"},
    {"end": "dst"},
    {"withdrawn": True},
    {"spread": Spread()},
]


@pytest.mark.parametrize("other", DIFFERENT, ids=[next(iter(each)) for each in DIFFERENT])
def test_what_differs_in_anything_is_something_else(other: dict[str, Any]) -> None:
    crowd = Crowd()
    first = crowd.add(1)
    for number in range(2, 6):
        crowd.add(number, **other)
    assert crowd.says(first) == 0


@pytest.mark.parametrize(
    "same",
    [
        {"peer": Endpoint(Kind.POD, "10.1.0.9", (DB._replace(name="db-1", uid="uid-db-1"),))},
        {"here": "src"},
    ],
    ids=["another pod of the peer's workload", "which end is this machine"],
)
def test_where_the_peer_is_one_workload_its_pod_does_not_matter(same: dict[str, Any]) -> None:
    crowd = Crowd()
    first = crowd.add(1)
    for number in range(2, 6):
        crowd.add(number, **same)
    assert crowd.says(first) == 2


@pytest.mark.parametrize("workload", ["", "pod/web"], ids=["not known", "nothing made it"])
def test_a_pod_without_a_workload_has_no_others(workload: str) -> None:
    crowd = Crowd()
    first, *_ = [crowd.add(number, workload=workload) for number in range(1, 9)]
    assert crowd.says(first) == 0
    assert len(crowd.alike) == 0


def test_the_number_only_grows_and_not_more_often_than_texts_are_repeated() -> None:
    crowd = Crowd()
    flows = [crowd.add(number) for number in range(1, 5)]
    assert crowd.says(flows[0]) == 2
    for number in range(5, 14):
        crowd.add(number)
    assert crowd.says(flows[0], T0 + 2 * MINUTE - 1) == 2
    assert crowd.says(flows[0], T0 + 2 * MINUTE) == 10
    assert crowd.says(flows[1], T0) == 10, "each Event for itself"
    for number in range(2, 14):
        crowd.alike.forget(number)
        crowd.stages.drop(number)
    assert crowd.says(flows[0], T0 + 10 * MINUTE) == 10


def test_pods_that_were_silent_before_it_began_are_none_of_the_others() -> None:
    crowd = Crowd()
    for number in range(1, 13):
        crowd.add(number, at_us=T0 - MINUTE)
    late = crowd.add(13, at_us=T0)
    assert crowd.says(late) == 0


def test_another_group_begins_anew() -> None:
    """Somebody else turned out to be the peer: that others had drops with the former one says nothing of this one."""
    crowd = Crowd()
    first, *_ = [crowd.add(number) for number in range(1, 5)]
    assert crowd.says(first) == 2
    first.endpoints = first.endpoints | {"dst": Endpoint(Kind.NOBODY, "10.1.0.1")}
    crowd.alike.note(first)
    assert crowd.says(first, T0 + 9 * MINUTE) == 0


def test_nothing_is_left_of_flows_that_are_gone() -> None:
    crowd = Crowd()
    for number in range(1, 9):
        crowd.alike.note(crowd.add(number, end="src" if number % 2 else "dst"))
    assert len(crowd.alike) == 2
    for number in range(1, 10):
        crowd.alike.forget(number)
    assert len(crowd.alike) == 0
