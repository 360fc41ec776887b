"""Look-ups by address: caching, pacing, trouble. What they cost a server: test_live.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.pods import lookup_queue
from kiptail.pods.lookups import Lookups
from kiptail.pods.ownership import Pod
from tests.support.pods import pod

T0 = 1_700_000_000_000_000
ADDRESS = "10.0.0.1"


class Pods:
    """An API server that answers look-ups from what it is told, when it is allowed to."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []
        self.errors: list[ApiError] = []
        self.asked: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    def list_pods_page(self, **query: Any) -> dict[str, Any]:
        self.asked.append(query)
        assert self.gate.wait(5)
        if self.errors:
            raise self.errors.pop(0)
        return self.pages.pop(0) if self.pages else {"items": [], "metadata": {}}


class Asker:
    """Look-ups and what comes of them."""

    def __init__(self) -> None:
        self.api = Pods()
        self.found: list[tuple[str, list[str]]] = []
        self.answers: list[frozenset[str]] = []
        self.lookups = Lookups(
            self.api, label=None, found=self._found, on_answer=self.answers.append, how_to_grant=lambda: ""
        )

    def _found(self, address: str, pods: list[Pod], asked_us: int) -> frozenset[str]:
        assert asked_us > T0
        self.found.append((address, [pod.ref.name for pod in pods]))
        return frozenset(a for pod in pods if pod.until_us is None for a in pod.addresses)

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, (self.api.asked, self.answers)
            time.sleep(0.005)


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(lookup_queue, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(lookup_queue, "BACKOFF_CAP", 0.02)
    asker = Asker()
    yield asker
    asker.api.gate.set()
    asker.lookups.close()


def page(*pods: dict[str, Any], more: str = "") -> dict[str, Any]:
    for number, one in enumerate(pods):
        one["metadata"]["uid"] = f"{one['metadata']['name']}-{number}"
    return {"items": list(pods), "metadata": {"continue": more} if more else {}}


def test_nothing_runs_before_the_first_question(asker: Asker) -> None:
    before = threading.active_count()
    assert not asker.lookups.knows(ADDRESS, T0)
    assert threading.active_count() == before


def test_an_answer_of_several_pages_is_read_to_its_end(asker: Asker) -> None:
    asker.api.pages = [page(pod("a", ADDRESS, phase="Failed"), more="token"), page(pod("b", ADDRESS))]
    assert asker.lookups.ask(ADDRESS, T0)
    asker.wait(lambda: asker.answers)
    assert asker.found == [(ADDRESS, ["a", "b"])]
    assert [query["continue_token"] for query in asker.api.asked] == ["", "token"]
    assert asker.lookups.knows(ADDRESS, T0)


def test_a_server_that_never_ends_an_answer_is_left(asker: Asker) -> None:
    asker.api.pages = [page(more="token") for _ in range(100)]
    asker.lookups.ask(ADDRESS, T0)
    asker.wait(lambda: asker.answers)
    assert len(asker.api.asked) == 20


def test_all_addresses_of_a_pod_that_is_found_are_known(asker: Asker) -> None:
    asker.api.pages = [page(pod("a", ADDRESS, "fd00::1"))]
    asker.lookups.ask(ADDRESS, T0)
    asker.wait(lambda: asker.answers)
    assert asker.answers == [{ADDRESS, "fd00::1"}]
    assert asker.lookups.knows("fd00::1", T0)
    asker.lookups.forget("fd00::1")
    assert not asker.lookups.knows("fd00::1", T0)


def test_an_address_is_asked_for_once_at_a_time(asker: Asker) -> None:
    asker.api.gate.clear()
    assert all(asker.lookups.ask(ADDRESS, T0 + n) for n in range(100))
    asker.wait(lambda: asker.api.asked)
    assert all(asker.lookups.ask(ADDRESS, T0 + n) for n in range(100))
    assert asker.lookups.pending == 1
    asker.api.gate.set()
    asker.wait(lambda: asker.answers)
    assert len(asker.api.asked) == 1


def test_too_many_questions_are_not_waited_for(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_queue, "MAX_WAITING", 10)
    asker.api.gate.clear()
    awaited = [asker.lookups.ask(f"10.0.1.{n}", T0) for n in range(50)]
    assert 10 <= sum(awaited) <= 12, "and one in each thread"
    assert asker.lookups.results["overflow"] == 50 - sum(awaited)


def test_failures_by_themselves_are_given_up_and_trouble_is_not(asker: Asker) -> None:
    asker.api.errors = [ApiError("odd", status=400) for _ in range(3)]
    asker.lookups.ask(ADDRESS, T0)
    asker.wait(lambda: asker.answers)
    assert asker.answers == [{ADDRESS}]
    assert asker.found == []
    asker.api.errors = [ApiError("away") for _ in range(9)]
    asker.lookups.ask("10.0.0.2", T0)
    asker.wait(lambda: asker.found)
    assert asker.lookups.results == {"failed": 12, "miss": 1}


def test_closing_ends_the_threads_and_the_questions(asker: Asker) -> None:
    asker.api.gate.clear()
    asker.lookups.ask(ADDRESS, T0)
    asker.wait(lambda: asker.api.asked)
    asker.lookups.close(timeout=0.0)
    assert not asker.lookups.ask("10.0.0.2", T0)
    asker.api.gate.set()
    asker.lookups.close()
    assert asker.answers == []
