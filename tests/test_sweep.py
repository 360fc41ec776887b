"""The sweep for second addresses: when it runs, and when not. What it finds: test_nodeindex.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kiptail import sweep
from kiptail.errors import ApiError
from kiptail.ownership import Pod
from kiptail.sweep import Sweep
from tests.pods import pod


def now_us() -> int:
    return time.time_ns() // 1000


class Pods:
    """An API server with some pods on one page."""

    def __init__(self) -> None:
        self.items = [pod("single", "10.0.0.1"), pod("dual", "10.0.0.2", "fd00::2")]
        for one in self.items:
            one["metadata"]["uid"] = one["metadata"]["name"]
        self.errors: list[ApiError] = []
        self.asked = 0

    def list_pods_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"items": self.items, "metadata": {}}


class Asker:
    def __init__(self) -> None:
        self.api = Pods()
        self.found: list[str] = []
        self.answers: list[frozenset[str]] = []
        self.sweep = Sweep(self.api, label=None, found=self._found, on_answer=self.answers.append)

    def _found(self, pods: list[Pod], awaited: frozenset[str]) -> None:
        self.found += [pod.ref.name for pod in pods]

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(sweep, "FIRST_WITHIN", 0.1)
    monkeypatch.setattr(sweep, "FAILED_RETRY", 0.05)
    asker = Asker()
    yield asker
    asker.sweep.close()


def test_nothing_is_read_unless_somebody_asks(asker: Asker) -> None:
    time.sleep(0.2)
    assert asker.api.asked == 0


def test_pods_with_two_addresses_are_found_and_who_asked_is_told(asker: Asker) -> None:
    at_us = now_us() - 1
    assert asker.sweep.ask("fd00::2", at_us)
    assert asker.sweep.awaits("fd00::2")
    asker.wait(lambda: asker.answers)
    assert asker.found == ["dual"]
    assert asker.answers == [{"fd00::2"}]
    assert asker.sweep.knows("fd00::2", at_us)
    assert not asker.sweep.awaits("fd00::2")
    assert not asker.sweep.ask("fd00::3", at_us), "it was read for that one too"


def test_the_next_one_waits_for_its_time(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "INTERVAL", 0.5)
    asker.sweep.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    begin = time.monotonic()
    for n in range(100):
        assert asker.sweep.ask(f"fd00::{n:x}", now_us())
    asker.wait(lambda: len(asker.answers) == 2)
    assert time.monotonic() - begin >= 0.4
    assert asker.api.asked == 2


def test_a_failure_is_tried_again_a_missing_right_is_not(asker: Asker) -> None:
    asker.api.errors = [ApiError("away"), ApiError("busy", status=429)]
    asker.sweep.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    assert asker.api.asked == 3
    assert asker.sweep.sweeps == 1


def test_without_the_right_nobody_waits(asker: Asker) -> None:
    asker.api.errors = [ApiError("no", status=403)]
    assert asker.sweep.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    assert asker.answers == [{"fd00::2"}]
    assert not asker.sweep.ask("fd00::2", now_us())
    assert asker.sweep.pending == 0
