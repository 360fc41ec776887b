"""Who is at an address."""

from __future__ import annotations

from kiptail.locate import Endpoint, Kind, Locator
from kiptail.ownership import PodRef

A, B = PodRef("team-a", "a", "1"), PodRef("team-a", "b", "2")


class Register:
    """Owners that do not change."""

    def __init__(self, *owners: PodRef, node: str = "") -> None:
        self._owners, self._name = owners, f"node/{node}" if node else ""
        self.awaited = False

    def ready(self) -> bool:
        return True

    def current(self) -> bool:
        return True

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        return self._owners

    def awaits(self, address: str, at_us: int) -> bool:
        return self.awaited

    def name(self, address: str) -> str:
        return self._name


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


def test_what_may_still_turn_out_is_waited_for_with_patience_only() -> None:
    register = Register()
    register.awaited = True
    assert Locator(register, nameless).locate("10.0.0.1", 0, patient=True) is None
    assert Locator(register, nameless).locate("10.0.0.1", 0, patient=False) == Endpoint(
        Kind.NOBODY, "10.0.0.1", open=True
    )


def test_a_name_that_is_awaited_is_taken_when_it_comes() -> None:
    answers: list[str | None] = [None, "db.example.com"]
    locator = Locator(Register(), lambda address: answers.pop(0))
    waiting = locator.locate("8.8.8.8", 0, patient=True)
    assert waiting == Endpoint(Kind.NOBODY, "8.8.8.8", unnamed=True)
    assert locator.named(waiting) == Endpoint(Kind.NOBODY, "8.8.8.8", name="db.example.com")
