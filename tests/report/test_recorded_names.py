"""Who was at an address at a time, by what was recorded."""

from __future__ import annotations

from typing import Any

from kiptail.pods.ownership import Hands, Owned
from kiptail.report.ends import Ends
from kiptail.report.recorded_names import RecordedNames
from tests.report.records import T0, record

SECOND = 1_000_000


def at(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def of_pod(pod: str, first: float, last: float, **more: Any) -> Any:
    return record(pod=pod, uid=f"uid-{pod}", first_us=at(first), last_us=at(last), **more)


def names(*records: Any) -> RecordedNames:
    found = RecordedNames()
    for one in records:
        found.add(one)
    return found


def called(found: RecordedNames, address: str, *times: float) -> list[str]:
    ends = Ends(None, {}, found)
    shown = [ends.at(address, at(time)) for time in times]
    return [f"{end.namespace}/{end.pod}" if end.pod else end.name for end in shown]


def test_a_pod_is_named_from_its_first_packet_to_the_last() -> None:
    assert called(names(of_pod("a", 10, 20)), "10.0.0.1", 9, 10, 15, 20, 21) == ["", *["team-a/a"] * 3, ""]


def test_who_had_it_before_and_after_had_it_in_between() -> None:
    assert called(names(of_pod("a", 50, 60), of_pod("a", 10, 20)), "10.0.0.1", 30) == ["team-a/a"]


def test_nobody_is_named_between_two_pods() -> None:
    found = names(of_pod("b", 50, 60), of_pod("a", 10, 20))
    assert called(found, "10.0.0.1", 20, 21, 49, 50) == ["team-a/a", "", "", "team-a/b"]


def test_two_pods_at_a_time_are_both_named() -> None:
    found = names(of_pod("a", 10, 30), of_pod("b", 20, 40))
    assert called(found, "10.0.0.1", 15, 25, 35) == ["team-a/a", "team-a/a or team-a/b", "team-a/b"]


def test_a_pod_that_lost_all_its_packets_to_another_says_nothing() -> None:
    assert called(names(of_pod("a", 10, 20, packets=0)), "10.0.0.1", 15) == [""]


def test_what_the_other_end_is_called_gives_way_to_a_pods_own_records() -> None:
    found = names(
        record(dst="10.0.0.9", peer_kind="ambiguous", peer="team-a/x or team-a/y", first_us=at(10), last_us=at(40)),
        of_pod("x", 20, 30, sent=False, dst="10.0.0.9"),
    )
    assert called(found, "10.0.0.9", 15, 25) == ["team-a/x or team-a/y", "team-a/x"]


def test_that_another_pods_record_names_a_pod_is_no_proof() -> None:
    """It is not taken back where that pod turns out to be another, if nothing was written since."""
    assert called(names(record(dst="10.0.0.9", peer_kind="pod", peer="team-a/x")), "10.0.0.9", 0) == [""]


def test_nodes_services_and_hosts_are_named() -> None:
    kinds = (("node", "w1", "node/w1"), ("service", "a/b", "service a/b"), ("dns", "db.example.com", "db.example.com"))
    for kind, peer, name in kinds:
        assert called(names(record(peer_kind=kind, peer=peer)), "10.0.0.2", 0) == [name]


def test_thousands_of_records_are_few_stretches() -> None:
    found = names(*(of_pod("a", second, second) for second in range(5_000, 0, -1)))
    assert called(found, "10.0.0.1", 0.5, 1, 2_500.5, 5_000, 5_001) == ["", *["team-a/a"] * 3, ""]
    assert len(found.changes("10.0.0.1")) == 4


class Today:
    """A cluster in which another pod has the address now."""

    def owned(self, address: str, at_us: int) -> Owned:
        return Owned((), sure=True)

    def hands(self, address: str) -> Hands:
        return Hands()

    def name(self, address: str) -> str:
        return "node/today"


def test_records_come_before_what_the_cluster_says_today() -> None:
    ends = Ends(Today(), {("team-a", "a"): "deploy/a"}, names(of_pod("a", 10, 20)))
    then, later = ends.at("10.0.0.1", at(15)), ends.at("10.0.0.1", at(30))
    assert (then.pod, then.workload, then.name) == ("a", "deploy/a", "")
    assert later.name == "node/today"
    assert not ends.stays("10.0.0.1", at(15), at(30))
    assert ends.stays("10.0.0.1", at(10), at(20))
