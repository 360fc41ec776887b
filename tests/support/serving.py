"""A server on a socket, in a thread, for as long as a test wants it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from typing import Any, Self

__all__ = ["Serving"]


class Serving(socketserver.ThreadingTCPServer):
    """Hands each connection to a handler, with TLS where `tls` is its context; cuts what is open at the end."""

    def __init__(
        self,
        handler: type[socketserver.StreamRequestHandler],
        *,
        tls: ssl.SSLContext | None = None,
        at: str = "127.0.0.1",
    ) -> None:
        super().__init__((at, 0), handler)
        self._tls = tls
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self._open)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        self._open.append(connection)
        return connection, address

    def handle_error(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
