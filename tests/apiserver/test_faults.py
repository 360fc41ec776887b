"""The test server's faults do what they promise."""

import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable

import pytest

from tests.apiserver import ApiServer, certificates
from tests.apiserver.client import Client, pages
from tests.apiserver.objects import EVENTS, event, pod


def test_a_status_fault_meets_what_it_matches_as_often_as_said(client, server):
    server.store.ensure_namespace("team-a")
    fault = server.faults.status(429, retry_after=1, method="POST", path=EVENTS, count=2)
    assert client.get(EVENTS).status == 200
    for _ in range(2):
        limited = client.post(EVENTS, event("e"))
        assert (limited.status, limited.headers["Retry-After"], limited.body["reason"]) == (
            429,
            "1",
            "TooManyRequests",
        )
    assert client.post(EVENTS, event("e")).status == 201
    assert fault.hits == 2


def test_a_fault_may_be_plain_text_or_any_body_and_match_anything(client, server):
    with server.faults.status(503, text="upstream connect error", match=lambda request: request.verb == "list"):
        broken = client.get("/api/v1/pods")
        assert (broken.status, broken.body) == (503, "upstream connect error")
        assert client.get("/api/v1/nodes/n").status == 404
    with server.faults.status(500, body={"kind": "Odd"}):
        assert client.get("/version").body == {"kind": "Odd"}
    assert client.get("/api/v1/pods").status == 200
    server.faults.status(500)
    server.faults.status(500)
    server.faults.clear()
    assert client.get("/version").status == 200


def test_slow_answers_and_pages(client, server):
    for number in range(2):
        server.pods.put(pod(f"p{number}"))
    slow = server.faults.slow_pages(0.1)
    server.faults.status(500, count=1)
    assert client.get("/api/v1/pods?limit=1").status == 500
    assert client.get("/api/v1/pods").status == 200
    assert slow.hits == 1
    began = time.monotonic()
    assert len(pages(client, "/api/v1/pods", 1)) == 2
    assert time.monotonic() - began >= 0.2


def test_a_hung_request_is_answered_when_released(server):
    with Client(server) as caller:
        fault = server.faults.hang(path="/api/v1/pods")
        assert caller.get("/version").status == 200
        caller.patience(0.3)
        with pytest.raises(TimeoutError):
            caller.get("/api/v1/pods")
        caller.patience(5)
        assert [request.status for request in server.requests(path_prefix="/api/v1/pods")] == [None]
        assert caller.get("/version").status == 200
        fault.release()
        server.wait_for(lambda: server.requests(path_prefix="/api/v1/pods", status=200))
        assert caller.get("/api/v1/pods").status == 200


def test_a_reset_connection_is_reset(server):
    """Seen below TLS: Python 3.11's ssl shows a reset as an end of file."""
    server.faults.reset(count=1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(server.ca_file))
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        while tls.version() is None:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
        tls.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: plain.recv(65536), b""))
    with Client(server) as caller:
        assert caller.get("/version").status == 200


def watch_path(server):
    return f"/api/v1/pods?watch=1&resourceVersion={server.store.version}"


def read_cut(watch):
    with pytest.raises(http.client.IncompleteRead):
        watch.rest()
    assert watch.buffered.startswith(b'{"type":"')


def read_reset(watch):
    # Python 3.11's ssl shows a reset as an end of file.
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        watch.raw()


def read_garbage(watch):
    with pytest.raises(json.JSONDecodeError):
        watch.next()


def read_silence(watch):
    watch.patience(0.2)
    with pytest.raises(TimeoutError):
        watch.raw()


def read_end(watch):
    assert watch.rest() == []


def read_gone(watch):
    [line] = watch.rest()
    assert (line["type"], line["object"]["code"]) == ("ERROR", 410)


def read_error(watch):
    [line] = watch.rest()
    assert (line["type"], line["object"]["code"]) == ("ERROR", 500)


DISTURBANCES: dict[str, Callable] = {
    "cut": read_cut,
    "reset": read_reset,
    "garbage": read_garbage,
    "silence": read_silence,
    "end": read_end,
    "gone": read_gone,
    "error": read_error,
}


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_running_watch_is_disturbed(client, server, disturbance):
    with client.watch(watch_path(server)) as watch:
        server.wait_for(server.watches)
        server.pods.put(pod("before"))
        assert watch.short(1) == [("ADDED", "before")]
        assert server.disturb(disturbance, path="/api/v1/pods") == 1
        if disturbance == "silence":
            server.pods.put(pod("unseen"))
        DISTURBANCES[disturbance](watch)
    with client.watch(watch_path(server)) as watch:
        server.pods.put(pod("after"))
        assert watch.short(1) == [("ADDED", "after")]


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_watch_is_disturbed_after_some_lines(client, server, disturbance):
    server.bookmark_period = 0.05
    server.faults.watch(disturbance, after_lines=2, count=1)
    with client.watch(watch_path(server)) as watch:
        for number in range(3):
            server.pods.put(pod(f"p{number}"))
        assert watch.short(2) == [("ADDED", "p0"), ("ADDED", "p1")]
        DISTURBANCES[disturbance](watch)
        if disturbance == "garbage":
            assert watch.short(1) == [("ADDED", "p2")]


