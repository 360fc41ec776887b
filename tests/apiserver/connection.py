"""One client's connection: HTTP/1.1 over TLS, in a thread of its own."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.apiserver.answers import ApiError, dump
from tests.apiserver.api import Answer, asked_of
from tests.apiserver.faults import Fault
from tests.apiserver.impersonation import impersonated
from tests.apiserver.record import Request
from tests.apiserver.watching import Watch

if TYPE_CHECKING:
    from tests.apiserver.server import ApiServer

__all__ = ["Connection"]

_PIECE = 256 * 1024
_PHRASES = {
    200: "OK",
    201: "Created",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
}


class _Stopped(Exception):
    """The server stops, or the test took the connection away: leave it without a word."""


class Connection(BaseHTTPRequestHandler):
    """Reads requests and answers them until the client or the server has enough.

    An answer leaves in as few writes as possible, and Nagle's algorithm is off: a POST on a kept-alive
    connection takes about a millisecond.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any  # socketserver types it as one of its own servers; it is an ApiServer.

    def __init__(self, connection: ssl.SSLSocket, address: Any, server: ApiServer, number: int) -> None:
        self._api = server
        self._number = number
        self._tls = connection
        super().__init__(connection, address, server)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: `ApiServer.requests` is the log."""

    def handle(self) -> None:
        """All requests of the connection."""
        self._certificate = self._tls.getpeercert()
        try:
            super().handle()
        except (_Stopped, OSError):
            # The client went away, the server stops, or a fault closed the socket under our feet.
            self.close_connection = True

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.title(): value for name, value in self.headers.items()},
            body=self.rfile.read(length) if length else b"",
            connection=self._number,
        )
        try:
            self._answer(request)
        finally:
            request.seconds = time.monotonic() - request.time

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

    def _answer(self, request: Request) -> None:
        server = self._api
        asked = None
        try:
            user = server.access.authenticate(self.headers.get("Authorization"), self._certificate)
            request.user = user.name if user else ""
            asked = asked_of(request.method, request.path, request.query)
            request.verb = asked.verb
            server.log.add(request)
            if not self.hold():
                raise _Stopped
            plans = []
            for fault in server.faults.met(request):
                if fault.watch is not None:
                    plans.append(fault)
                elif self._meet(fault, request):
                    return
            if user is None:
                raise ApiError(401, "Unauthorized", "Unauthorized")
            user = impersonated(user, self.headers, server.api.authorise)
            request.user = user.name
            server.api.authorise(user, asked)
            if asked.verb == "watch" and not asked.path:
                self._watch(asked.namespace, server.api.collection(asked), request, plans)
                return
            answer = server.api.answer(user, asked, request)
        except ApiError as error:
            if asked is None:
                server.log.add(request)
            answer = Answer(error.code, [dump(error.body()), b"\n"], headers=error.headers)
        if not self.hold():
            raise _Stopped
        self._send_answer(answer, request)

    def _meet(self, fault: Fault, request: Request) -> bool:
        """Carry out a fault; True when the request is done with."""
        server = self._api
        if fault.delay:
            server.network.pause(fault.delay, fault.released)
        elif fault.hang:
            server.network.pause(None, fault.released)
        elif fault.reset:
            self.drop(reset=True)
            raise _Stopped
        elif fault.reply is not None:
            reply = fault.reply
            self._send_answer(Answer(reply.status, [reply.body], reply.content_type, reply.headers), request)
            return True
        if server.network.stopping:
            raise _Stopped
        return False

    # -- answers

    def _head(self, status: int, content_type: str, extra: dict[str, str]) -> bytes:
        phrase = _PHRASES.get(status) or self.responses.get(status, ("",))[0]
        lines = [
            f"HTTP/1.1 {status} {phrase}",
            f"Content-Type: {content_type}",
            f"Date: {self.date_time_string(time.time() + self._api.clock_offset)}",
        ]
        lines.append("Cache-Control: no-cache, private")
        lines += (f"{name}: {value}" for name, value in extra.items())
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send_answer(self, answer: Answer, request: Request) -> None:
        length = sum(map(len, answer.parts))
        head = self._head(answer.status, answer.content_type, {"Content-Length": str(length), **answer.headers})
        request.sent = length
        self._api.log.answered(request, answer.status)
        pending, size = [head], len(head)
        for part in answer.parts if request.method != "HEAD" else ():
            pending.append(part)
            size += len(part)
            if size >= _PIECE:
                self._tls.sendall(b"".join(pending))
                pending, size = [], 0
        if pending:
            self._tls.sendall(b"".join(pending))

    def _watch(self, namespace: str, collection: Any, request: Request, plans: list[Fault]) -> None:
        server = self._api
        watch = Watch(
            collection,
            namespace,
            request,
            bookmark_period=server.bookmark_period,
            watch_list=server.watch_list,
        )
        for fault in plans:
            assert fault.watch is not None
            watch.plan(fault.watch, fault.after_lines)
        self._watching = request
        try:
            watch.run(self, server.watch_started)
        finally:
            server.watch_ended(watch)

    # -- what a watch needs (watching.Stream)

    def begin(self) -> None:
        """The head of a stream."""
        self._api.log.answered(self._watching, 200)
        self._tls.sendall(self._head(200, "application/json", {"Transfer-Encoding": "chunked"}))

    def send(self, data: bytes) -> None:
        """One chunk."""
        self._tls.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """The last chunk."""
        self._tls.sendall(b"0\r\n\r\n")

    def drop(self, *, reset: bool) -> None:
        """Close now; with a reset, what is under way is lost (RST)."""
        if reset:
            self._tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def fileno(self) -> int:
        """For poll."""
        return self._tls.fileno()

    def gone(self) -> bool:
        """A client says nothing during a watch; what arrives is its end."""
        self._tls.settimeout(0)
        try:
            return not self._tls.recv(4096)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        finally:
            self._tls.settimeout(None)

    def hold(self) -> bool:
        """Wait while the server is frozen; False when it stops."""
        return self._api.network.hold()
