"""The list of all pods for second addresses: when it is read, and when not. What it finds: test_live.py."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kiptail.clock.pacing import Backoff
from kiptail.errors import ApiError
from kiptail.pods import dual_stack, dual_stack_plan
from kiptail.pods.dual_stack import DualStackList
from kiptail.pods.ownership import Pod
from tests.support.pods import pod


def now_us() -> int:
    return time.time_ns() // 1000


class Pods:
    """An API server with some pods, of which two are given as objects, the others as empty ones."""

    def __init__(self) -> None:
        self.items = [pod("single", "10.0.0.1"), pod("dual", "10.0.0.2", "fd00::2")]
        for one in self.items:
            one["metadata"]["uid"] = one["metadata"]["name"]
        self.errors: list[ApiError] = []
        self.counts = True
        #: The limit of each request, and when it came.
        self.limits: list[int] = []
        self.times: list[float] = []

    @property
    def asked(self) -> int:
        return len(self.limits)

    def add(self, number: int) -> None:
        self.items += [{}] * number

    def list_pods_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        self.limits.append(limit)
        self.times.append(time.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        begin = int(continue_token or 0)
        left = len(self.items) - begin - limit
        metadata: dict[str, Any] = {"continue": str(begin + limit)} if left > 0 else {}
        if left > 0 and self.counts:
            metadata["remainingItemCount"] = left
        return {"items": self.items[begin : begin + limit], "metadata": metadata}


class Asker:
    def __init__(self) -> None:
        self.api = Pods()
        self.found: list[str] = []
        self.answers: list[frozenset[str]] = []
        self.dual_stack = DualStackList(self.api, label=None, found=self._found, on_answer=self.answers.append)

    def _found(self, pods: list[Pod], awaited: frozenset[str]) -> None:
        self.found += [pod.ref.name for pod in pods]

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(dual_stack_plan, "FIRST_WITHIN", 0.0)
    monkeypatch.setattr(dual_stack_plan, "FAILED_RETRY", 0.05)
    asker = Asker()
    yield asker
    asker.dual_stack.close()


def test_nothing_is_read_unless_somebody_asks(asker: Asker) -> None:
    time.sleep(0.2)
    assert asker.api.asked == 0


def test_pods_with_two_addresses_are_found_and_who_asked_is_told(asker: Asker) -> None:
    at_us = now_us() - 1
    assert asker.dual_stack.ask("fd00::2", at_us)
    assert asker.dual_stack.awaits("fd00::2")
    asker.wait(lambda: asker.answers)
    assert asker.found == ["dual"]
    assert asker.answers == [{"fd00::2"}]
    assert asker.dual_stack.knows("fd00::2", at_us)
    assert not asker.dual_stack.awaits("fd00::2")
    assert not asker.dual_stack.ask("fd00::3", at_us), "it was read for that one too"


def test_the_next_one_waits_for_its_time(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_stack_plan, "INTERVAL", 0.5)
    asker.dual_stack.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    begin = time.monotonic()
    for n in range(100):
        assert asker.dual_stack.ask(f"fd00::{n:x}", now_us())
    asker.wait(lambda: len(asker.answers) == 2)
    assert time.monotonic() - begin >= 0.4
    assert asker.api.asked == 2


def test_a_failure_is_tried_again_a_missing_right_is_not(asker: Asker) -> None:
    asker.api.errors = [ApiError("away"), ApiError("busy", status=429)]
    asker.dual_stack.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    assert asker.api.asked == 3
    assert asker.dual_stack.cost.lists == 1


def test_a_list_without_an_end_is_a_failure(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def endless(*, limit: int, continue_token: str = "") -> dict[str, Any]:
        asked.append(continue_token)
        return {"metadata": {"continue": str(len(asked))}, "items": [{"metadata": []}] if len(asked) == 1 else []}

    monkeypatch.setattr(asker.api, "list_pods_page", endless)
    monkeypatch.setattr(dual_stack, "SMALL_CLUSTER", 0)
    monkeypatch.setattr(dual_stack, "PAGE_PAUSE", 0.0)
    monkeypatch.setattr(dual_stack, "MAX_PAGES", 5)
    monkeypatch.setattr(dual_stack_plan, "FAILED_RETRY", 60.0)
    asker.dual_stack.ask("fd00::2", now_us())
    asker.wait(lambda: asker.dual_stack.cost.seconds)
    assert len(asked) <= 1 + dual_stack.MAX_PAGES
    assert (asker.dual_stack.cost.lists, asker.answers, asker.dual_stack.pending) == (0, [], 1)


def test_without_the_right_nobody_waits(asker: Asker) -> None:
    asker.api.errors = [ApiError("no", status=403)]
    assert asker.dual_stack.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    assert asker.answers == [{"fd00::2"}]
    assert not asker.dual_stack.ask("fd00::2", now_us())
    assert asker.dual_stack.pending == 0


def test_once_the_right_is_there_again_a_failure_leaves_waiting_who_waits(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_stack, "FORBIDDEN_RETRY", 0.3)
    asker.dual_stack._plan._retries = Backoff(60.0, 60.0)
    asker.api.errors = [ApiError("no", status=403)]
    assert asker.dual_stack.ask("fd00::2", now_us())
    asker.wait(lambda: asker.answers)
    time.sleep(0.3)
    asker.api.errors = [ApiError("away")]
    assert asker.dual_stack.ask("fd00::3", now_us())
    asker.wait(lambda: not asker.api.errors)
    time.sleep(0.1)
    assert (asker.answers, asker.dual_stack.pending) == ([{"fd00::2"}], 1)


@pytest.fixture
def late(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> Asker:
    """The jitter is as long as it can be, and the size is asked for at once."""
    monkeypatch.setattr(dual_stack_plan, "FIRST_WITHIN", 1.0)
    monkeypatch.setattr(dual_stack_plan, "SMALL_FIRST_WITHIN", 0.0)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return asker


@pytest.mark.parametrize("number", [2, 499, 500])
def test_a_small_cluster_is_read_at_once_for_one_request_more(late: Asker, number: int) -> None:
    late.api.add(number - 2)
    begin = time.monotonic()
    assert late.dual_stack.ask("fd00::2", now_us())
    late.wait(lambda: late.answers)
    assert late.api.limits == [1, *([dual_stack.PAGE_LIMIT] * (2 if number > dual_stack.PAGE_LIMIT else 1))]
    assert late.api.times[1] - begin < 0.9
    assert late.dual_stack.cost.pods == number
    assert late.found == ["dual"]


@pytest.mark.parametrize(("number", "counts"), [(501, True), (100, False)])
def test_a_cluster_that_is_not_surely_small_is_read_when_its_time_comes(late: Asker, number: int, counts: bool) -> None:
    late.api.add(number - 2)
    late.api.counts = counts
    begin = time.monotonic()
    assert late.dual_stack.ask("fd00::2", now_us())
    late.wait(lambda: late.api.asked)
    assert late.dual_stack.ask("fd00::3", now_us())
    assert late.dual_stack.pending == 2
    late.wait(lambda: late.answers)
    assert late.api.times[1] - begin >= 1.0
    assert late.api.limits == [1, *([dual_stack.PAGE_LIMIT] * -(-number // dual_stack.PAGE_LIMIT))]
    assert late.answers == [{"fd00::2", "fd00::3"}]


def test_a_cluster_that_is_too_large_costs_one_request_for_one_pod(
    late: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    late.api.add(dual_stack.MAX_PODS)
    assert late.dual_stack.ask("fd00::2", now_us())
    late.wait(lambda: late.answers)
    assert late.api.limits == [1]
    assert not late.dual_stack.ask("fd00::2", now_us())
    assert (late.dual_stack.cost.lists, late.dual_stack.cost.pods, late.dual_stack.pending) == (0, 0, 0)
    assert caplog.text.count(f"more than {dual_stack.MAX_PODS} pods") == 1


def test_a_failure_to_tell_the_size_is_tried_again(late: Asker) -> None:
    late.api.errors = [ApiError("away"), ApiError("busy", status=429)]
    assert late.dual_stack.ask("fd00::2", now_us())
    late.wait(lambda: late.answers)
    assert late.api.limits == [1, 1, 1, dual_stack.PAGE_LIMIT]


def test_without_the_right_to_ask_for_the_size_nobody_waits(late: Asker) -> None:
    late.api.errors = [ApiError("no", status=403)]
    assert late.dual_stack.ask("fd00::2", now_us())
    late.wait(lambda: late.answers)
    assert late.api.limits == [1]
    assert not late.dual_stack.ask("fd00::2", now_us())


def test_a_list_whose_time_has_come_anyway_does_not_ask_for_the_size(
    late: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_stack_plan, "FIRST_WITHIN", 0.0)
    assert late.dual_stack.ask("fd00::2", now_us())
    late.wait(lambda: late.answers)
    assert late.api.limits == [dual_stack.PAGE_LIMIT]
