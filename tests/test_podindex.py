"""The index of the cluster's pods, against the test API server."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiptail import podindex
from kiptail.kubeapi import KubeApi
from kiptail.ownership import Handover
from kiptail.podindex import ClusterIndex
from tests.apiserver import ApiServer, Disturbance
from tests.pods import pod


def now_us() -> int:
    return time.time_ns() // 1000


class Watcher:
    """An index with everything around it."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        self.api = KubeApi.from_kubeconfig(server.kubeconfig(directory / "kubeconfig"), request_timeout_s=3.0)
        self.handovers: list[Handover] = []
        self.interruptions: list[str] = []
        self.index = ClusterIndex(
            self.api,
            label=None,
            node="worker-3",
            on_handover=self.handovers.extend,
            on_ready=lambda: None,
            observe=self.interruptions.append,
        )

    def owner(self, address: str) -> list[str]:
        return sorted(ref.name for ref in self.index.owners(address, now_us()))

    def stop(self) -> None:
        self.index.stop()
        self.api.close()

    def follows(self) -> bool:
        return bool(self.server.watches("/api/v1/pods"))


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def watcher(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    monkeypatch.setattr(podindex, "BACKOFF_FIRST", 0.05)
    monkeypatch.setattr(podindex, "BACKOFF_CAP", 0.3)
    watcher = Watcher(server, tmp_path)
    yield watcher
    watcher.stop()


def test_all_pods_are_listed_in_pages(server: ApiServer, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podindex, "PAGE_LIMIT", 7)
    for n in range(30):
        server.pods.put(pod(f"p{n}", f"10.0.0.{n + 1}", f"fd00::{n + 1:x}"))
    watcher.index.start()
    server.wait_for(watcher.index.ready)
    assert len(watcher.index) == 30
    assert watcher.owner("10.0.0.30") == watcher.owner("fd00::1e") == ["p29"]
    assert len(server.requests("GET", "/api/v1/pods", verb="list")) == 5


def test_added_changed_and_deleted_pods_are_followed(server: ApiServer, watcher: Watcher) -> None:
    watcher.index.start()
    server.wait_for(watcher.follows)
    server.pods.put(pod("a", node=""))
    server.pods.put(pod("a", "10.0.0.1"))
    server.wait_for(lambda: watcher.owner("10.0.0.1") == ["a"])
    server.pods.delete("a", namespace="team-a")
    server.wait_for(lambda: len(watcher.index) == 0)
    assert watcher.owner("10.0.0.1") == ["a"], "remembered for a while"
    assert [h.address for h in watcher.handovers] == ["10.0.0.1", "10.0.0.1"], "it came, and it went"


def test_host_network_pods_own_nothing_but_name_their_node(server: ApiServer, watcher: Watcher) -> None:
    server.pods.put(pod("agent", "198.51.100.3", host_network=True))
    watcher.index.start()
    server.wait_for(watcher.index.ready)
    assert watcher.owner("198.51.100.3") == []
    assert watcher.index.node("198.51.100.3") == "worker-3"
    assert watcher.index.has_node("worker-3")
    assert not watcher.index.has_node("worker-4")


@pytest.mark.parametrize("disturbance", list(Disturbance))
def test_every_kind_of_interruption_is_survived(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disturbance: Disturbance
) -> None:
    monkeypatch.setattr(podindex, "BACKOFF_FIRST", 0.05)
    watcher = Watcher(server, tmp_path)
    watch_pods = watcher.api.watch_pods
    monkeypatch.setattr(watcher.api, "watch_pods", lambda **query: watch_pods(**query, silence_s=1.0))
    server.pods.put(pod("a", "10.0.0.1"))
    watcher.index.start()
    try:
        server.wait_for(watcher.follows)
        server.disturb(disturbance)
        server.pods.put(pod("b", "10.0.0.2"))
        server.pods.delete("a", namespace="team-a")
        server.wait_for(lambda: watcher.owner("10.0.0.2") == ["b"] and len(watcher.index) == 1)
        assert len(server.requests("GET", "/api/v1/pods")) < 10
    finally:
        watcher.stop()


def test_a_version_that_the_server_forgot_is_listed_anew(server: ApiServer, watcher: Watcher) -> None:
    server.pods.put(pod("a", "10.0.0.1"))
    watcher.index.start()
    server.wait_for(watcher.follows)
    with server.faults.reset(path="/api/v1/pods"):
        server.disturb(Disturbance.RESET)
        server.pods.delete("a", namespace="team-a")
        server.pods.put(pod("b", "10.0.0.2"))
        server.compact()
    server.wait_for(lambda: watcher.owner("10.0.0.2") == ["b"] and len(watcher.index) == 1)
    assert "expired" in watcher.interruptions


def test_a_page_that_expires_in_the_middle_of_a_list_begins_it_anew(
    server: ApiServer, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podindex, "PAGE_LIMIT", 2)
    for n in range(6):
        server.pods.put(pod(f"p{n}", f"10.0.0.{n + 1}"))
    server.faults.status(410, path="/api/v1/pods", match=lambda request: "continue" in request.query, count=1)
    watcher.index.start()
    server.wait_for(watcher.index.ready)
    assert len(watcher.index) == 6


def test_a_server_restored_to_an_older_version_is_noticed(server: ApiServer, watcher: Watcher) -> None:
    for n in range(20):
        server.pods.put(pod(f"p{n}", f"10.0.0.{n + 1}"))
    watcher.index.start()
    server.wait_for(watcher.follows)
    server.stop()
    server.start(clear=True)
    server.pods.put(pod("only", "10.0.1.1"))
    server.wait_for(lambda: watcher.owner("10.0.1.1") == ["only"] and len(watcher.index) == 1, timeout=5)


def test_a_watch_that_stays_silent_is_followed_by_a_list(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(server, tmp_path)
    watch_pods = watcher.api.watch_pods
    monkeypatch.setattr(watcher.api, "watch_pods", lambda **query: watch_pods(**query, silence_s=1.0))
    monkeypatch.setattr(ClusterIndex, "_check_version", lambda self: None)
    server.faults.watch(Disturbance.SILENCE, count=1)
    watcher.index.start()
    try:
        server.wait_for(watcher.follows)
        server.pods.put(pod("a", "10.0.0.1"))
        server.wait_for(lambda: watcher.owner("10.0.0.1") == ["a"])
        assert len(server.requests(verb="list")) == 2
    finally:
        watcher.stop()


def test_a_refused_port_is_not_hammered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as server:
        watcher = Watcher(server, tmp_path)
    attempts = []
    connect = socket.socket.connect

    def counted(self: socket.socket, address: object) -> None:
        attempts.append(address)
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", counted)
    watcher.index.start()
    time.sleep(3.0)
    watcher.stop()
    assert 2 <= len(attempts) <= 8
    assert watcher.index.trouble


def test_missing_rights_are_tried_again_slowly_and_told(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podindex, "FORBIDDEN_RETRY", 0.5)
    token = server.add_user("kiptail")
    watcher = Watcher(server, tmp_path)
    server.kubeconfig(tmp_path / "kubeconfig", token=token)
    watcher.api.reload()
    watcher.index.start()
    try:
        server.wait_for(lambda: "403" in watcher.interruptions)
        assert "cannot list" in watcher.index.trouble
        server.grant("kiptail", "list watch", "pods")
        server.wait_for(watcher.index.ready)
        server.wait_for(lambda: not watcher.index.trouble)
    finally:
        watcher.stop()


def test_a_stop_interrupts_a_watch_that_waits(server: ApiServer, watcher: Watcher) -> None:
    watcher.index.start()
    server.wait_for(watcher.follows)
    begin = time.monotonic()
    watcher.index.stop(timeout=5.0)
    assert time.monotonic() - begin < 1.5


def test_after_random_histories_and_interruptions_the_index_equals_the_server(
    server: ApiServer, watcher: Watcher
) -> None:
    chance = random.Random(7)
    watcher.index.start()
    server.wait_for(watcher.follows)
    alive: dict[str, str] = {}
    for step in range(300):
        name, address = f"p{chance.randrange(40)}", f"10.0.0.{chance.randrange(1, 60)}"
        if name in alive:
            server.pods.delete(name, namespace="team-a")
            del alive[name]
        else:
            server.pods.put(pod(name, address))
            alive[name] = address
        if step % 50 == 25:
            server.disturb(chance.choice([Disturbance.CUT, Disturbance.RESET, Disturbance.END, Disturbance.GONE]))
    server.wait_for(lambda: len(watcher.index) == len(alive))
    later = now_us() + 3600 * 1_000_000
    for address in {f"10.0.0.{n}" for n in range(1, 60)}:
        expected = sorted(name for name, owned in alive.items() if owned == address)
        assert sorted(ref.name for ref in watcher.index.owners(address, later)) == expected
