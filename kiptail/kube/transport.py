"""Sends requests, and reads the answers."""

from __future__ import annotations

import contextlib
import http.client
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import urllib3
from urllib3._collections import HTTPHeaderDict
from urllib3.exceptions import ProtocolError

from kiptail import __version__
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.calls import Call, Calls, of_this_thread
from kiptail.kube.current_session import CurrentSession
from kiptail.kube.errors import TRANSPORT_ERRORS, bad_answer, refused
from kiptail.kube.server_clock import ServerClock
from kiptail.kube.session import Session
from kiptail.text import one_line

__all__ = ["ANSWER_BYTES", "Observe", "Request", "Transport", "require_plain"]

#: ``observe(verb, code, seconds)`` once an exchange: list, watch, create, patch or review; the HTTP status or
#: ``error``; the time to the answer's headers.
Observe: TypeAlias = Callable[[str, str, float], None]

#: Of a request's time, what opening the connection to one address may take: leaves time for a second address.
CONNECT_TIMEOUT_S = 5.0
ANSWER_BYTES = 1 << 20
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent; the credential is added when it is."""

    #: For an error's text: "cannot list pods".
    what: str
    #: As in RBAC, for the metrics.
    verb: str
    method: str
    #: With its query.
    path: str
    body: bytes | None = None
    content_type: str = "application/json"


class Transport:
    """Sends requests from any number of threads, with other credentials after a 401."""

    def __init__(self, sessions: CurrentSession, *, request_timeout_s: float, observe: Observe | None) -> None:
        self._sessions = sessions
        self._request_timeout_s = request_timeout_s
        self._observe = observe
        self.calls = Calls()
        self.clock = ServerClock()

    @property
    def session(self) -> Session:
        """The session that the next request is sent by, unless its files have changed."""
        return self._sessions.latest

    def close(self) -> None:
        """Break off all calls; there will be no others."""
        self._sessions.stop()
        self.calls.close()
        self._sessions.close()

    def reload(self) -> None:
        """Read the credentials again. Raises ClusterError; the old ones stay in use then."""
        self._sessions.reload()

    def ask(self, request: Request, limit: int = ANSWER_BYTES) -> bytes:
        """The body, of at most ``limit`` bytes, of a successful answer. Raises ApiError."""
        call = self.calls.new()
        with self.calls.running(call), contextlib.closing(self.send(call, request, self._request_timeout_s)) as answer:
            # Of an answer that was read to its end, the connection has gone back to the pool before it is closed.
            return self.read(call, request, answer, limit)

    def ask_dated(self, request: Request) -> tuple[bytes, str]:
        """As :meth:`ask`, with the answer's ``Date``; "" when it has none."""
        call = self.calls.new()
        with self.calls.running(call), contextlib.closing(self.send(call, request, self._request_timeout_s)) as answer:
            return self.read(call, request, answer, ANSWER_BYTES), str(answer.headers.get("Date") or "")

    def read(self, call: Call, request: Request, response: Any, limit: int) -> bytes:
        """The whole body. Raises ApiError if it is too long, or no success."""
        parts, size = [], 0
        if response.status < 200 or response.status in (204, 304):
            # http.client expects no body. After a 103 the real answer is still to come: not to the next request on
            # this connection, which is closed as it was not read to its end.
            raise refused(request.what, response.status, response.headers, b"")
        require_plain(request, response)
        try:
            while part := response.read(READ_BYTES):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise bad_answer(request.what, f"is larger than {limit >> 20} MiB")
            if call.broken:
                # Which may look like the end of an answer that does not tell its length.
                raise ProtocolError("broken off")
        except TRANSPORT_ERRORS as error:
            raise call.failure(request.what, self.session.server, error) from error
        body = b"".join(parts)
        if not 200 <= response.status < 300:
            raise refused(request.what, response.status, response.headers, body)
        return body

    def send(self, call: Call, request: Request, read_s: float, *, stream: bool = False) -> Any:
        """An answer whose body is not read yet, as :meth:`Session.request` gives it.

        It is that of the second try, where the first got a 401. ``read_s`` of silence break the reading of the body
        off. Raises ApiError where there was no answer.
        """
        session = self._sessions.fresh()
        response = self._send_once(call, session, request, read_s, stream)
        if response.status != 401:
            return response
        with contextlib.closing(response):
            refusal = self._refusal(call, request, response)
        if call.broken:
            raise refusal
        call.allow(math.inf)  # reading credentials has its own time
        try:
            self._sessions.renew(session, refused=refusal.status == 401)
        except ClusterError as error:
            text = f"{refusal}, and {error}"
            raise ApiError(text, status=refusal.status, reason=refusal.reason) from error
        return self._send_once(call, self.session, request, read_s, stream)

    def _refusal(self, call: Call, request: Request, response: Any) -> ApiError:
        """What an answer that is no success says."""
        try:
            self.read(call, request, response, ANSWER_BYTES)
        except ApiError as error:
            return error
        raise AssertionError(response.status)

    def _send_once(self, call: Call, session: Session, request: Request, read_s: float, stream: bool) -> Any:
        headers = _headers(session, request)
        times = urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, self._request_timeout_s), read=read_s)
        call.allow(self._request_timeout_s)
        started, code = time.monotonic(), "error"
        try:
            with of_this_thread(call):
                response = session.request(
                    request.method, request.path, body=request.body, headers=headers, times=times, stream=stream
                )
            code = str(response.status) if response.status in http.client.responses else "other"
            self.clock.note(response.headers)
        except TRANSPORT_ERRORS as error:
            raise call.failure(request.what, session.server, error) from error
        finally:
            if session is not self.session:
                session.close()  # replaced meanwhile: nobody else will
            if self._observe is not None:
                self._observe(request.verb, code, time.monotonic() - started)
        return response


def require_plain(request: Request, response: Any) -> None:
    """Raises ApiError for an answer that is compressed: that was not asked for, and can make a huge one of a small."""
    encoding = str(response.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise bad_answer(request.what, f"is encoded ({one_line(encoding, 40)})")


def _headers(session: Session, request: Request) -> Mapping[str, str]:
    """Raises ApiError, as if the server had refused, where there is no credential: it would."""
    headers: HTTPHeaderDict | dict[str, str] = {"Accept": "application/json", "User-Agent": f"kiptail/{__version__}"}
    if session.impersonation:
        headers = HTTPHeaderDict(headers)
        for name, value in session.impersonation:
            headers.add(name, value)
    if request.body is not None:
        headers["Content-Type"] = request.content_type
    try:
        authorization = session.credential.header()
    except ClusterError as error:
        raise ApiError(f"{request.what}: {error}", status=401, reason="Unauthorized") from error
    if authorization is not None:
        headers["Authorization"] = authorization
    return headers
