"""The metrics port: ``/metrics`` and ``/-/ready``, for whoever can reach it, within a small share of the process.

Any local user can connect here, so nothing that others do on this port may reach the journal or the API server: there
are few connections at a time (each a descriptor and a thread), new ones come at a pace, a request has one deadline
from its first byte to the last one of its answer, and its head is cut. When all places are taken, the connection that
has had one for longest makes way: whoever wants to be scraped gets a turn while others hold on to theirs.

The handler is prometheus_client's, on the standard library's server. docs/architecture.md says why it is none of the
servers that can be had.
"""

from __future__ import annotations

import contextlib
import io
import logging
import resource
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from kiptail.text import one_line

__all__ = ["MetricsServer"]

log = logging.getLogger(__name__)

#: Connections at a time.
CONNECTIONS = 16
#: From a connection to the end of its answer, in seconds. Prometheus gives a scrape 10 s.
REQUEST_S = 10.0
#: Connections are taken no faster than one in this time, in seconds: so each has a third of a second at least.
PACE_S = 0.02
#: Further ones wait in the kernel, as many as can all be taken within a scrape's time.
BACKLOG = 128
#: Of a request's line and headers, in bytes.
HEAD_BYTES = 16 << 10
#: Of an answer, what waits in the kernel to be read.
SEND_BYTES = 128 << 10
#: Descriptors that are left to the journal and the API server's connections when they run short.
SPARE_DESCRIPTORS = 64
#: How long none are taken after that, in seconds.
SHORTAGE_PAUSE_S = 1.0
READY_PATHS = ("/-/ready", "/healthz")


class MetricsServer:
    """Serves from a thread, and one for each connection."""

    def __init__(
        self, registry: CollectorRegistry, address: tuple[str, int], *, obstacles: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """``obstacles`` gives why kiptail is not ready, in lines. Raises OSError when the address cannot be taken."""
        own = {"registry": registry, "obstacles": staticmethod(obstacles)}
        self._server = _server_class(address[0])(address, type("Handler", (_Handler,), own))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.hang_up()


class _Head(socket.SocketIO):
    """What is read of a connection ends after the head that is allowed."""

    left = HEAD_BYTES

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(memoryview(buffer)[: self.left]) if self.left else 0
        self.left -= size or 0
        return size


class _Handler(MetricsHandler):
    """``/metrics``, and ``/-/ready`` (or ``/healthz``) with what is in the way."""

    # No timeout of its own: the server cuts what takes too long.
    obstacles: Callable[[], Sequence[str]]

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._head = _Head(self.connection, "r")
        self.rfile = io.BufferedReader(self._head)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if not self._head.left:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return bool(self._head.left)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/", "/metrics"):
            self._expose()
        elif path in READY_PATHS:
            obstacles = self.obstacles()
            text = "".join(f"not ready: {one_line(obstacle)}\n" for obstacle in obstacles) or "ready\n"
            self._answer(503 if obstacles else 200, text)
        else:
            self._answer(404, f"there are /metrics and {READY_PATHS[0]}\n")

    def _expose(self) -> None:
        try:
            super().do_GET()
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - a value that cannot be read; an Accept header that the library cannot parse
            self.server.handle_error(self.connection, self.client_address)
            self._answer(500, "the metrics cannot be shown; kiptail's log says why\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self._changed = threading.Condition()
        #: When each connection was taken, by time.monotonic(); the oldest first.
        self._taken: dict[socket.socket, float] = {}
        self._last = -PACE_S
        #: What was said to have gone wrong.
        self._said: set[type[BaseException]] = set()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which can take long while DNS is away, and never use it.
        socketserver.TCPServer.server_bind(self)
        # Connections have it from here. The kernel would take up to 4 MiB for each, and keep it after a close.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Wait for a place, then take one connection. An OSError leaves it, and the next look comes at once."""
        time.sleep(max(0.0, self._last + PACE_S - time.monotonic()))
        with self._changed:
            if len(self._taken) >= CONNECTIONS:
                _cut(next(iter(self._taken)))
                self._changed.wait_for(lambda: len(self._taken) < CONNECTIONS, timeout=PACE_S)
            if len(self._taken) >= CONNECTIONS:
                raise BlockingIOError("all places are taken")
        try:
            connection, address = super().get_request()
            self._last = time.monotonic()
            if connection.fileno() >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS:
                connection.close()
                raise OSError("too few descriptors are left")
        except OSError as error:
            # The connection stays, and so would the core be busy with it.
            log.debug("no connection to the metrics port is taken: %s", error)
            time.sleep(SHORTAGE_PAUSE_S)
            raise
        with self._changed:
            self._taken[connection] = self._last
        return connection, address

    def service_actions(self) -> None:
        """Called several times a second: cut those whose time is over."""
        with self._changed:
            for connection, taken in self._taken.items():
                if time.monotonic() >= taken + REQUEST_S:
                    _cut(connection)

    def close_request(self, request: Any) -> None:
        with self._changed:  # so that nobody cuts a descriptor that is another's already
            super().close_request(request)
            self._taken.pop(request, None)
            self._changed.notify_all()

    def hang_up(self) -> None:
        """Cut all connections, which ends their threads."""
        with self._changed:
            for connection in self._taken:
                _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called in an ``except``, instead of a traceback: who leaves early is no news, and what else fails is once."""
        error = sys.exc_info()[1]
        if error is None or isinstance(error, OSError) or type(error) in self._said:
            return
        self._said.add(type(error))
        log.error("a request to the metrics port failed: %s: %s", type(error).__name__, one_line(str(error), 100))


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_class(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


def _cut(connection: socket.socket) -> None:
    """Wake the thread that reads or writes it, which closes it then; the kernel is not to keep what was not read."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
