"""The port, the threads and the sockets of a server; what it says on them is the business of `connection`."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from typing import Any

from tests.apiserver import certificates

__all__ = ["Network"]

_HANDSHAKE = 10.0
_JOIN = 10.0


class Network:
    """Listens, and gives each connection, after the TLS handshake, to `serve` in a thread of its own.

    It can be frozen, and stopped and started again on the same port. `serve` must return soon once the socket
    is shut and `stopping` is set.
    """

    def __init__(self, port: int, serve: Callable[[ssl.SSLSocket, Any, int], None]) -> None:
        self.port = port
        self.stopping = True
        self._serve_connection = serve
        self._tls = _tls_context()
        self._frozen = False
        self._released = threading.Condition()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._reserved: weakref.finalize[[int], Network] | None = None
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._count = 0
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Between start and stop."""
        return self._acceptor is not None

    @property
    def connections(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._connections)

    def start(self) -> None:
        """Listen; on the same port as before."""
        if self.running:
            raise RuntimeError("already started")
        self._listener = self._bind()
        self._listener.listen(512)
        self.stopping = False
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name="apiserver-accept", daemon=True
        )
        self._acceptor.start()

    def stop(self, wake: Callable[[], None]) -> None:
        """Shut all connections and wait for their threads; `wake` rouses those that wait otherwise."""
        if self._acceptor is None or self._listener is None:
            return
        with self._released:
            self.stopping = True
            self._frozen = False
            self._released.notify_all()
        _shut(self._listener)
        self._acceptor.join(_JOIN)
        self._listener.close()
        self._acceptor = self._listener = None
        # Bound without listening, the port refuses clients, and nobody else is given it before the next
        # start: neither another program nor a client's own end of a connection (a connection to itself).
        self._reserved = weakref.finalize(self, os.close, self._bind().detach())
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            _shut(connection)
        wake()
        for thread in connections:
            thread.join(_JOIN)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} did not end")

    def give_back(self) -> None:
        """Let others have the port."""
        if self._reserved is not None:
            self._reserved()
            self._reserved = None

    def freeze(self) -> None:
        """Whoever calls `hold` waits from now on."""
        with self._released:
            self._frozen = True

    def thaw(self) -> None:
        """Whoever waits in `hold` goes on."""
        with self._released:
            self._frozen = False
            self._released.notify_all()

    def hold(self) -> bool:
        """Wait while frozen; False when stopping."""
        if self._frozen:
            with self._released:
                self._released.wait_for(lambda: not self._frozen or self.stopping)
        return not self.stopping

    def pause(self, seconds: float | None, released: threading.Event) -> None:
        """Wait for that long (None: for ever), for the release, or for the stop."""
        with self._released:
            self._released.wait_for(lambda: released.is_set() or self.stopping, seconds)

    def wake(self) -> None:
        """Have those in `pause` look again."""
        with self._released:
            self._released.notify_all()

    def _bind(self) -> socket.socket:
        """A socket on the port: the one that kept it since `stop`, or a new one."""
        if self._reserved is not None:
            kept = self._reserved.detach()
            self._reserved = None
            if kept is not None:
                return socket.socket(fileno=kept[2][0])
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", self.port))
        except OSError:
            bound.close()
            raise
        self.port = bound.getsockname()[1]
        return bound

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                if self.stopping:
                    return
                raise
            with self._lock:
                self._count += 1
                thread = threading.Thread(
                    target=self._run,
                    args=(connection, address, self._count),
                    name=f"apiserver-{self._count}",
                    daemon=True,
                )
                self._connections[thread] = connection
            thread.start()

    def _run(self, connection: socket.socket, address: Any, number: int) -> None:
        """One connection from handshake to close."""
        tls: ssl.SSLSocket | None = None
        try:
            if not self.hold():
                return
            with self._lock:
                if self.stopping:
                    return
                # Not while `stop` shuts sockets: Python 3.11 loses one that is reset at this very moment.
                tls = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                self._connections[threading.current_thread()] = tls
            tls.settimeout(_HANDSHAKE)
            tls.do_handshake()
            tls.settimeout(None)
            self._serve_connection(tls, address, number)
        except OSError:
            pass  # No TLS, a client that does not trust us, or the end of the server.
        finally:
            (tls or connection).close()
            with self._lock:
                self._connections.pop(threading.current_thread(), None)


def _shut(connection: socket.socket) -> None:
    """Wake whoever reads from the socket. SSLSocket.shutdown would tear TLS down under the reader's feet."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _tls_context() -> ssl.SSLContext:
    """Client certificates are asked for, not demanded; one of another CA fails the handshake.

    (A real server lets that one in and answers 401; Python's ssl cannot.)
    """
    authority = certificates.authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(authority.server.certificate, authority.server.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
