"""One watch: a request whose answer comes line by line, for minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from kiptail.errors import ApiError
from kiptail.kube.calls import CLOSED
from kiptail.kube.errors import TRANSPORT_ERRORS, bad_answer, timed_out
from kiptail.kube.transport import ANSWER_BYTES, READ_BYTES, Request, Transport, require_plain

__all__ = ["WatchStream"]

#: How long a watch may go on beyond the time it asked the server for.
WATCH_SLACK_S = 30.0
WATCH_LINE_BYTES = 8 << 20


class WatchStream(Iterator[bytes], contextlib.AbstractContextManager["WatchStream"]):
    """The lines of a watch, each a metav1.WatchEvent in JSON, without its end: also ``ERROR`` events.

    Use it once as a context manager (entering connects) and iterate over it in the same thread. It ends without
    an error when the server ends it or when it is closed; any thread may call :meth:`close`, at any time.

    Entering and iterating raise ApiError: what the server refused; 502 for a line of more than 8 MiB; no
    status for a silent (``silent``), cut or broken connection, also when that happened in the middle of a line.
    """

    def __init__(self, transport: Transport, request: Request, *, timeout_s: int, silence_s: float) -> None:
        """The server was asked to end it after ``timeout_s``; ``silence_s`` without a byte are an error."""
        self._transport = transport
        self._request = request
        self._longest_s = timeout_s + WATCH_SLACK_S
        self._silence_s = silence_s
        self._call = transport.calls.new()
        self._stack = contextlib.ExitStack()
        self._events: Iterator[bytes] = iter(())

    def __enter__(self) -> WatchStream:
        call, what = self._call, self._request.what
        if call.broken:
            return self
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._transport.calls.running(call))
            try:
                response = self._transport.send(call, self._request, self._silence_s, stream=True)
                stack.callback(response.close)
                if response.status != 200:
                    self._transport.read(call, self._request, response, ANSWER_BYTES)  # raises what it tells
                if response.status != 200 or not response.chunked:
                    # A proxy's page. API servers send a watch in chunks.
                    raise bad_answer(what, "is no stream")
                require_plain(self._request, response)
            except ApiError:
                if call.broken == CLOSED:
                    return self
                raise
            call.allow(self._longest_s)
            self._events = self._read(response)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events = iter(())
        self._stack.close()

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """End it, from any thread: entering or iterating comes back at once."""
        self._call.break_off(CLOSED)

    def _read(self, response: Any) -> Iterator[bytes]:
        call, what = self._call, self._request.what
        try:
            for line in _lines(what, response.read_chunked(READ_BYTES, decode_content=False)):
                if call.broken == CLOSED:
                    return
                yield line
        except TRANSPORT_ERRORS as error:
            if call.broken == CLOSED:
                return
            if not call.broken and timed_out(error):
                raise ApiError(f"{what}: nothing came for {self._silence_s:g} s", silent=True) from error
            raise call.failure(what, self._transport.session.server, error) from error


def _lines(what: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The complete lines, without their ends. Raises ApiError for one that is too long or has no end."""
    buffer = bytearray()
    for chunk in chunks:
        searched = len(buffer)
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            if line:
                yield line
        if len(buffer) > WATCH_LINE_BYTES:
            raise bad_answer(what, f"has a line of more than {WATCH_LINE_BYTES >> 20} MiB")
    if buffer:
        raise ApiError(f"{what}: the stream ended in the middle of a line")
