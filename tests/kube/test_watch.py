"""Watches of the stand-in API server, and of servers that behave badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kiptail.errors import ApiError
from kiptail.kube import watch as module
from kiptail.kube.api import KubeApi, WatchStream
from tests.apiserver import ApiServer
from tests.support.kube import (
    AT_ONCE,
    CHUNKED,
    LIST,
    POD,
    SHORT,
    chunk,
    drip_chunks,
    failure,
    late,
    list_pods,
    raw,
    reply,
    server_tls,
    watch,
)


def kinds(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["type"] for line in lines]


def test_a_watch_gives_lines_and_ends_without_an_error(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    version = list_pods(api)["metadata"]["resourceVersion"]
    with watch(api, resource_version=version, timeout_s=1, field_selector="spec.nodeName=node1") as stream:
        server.pods.put(POD)
        server.pods.delete("web", namespace="team-a")
        lines = list(stream)
    assert kinds(lines)[:2] == ["ADDED", "DELETED"]
    assert set(kinds(lines)[2:]) <= {"BOOKMARK"}
    assert all(line == line.strip() for line in lines)
    assert server.requests(verb="watch")[0].query == {
        "watch": "1",
        "timeoutSeconds": "1",
        "resourceVersion": version,
        "fieldSelector": "spec.nodeName=node1",
        "allowWatchBookmarks": "true",
    }


def test_a_watch_may_begin_with_the_state(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.pods.put(POD)
    with watch(opened(), resource_version="", initial_events=True) as stream:
        first, second = json.loads(next(stream)), json.loads(next(stream))
    assert first["type"] == "ADDED"
    assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_an_error_event_is_a_line_like_others(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with server.faults.watch("gone"), watch(opened()) as stream:
        lines = list(stream)
    assert json.loads(lines[-1])["object"]["code"] == 410


def test_a_watch_that_is_refused(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened(token=server.add_user("nobody"))
    with pytest.raises(ApiError) as caught, watch(api):
        pass
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


def test_a_watch_after_a_401_uses_fresh_credentials(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with server.faults.status(401, count=1), watch(opened()) as stream:
        server.pods.put(POD)
        assert kinds([next(stream)]) == ["ADDED"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_lines_may_be_cut_anywhere_by_chunks(tls: bool, tmp_path: Path) -> None:
    lines = [json.dumps({"type": "ADDED", "object": "é" * size}).encode() for size in (0, 1, 70_000, 200_000)]
    data = b"\n".join(lines) + b"\n\n"

    def answer(connection: socket.socket, _: str) -> None:
        pieces = [data[at : at + 1] for at in range(100)] + [data[at : at + 777] for at in range(100, len(data), 777)]
        connection.sendall(CHUNKED + b"".join(chunk(piece) for piece in pieces) + chunk(b""))

    with raw(tmp_path, answer, tls=server_tls() if tls else None) as (api, server), watch(api) as stream:
        assert list(stream) == lines
        with watch(api) as second:
            assert list(second) == lines
        assert all("allowWatchBookmarks=true" in head for head in server.heads)


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (chunk(b'{"type"') + chunk(b""), "ended in the middle of a line"),
        (chunk(b'{"type"'), "cut off"),
        (b"5\r\n{", "cut off"),
        (b"xyz\r\n", "cut off"),
    ],
    ids=["line", "stream", "chunk", "garbage"],
)
def test_a_watch_that_is_cut_off(ending: bytes, expected: str, tmp_path: Path) -> None:
    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED + chunk(b'{"type":"ADDED"}\n') + ending)
        connection.shutdown(socket.SHUT_RDWR)

    with raw(tmp_path, answer) as (api, _), watch(api) as stream:
        assert next(stream) == b'{"type":"ADDED"}'
        error = failure(lambda: next(stream))
        assert error.unreachable
        assert expected in str(error)


@pytest.mark.parametrize("disturbance", ["cut", "reset"])
def test_a_watch_that_the_server_breaks(disturbance: str, server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.pods.put(POD)
    with server.faults.watch(disturbance, after_lines=1), watch(opened()) as stream:
        next(stream)
        assert failure(lambda: next(stream)).unreachable


def test_silence_is_an_error(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with watch(opened(), silence_s=0.3) as stream:
        started = time.monotonic()
        error = failure(lambda: next(stream))
    assert 0.25 <= time.monotonic() - started < AT_ONCE
    assert error.unreachable
    assert error.silent
    assert str(error) == "cannot watch pods: nothing came for 0.3 s"


def test_bytes_without_lines_are_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_SLACK_S", 0.4)
    with raw(tmp_path, drip_chunks) as (api, _), watch(api, timeout_s=0) as stream:
        error = failure(lambda: next(stream))
    assert "no complete answer within 0.4 s" in str(error)
    assert not error.silent


def test_a_watch_goes_on_longer_than_a_request(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with watch(opened(request_timeout_s=SHORT)) as stream:
        time.sleep(2 * SHORT)
        server.pods.put(POD)
        assert kinds([next(stream)]) == ["ADDED"]


def test_a_watch_gets_its_headers_in_time_or_not_at_all(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    stream = watch(opened(request_timeout_s=SHORT))
    with server.faults.hang():
        late(stream.__enter__)


def test_a_line_that_does_not_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_LINE_BYTES", 1 << 20)

    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(chunk(b"x" * 100_000))

    with raw(tmp_path, answer) as (api, _), watch(api) as stream:
        error = failure(lambda: next(stream))
        assert error.reason == "BadResponse"
        assert "a line of more than 1 MiB" in str(error)


def test_a_page_is_no_watch(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b"{}\n")) as (api, _), pytest.raises(ApiError, match="is no stream"), watch(api):
        pass


def closing_later(stream: WatchStream | KubeApi) -> threading.Timer:
    timer = threading.Timer(0.2, stream.close)
    timer.start()
    return timer


@pytest.mark.parametrize("closed_by", ["stream", "client"])
@pytest.mark.parametrize("transport", ["https", "https, used before", "http", "http, closed at the end"])
def test_closing_a_watch_ends_a_blocked_read_at_once(closed_by: str, transport: str, tmp_path: Path) -> None:
    def answer(connection: socket.socket, head: str) -> None:
        if "watch=1" not in head:
            reply(json.dumps(LIST).encode())(connection, head)
            return
        end = b"\r\nConnection: close\r\n\r\n" if "closed" in transport else b"\r\n\r\n"
        connection.sendall(CHUNKED.replace(b"\r\n\r\n", end) + chunk(b'{"type":"ADDED"}\n'))
        connection.recv(1)

    tls = server_tls() if "https" in transport else None
    with raw(tmp_path, answer, tls=tls) as (api, server):
        if "before" in transport:
            list_pods(api)
        stream = watch(api)
        with stream:
            assert next(stream) == b'{"type":"ADDED"}'
            timer = closing_later(stream if closed_by == "stream" else api)
            started = time.monotonic()
            assert list(stream) == []
            assert time.monotonic() - started < AT_ONCE
        timer.join()
        assert server.connections == 1


@pytest.mark.parametrize("phase", ["look-up", "handshake", "headers"])
@pytest.mark.parametrize("closed_by", ["stream", "client"])
def test_closing_a_watch_that_is_still_connecting(
    phase: str,
    closed_by: str,
    server: ApiServer,
    opened: Callable[..., KubeApi],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = opened()
    stream = watch(api)
    released = threading.Event()
    if phase == "look-up":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20))
    elif phase == "handshake":
        server.freeze()
    else:
        server.faults.hang()
    timer = closing_later(stream if closed_by == "stream" else api)
    started = time.monotonic()
    with stream:
        assert list(stream) == []
    assert time.monotonic() - started < AT_ONCE
    released.set()
    timer.join()
    server.thaw()
    server.faults.clear()


def test_a_watch_that_was_closed_before_it_began_asks_nothing(
    server: ApiServer, opened: Callable[..., KubeApi]
) -> None:
    stream = watch(opened())
    stream.close()
    with stream:
        assert list(stream) == []
    assert server.requests() == []


def test_leaving_a_watch_lets_go_of_its_connection(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    server.pods.put(POD)
    with watch(api) as stream:
        next(stream)
    server.wait_for(lambda: not server.watches())
    assert list(stream) == []
    stream.close()
    list_pods(api)
