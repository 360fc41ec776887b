"""The index of the cluster's pods, against the test API server."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from kiptail.clock.own import OwnClock
from kiptail.kube.api import KubeApi
from kiptail.pods import listwatch, reflector
from kiptail.pods.live import LiveIndex
from kiptail.pods.ownership import Interval, PodRef
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import Hooks, Reflector
from tests.apiserver import ApiServer, Disturbance
from tests.support.pods import NoNames, pod

#: How long the watch is tormented, in seconds; 60 holds as well.
TORTURE_S = 15.0


def now_us() -> int:
    return time.time_ns() // 1000


class Watcher:
    """An index with everything around it."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        self.api = KubeApi.from_kubeconfig(server.kubeconfig(directory / "kubeconfig"), request_timeout_s=3.0)
        #: Addresses of which something else was known, time after time.
        self.changes: list[set[str]] = []
        self.interruptions: list[str] = []
        #: What the nodes' addresses were called whenever one was new.
        self.nodes: list[list[str]] = []
        self.index = LiveIndex(
            self.api,
            node="worker-3",
            label=None,
            ranges=PodRanges(),
            names=NoNames(),
            hooks=Hooks(
                on_change=self.changes.append,
                on_ready=lambda: None,
                on_nodes=lambda: self.nodes.append([self.index.owners.name(f"198.51.100.{n}") for n in (3, 4)]),
                observe=self.interruptions.append,
            ),
            clock=OwnClock(),
            node_mode=None,
        )

    def owner(self, address: str) -> list[str]:
        return sorted(ref.name for ref in self.index.owners.owned(address, now_us()).pods)

    def notices_silence_after(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        watch_pods = self.api.watch_pods
        monkeypatch.setattr(self.api, "watch_pods", lambda **query: watch_pods(**{**query, "silence_s": seconds}))

    def stop(self) -> None:
        self.index.stop()
        self.api.close()

    def follows(self) -> bool:
        watches = self.server.watches("/api/v1/pods")
        return any("sendInitialEvents" not in watch.request.query for watch in watches)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def watcher(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    monkeypatch.setattr(reflector, "BACKOFF_FIRST", 0.05)
    monkeypatch.setattr(reflector, "BACKOFF_CAP", 0.3)
    watcher = Watcher(server, tmp_path)
    yield watcher
    watcher.stop()


def put_pods(server: ApiServer, number: int) -> None:
    for n in range(number):
        server.pods.put(pod(f"p{n}", f"10.0.0.{n + 1}", f"fd00::{n + 1:x}"))


def test_that_an_address_is_a_nodes_is_told_once_when_the_first_pod_shows_it(
    server: ApiServer, watcher: Watcher
) -> None:
    server.pods.put(pod("a", "10.0.0.1"))
    watcher.index.start()
    server.wait_for(watcher.follows)
    server.pods.put(pod("b", "10.0.0.2"))
    server.pods.put(pod("c", "10.0.0.3", node="worker-4", host="198.51.100.4"))
    server.pods.put(pod("d", "10.0.0.4", node="worker-4", host="198.51.100.4"))
    server.wait_for(lambda: watcher.owner("10.0.0.4"))
    assert watcher.nodes == [["node/worker-3", ""], ["node/worker-3", "node/worker-4"]]


def test_all_pods_are_streamed(server: ApiServer, watcher: Watcher) -> None:
    put_pods(server, 30)
    watcher.index.start()
    server.wait_for(watcher.follows)
    assert len(watcher.index.local) == 30
    assert watcher.owner("10.0.0.30") == watcher.owner("fd00::1e") == ["p29"]
    assert [request.verb for request in server.requests()] == ["watch", "watch"]


@pytest.mark.parametrize("watch_list", ["reject", "ignore"])
def test_a_server_that_streams_no_lists_is_read_in_pages(
    server: ApiServer, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, watch_list: str
) -> None:
    monkeypatch.setattr(listwatch, "PAGE_LIMIT", 7)
    monkeypatch.setattr(listwatch, "STREAM_SILENCE", 0.5)
    server.watch_list = watch_list
    put_pods(server, 30)
    watcher.index.start()
    server.wait_for(watcher.follows)
    server.wait_for(watcher.index.ready)
    assert len(watcher.index.local) == 30
    assert watcher.owner("10.0.0.30") == watcher.owner("fd00::1e") == ["p29"]
    assert len(server.requests(verb="list")) == 5
    server.disturb(Disturbance.GONE)
    server.wait_for(lambda: len(server.requests(verb="list")) == 10)
    streams = [request for request in server.requests() if "sendInitialEvents" in request.query]
    assert len(streams) == 1, "what a server cannot do is not asked again"


def test_added_changed_and_deleted_pods_are_followed(server: ApiServer, watcher: Watcher) -> None:
    watcher.index.start()
    server.wait_for(watcher.follows)
    server.pods.put(pod("a", node=""))
    server.pods.put(pod("a", "10.0.0.1"))
    server.wait_for(lambda: watcher.owner("10.0.0.1") == ["a"])
    server.pods.delete("a", namespace="team-a")
    server.wait_for(lambda: len(watcher.index.local) == 0)
    assert watcher.owner("10.0.0.1") == ["a"], "remembered for a while"
    assert watcher.changes == [{"10.0.0.1"}, {"10.0.0.1"}], "it came, and it went"


def test_host_network_pods_own_nothing_but_name_their_node(server: ApiServer, watcher: Watcher) -> None:
    server.pods.put(pod("agent", "198.51.100.3", host_network=True))
    watcher.index.start()
    server.wait_for(watcher.index.ready)
    assert watcher.owner("198.51.100.3") == []
    assert watcher.index.local.node("198.51.100.3") == "worker-3"
    assert watcher.index.has_node("worker-3")
    assert not watcher.index.has_node("worker-4")


@pytest.mark.parametrize("disturbance", list(Disturbance))
def test_every_kind_of_interruption_is_survived(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disturbance: Disturbance
) -> None:
    monkeypatch.setattr(reflector, "BACKOFF_FIRST", 0.05)
    watcher = Watcher(server, tmp_path)
    watcher.notices_silence_after(1.0, monkeypatch)
    server.pods.put(pod("a", "10.0.0.1"))
    watcher.index.start()
    try:
        server.wait_for(watcher.follows)
        server.disturb(disturbance)
        server.pods.put(pod("b", "10.0.0.2"))
        server.pods.delete("a", namespace="team-a")
        server.wait_for(lambda: watcher.owner("10.0.0.2") == ["b"] and len(watcher.index.local) == 1)
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
    server.wait_for(lambda: watcher.owner("10.0.0.2") == ["b"] and len(watcher.index.local) == 1)
    assert "expired" in watcher.interruptions


def test_a_page_that_expires_in_the_middle_of_a_list_begins_it_anew(
    server: ApiServer, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "PAGE_LIMIT", 2)
    server.watch_list = "reject"
    for n in range(6):
        server.pods.put(pod(f"p{n}", f"10.0.0.{n + 1}"))
    server.faults.status(410, path="/api/v1/pods", match=lambda request: "continue" in request.query, count=1)
    watcher.index.start()
    server.wait_for(watcher.index.ready)
    assert len(watcher.index.local) == 6


def test_a_server_restored_to_an_older_version_is_noticed(server: ApiServer, watcher: Watcher) -> None:
    for n in range(20):
        server.pods.put(pod(f"p{n}", f"10.0.0.{n + 1}"))
    watcher.index.start()
    server.wait_for(watcher.follows)
    server.stop()
    server.start(clear=True)
    server.pods.put(pod("only", "10.0.1.1"))
    server.wait_for(lambda: watcher.owner("10.0.1.1") == ["only"] and len(watcher.index.local) == 1, timeout=5)


def test_a_watch_that_stays_silent_is_followed_by_a_list(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(server, tmp_path)
    watcher.notices_silence_after(1.0, monkeypatch)
    monkeypatch.setattr(Reflector, "_check_version", lambda self: None)
    server.faults.watch(Disturbance.SILENCE, count=1, match=lambda request: "sendInitialEvents" not in request.query)
    watcher.index.start()
    try:
        server.wait_for(watcher.follows)
        server.pods.put(pod("a", "10.0.0.1"))
        server.wait_for(lambda: watcher.owner("10.0.0.1") == ["a"])
        assert sum("sendInitialEvents" in request.query for request in server.requests()) == 2
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
    monkeypatch.setattr(reflector, "FORBIDDEN_RETRY", 0.5)
    token = server.add_user("kiptail")
    watcher = Watcher(server, tmp_path)
    server.kubeconfig(tmp_path / "kubeconfig", token=token)
    watcher.api.reload()
    watcher.index.start()
    try:
        server.wait_for(lambda: "forbidden" in watcher.interruptions)
        assert "cannot watch" in watcher.index.trouble
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


def test_while_a_pod_is_about_to_have_an_address_any_owner_may_be_contradicted(
    server: ApiServer, watcher: Watcher
) -> None:
    past_us, soon_us = now_us() - 60_000_000, now_us() + 60_000_000
    assert watcher.index.owners.contested("10.0.0.1", past_us), "nothing is known yet"
    server.pods.put(pod("a", "10.0.0.1"))
    watcher.index.start()
    server.wait_for(watcher.index.owners.current)
    assert not watcher.index.owners.contested("10.0.0.1", soon_us)
    server.pods.put(pod("starting"))
    server.wait_for(lambda: watcher.index.owners.contested("10.0.0.1", soon_us))
    assert not watcher.index.owners.contested("10.0.0.1", past_us), "news of then would have arrived"
    server.pods.put(pod("starting", "10.0.0.2"))
    server.wait_for(lambda: not watcher.index.owners.contested("10.0.0.1", soon_us))
    server.pods.put(pod("elsewhere", node="worker-4"))
    server.pods.put(pod("twin", "10.0.0.1"))
    server.wait_for(lambda: watcher.owner("10.0.0.1") == ["a", "twin"])
    assert watcher.index.owners.contested("10.0.0.1", soon_us), "one of them may turn out to be leaving"
    assert not watcher.index.owners.contested("10.0.0.2", soon_us)


def test_up_to_when_all_is_known_moves_on_with_what_the_server_says(server: ApiServer, watcher: Watcher) -> None:
    watcher.index.local.restore([], seen_us=7)
    assert watcher.index.fresh_us() == 7
    begin_us = now_us()
    watcher.index.start()
    server.wait_for(watcher.follows)
    listed_us = watcher.index.fresh_us()
    assert begin_us <= listed_us <= now_us()
    server.pods.put(pod("a", "10.0.0.1"))
    server.wait_for(lambda: watcher.index.fresh_us() > listed_us)


def test_a_pod_that_went_while_nobody_watched_had_its_address_until_the_watch_broke(
    server: ApiServer, watcher: Watcher
) -> None:
    long_ago = Interval("uid-a", PodRef("team-a", "a", "uid-a"), 1_000_000, 2_000_000, None, None, local=True)
    watcher.index.local.restore([("10.0.0.1", long_ago)], seen_us=now_us())
    server.pods.put(pod("a", "10.0.0.1", uid="uid-a"))
    watcher.index.start()
    server.wait_for(watcher.index.owners.current)
    before_us = now_us()
    with server.faults.reset(path="/api/v1/pods"):
        server.disturb(Disturbance.RESET)
        server.pods.delete("a", namespace="team-a")
        server.compact()
        server.wait_for(lambda: not watcher.index.owners.current())
        broken_us = now_us()
        time.sleep(1.1)  # longer than what a time cut to whole seconds hides
    server.wait_for(lambda: len(watcher.index.local) == 0)
    (interval,) = watcher.index.local.intervals("10.0.0.1")
    assert interval.unseen_end
    assert interval.held_us is not None
    assert before_us - 1_000_000 <= interval.held_us <= broken_us
    assert interval.until_us is not None
    assert interval.until_us >= broken_us
    assert watcher.index.owners.hands("10.0.0.1").changes[-1] == interval.until_us


def test_pods_of_this_node_are_known_by_their_probes(server: ApiServer, watcher: Watcher) -> None:
    for name, address, node in (("near", "10.0.0.1", "worker-3"), ("far", "10.0.0.2", "worker-4")):
        probed = pod(name, address, node=node)
        probed["spec"]["containers"][0]["livenessProbe"] = {"httpGet": {"port": 8080}}
        server.pods.put(probed)
    watcher.index.start()
    server.wait_for(watcher.index.ready)
    asked = [("10.0.0.1", 8080), ("10.0.0.1", 80), ("10.0.0.2", 8080), ("10.0.0.3", 8080)]
    assert [watcher.index.owners.ports.probed(*each) for each in asked] == [True, False, False, False]


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
    later = now_us() + 3600 * 1_000_000
    expected = {f"10.0.0.{n}": sorted(name for name, at in alive.items() if at == f"10.0.0.{n}") for n in range(1, 60)}

    def found() -> dict[str, list[str]]:
        return {a: sorted(ref.name for ref in watcher.index.owners.owned(a, later).pods) for a in expected}

    # As many pods are known for a moment also while the last of them are still to come.
    server.wait_for(lambda: len(watcher.index.local) == len(alive) and found() == expected)


class Torment:
    """Everything that happens to a watch, one after the other."""

    def __init__(self, server: ApiServer, watcher: Watcher) -> None:
        self._server, self._watcher = server, watcher
        self._next = 0
        self._done: list[Callable[[], None]] = [
            *(partial(self._disturb, disturbance) for disturbance in Disturbance),
            self._throttle,
            self._refuse,
            self._compact,
            self._hang,
            self._bookmarks_only,
        ]

    def step(self) -> None:
        self._done[self._next % len(self._done)]()
        self._next += 1

    def _disturb(self, disturbance: Disturbance) -> None:
        self._server.wait_for(self._watcher.follows)
        self._server.disturb(disturbance)
        if disturbance is Disturbance.SILENCE:
            self._server.wait_for(lambda: "silent" in self._watcher.interruptions)

    def _throttle(self) -> None:
        self._server.wait_for(self._watcher.follows)
        with self._server.faults.status(429, retry_after=1, path="/api/v1/pods") as fault:
            self._server.disturb(Disturbance.RESET)
            self._server.wait_for(lambda: fault.hits)

    def _refuse(self) -> None:
        self._server.stop()
        time.sleep(1.5)
        self._server.start()

    def _compact(self) -> None:
        self._server.wait_for(self._watcher.follows)
        with self._server.faults.reset(path="/api/v1/pods") as fault:
            self._server.disturb(Disturbance.CUT)
            self._server.pods.put(pod("compacted", "10.1.0.1"))
            self._server.compact()
            self._server.wait_for(lambda: fault.hits)

    def _hang(self) -> None:
        self._server.wait_for(self._watcher.follows)
        with self._server.faults.hang(path="/api/v1/pods") as fault:
            self._server.disturb(Disturbance.END)
            self._server.wait_for(lambda: fault.hits)
            time.sleep(0.5)

    def _bookmarks_only(self) -> None:
        time.sleep(1.0)


@pytest.mark.timeout(180)
def test_a_tormented_watch_ends_equal_to_the_servers_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(11)
    monkeypatch.setattr(reflector, "BACKOFF_CAP", TORTURE_S / 12)  # all of them are to find a watch
    with ApiServer(bookmark_period=0.4) as server:
        watcher = Watcher(server, tmp_path)
        watcher.notices_silence_after(1.5, monkeypatch)
        watcher.index.start()
        server.wait_for(watcher.follows)
        assert watcher.index._reflector._thread.ident is not None
        clock = time.pthread_getcpuclockid(watcher.index._reflector._thread.ident)
        torment, alive = Torment(server, watcher), dict[str, str]()
        begin, cpu_begin = time.monotonic(), time.clock_gettime(clock)
        torment_at = 0.0
        while (now := time.monotonic() - begin) < TORTURE_S:
            name, address = f"p{chance.randrange(300)}", f"10.0.{chance.randrange(4)}.{chance.randrange(1, 200)}"
            if alive.pop(name, None) is not None:
                server.pods.delete(name, namespace="team-a")
            else:
                server.pods.put(pod(name, address))
                alive[name] = address
            if now >= torment_at:
                torment_at = now + TORTURE_S / 16
                torment.step()
            time.sleep(0.01)
        alive |= {p["metadata"]["name"]: p["status"]["podIP"] for p in server.pods()}
        seconds = time.monotonic() - begin
        later = now_us() + 3600 * 1_000_000

        def equal() -> bool:
            owners = {ref.name: a for a in set(alive.values()) for ref in watcher.index.owners.owned(a, later).pods}
            return len(watcher.index.local) == len(alive) and owners == alive

        server.wait_for(equal, timeout=20)
        cpu = (time.clock_gettime(clock) - cpu_begin) / seconds
        watches = len(server.requests("GET", "/api/v1/pods", verb="watch"))
        lists = len(server.requests("GET", "/api/v1/pods", verb="list"))
        watcher.stop()
    print(f"{watches} watches, {lists} lists, {100 * cpu:.1f} % of a CPU")  # noqa: T201 - shown with -s
    assert watches + lists - 2 < 30
    assert cpu < 0.05
    assert {"expired", "silent", "garbage", "unreachable", "throttled"} <= set(watcher.interruptions)
