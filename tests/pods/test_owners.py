"""The answers of an index, whoever knows the pods."""

from __future__ import annotations

from collections.abc import Sequence

from kiptail.clock.own import OwnClock
from kiptail.pods.local import LocalPods
from kiptail.pods.other_nodes import NoOtherNodes, OtherPods
from kiptail.pods.owners import LiveOwners
from kiptail.pods.ownership import Interval, Pod, PodRef
from kiptail.pods.ranges import PodRanges
from kiptail.pods.traits import NamedPort, Traits
from tests.support.pods import NoNames

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND
NEAR = Pod("a", PodRef("team-a", "a", "a"), ("10.0.0.1",), T0, T0, None, False, "here", ("198.51.100.3",))
FAR = Interval("b", PodRef("team-b", "b", "b"), T0, T0, None, None)


class Found(NoOtherNodes):
    """One pod of another node, at one address; what it is asked is noted."""

    def __init__(self) -> None:
        self.known = True
        self.asked: list[tuple[str, int]] = []

    def pending(self) -> bool:
        return True

    def knows(self, address: str, at_us: int) -> bool:
        return self.known

    def rules_out(self, address: str, at_us: int) -> bool:
        return self.known

    def ask(self, address: str, at_us: int) -> bool:
        self.asked.append((address, at_us))
        return True

    def intervals(self, address: str) -> tuple[Interval, ...]:
        return (FAR,) if address == "10.9.0.1" else ()

    def node(self, address: str) -> str:
        return "elsewhere" if address == "198.51.100.9" else ""


class Names(NoNames):
    """Names of a Service, once they have come."""

    def __init__(self) -> None:
        self.come = True

    def settled(self) -> bool:
        return self.come

    def name(self, address: str) -> str:
        return "service a/b" if address == "10.96.0.1" else ""

    def no_pod(self, address: str) -> bool:
        return address.startswith("10.96.")


def answers(
    others: OtherPods, *, names: Names | None = None, unhurried: bool = False, pods: Sequence[Pod] = (NEAR,)
) -> LiveOwners:
    local = LocalPods(node="here", clock=OwnClock())
    local.replace(pods)
    local.freshness.follow(True)
    return LiveOwners(local, others, ranges=PodRanges(), names=names or Names(), unhurried=unhurried)


def test_who_was_found_counts_while_that_answers_and_is_on_record_afterwards() -> None:
    found = Found()
    owners = answers(found)
    assert owners.owned("10.9.0.1", T0 + SECOND).pods == (FAR.ref,)
    found.known = False
    assert owners.owned("10.9.0.1", T0 + SECOND).pods == ()
    assert owners.recorded("10.9.0.1", T0 + SECOND).pods == (FAR.ref,)
    assert owners.owned("10.0.0.1", T0 + SECOND).pods == (NEAR.ref,)
    assert owners.dates("10.9.0.1", "b")
    assert not owners.dates("10.9.0.1", "a")
    assert owners.hands("10.9.0.1").changes == (T0,)


def test_only_what_could_be_a_pods_is_asked_for_and_not_before_names_are_known() -> None:
    found, names = Found(), Names()
    owners = answers(found, names=names)
    names.come = False
    assert owners.awaits("10.9.0.1", 0)
    assert found.asked == []
    names.come = True
    assert owners.awaits("10.9.0.1", 0)
    assert not owners.awaits("10.96.0.1", 0)
    assert not owners.awaits("203.0.113.9", 0), "no private range, and none that pods have shown"
    assert found.asked == [("10.9.0.1", 0)]


def test_without_other_nodes_only_late_news_is_waited_for() -> None:
    owners = answers(NoOtherNodes())
    assert not owners.awaits("10.9.0.1", 0)
    assert owners.awaits("10.9.0.1", T0 * 2)
    assert not owners.awaits("203.0.113.9", T0 * 2)


def test_a_look_up_is_worth_waiting_for_when_nobody_is_in_a_hurry() -> None:
    assert answers(Found()).current()
    assert not answers(Found(), unhurried=True).current()
    assert answers(NoOtherNodes(), unhurried=True).current()


def test_a_nodes_address_is_called_by_the_node_whoever_told_of_it() -> None:
    owners = answers(Found())
    names = [owners.name(a) for a in ("198.51.100.3", "198.51.100.9", "10.96.0.1", "192.0.2.1")]
    assert names == ["node/here", "node/elsewhere", "service a/b", ""]


