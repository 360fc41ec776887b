"""Connections to the API server: urllib3's, that can be broken off, bound what they read, and can be used directly."""

from __future__ import annotations

import functools
import http.client
import io
import socket
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from kiptail.kube.calls import CURRENT

__all__ = ["Answer", "ExchangingPool", "breakable"]

#: TCP keepalive, in seconds: a dead link is noticed after about 45 s, also by a watch.
KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}

#: Longest line of an answer's framing: what http.client allows for headers.
LINE_BYTES = 65_536


class _BoundedReader(io.BufferedReader):
    """What an answer is read from. Neither http.client nor urllib3 bounds all that it reads of a chunked one."""

    def readline(self, size: int | None = -1, /) -> bytes:
        """As ever; but a line of any length, such as a chunk's size with extensions, is none."""
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(LINE_BYTES + 1)
        if len(line) > LINE_BYTES:
            raise http.client.LineTooLong("chunk size")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        """As ever; but never to the end, which is what a chunk of a negative size would come to."""
        if size is None or size < 0:
            raise http.client.HTTPException("a chunk of a negative size")
        return super().read(size)


class _BoundedResponse(http.client.HTTPResponse):
    """An answer that is read in bounded pieces."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _BoundedReader(self.fp.detach())  # nothing has been read yet


class _BreakableConnection(HTTPConnection):
    """Mixed into urllib3's connection classes: hands its socket to the thread's call at once."""

    response_class = _BoundedResponse

    def _tunnel(self) -> None:
        answers = []

        def answer(*args: Any, **kwargs: Any) -> _BoundedResponse:
            answers.append(_BoundedResponse(*args, **kwargs))
            return answers[-1]

        self.response_class = answer  # type: ignore[assignment]  # it makes one
        try:
            super()._tunnel()
        finally:
            del self.response_class
            for each in answers:
                # Python 3.11 leaves it open when a proxy refuses, and with it the socket.
                each.close()

    def _new_conn(self) -> socket.socket:
        call, opener = CURRENT.call, super()._new_conn
        if call is None:
            return opener()
        line = call.connect(opener)
        call.hold(line)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)
        return line

    def _hold(self) -> None:
        """Where the connection is open: it is the call's from now on."""
        if CURRENT.call is not None and self.sock is not None:
            CURRENT.call.hold(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._hold()
        super().request(*args, **kwargs)

    def exchange(self, method: str, target: str, body: bytes | None, headers: Any) -> http.client.HTTPResponse:
        """One request on an open connection, and its answer, of which the body is not read yet."""
        self._hold()
        http.client.HTTPConnection.request(self, method, target, body, headers)
        return http.client.HTTPConnection.getresponse(self)


class Answer:
    """An answer whose body is read piece by piece; its connection goes back to the pool at the end of it."""

    def __init__(
        self, pool: ExchangingPool, connection: _BreakableConnection, response: http.client.HTTPResponse
    ) -> None:
        self.status, self.headers = response.status, response.headers
        self._pool, self._response = pool, response
        self._connection: _BreakableConnection | None = connection

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; b"" at the end. Raises IncompleteRead where the connection ends before the body."""
        data = self._response.read(size)
        if not data and self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)
        if self._connection is not None and self._response.isclosed():
            self._pool._put_conn(self._connection)
            self._connection = None
        return data

    def close(self) -> None:
        """Give the connection up: with an answer that was not read to its end, it is of no use any more."""
        if self._connection is not None:
            self._response.close()
            self._connection.close()
            self._pool._put_conn(None)
            self._connection = None


class ExchangingPool(HTTPConnectionPool):
    """Mixed into urllib3's pools: one request, one answer, with http.client alone in between.

    It computes half as long as urlopen() does, whose redirects, retries and decoding are not wanted here.
    Connecting, TLS and keeping connections are urllib3's as ever.
    """

    def exchange(self, method: str, target: str, body: bytes | None, headers: Any, times: urllib3.Timeout) -> Answer:
        """``target`` is a path with its query; the others are as for urlopen()."""
        connection: Any = self._get_conn()
        try:
            connection.timeout = times.connect_timeout
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(times.read_timeout)
            return Answer(self, connection, connection.exchange(method, target, body, headers))
        except BaseException:
            connection.close()
            self._put_conn(None)
            raise


@functools.cache
def breakable(pool_class: Any) -> Any:
    """A connection pool class (HTTP, HTTPS or SOCKS) whose connections can be broken off."""
    connection_class = type("_Connection", (_BreakableConnection, pool_class.ConnectionCls), {})
    return type(pool_class.__name__, (ExchangingPool, pool_class), {"ConnectionCls": connection_class})
