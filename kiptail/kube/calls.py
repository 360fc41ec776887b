"""One request in flight: its deadline, and how any thread breaks it off.

urllib3's timeouts are those of one read, so a dripping answer, several addresses or a name server that hangs take
as long as they like. Here a deadline is for the whole of a request: a thread shuts its connection down when it is
over, and a name look-up, which nothing can interrupt, happens in a thread that can be abandoned.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from urllib3.exceptions import ConnectTimeoutError

from kiptail.errors import ApiError
from kiptail.kube.errors import unreachable

__all__ = ["CLOSED", "CURRENT", "Call", "Calls", "of_this_thread"]

#: Why a call was broken off: its time was over, or somebody closed it.
LATE, CLOSED = "late", "closed"


class Call:
    """One request in flight. :meth:`Calls.new` makes it.

    It holds its connection with a second descriptor of the socket: shutting that down wakes whoever is blocked in
    a read or a handshake, whatever urllib3 and ``ssl`` have wrapped around the first one.
    """

    def __init__(self, changed: threading.Condition) -> None:
        #: How long it may take at present, and the end of that by time.monotonic(), in seconds.
        self.seconds = self.until = math.inf
        #: ``late``, ``closed``, or empty.
        self.broken = ""
        self._changed = changed
        self._finished = False
        self._line: socket.socket | None = None

    def allow(self, seconds: float) -> None:
        """From now on it may take ``seconds``, which can be infinite."""
        with self._changed:
            self.seconds, self.until = seconds, time.monotonic() + seconds
            self._changed.notify_all()

    def break_off(self, why: str) -> None:
        """End it now, from any thread."""
        with self._changed:
            if self._finished or self.broken:
                return
            self.broken = why
            self._shut_down()
            self._changed.notify_all()

    def failure(self, what: str, host: str, error: Exception) -> ApiError:
        """What its ``error`` means: that it was broken off, or that it did not get (all of) an answer."""
        if self.broken == CLOSED:
            return ApiError(f"{what}: broken off, kiptail is closing the connection")
        if self.broken == LATE:
            return ApiError(f"{what}: {host}: no complete answer within {self.seconds:g} s")
        return unreachable(f"{what}: {host}", error)

    def finish(self) -> None:
        """It is over: its connection may serve another one from now on."""
        with self._changed:
            self._finished = True
            self._let_go()

    def hold(self, line: socket.socket) -> None:
        """``line`` (or its TLS wrapping) is the connection."""
        with self._changed:
            self._let_go()
            if line.fileno() >= 0 and not self._finished:
                self._line = socket.socket(fileno=os.dup(line.fileno()))
            if self.broken:
                self._shut_down()

    def connect(self, opener: Callable[[], socket.socket]) -> socket.socket:
        """``opener()`` in a thread of its own: a name look-up can take a minute and can only be abandoned."""
        outcome: list[socket.socket | Exception] = []

        def run() -> None:
            result: socket.socket | Exception
            try:
                result = opener()
            except Exception as error:  # noqa: BLE001 - raised in the thread that waits
                result = error
            with self._changed:
                if not self.broken and not self._finished:
                    outcome.append(result)
                    self._changed.notify_all()
                elif not isinstance(result, Exception):
                    result.close()

        threading.Thread(target=run, name="kiptail-connect", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: outcome or self.broken)
            result = outcome.pop() if outcome else ConnectTimeoutError(None, "broken off")
        if isinstance(result, Exception):
            raise result
        return result

    def _let_go(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _shut_down(self) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)


class Calls:
    """The calls in flight, and one thread that ends those whose time is over; :meth:`close` ends them all."""

    def __init__(self) -> None:
        #: One lock for all of them: it is never held for long.
        self._changed = threading.Condition()
        self._running: set[Call] = set()
        self._closed = False
        self._watchdog: threading.Thread | None = None

    def new(self) -> Call:
        """A call that is not under way yet."""
        return Call(self._changed)

    @contextlib.contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """``call`` is under way. Raises ApiError when closed."""
        with self._changed:
            if self._closed:
                raise ApiError("the connection to the API server is closed")
            if self._watchdog is None:
                watchdog = threading.Thread(target=self._watch, name="kiptail-deadlines", daemon=True)
                watchdog.start()
                self._watchdog = watchdog
            self._running.add(call)
        try:
            yield
        finally:
            with self._changed:
                self._running.discard(call)
                call.finish()

    def close(self) -> None:
        """Break off all calls; there will be no others."""
        with self._changed:
            self._closed = True
            for call in self._running:
                call.break_off(CLOSED)
            self._changed.notify_all()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for call in self._running:
                    if call.until <= now:
                        call.break_off(LATE)
                until = min((call.until for call in self._running if not call.broken), default=math.inf)
                self._changed.wait(None if until == math.inf else until - now)


class _CallOfThread(threading.local):
    """The call that a thread is making: urllib3 has no way to hand it to the connection."""

    call: Call | None = None


#: Of whoever asks.
CURRENT = _CallOfThread()


@contextlib.contextmanager
def of_this_thread(call: Call) -> Iterator[None]:
    """The connections that this thread opens or uses again belong to ``call``."""
    CURRENT.call = call
    try:
        yield
    finally:
        CURRENT.call = None