def test_a_pod_is_given_by_its_address_and_the_uid_that_events_name() -> None:
    owners = answers(Found())
    assert owners.pod("10.0.0.1", "a") == NEAR._replace(host_addresses=())
    assert owners.pod("10.0.0.1", "b") is None
    assert owners.pod("10.0.0.2", "a") is None


def test_an_address_is_no_pods_where_that_was_asked_for_or_cannot_be_otherwise() -> None:
    found = Found()
    owners = answers(found)
    assert owners.outside("10.9.0.2", T0)
    assert not owners.outside("10.9.0.1", T0), "a pod had it, and another one may have had it before"
    assert not owners.outside("10.0.0.1", T0)
    found.known = False
    assert not owners.outside("10.9.0.2", T0), "it may be a pod that cannot be looked up"
    assert owners.outside("192.0.2.7", T0), "in no range that pods have"
    assert owners.outside("10.96.0.7", T0), "Services have that range"
    everything = answers(NoOtherNodes())
    assert everything.outside("10.9.0.2", T0)
    everything._local.freshness.follow(False)
    assert not everything.outside("10.9.0.2", T0), "it may be a pod that has just begun"


def test_a_port_is_called_as_the_pod_or_the_service_calls_it() -> None:
    class Ports(Names):
        def port_name(self, address: str, protocol: str, port: int) -> str:
            return "https" if (address, protocol, port) == ("10.96.0.1", "TCP", 443) else ""

    local = LocalPods(node="here", clock=OwnClock())
    local.replace([NEAR._replace(traits=Traits((), (NamedPort("http", "TCP", 8080),)))])
    owners = LiveOwners(local, NoOtherNodes(), ranges=PodRanges(), names=Ports(), unhurried=False)
    assert owners.ports.called("10.0.0.1", "a", "TCP", 8080) == "http"
    assert owners.ports.called("10.0.0.1", "a", "TCP", 443) == ""
    assert owners.ports.called("10.0.0.1", "b", "TCP", 8080) == ""
    assert owners.ports.called("10.96.0.1", "", "TCP", 443) == "https"


CLAIMANT = NEAR._replace(
    claims=("10.9.0.2", "10.96.0.7", "203.0.113.9"), traits=Traits((), (NamedPort("sql", "TCP", 5),))
)


def test_an_annotation_counts_only_where_it_is_certain_that_no_status_has_the_address() -> None:
    found = Found()
    owners = answers(found, pods=[CLAIMANT])
    at_us = T0 + 5 * SECOND
    assert owners.claimed("10.9.0.2", at_us).pods == (NEAR.ref,)
    assert owners.claimable("10.9.0.2", at_us)
    assert not owners.claimable("10.9.0.1", at_us), "a pod of another node has it"
    assert not owners.claimable("10.0.0.1", at_us), "a pod of this node has it"
    assert not owners.claimable("10.96.0.7", at_us), "Services have that range"
    assert not owners.claimable("203.0.113.9", at_us), "pods do not have such addresses"
    found.known = False
    assert not owners.claimable("10.9.0.2", at_us), "nobody was asked, or may be"
    alone = answers(NoOtherNodes(), pods=[CLAIMANT])
    assert alone.claimable("10.9.0.2", at_us)
    alone._local.freshness.follow(False)
    assert not alone.claimable("10.9.0.2", at_us), "a pod may just have been given it"


def test_what_is_known_by_annotations_is_told_where_no_status_tells_more() -> None:
    owners = answers(Found(), pods=[CLAIMANT._replace(claims=("10.9.0.1", "10.9.0.2"))])
    assert len(owners.hands("10.9.0.2").changes) == 1
    assert owners.hands("10.9.0.1") == answers(Found(), pods=[NEAR]).hands("10.9.0.1"), (
        "an annotation cuts nothing there"
    )
    assert owners.dates("10.9.0.2", "a")
    assert not owners.dates("10.9.0.2", "b")
    assert owners.ports.called("10.9.0.2", "a", "TCP", 5) == "sql"
    assert owners.owned("10.9.0.2", T0 + 5 * SECOND).pods == ()
    assert owners.pod("10.9.0.2", "a") is None, "NetworkPolicies are not about further networks"
