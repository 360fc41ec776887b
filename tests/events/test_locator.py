"""Who is at an address."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kiptail.events.endpoint import Endpoint, Kind, When, known_as
from kiptail.events.locator import Locator
from kiptail.flows.flow import Flow, FlowKey
from kiptail.pods.ownership import Owned, PodRef

A, B = PodRef("team-a", "a", "1"), PodRef("team-a", "b", "2")
IP = "10.0.0.1"
#: Of worker-3's ports.
USERS: dict[int, tuple[PodRef, ...]] = {
    81: (A,),
    82: (A, B),
    83: (A, B._replace(namespace="team-b"), B._replace(namespace="team-c")),
    84: tuple(A._replace(namespace=f"team-{n}") for n in range(4)),
}
KEY = FlowKey("10.0.0.9", IP, "TCP", 8080, None, None, reply=False, prefix="x:", verdict="drop")
NOW = When(100)
HERE = Endpoint(Kind.NOBODY, IP, name="node/worker-3")


class Ports:
    """What is known of ports, wherever they are."""

    def called(self, address: str, uid: str, protocol: str, port: int) -> str:
        names = {("", 443): "https", ("1", 8080): "http"}
        return names.get((uid, port), "") if protocol == "TCP" else ""

    def probed(self, address: str, port: int) -> bool:
        return port == 8080

    def users(self, node: str, address: str, protocol: str, port: int, at_us: int) -> tuple[PodRef, ...]:
        return USERS.get(port, ()) if (node, address, protocol) == ("worker-3", IP, "TCP") and at_us >= 100 else ()


@dataclass
class Register:
    """What is known of one address."""

    #: Who owns it, by the time from which on.
    since: dict[int, tuple[PodRef, ...]] = field(default_factory=dict)
    #: The same, by all that was ever found.
    found: dict[int, tuple[PodRef, ...]] = field(default_factory=dict)
    #: By annotations, which count unless the address is taken.
    claims: dict[int, tuple[PodRef, ...]] = field(default_factory=dict)
    taken: bool = False
    #: Changes of pods arrive.
    is_current: bool = True
    called: str = ""
    sure: bool = False
    awaited: bool = False
    doubtful: bool = False
    #: It may have been somebody of whom nobody knows.
    stranger: bool = False
    #: Addresses that were asked for at all.
    asked: list[tuple[str, int]] = field(default_factory=list)

    def ready(self) -> bool:
        return True

    def current(self) -> bool:
        return self.is_current

    def owned(self, address: str, at_us: int) -> Owned:
        return self._at(self.since, at_us)

    def recorded(self, address: str, at_us: int) -> Owned:
        return self._at(self.since | self.found, at_us)

    def _at(self, owners: dict[int, tuple[PodRef, ...]], at_us: int) -> Owned:
        pods = owners[max(us for us in owners if us <= at_us)] if any(us <= at_us for us in owners) else ()
        return Owned(pods, self.sure and len(pods) == 1, self.stranger)

    def claimed(self, address: str, at_us: int) -> Owned:
        return self._at(self.claims, at_us)

    def claimable(self, address: str, at_us: int) -> bool:
        return not self.taken

    def contested(self, address: str, at_us: int) -> bool:
        return self.doubtful

    def dates(self, address: str, uid: str) -> bool:
        known = (self.since, self.found, self.claims)
        return any(pod.uid == uid for owners in known for pods in owners.values() for pod in pods)

    def awaits(self, address: str, at_us: int) -> bool:
        self.asked.append((address, at_us))
        return self.awaited

    def name(self, address: str) -> str:
        return self.called

    @property
    def ports(self) -> Ports:
        return Ports()


@dataclass
class Node:
    """This machine, which has one address."""

    alone: bool = True
    name: str = "worker-3"

    def has(self, address: str) -> bool:
        return address == "192.0.2.3"

    def logs_alone(self) -> bool:
        return self.alone


def flow_of(key: FlowKey, at_us: int = 100) -> Flow:
    return Flow(1, key, at_us, at_us, at_us, at_us, 1)


def nameless(address: str) -> str | None:
    return ""


def locate(register: Register, when: When = NOW, *, patient: bool = True, node: Node | None = None) -> Endpoint | None:
    return Locator(register, nameless, node).locate(IP, when, patient=patient)


def test_one_owner_is_the_pod() -> None:
    assert locate(Register({0: (A,)})) == Endpoint(Kind.POD, IP, (A,))


def test_two_owners_are_ambiguous() -> None:
    assert locate(Register({0: (A, B)})) == Endpoint(Kind.AMBIGUOUS, IP, (A, B))


def test_the_owner_is_that_of_the_flows_time() -> None:
    register = Register({0: (A,), 50: (B,), 90: ()})
    told = [locate(register, When(at_us)) for at_us in (49, 50)]
    assert told == [Endpoint(Kind.POD, IP, (A,)), Endpoint(Kind.POD, IP, (B,))]


@pytest.mark.parametrize(
    ("until_us", "kind", "pods"),
    [
        pytest.param(40, Kind.POD, (A,), id="all of one owner's time"),
        pytest.param(60, Kind.AMBIGUOUS, (A, B), id="of two owners' time"),
        pytest.param(95, Kind.AMBIGUOUS, (A,), id="of a time when nobody had it, too"),
    ],
)
def test_drops_that_cannot_be_told_apart_are_of_all_whose_time_they_are_from(
    until_us: int, kind: Kind, pods: tuple[PodRef, ...]
) -> None:
    register = Register({0: (A,), 50: (B,), 90: ()})
    assert locate(register, When(30, mixed_us=until_us)) == Endpoint(kind, IP, pods)


def test_that_it_may_have_been_somebody_else_is_told() -> None:
    assert locate(Register({0: (A,)}, stranger=True)) == Endpoint(Kind.POD, IP, (A,), stranger=True)


def test_a_nodes_address_is_named_and_never_waited_for() -> None:
    register = Register(called="node/worker-4", awaited=True)
    assert locate(register) == Endpoint(Kind.NOBODY, IP, name="node/worker-4")
    assert register.asked == []


def test_what_may_still_turn_out_is_waited_for_with_patience_only() -> None:
    register = Register(awaited=True)
    assert locate(register) is None
    assert locate(register, patient=False) == Endpoint(Kind.NOBODY, IP, open=True)
    assert register.asked == [(IP, 100)] * 2, "asked for also when nobody waits"


def test_whom_news_may_contradict_is_waited_for_with_patience_only() -> None:
    register = Register({0: (A,)}, doubtful=True)
    assert locate(register) is None
    assert locate(register, patient=False) == Endpoint(Kind.POD, IP, (A,))


def test_who_is_sure_is_not_waited_for() -> None:
    register = Register({0: (A,)}, doubtful=True, sure=True)
    assert locate(register) == Endpoint(Kind.POD, IP, (A,))
    assert not Locator(register, nameless).contested(IP, NOW)


def test_a_name_that_is_awaited_is_taken_when_it_comes() -> None:
    answers: list[str | None] = [None, "db.example.com"]
    locator = Locator(Register(), lambda address: answers.pop(0))
    waiting = locator.locate("8.8.8.8", NOW, patient=True)
    assert waiting == Endpoint(Kind.NOBODY, "8.8.8.8", unnamed=True)
    assert locator.named(waiting) == Endpoint(Kind.NOBODY, "8.8.8.8", name="db.example.com")


@pytest.mark.parametrize(
    ("address", "when", "node", "name"),
    [
        pytest.param("192.0.2.3", NOW, Node(), "node/worker-3", id="its own address"),
        pytest.param(IP, NOW, Node(), "", id="another one, forwarded"),
        pytest.param(IP, NOW._replace(here=True), Node(), "node/worker-3", id="the line says so"),
        pytest.param(IP, NOW._replace(here=True), Node(alone=False), "", id="other namespaces say so, too"),
        pytest.param(IP, NOW._replace(here=True), None, "", id="nobody knows whose log it is"),
    ],
)
def test_this_machine_names_itself(address: str, when: When, node: Node | None, name: str) -> None:
    found = Locator(Register(), nameless, node).locate(address, when, patient=True)
    assert found == Endpoint(Kind.NOBODY, address, name=name)


def test_a_pod_is_a_pod_also_where_the_line_says_that_it_is_this_machine() -> None:
    assert locate(Register({0: (A,)}), NOW._replace(here=True), node=Node()) == Endpoint(Kind.POD, IP, (A,))


def test_a_service_address_that_the_machine_has_is_called_by_the_service() -> None:
    register = Register(called="service team-a/db")
    found = Locator(register, nameless, Node()).locate("192.0.2.3", NOW, patient=True)
    assert found == Endpoint(Kind.NOBODY, "192.0.2.3", name="service team-a/db")


def test_this_machine_is_not_looked_up() -> None:
    register = Register(awaited=True)
    assert locate(register, NOW._replace(here=True), node=Node()) == HERE
    assert register.asked == []


# Decided before, and asked again


def again(register: Register, before: Endpoint, *, patient: bool = False) -> Endpoint | None:
    return Locator(register, nameless).locate_again(before, NOW, patient=patient)


POD_A, POD_B, NOBODY = Endpoint(Kind.POD, IP, (A,)), Endpoint(Kind.POD, IP, (B,)), Endpoint(Kind.NOBODY, IP)


@pytest.mark.parametrize(
    ("register", "before", "after"),
    [
        pytest.param(Register(), POD_A, POD_A, id="nothing is known of that pod any more"),
        pytest.param(Register({0: (B,)}), POD_A, POD_A, id="not even that another had the address"),
        pytest.param(Register({0: (A,), 50: (B,)}), POD_A, POD_B, id="another pod had the address then"),
        pytest.param(Register(found={0: (A,), 50: (B,)}), POD_A, POD_B, id="the same, found long ago"),
        pytest.param(Register({0: (A,), 50: (A, B)}), POD_A, Endpoint(Kind.AMBIGUOUS, IP, (A, B)), id="both, perhaps"),
        pytest.param(Register({0: (A,), 50: ()}), POD_A, NOBODY, id="nobody had it any more"),
        pytest.param(Register({0: (A,)}), NOBODY, POD_A, id="it has an owner after all"),
        pytest.param(Register(), NOBODY, NOBODY, id="nobody, as before"),
        pytest.param(Register({0: (B,)}), Endpoint(Kind.AMBIGUOUS, IP, (A, B)), POD_B, id="it is clear by now"),
    ],
)
def test_a_decision_holds_until_something_contradicts_it(register: Register, before: Endpoint, after: Endpoint) -> None:
    assert again(register, before) == after


def test_a_decision_is_not_taken_back_while_news_may_contradict_that_again() -> None:
    register = Register({0: (A,), 50: (B,)}, doubtful=True)
    assert again(register, POD_A, patient=True) is None
    assert again(register, POD_A) == POD_B


# The kubelet's probes


@pytest.mark.parametrize(
    ("src", "dst", "port", "node", "probes"),
    [
        pytest.param(HERE, POD_B, 8080, Node(), True, id="from here to a probed port"),
        pytest.param(HERE, POD_B, 80, Node(), False, id="to another port"),
        pytest.param(HERE._replace(name="node/worker-4"), POD_B, 8080, Node(), False, id="from another node"),
        pytest.param(HERE, NOBODY, 8080, Node(), False, id="to no pod"),
        pytest.param(HERE, POD_B, 8080, None, False, id="nobody knows whose log it is"),
    ],
)
def test_what_the_kubelet_probes(src: Endpoint, dst: Endpoint, port: int, node: Node | None, probes: bool) -> None:
    assert Locator(Register(), nameless, node).probes(src, dst, port) is probes


@pytest.mark.parametrize(
    ("endpoint", "protocol", "name"),
    [
        pytest.param(Endpoint(Kind.POD, IP, (A,)), "TCP", "http", id="a pod's"),
        pytest.param(Endpoint(Kind.POD, IP, (A,)), "UDP", "", id="of another protocol"),
        pytest.param(Endpoint(Kind.POD, IP, (B,)), "TCP", "", id="another pod's"),
        pytest.param(Endpoint(Kind.AMBIGUOUS, IP, (A, B)), "TCP", "", id="either of two pods"),
        pytest.param(Endpoint(Kind.NOBODY, IP, name="db.example.com"), "TCP", "", id="a host's"),
        pytest.param(HERE, "TCP", "", id="a node's"),
    ],
)
def test_a_port_is_called_as_whoever_is_certainly_there_calls_it(endpoint: Endpoint, protocol: str, name: str) -> None:
    locator, key = Locator(Register(), nameless), KEY._replace(protocol=protocol)
    assert locator.with_port(endpoint, flow_of(key), "dst") == endpoint._replace(port_name=name)
    assert locator.with_port(endpoint, flow_of(key._replace(reply=True)), "src") == endpoint._replace(port_name=name)
    assert locator.with_port(endpoint, flow_of(key), "src") == endpoint, "the other end's port"
    assert locator.with_port(endpoint, flow_of(key._replace(port=None)), "dst") == endpoint


def test_a_services_port_has_the_services_name_for_it() -> None:
    service = Endpoint(Kind.NOBODY, IP, name="service team-a/db")
    assert Locator(Register(), nameless).with_port(service, flow_of(KEY._replace(port=443)), "dst").port_name == "https"


def test_the_name_of_a_pods_port_outlives_the_pod_and_no_other_pod_inherits_it() -> None:
    locator, key = Locator(Register(), nameless), KEY._replace(port=9)
    before = Endpoint(Kind.POD, IP, (A,), port_name="udp-9")
    assert locator.with_port(Endpoint(Kind.POD, IP, (A,)), flow_of(key), "dst", before) == before
    assert locator.with_port(Endpoint(Kind.POD, IP, (B,)), flow_of(key), "dst", before).port_name == ""
    assert locator.with_port(Endpoint(Kind.POD, IP, (A,)), flow_of(KEY), "dst", before).port_name == "http", (
        "what is known now"
    )


# By an annotation


@pytest.mark.parametrize(
    ("register", "found"),
    [
        pytest.param(Register(claims={0: (A,)}), POD_A, id="it is nobody's else"),
        pytest.param(Register({0: (B,)}, claims={0: (A,)}), POD_B, id="another pod's status has it"),
        pytest.param(Register({0: (B,)}, claims={0: (A,)}, taken=True), POD_B, id="… as is known"),
        pytest.param(Register(claims={0: (A,)}, taken=True), NOBODY, id="another pod's status may have it"),
        pytest.param(
            Register(claims={0: (A,)}, called="service team-a/db"),
            NOBODY._replace(name="service team-a/db"),
            id="it is a Service's",
        ),
        pytest.param(
            Register(claims={0: (A,)}, called="node/worker-3"), NOBODY._replace(name="node/worker-3"), id="a node's"
        ),
        pytest.param(Register(claims={0: (A, B)}), Endpoint(Kind.AMBIGUOUS, IP, (A, B)), id="two pods claim it"),
        pytest.param(Register(claims={200: (A,)}), NOBODY, id="claimed later"),
    ],
)
def test_an_annotation_counts_only_where_no_status_and_no_name_does(register: Register, found: Endpoint) -> None:
    assert locate(register) == found
    assert locate(register, patient=False) == found


def test_an_annotation_does_not_count_before_others_were_asked_for() -> None:
    register = Register(claims={0: (A,)}, awaited=True)
    assert locate(register) is None
    assert locate(register, patient=False) == Endpoint(Kind.NOBODY, IP, open=True)


def test_an_annotation_waits_while_no_news_arrives() -> None:
    register = Register(claims={0: (A,)}, taken=True, is_current=False)
    assert locate(register) is None
    assert locate(register, patient=False) == Endpoint(Kind.NOBODY, IP, open=True), "asked again later"
    assert locate(Register(is_current=False)) == NOBODY, "as ever where nobody claims it"


def test_drops_of_two_claimants_that_cannot_be_told_apart_are_either_ones() -> None:
    register = Register(claims={0: (A,), 50: (B,)})
    assert locate(register, When(30, mixed_us=60)) == Endpoint(Kind.AMBIGUOUS, IP, (A, B))


@pytest.mark.parametrize(
    ("register", "after"),
    [
        pytest.param(Register(claims={0: (A,)}), POD_A, id="as before"),
        pytest.param(Register(claims={0: (A,)}, awaited=True), POD_A, id="the others have to be asked for again"),
        pytest.param(Register(claims={0: (A,), 50: (B,)}), POD_B, id="another one claims it since then"),
        pytest.param(
            Register(claims={0: (A,), 50: (B,)}, awaited=True), NOBODY._replace(open=True), id="… and is asked for"
        ),
        pytest.param(Register(claims={0: (A,)}, found={0: (B,)}), POD_B, id="it is in another's status"),
        pytest.param(Register(claims={0: (A,)}, taken=True), NOBODY, id="it was another's"),
        pytest.param(Register(claims={0: (A,)}, taken=True, is_current=False), POD_A, id="no news arrives at present"),
    ],
)
def test_what_an_annotation_decided_holds_until_something_contradicts_it(register: Register, after: Endpoint) -> None:
    assert again(register, POD_A) == after


# A node's port


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (80, ""),
        (81, "team-a/a"),
        (82, "pods of team-a"),
        (83, "pods of team-a, team-b and team-c"),
        (84, "pods of several namespaces"),
    ],
)
def test_a_nodes_port_is_said_to_be_the_pods_that_have_it(port: int, said: str) -> None:
    locator = Locator(Register(), nameless)
    found = locator.with_port(HERE, flow_of(KEY._replace(port=port)), "dst")
    assert found == HERE._replace(host_port_of=said), "it is the node all the same"
    assert known_as(found) == ("node", "worker-3")


def test_a_nodes_port_is_not_anybodys_where_that_is_not_certain() -> None:
    locator, key = Locator(Register(), nameless), KEY._replace(port=81)
    assert locator.with_port(HERE, flow_of(key, at_us=99), "dst") == HERE, "the pod came later"
    assert locator.with_port(HERE, flow_of(key), "src") == HERE, "who sends from a node may be anybody"
    assert locator.with_port(HERE._replace(name="node/worker-4"), flow_of(key), "dst").host_port_of == ""
    assert locator.with_port(NOBODY, flow_of(key), "dst").host_port_of == ""
    said = locator.with_port(HERE, flow_of(key), "dst")
    assert locator.with_port(HERE, flow_of(key, at_us=99), "dst", said) == said, "what was said is held to"
