"""Clients of the metrics port that hold on to it."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator

__all__ = ["KINDS", "SCRAPE", "crowd"]

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
#: What each sends at first, and then now and again.
KINDS = {
    "idle": (b"", b""),
    "half a head": (b"GET /metrics HTTP/1.1\r\nHost:", b""),
    "drips": (b"GET /metrics HTTP/1.1\r\nX: ", b"x"),
    "drips headers": (b"GET /metrics HTTP/1.1\r\n", b"X: y\r\n"),
    "does not read": (SCRAPE, b""),
    "reads nothing and goes on": (SCRAPE, SCRAPE),
    "no HTTP": (b"\x16\x03\x01\x02\x00" * 100, b"\x00"),
    "an endless head": (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000, b"x" * 100_000),
}
#: How often they go on, in seconds.
DRIP_S = 0.1
#: Between two connections, in seconds: who takes them has the time for it.
CONNECT_S = 0.001


@contextlib.contextmanager
def crowd(port: int, number: int, kinds: tuple[str, ...] = tuple(KINDS), *, returning: bool = True) -> Iterator[None]:
    """So many connections, of all the kinds; whoever is thrown out comes back if they are ``returning``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    over = threading.Event()
    work = threading.Thread(target=_hold, args=(port, number, kinds, over, returning), name="crowd")
    work.start()
    try:
        yield
    finally:
        over.set()
        work.join()


def _hold(port: int, number: int, kinds: tuple[str, ...], over: threading.Event, returning: bool) -> None:
    held: dict[int, socket.socket] = {}
    come = set(range(number))
    while not over.is_set():
        for each in sorted(come):
            over.wait(CONNECT_S)
            held[each] = _connect(port)
            _send(held[each], KINDS[kinds[each % len(kinds)]][0])
        come.clear()
        over.wait(DRIP_S)
        for each, connection in list(held.items()):
            if not _send(connection, KINDS[kinds[each % len(kinds)]][1]):
                held.pop(each).close()
                if returning:
                    come.add(each)
    for connection in held.values():
        connection.close()


def _connect(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that an answer is not just taken in
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    return connection


def _send(connection: socket.socket, data: bytes) -> bool:
    """Whether the connection is still there."""
    try:
        connection.send(data)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
