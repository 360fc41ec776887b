"""Who was at an address, as a report shows it."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.pods.snapshot import Collector, SnapshotIndex
from kiptail.report import ends
from kiptail.report.ends import OTHERS, By, End, Ends
from tests.support.pods import pod

SECOND = 1_000_000
#: 2026-01-01T00:00:00Z, when pods start unless told otherwise.
START = 1_767_225_600 * SECOND


def ends_of(*items: dict[str, Any]) -> Ends:
    collector = Collector()
    for item in items:
        collector.add(item, "Pod")
    snapshot = collector.snapshot()
    return Ends(SnapshotIndex(snapshot, now_us=START + 86_400 * SECOND).owners, snapshot.workloads)


def finished(name: str, address: str, *, start: str, end: str) -> dict[str, Any]:
    obj = pod(name, address, uid=name, phase="Succeeded", start=start)
    obj["status"]["containerStatuses"] = [{"state": {"terminated": {"startedAt": start, "finishedAt": end}}}]
    return obj


def test_a_pod_is_named_with_what_made_it() -> None:
    owner = {"kind": "StatefulSet", "name": "web", "controller": True}
    end = ends_of(pod("web-0", "10.0.0.2", uid="u", ownerReferences=[owner])).at("10.0.0.2", START + SECOND)
    assert (end.address, end.namespace, end.pod, end.workload, end.name) == (
        "10.0.0.2",
        "team-a",
        "web-0",
        "sts/web",
        "",
    )
    assert [end.label(by) for by in By] == ["team-a/web-0", "team-a/sts/web", "team-a"]


def test_an_address_is_its_pods_from_its_start_on_only() -> None:
    known = ends_of(pod("web-0", "10.0.0.2", uid="u"))
    before = known.at("10.0.0.2", START - 3600 * SECOND)
    assert (before.pod, before.label(By.POD), before.label(By.NAMESPACE)) == ("", "10.0.0.2", "(no pod)")
    assert known.at("10.0.0.2", START + 3600 * SECOND).pod == "web-0"
    assert not known.stays("10.0.0.2", START - 3600 * SECOND, START + 3600 * SECOND)
    assert known.stays("10.0.0.2", START + 60 * SECOND, START + 3600 * SECOND)


def test_one_pod_after_the_other_has_the_address() -> None:
    known = ends_of(
        finished("first", "10.0.0.2", start="2026-01-01T00:00:00Z", end="2026-01-01T01:00:00Z"),
        finished("second", "10.0.0.2", start="2026-01-01T02:00:00Z", end="2026-01-01T03:00:00Z"),
    )
    minute = 60 * SECOND
    assert [known.at("10.0.0.2", START + at * minute).pod for at in (30, 90, 150, 240)] == ["first", "", "second", ""]


def test_the_same_pod_is_the_same_end() -> None:
    known = ends_of(pod("web-0", "10.0.0.2", uid="u"))
    assert known.at("10.0.0.2", START + 60 * SECOND) is known.at("10.0.0.2", START + 3600 * SECOND)


def test_who_cannot_be_told_apart_is_one_of_them() -> None:
    known = ends_of(*(pod(f"web-{n}", "10.0.0.2", uid=f"u{n}") for n in range(5)))
    end = known.at("10.0.0.2", START + 3600 * SECOND)
    assert (end.namespace, end.pod) == ("team-a", "")
    assert end.name == "team-a/web-0 or team-a/web-1 or team-a/web-2 or 2 others"
    assert end.label(By.POD) == end.name


def test_nodes_and_services_have_names() -> None:
    service = {
        "kind": "Service",
        "metadata": {"namespace": "team-a", "name": "web"},
        "spec": {"clusterIP": "10.96.0.9"},
    }
    known = ends_of(pod("web-0", "10.0.0.2", uid="u", host="198.51.100.3"), service)
    assert known.at("10.96.0.9", START).label(By.POD) == "service team-a/web"
    assert known.at("198.51.100.3", START).label(By.WORKLOAD) == "node/worker-3"


def test_without_pods_there_are_addresses() -> None:
    end = Ends(None, {}).at("10.0.0.2", START)
    assert [end.label(by) for by in By] == ["10.0.0.2", "10.0.0.2", "(no pod)"]


def test_there_are_so_many_addresses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "MOST_ADDRESSES", 2)
    known = Ends(None, {})
    found = [known.at(f"10.0.0.{n}", START) for n in (1, 2, 3, 4, 1)]
    assert [end.address for end in found] == ["10.0.0.1", "10.0.0.2", "", "", "10.0.0.1"]
    assert found[2] is OTHERS
    assert known.stays("10.0.0.3", START, START + SECOND)


def test_ends_are_equal_only_when_they_are_the_same() -> None:
    assert End("10.0.0.1") != End("10.0.0.1")
