"""What a watch or a list of pods may hold: whatever it is, the watch goes on, and what makes no sense is counted."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.clock.own import OwnClock
from kiptail.errors import ApiError
from kiptail.kube.strict_json import parse
from kiptail.names.cluster import ClusterNames
from kiptail.pods import listwatch, reflector
from kiptail.pods.changes import MAX_BAD_LINES
from kiptail.pods.listwatch import PodFeed
from kiptail.pods.local import LocalPods
from kiptail.pods.ownership import Ownership, owned
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import Hooks, Reflector
from kiptail.state.store import Store
from tests.support.answers import ODD, RAW, damaged, mutated, status
from tests.support.fuzzing import cases, source
from tests.support.kube import CHUNKED, chunk, raw
from tests.support.pods import pod

WIRE = Path(__file__).parent / "wire"


def line(kind: Any, obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


def numbered(name: str, address: str, version: int = 1, **more: Any) -> dict[str, Any]:
    return pod(name, address, uid=f"uid-{name}", resourceVersion=str(version), **more)


GOOD = numbered("a", "10.0.0.1", 7)
POD = {"kind": "Pod", "apiVersion": "v1"}
#: Lines that are passed over.
BAD: dict[str, bytes] = {
    "no JSON": b"<html>",
    "cut": line("ADDED", GOOD)[:-9],
    "two": line("ADDED", GOOD) + line("ADDED", GOOD),
    "no object": b"[]",
    "null": b"null",
    "a number": b"7",
    "no type": b'{"object":{}}',
    "a list for a type": line([], GOOD),
    "a type that there is not": line("RENAMED", GOOD),
    "nothing in it": b'{"type":"ADDED"}',
    "a list for an object": line("ADDED", [GOOD]),
    "no metadata": line("ADDED", POD),
    "a node": line("ADDED", GOOD | {"kind": "Node"}),
    "a pod of another version": line("ADDED", GOOD | {"apiVersion": "v2"}),
    "a list for metadata": line("BOOKMARK", POD | {"metadata": []}),
    "a bookmark without a version": line("BOOKMARK", POD | {"metadata": {}}),
    "an object for a version": line("BOOKMARK", POD | {"metadata": {"resourceVersion": {}}}),
    "a number for a version": line("BOOKMARK", POD | {"metadata": {"resourceVersion": 5}}),
    "a long version": line("BOOKMARK", POD | {"metadata": {"resourceVersion": "1" * 5_000}}),
    "a version of two lines": line("BOOKMARK", POD | {"metadata": {"resourceVersion": "1\n2"}}),
    "half a surrogate pair": line("ADDED", GOOD).replace(b'"worker-3"', b'"\\ud800"'),
    "a raw half": line("ADDED", GOOD).replace(b'"worker-3"', b'"\xed\xa0\x80"'),
    "half a pair for a key": line("ADDED", GOOD).replace(b'"nodeName"', b'"\\udfff"'),
    "no UTF-8": line("ADDED", GOOD).replace(b'"worker-3"', b'"\xff"'),
    "UTF-16": line("ADDED", GOOD).decode().encode("utf-16"),
    "deep": b'{"type":"ADDED","object":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep, but not too deep for JSON": line("ADDED", GOOD).replace(b'"10.0.0.1"', b"[" * 700 + b"]" * 700),
    "an endless number": line("ADDED", GOOD).replace(b'"7"', b"7" * 5_000),
    "more than an int64": line("ADDED", GOOD).replace(b'"7"', b"7" * 25),
    "more than a double": line("ADDED", GOOD).replace(b'"7"', b"1e999"),
    "NaN": line("ADDED", GOOD).replace(b'"7"', b"NaN"),
    "a million of nothing": line("ADDED", GOOD | {"extra": [[]] * 1_000_000}),
    "a number for a name": line("ADDED", GOOD | {"metadata": GOOD["metadata"] | {"name": 7}}),
    "a way out for a namespace": line("ADDED", GOOD | {"metadata": GOOD["metadata"] | {"namespace": ".."}}),
    "a text for labels": line("MODIFIED", GOOD | {"metadata": GOOD["metadata"] | {"labels": "x"}}),
    "a number for a label with an odd key": line(
        "ADDED", GOOD | {"metadata": GOOD["metadata"] | {"labels": {"a\n\x1b[1m": 1}}}
    ),
    "numbers in annotations": line("MODIFIED", GOOD | {"metadata": GOOD["metadata"] | {"annotations": {"a": 1}}}),
    "an object for addresses": line("MODIFIED", GOOD | {"status": GOOD["status"] | {"podIPs": {"ip": "10.0.0.1"}}}),
    "a text for a status": line("MODIFIED", GOOD | {"status": "x"}),
    "gone, but nobody": line("DELETED", GOOD | {"metadata": {"resourceVersion": "7", "uid": 5}}),
}
#: Of those, the ones that tell the version up to which the watch has come.
WITH_VERSION = (
    "deep, but not too deep for JSON", "a number for a name",
    "a way out for a namespace", "a text for labels", "numbers in annotations", "a number for a label with an odd key",
    "an object for addresses", "a text for a status", "gone, but nobody",
)  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_line_that_makes_no_sense_is_passed_over_and_counted(case: str) -> None:
    feed = PodFeed(None, label="app")  # type: ignore[arg-type]  # nothing is asked
    change = feed.changes.read(BAD[case])
    assert change.bad.isprintable()
    assert (change.pod, change.gone, change.end_of_list) == (None, "", False)
    assert change.version == ("7" if case in WITH_VERSION else "")
    assert (feed.refused, feed.changes.gaps, feed.changes.garbled) == (1, True, True)
    assert feed.changes.read(line("ADDED", GOOD)).pod is not None
    assert (feed.refused, feed.changes.gaps, feed.changes.garbled) == (1, True, False)


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    feed = PodFeed(None)  # type: ignore[arg-type]  # nothing is asked
    twice = line("ADDED", GOOD).replace(b'"phase"', b'"podIP": "10.9.9.9", "phase"')
    found = feed.changes.read(twice).pod
    assert found is not None
    assert found.addresses == ("10.0.0.1",)


def test_a_pod_that_is_gone_is_gone_whatever_else_its_object_says() -> None:
    feed = PodFeed(None)  # type: ignore[arg-type]  # nothing is asked
    change = feed.changes.read(line("DELETED", GOOD | {"status": []}))
    assert (change.pod, change.gone, bool(change.bad)) == (None, "uid-a", True)


NO_STATUS: dict[str, object] = {
    "null": None,
    "a list": [],
    "empty": {},
    "a text": "x",
    "a code": {"code": 410},
    "no version": {"kind": "Status", "code": 410},
    "a text for a code": status(410) | {"code": "410"},
    "a code of success": status(200),
    "a pod": GOOD,
}


@pytest.mark.parametrize("case", NO_STATUS)
def test_an_error_line_without_a_status_is_the_api_server_being_away(case: str) -> None:
    obj = NO_STATUS[case]
    feed = PodFeed(None)  # type: ignore[arg-type]  # nothing is asked
    with pytest.raises(ApiError) as caught:
        feed.changes.read(line("ERROR", obj))
    assert (caught.value.status, caught.value.transient) == (502, True)


# -- the watch goes on --------------------------------------------------------------------------------------------


class Stream:
    """A watch that tells some lines, and then nothing until it is closed, or is over."""

    def __init__(self, lines: list[bytes], *, quiet: bool) -> None:
        self._lines, self._quiet = lines, quiet
        self._closed = threading.Event()

    def __enter__(self) -> Iterator[bytes]:
        return self._all()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()

    def _all(self) -> Iterator[bytes]:
        yield from self._lines
        if self._quiet:
            self._closed.wait(30)


class Cluster:
    """An API server that lists ``pages`` and has a stream for each watch, the last one for all that follow."""

    def __init__(self, pages: Callable[[str], dict[str, Any]], *streams: list[bytes], quiet: bool = True) -> None:
        self._page, self._streams, self._quiet = pages, streams, quiet
        self.lists, self.versions, self.asked = 0, list[str](), 0

    def list_pods_page(self, *, continue_token: str = "", **_: Any) -> dict[str, Any]:
        self.lists += not continue_token
        self.asked += 1
        return self._page(continue_token)

    def watch_pods(self, *, resource_version: str, initial_events: bool = False, **_: Any) -> Stream:
        if initial_events:
            raise ApiError("it does not stream", status=400)
        at = min(len(self.versions), len(self._streams) - 1)
        self.versions.append(resource_version)
        return Stream(self._streams[at], quiet=self._quiet)


def page(*pods: object, token: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "1", "continue": token}, "items": list(pods)}


class Followed:
    """A watch of a cluster's pods, with everything around it."""

    def __init__(self, cluster: Any, *, selector: str = "") -> None:
        self.interruptions: list[str] = []
        clock = OwnClock()
        self.pods = LocalPods(node="", clock=clock)
        self.reflector = Reflector(
            cluster,
            self.pods,
            field_selector=selector,
            label="app",
            node="",
            ranges=PodRanges(),
            hooks=Hooks(lambda _: None, lambda: None, lambda: None, self.interruptions.append),
            clock=clock,
        )

    def __enter__(self) -> Followed:
        self.reflector.start()
        return self

    def __exit__(self, *_: object) -> None:
        alive = self.reflector._thread.is_alive()
        self.reflector.stop()
        assert alive, "the thread had ended"

    def knows(self, address: str) -> bool:
        return bool(owned(self.pods.intervals(address), time.time_ns() // 1000).pods)


def wait_for(condition: Callable[[], object], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(reflector, "BACKOFF_CAP", 0.02)


def test_a_watch_goes_on_after_all_of_that() -> None:
    """No new watch, no new list: the line after the bad ones is taken."""
    lines = [line("ADDED", GOOD), *BAD.values(), line("ADDED", numbered("b", "10.0.0.2", 9))]
    cluster = Cluster(lambda _: page(), lines)
    with Followed(cluster) as followed:
        wait_for(lambda: followed.knows("10.0.0.2"))
        assert followed.knows("10.0.0.1")
        assert followed.pods.freshness.current()
        assert (cluster.lists, cluster.versions) == (1, ["1"])
        assert (followed.reflector.refused, followed.reflector.trouble, followed.interruptions) == (len(BAD), "", [])


def test_what_may_be_missing_is_listed_when_the_watch_is_over_but_not_again_and_again() -> None:
    pods = [GOOD]
    cluster = Cluster(lambda _: page(*pods), [line("ADDED", GOOD), b"{]"], quiet=False)
    with Followed(cluster) as followed:
        wait_for(lambda: len(cluster.versions) > 20, 10)
        assert cluster.lists == 2, "once for what may be missing, however often there is a bad line"
        assert followed.interruptions.count("garbage") == 1


def test_a_bad_line_at_the_begin_of_every_watch_neither_ends_nor_spins_anything() -> None:
    cluster = Cluster(lambda _: page(GOOD), [b"{]"], quiet=False)
    with Followed(cluster) as followed:
        wait_for(lambda: len(cluster.versions) > 10, 10)
        assert cluster.lists <= 2
        assert "is no watch" in followed.reflector.trouble
        assert not followed.pods.freshness.current()
        assert followed.knows("10.0.0.1")


def test_what_makes_no_sense_for_long_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "BACKOFF_CAP", 5.0)
    monkeypatch.setattr(reflector, "BACKOFF_FIRST", 5.0)
    cluster = Cluster(lambda _: page(), [line("ADDED", GOOD), *[b"x"] * 10 * MAX_BAD_LINES])
    with Followed(cluster) as followed:
        wait_for(lambda: followed.reflector.trouble)
        assert followed.reflector.refused == MAX_BAD_LINES
        assert not followed.pods.freshness.current()


def test_a_gateways_streamed_page_is_no_watch(tmp_path: Path) -> None:
    """200 and chunks of HTML: the pods are not followed, whatever was said of that before."""

    def sign_in(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED + chunk(b"<html>\n<h1>Sign in</h1>\n</html>\n") + chunk(b""))

    with raw(tmp_path, sign_in) as (api, server), Followed(api) as followed:
        wait_for(lambda: len(server.heads) > 6, 10)
        assert followed.reflector.trouble
        assert not followed.pods.freshness.ready()
        assert not followed.pods.freshness.current()


# -- lists have an end --------------------------------------------------------------------------------------------


def test_a_list_passes_over_what_is_no_pod() -> None:
    odd = [GOOD | {"status": 5}, {"metadata": {"name": "x"}}, GOOD | {"metadata": []}]
    with Followed(Cluster(lambda _: page(*odd, GOOD, 7), [])) as followed:
        wait_for(lambda: followed.knows("10.0.0.1"))
        assert followed.reflector.refused == 3
        assert len(followed.pods) == 1


@pytest.mark.parametrize("empty", [True, False], ids=["empty pages", "the same pods again"])
@pytest.mark.parametrize("same", [True, False], ids=["one token", "ever new tokens"])
def test_a_list_that_goes_on_for_ever_is_none(empty: bool, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listwatch, "MAX_PAGES", 50)
    token = iter(range(10**9))
    cluster = Cluster(lambda _: page(*[] if empty else [GOOD], token="t" if same else str(next(token))), [])
    feed = PodFeed(cluster)
    with pytest.raises(ApiError) as caught:
        feed.all()
    assert caught.value.reason == "BadResponse"
    assert cluster.asked == (2 if same else 50)


def test_there_are_only_so_many_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listwatch, "MAX_PODS_OF_NODE", 100)
    token = iter(range(10**9))

    def more(_: str) -> dict[str, Any]:
        at = next(token)
        return page(*(numbered(f"p{at}-{n}", "10.0.0.1") for n in range(30)), token=str(at))

    cluster = Cluster(more, [])
    with pytest.raises(ApiError, match="more than 100 pods"):
        PodFeed(cluster, field_selector="spec.nodeName=a").all()
    assert cluster.asked == 4
    endless = [line("ADDED", numbered(f"p{n}", "10.0.0.1", n + 2)) for n in range(300)]
    with Followed(Cluster(lambda _: page(), endless), selector="spec.nodeName=a") as followed:
        wait_for(lambda: followed.reflector.trouble)
        wait_for(lambda: len(followed.pods) <= 101)
        assert "more than 100 pods" in followed.reflector.trouble


def test_names_are_not_listed_for_ever() -> None:
    token = iter(range(10**9))

    class Endless:
        def list_nodes_page(self, **_: Any) -> dict[str, Any]:
            return page({"metadata": [], "status": 7}, token=str(next(token)))

        list_services_page = list_nodes_page

    names = ClusterNames(Endless(), ranges=PodRanges(), nodes=True)
    names.start()
    wait_for(names._settled.is_set)
    names.stop()
    assert next(token) < 200
    assert names.name("10.0.0.1") == ""


# -- fuzzers ------------------------------------------------------------------------------------------------------


def recorded() -> list[dict[str, Any]]:
    """Lines and pods of a real API server, as lines of a watch."""
    lines: list[dict[str, Any]] = []
    for name in ("11-pods-watch-by-node", "13-pods-watchlist", "43-pods-watch-left-selector", "51-pods-watch-bookmark"):
        lines += json.loads((WIRE / f"{name}.json").read_text())["response"]["stream"]
    for name in (
        "44-pod-terminating",
        "45-pod-calico-released",
        "46-pod-finished",
        "47-pod-mirror",
        "48-pod-realistic",
    ):
        body = json.loads((WIRE / f"{name}.json").read_text())["response"]["body"]
        lines += [{"type": "MODIFIED", "object": POD | obj} for obj in body.get("items", [body])]
    return lines


@pytest.mark.fuzz
def test_whatever_a_line_holds_what_is_taken_over_can_be_kept() -> None:
    """Nothing is raised but for an ERROR, and what comes of a pod fits into a text, a path and the state."""
    chance, seed = source("watch lines")
    lines = recorded()
    assert all(not PodFeed(None).changes.read(json.dumps(event).encode()).bad for event in lines)  # type: ignore[arg-type]
    store = Store.in_memory()
    taken = 0
    for number in range(cases(4_000)):
        original = chance.choice(lines)
        data = mutated(chance, original) if chance.random() < 0.8 else damaged(chance, json.dumps(original).encode())
        where = (seed, number)
        feed = PodFeed(None, label="app", node="node1")  # type: ignore[arg-type]  # nothing is asked
        try:
            change = feed.changes.read(data)
        except ApiError:
            assert b"ERROR" in data, where
            continue
        assert change.bad.isprintable(), where
        assert len(change.version) <= 128, where
        if change.pod is None:
            continue
        taken += 1
        found = change.pod
        assert found.ref.namespace not in ("", ".", ".."), where
        assert "/" not in found.ref.namespace + found.ref.name, where
        texts = (*found.ref, found.key, found.node, *found.addresses, *found.host_addresses)
        assert all(text.isascii() and text.isprintable() and len(text) <= 253 for text in texts), where
        ownership = Ownership(node="node1")
        ownership.put(found._replace(node="node1"), now_us=1_800_000_000_000_000, live=True)
        ownership.put(found._replace(node="node1", leaving=True), now_us=1_800_000_001_000_000, live=True)
        ownership.remove(found.key, now_us=1_800_000_002_000_000, live=True)
        try:
            store.save_intervals(ownership.register.take_local(), news_us=1)
            store.load_intervals()
        except (sqlite3.Error, OverflowError, ValueError) as error:
            pytest.fail(f"{where}: {error!r}")
    store.close()
    assert taken > cases(200)


@pytest.mark.fuzz
def test_the_reader_of_json_raises_nothing_but_value_errors() -> None:
    chance, seed = source("json")
    accepted = 0
    documents = [*ODD, *recorded()[:3]]
    for number in range(cases(6_000)):
        data = damaged(
            chance, chance.choice((mutated(chance, [chance.choice(documents)]), chance.choice(RAW).encode()))
        )
        try:
            value = parse(data)
        except ValueError:
            continue
        accepted += 1
        assert json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), (seed, number)
    assert accepted > cases(300)
