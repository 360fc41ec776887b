"""What is kept of the pods of a whole cluster."""

from __future__ import annotations

import json

import pytest

from kiptail.clock.own import OwnClock
from kiptail.pods import reducer
from kiptail.pods.pod import Pod
from kiptail.pods.reducer import PodReducer, dated_by
from tests.support.pods import pod


class Stepped(OwnClock):
    """The wall clock of this machine was 1 s behind, those of others 2 s."""

    def is_steady(self) -> bool:
        return False

    def steady_us(self, wall_us: int) -> int:
        return wall_us + 1_000_000

    def others_us(self, wall_us: int) -> int:
        return wall_us + 2_000_000


def reduced(into: PodReducer, name: str, address: str, host: str = "198.51.100.3") -> Pod:
    obj = pod(name, address, host=host, uid=f"uid-{name}", labels={"app": "shop"})
    kept = into.reduced(json.loads(json.dumps(obj)))  # no two texts of it are one object
    assert kept is not None
    return kept


def test_texts_that_pods_share_are_kept_once() -> None:
    into = PodReducer(label="app", node="", clock=OwnClock())
    first, second = (reduced(into, f"p{n}", f"10.0.0.{n}") for n in range(2))
    assert first.node is second.node
    assert first.ref.namespace is second.ref.namespace
    assert first.ref.label is second.ref.label
    assert first.host_addresses is second.host_addresses
    assert first.key is first.ref.uid


def test_only_so_many_nodes_addresses_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducer, "MAX_HOSTS", 2)
    into = PodReducer(label=None, node="", clock=OwnClock())
    for n in range(5):
        reduced(into, f"p{n}", f"10.0.0.{n}", host=f"198.51.100.{n}")
    assert len(into._hosts) <= 2
    into.clear()
    assert len(into._hosts) == 0


def test_what_is_no_pod_is_none() -> None:
    assert PodReducer(label=None, node="", clock=OwnClock()).reduced({"metadata": {"name": "x"}}) is None


def test_each_pods_times_are_by_the_clock_that_dated_them() -> None:
    kept = reduced(PodReducer(label=None, node="", clock=OwnClock()), "a", "10.0.0.1")._replace(asked_us=5)
    assert kept.start_us is not None
    assert dated_by(OwnClock(), kept, node="worker-3") is kept
    here, elsewhere = (dated_by(Stepped(), kept, node=node) for node in ("worker-3", "worker-4"))
    assert (here.start_us, here.asked_us) == (kept.start_us + 1_000_000, 2_000_005)
    assert (elsewhere.start_us, elsewhere.asked_us) == (kept.start_us + 2_000_000, 2_000_005)