def test_a_silent_watch_is_not_ended_by_its_timeout(client, server):
    server.faults.watch("silence")
    with client.watch("/api/v1/pods?watch=1&timeoutSeconds=1") as watch:
        watch.patience(1.3)
        with pytest.raises(TimeoutError):
            watch.raw()


def test_a_frozen_server_answers_nothing_until_it_thaws(server):
    with Client(server) as caller, caller.watch(watch_path(server)) as watch:
        assert caller.get("/version").status == 200
        server.freeze()
        caller.patience(0.2)
        watch.patience(0.2)
        with pytest.raises(TimeoutError):
            caller.get("/version")
        with pytest.raises(TimeoutError), Client(server, timeout=0.2) as other:
            other.get("/version")
        server.pods.put(pod("meanwhile"))
        with pytest.raises(TimeoutError):
            watch.raw()
        server.thaw()
        caller.patience(5)
        server.wait_for(lambda: len(server.requests(path_prefix="/version", status=200)) >= 2)
        assert caller.get("/version").status == 200


def test_stopped_it_refuses_and_started_again_it_goes_on(server):
    port = server.port
    server.pods.put(pod("web"))
    version = server.store.version
    with Client(server) as client, client.watch(watch_path(server)) as watch:
        assert client.get("/version").status == 200
        server.stop()
        with pytest.raises((OSError, http.client.HTTPException)):
            watch.next()
        with pytest.raises((OSError, http.client.HTTPException)):
            client.get("/version")
        with pytest.raises(ConnectionRefusedError):
            client.get("/version")
        server.stop()
        assert server.start().port == port
        assert client.get("/api/v1/pods").names == ["web"]
        with pytest.raises(RuntimeError):
            server.start()
        server.stop()
        server.start(clear=True)
    with Client(server) as client:
        assert client.get("/api/v1/pods").names == []
        assert client.get(f"/api/v1/pods?resourceVersion={version}").status == 504


def test_a_stop_ends_whatever_is_under_way_and_leaves_nothing(tmp_path):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    certificates.authority()
    before, threads = descriptors(), threading.active_count()
    server = ApiServer().start()
    server.faults.hang(path="/healthz")
    server.faults.delay(60, path="/livez")
    with Client(server) as idle, Client(server) as hung, Client(server) as slow, Client(server) as watching:
        assert idle.get("/version").status == 200
        with watching.watch("/api/v1/pods?watch=1"), socket.create_connection(("127.0.0.1", server.port)):
            for caller, path in ((hung, "/healthz"), (slow, "/livez")):
                caller._send(caller._connection, "GET", path, None, None)
                server.wait_for(lambda path=path: server.requests(path_prefix=path))
            server.freeze()
            began = time.monotonic()
            server.close()
            assert time.monotonic() - began < 5
    assert threading.active_count() == threads
    assert descriptors() == before


def test_the_log_of_requests(client, server):
    server.store.ensure_namespace("team-a")
    client.post(EVENTS, event("e"))
    client.get("/api/v1/pods?limit=1")
    client.get("/api/v1/pods/")
    [posted] = server.requests("POST")
    assert (posted.path, posted.status, posted.user, posted.verb) == (
        EVENTS,
        201,
        "kubernetes-admin",
        "create",
    )
    assert json.loads(posted.body)["reason"] == "PacketDrop"
    assert posted.sent > 100
    assert [request.query for request in server.requests(verb="list", path_prefix="/api/v1/pods")] == [
        {"limit": "1"},
        {},
    ]
    assert server.requests(status=404) == server.requests(user="nobody") == []
    server.log.clear()
    assert server.requests() == []


def test_waiting_gives_the_value_or_fails(server):
    timer = threading.Timer(0.05, server.pods.put, [pod("web")])
    timer.start()
    assert server.wait_for(server.pods)[0]["metadata"]["name"] == "web"
    timer.join(5)
    with pytest.raises(AssertionError, match="no second pod"):
        server.wait_for(lambda: len(server.pods) > 1, timeout=0.05, message="no second pod")


def test_a_kept_alive_post_is_quick(client, server):
    server.store.ensure_namespace("team-a")
    times = []
    for number in range(50):
        began = time.perf_counter()
        client.post(EVENTS, event(f"e{number}"))
        times.append(time.perf_counter() - began)
    assert sorted(times)[25] < 0.02, "Nagle's algorithm and delayed acknowledgements make it 0.04 s"
