"""Who is at an address."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from kiptail.locate import Endpoint, Kind, Locator
from kiptail.ownership import PodRef

A, B = PodRef("team-a", "a", "1"), PodRef("team-a", "b", "2")


class Register:
    """Owners that do not change."""

    def __init__(self, *owners: PodRef, node: str = "") -> None:
        self._owners, self._node = owners, node
        self.is_final = False

    def ready(self) -> bool:
        return True

    def current(self) -> bool:
        return True

    def final(self) -> bool:
        return self.is_final

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        return self._owners

    def node(self, address: str) -> str:
        return self._node


def nameless(address: str) -> str | None:
    return ""


def test_one_owner_is_the_pod() -> None:
    assert Locator(Register(A), nameless).locate("10.0.0.1", 0, patient=True) == Endpoint(Kind.POD, "10.0.0.1", (A,))


def test_two_owners_are_ambiguous() -> None:
    found = Locator(Register(A, B), nameless).locate("10.0.0.1", 0, patient=True)
    assert found == Endpoint(Kind.AMBIGUOUS, "10.0.0.1", (A, B))


def test_a_nodes_address_is_named_and_never_waited_for() -> None:
    found = Locator(Register(node="worker-3"), nameless).locate("10.0.0.1", 0, patient=True)
    assert found == Endpoint(Kind.NOBODY, "10.0.0.1", name="node/worker-3")


@pytest.mark.parametrize(
    ("address", "networks", "waits"),
    [
        ("10.1.2.3", [], True),
        ("fd00::1", [], True),
        ("100.64.0.1", [], True),
        ("8.8.8.8", [], False),
        ("2001:4860:4860::8888", [], True),
        ("127.0.0.1", [], False),
        ("169.254.1.1", [], False),
        ("224.0.0.1", [], False),
        ("ff02::1", [], False),
        ("10.1.2.3", ["10.2.0.0/16"], False),
        ("8.8.8.8", ["8.8.0.0/16"], True),
    ],
)
def test_news_of_a_pod_is_waited_for_where_a_pod_can_be(address: str, networks: list[str], waits: bool) -> None:
    locator = Locator(Register(), nameless, [ip_network(n) for n in networks])
    assert (locator.locate(address, 0, patient=True) is None) is waits
    assert locator.locate(address, 0, patient=False) == Endpoint(Kind.NOBODY, address)


def test_a_name_that_is_awaited_is_taken_when_it_comes() -> None:
    answers: list[str | None] = [None, "db.example.com"]
    locator = Locator(Register(), lambda address: answers.pop(0))
    waiting = locator.locate("8.8.8.8", 0, patient=True)
    assert waiting == Endpoint(Kind.NOBODY, "8.8.8.8", unnamed=True)
    assert locator.named(waiting) == Endpoint(Kind.NOBODY, "8.8.8.8", name="db.example.com")


def test_a_snapshot_has_no_news_to_wait_for() -> None:
    register = Register()
    register.is_final = True
    assert Locator(register, nameless).locate("10.1.2.3", 0, patient=True) == Endpoint(Kind.NOBODY, "10.1.2.3")
