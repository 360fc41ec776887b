"""The metrics port against clients that hold on to it: little is taken, and there is a turn for everybody."""

from __future__ import annotations

import contextlib
import gzip
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from kiptail.daemon.metrics import Metrics, Reading
from kiptail.daemon.scrapes import BACKLOG, CONNECTIONS, HEAD_BYTES, MetricsServer
from tests.support.hostile_clients import KINDS, SCRAPE, crowd
from tests.support.journald import until
from tests.support.processes import cpu_seconds, descriptors, threads
from tests.support.scrape import get

#: A server in a process of its own, whose answer is too large for a socket's buffers; its REQUEST_S is an argument.
SERVER = """
import sys
from kiptail.daemon import scrapes
scrapes.REQUEST_S = float(sys.argv[1])
from kiptail.daemon.metrics import Metrics, Reading
metrics = Metrics()
metrics.read_from(lambda: [Reading("x", "X" * 8_000_000, 1)])
server = scrapes.MetricsServer(metrics.registry, ("127.0.0.1", 0))
exec(sys.argv[2])
print(server._server.server_port, flush=True)
sys.stdin.read()
server.close()
"""
#: All descriptors but one are in use.
EXHAUSTED = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
while os.open("/dev/null", os.O_RDONLY) < 46:
    pass
"""


@contextlib.contextmanager
def served(request_s: float = 10.0, then: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-W", "error", "-c", SERVER, str(request_s), then]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        _, said = process.communicate(timeout=20)
        assert said == "", "nothing is logged of what clients do"


def closed(connections: dict[str, tuple[socket.socket, bytes]], patience: float) -> dict[str, float]:
    """After how many seconds the server has ended each of the connections; each goes on sending its bytes."""
    began = time.monotonic()
    ended: dict[str, float] = {}
    while len(ended) < len(connections) and time.monotonic() < began + patience:
        for name, (connection, drip) in connections.items():
            poll = select.poll()
            poll.register(connection, select.POLLRDHUP)
            try:
                if name not in ended and not poll.poll(10):
                    connection.send(drip)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            ended.setdefault(name, time.monotonic() - began)
    return ended


def test_a_request_has_one_deadline_whatever_the_client_does() -> None:
    with served(1.0) as (process, port), contextlib.ExitStack() as stack:
        before = descriptors(process.pid)
        connections = {}
        for kind, (first, drip) in KINDS.items():
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setblocking(False)
            connection.send(first)
            connections[kind] = connection, drip
        ended = closed(connections, 6)
        assert set(ended) == set(KINDS)
        assert max(ended.values()) < 3
        until(lambda: descriptors(process.pid) == before, "the server has let go of them")


def test_a_crowd_takes_little_and_everybody_has_a_turn() -> None:
    with served() as (process, port):
        assert get(port)[0] == 200
        files, before = descriptors(process.pid), threads(process.pid)
        with crowd(port, 250):
            began, cpu, turns, taken = time.monotonic(), cpu_seconds(process.pid), 0, []
            while time.monotonic() < began + 2:
                with contextlib.suppress(OSError):  # its turn was over before it was answered
                    assert get(port, "/-/ready", timeout=2) == (200, "ready\n")
                    turns += 1
                taken.append((descriptors(process.pid) - files, threads(process.pid) - before))
            used = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - began)
        assert turns
        assert max(number for number, _ in taken) <= CONNECTIONS + 1
        assert max(number for _, number in taken) <= CONNECTIONS + 1
        assert used < 0.9


def test_without_descriptors_no_core_is_busy() -> None:
    with served(then=EXHAUSTED) as (process, port), socket.create_connection(("127.0.0.1", port)) as waiting:
        time.sleep(0.5)
        cpu = cpu_seconds(process.pid)
        time.sleep(1.5)
        assert cpu_seconds(process.pid) - cpu < 0.2
        waiting.close()


def test_the_last_descriptors_are_not_for_scrapes() -> None:
    then = EXHAUSTED.replace("(48, 48)", "(100, 100)")
    with served(then=then) as (process, port), socket.create_connection(("127.0.0.1", port)) as connection:
        assert closed({"": (connection, b"")}, 5)
        assert descriptors(process.pid) < 60


HEADS = [
    (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n", b"431"),
    (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * (HEAD_BYTES // 6 + 1) + b"\r\n", b"431"),
    (b"GET /" + b"x" * HEAD_BYTES + b" HTTP/1.1\r\n\r\n", b"431"),
    (b"GET /metrics HTTP/9.9\r\n\r\n", b"505"),
    (b"GET\r\n\r\n", b"400"),
    (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"501"),
    (b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n", b"501"),
    (b"GET /metrics HTTP/1.1\r\nAccept: text/plain;version=x\r\n\r\n", b""),
    (b"GET /metrics?name[]=%ff&name[]=kiptail HTTP/1.1\r\n\r\n", b"200"),
    (b"GET //[/metrics HTTP/1.1\r\n\r\n", b""),
    (b"GET /metrics?%00%0a HTTP/1.1\r\n\r\n", b"200"),
    (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"404"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[MetricsServer]:
    """One in this process, of no values."""
    server = MetricsServer(Metrics().registry, ("127.0.0.1", 0))
    yield server
    server.close()


@pytest.mark.parametrize(("head", "status"), HEADS, ids=[head[:40] for head, _ in HEADS])
def test_odd_requests_are_answered_without_a_word_in_the_log(
    head: bytes, status: bytes, server: MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    address = server._server.server_address
    with socket.create_connection(address[:2], timeout=5) as connection:
        with contextlib.suppress(OSError):  # answered before all of it was read
            connection.sendall(head)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    assert status in answer[:800]  # without a head, where the request's first line was none
    assert answer
    assert capfd.readouterr() == ("", "")


def test_a_value_that_cannot_be_read_is_an_answer_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Iterator[Reading]:
        raise ValueError("no\nvalue")

    metrics = Metrics()
    metrics.read_from(broken)
    server = MetricsServer(metrics.registry, ("127.0.0.1", 0))
    port = server._server.server_port
    assert [get(port)[0] for _ in range(3)] == [500] * 3
    server.close()
    assert [record.getMessage() for record in caplog.records] == [
        "a request to the metrics port failed: ValueError: no value"
    ]


def test_scrapes_may_be_compressed_and_be_of_either_format(server: MetricsServer) -> None:
    headers = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"http://127.0.0.1:{server._server.server_port}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - a server of ours
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = gzip.decompress(answer.read()) if answer.headers["Content-Encoding"] == "gzip" else b"# EOF\n"
        assert text.endswith(b"# EOF\n")


def test_a_backlog_is_gone_through_within_a_scrapes_time() -> None:
    from kiptail.daemon.scrapes import PACE_S  # noqa: PLC0415

    assert BACKLOG * PACE_S < 5


def test_a_stop_ends_connections_at_once() -> None:
    server = MetricsServer(Metrics().registry, ("127.0.0.1", 0))
    with socket.create_connection(server._server.server_address[:2], timeout=5) as connection:
        connection.sendall(SCRAPE[:10])
        time.sleep(0.3)
        began = time.monotonic()
        server.close()
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 2
