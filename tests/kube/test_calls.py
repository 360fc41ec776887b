"""No answer, or not in time; and closing."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.kube import calls as module
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.support.kube import (
    AT_ONCE,
    CHUNKED,
    EVENT,
    SHORT,
    RawServer,
    chunk,
    drip_chunks,
    failure,
    kubeconfig,
    late,
    list_pods,
    raw,
    reply,
    server_tls,
    watch,
    write,
)


def test_a_server_that_is_down(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    server.stop()
    error = failure(lambda: list_pods(api))
    assert (error.unreachable, error.untrusted, error.transient) == (True, False, True)
    assert str(error) == f"cannot list pods: {server.url}: Connection refused"
    server.start()
    list_pods(api)


def test_a_reset(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    with server.faults.reset():
        error = failure(lambda: list_pods(api))
    assert error.unreachable
    assert str(error).endswith(("reset by peer", "the connection was closed without an answer"))


def test_a_name_that_is_none(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "k", server="https://no-such-host.invalid:6443")
    api = KubeApi.from_kubeconfig(path)
    error = failure(lambda: list_pods(api))
    assert error.unreachable
    assert "https://no-such-host.invalid:6443: " in str(error)
    assert "object at" not in str(error)
    api.close()


def test_http_where_tls_is_expected(tmp_path: Path) -> None:
    with RawServer(reply(b"")) as server:
        cluster = {"server": server.url.replace("http", "https")}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster)), request_timeout_s=5)
        error = failure(lambda: list_pods(api))
        assert error.unreachable
        assert "TLS failed" in str(error) or "cut off" in str(error) or "no answer" in str(error)
        api.close()


def test_a_hanging_server(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened(request_timeout_s=SHORT)
    with server.faults.hang():
        late(lambda: list_pods(api))
        late(lambda: api.create_event("team-a", EVENT))
    list_pods(api)


def test_a_hanging_handshake(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened(request_timeout_s=SHORT)
    server.freeze()
    late(lambda: list_pods(api))
    server.thaw()
    list_pods(api)


def drip_head(connection: socket.socket, _: str) -> None:
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(65)):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drip_body(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def drip_without_length(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


DRIPS = [drip_head, drip_body, drip_chunks, drip_without_length]


@pytest.mark.parametrize("drip", DRIPS, ids=lambda drip: drip.__name__)
def test_a_dripping_server_gets_no_more_time_than_a_silent_one(
    drip: Callable[[socket.socket, str], None], tmp_path: Path
) -> None:
    with raw(tmp_path, drip, tls=server_tls(), request_timeout_s=SHORT) as (api, _):
        late(lambda: list_pods(api))


def test_a_name_server_that_hangs(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"), request_timeout_s=SHORT)
    answered = threading.Event()
    look_up = socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        answered.wait(20)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    late(lambda: list_pods(api))
    answered.set()
    list_pods(api)
    api.close()


CUT: dict[str, bytes] = {
    "no answer": b"",
    "in a line": b"HTTP/1",
    "in the head": b"HTTP/1.1 200",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    "in a chunk": CHUNKED + b"9\r\n{",
    "between chunks": CHUNKED + chunk(b"{}"),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "no chunk": CHUNKED + b"xyz\r\n",
}


@pytest.mark.parametrize("case", CUT)
def test_an_answer_that_is_cut_off(case: str, tmp_path: Path) -> None:
    def cut(connection: socket.socket, _: str) -> None:
        connection.sendall(CUT[case])
        connection.shutdown(socket.SHUT_RDWR)

    with raw(tmp_path, cut) as (api, _):
        error = failure(lambda: list_pods(api))
        assert error.unreachable or error.reason == "BadResponse"
        assert "object at" not in str(error)
        assert "Error" not in str(error)


def test_closing_breaks_off_what_any_thread_is_doing(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    errors: list[ApiError] = []
    with server.faults.hang():
        thread = threading.Thread(target=lambda: errors.append(failure(lambda: list_pods(api))))
        thread.start()
        server.wait_for(server.requests)
        started = time.monotonic()
        api.close()
        thread.join()
    assert time.monotonic() - started < AT_ONCE
    assert "kiptail is closing" in str(errors[0])
    assert "is closed" in str(failure(lambda: list_pods(api)))
    with pytest.raises(ApiError), api.watch_pods(resource_version="0", timeout_s=5):
        pass


def test_a_deadline_does_not_hit_the_next_request_on_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        calls = module.Calls()
        call = calls.new()
        with calls.running(call):
            call.hold(ours)
        call.break_off("late")
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
        calls.close()


def test_one_thread_ends_each_call_in_its_time() -> None:
    calls = module.Calls()
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        limits = (0.3, math.inf, 0.1, 0.2)
        running = [calls.new() for _ in limits]
        for call, seconds in zip(running, limits, strict=True):
            stack.enter_context(calls.running(call))
            call.allow(seconds)
        assert [thread.name for thread in threading.enumerate()].count("kiptail-deadlines") == 1
        for number, seconds in ((2, 0.1), (3, 0.2), (0, 0.3)):
            while not running[number].broken and time.monotonic() < started + AT_ONCE:
                time.sleep(0.005)
            assert time.monotonic() - started >= seconds
        running[0].allow(10)
        calls.close()
    assert [call.broken for call in running] == ["late", "closed", "late", "late"]


def test_a_dead_link_is_found_out_by_keepalive(
    server: ApiServer, opened: Callable[..., KubeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[int, int]] = []

    class Call(module.Call):
        def finish(self) -> None:
            assert self._line is not None
            held.append(
                (
                    self._line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    self._line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                )
            )
            super().finish()

    monkeypatch.setattr(module, "Call", Call)
    list_pods(opened())
    assert held == [(1, 15)]


def test_no_descriptor_is_left(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    def sockets() -> int:
        count = 0
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                count += stat.S_ISSOCK(os.stat(f"/proc/self/fd/{entry}").st_mode)
        return count

    api = opened(request_timeout_s=SHORT)
    list_pods(api)
    before = sockets()
    for _ in range(2):
        list_pods(api)
        with watch(api, timeout_s=5):
            pass
        with server.faults.status(500):
            failure(lambda: list_pods(api))
        with server.faults.hang():
            failure(lambda: list_pods(api))
        list_pods(api)
    server.wait_for(lambda: sockets() <= before, message=f"{sockets()} sockets, before {before}")
