"""Faults that tests switch on and off: for requests that match, a number of times or until taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType

from tests.apiserver.answers import ApiError, Json, dump, status_body
from tests.apiserver.record import Request

__all__ = ["Disturbance", "Fault", "Faults", "Reply"]


class Disturbance(Enum):
    """What may be done to a watch."""

    CUT = "cut"  # half a line, then the connection is closed without an end of the stream
    RESET = "reset"  # the connection is reset (RST)
    GARBAGE = "garbage"  # a line that is no JSON; the stream goes on
    SILENCE = "silence"  # nothing more is sent, not even bookmarks; the connection stays
    END = "end"  # the stream ends cleanly, as after timeoutSeconds
    GONE = "gone"  # an ERROR line with 410, then the end: the history was compacted
    ERROR = "error"  # an ERROR line with 500, then the end


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in place of the real one."""

    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]


@dataclass
class Fault:
    """One fault. `hits` counts the requests it met.

    `remove()` takes it back, `release()` also lets hung requests go on.

    It is a context manager too: taken back, and released, at the end of the block.
    """

    matches: Callable[[Request], bool]
    count: int | None
    owner: Faults
    delay: float = 0.0
    hang: bool = False
    reset: bool = False
    reply: Reply | None = None
    watch: Disturbance | None = None
    after_lines: int = 0
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def remove(self) -> None:
        """No further request meets this fault."""
        self.owner.remove(self)

    def release(self) -> None:
        """Requests that hang in this fault go on, and no others will hang."""
        self.remove()
        self.released.set()
        self.owner.wake()

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Faults:
    """The faults of a server. Each method switches one on and returns it.

    All take `method` (`"GET"`, …), `path` (a prefix of the path), `match` (a predicate on the `Request`,
    whose `query`, `user` and `verb` are known) and `count` (how many requests meet it; None: all). The first
    fault in order of addition that matches is the one a request meets; delays add up with what follows them.
    """

    def __init__(self, *, wake: Callable[[], None]) -> None:
        self.wake = wake
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def status(
        self,
        code: int,
        *,
        retry_after: int | None = None,
        reason: str = "",
        message: str = "",
        text: str | None = None,
        body: Json | None = None,
        method: str | None = None,
        path: str = "",
        match: Callable[[Request], bool] | None = None,
        count: int | None = None,
    ) -> Fault:
        """Answer `code` with a Status (`body`, or one made of reason and message), or with plain `text`."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if text is not None:
            reply = Reply(code, text.encode(), "text/plain; charset=utf-8", headers)
        else:
            reason = reason or _REASONS.get(code, "")
            details: Json | None = None if retry_after is None else {"retryAfterSeconds": retry_after}
            status = status_body(code, reason, message or _MESSAGES.get(code, reason), details=details)
            reply = Reply(code, dump(body or status), "application/json", headers)
        return self._add(Fault(_matcher(method, path, match), count, self, reply=reply))

    def delay(
        self,
        seconds: float,
        *,
        method: str | None = None,
        path: str = "",
        match: Callable[[Request], bool] | None = None,
        count: int | None = None,
    ) -> Fault:
        """Wait before the answer."""
        return self._add(Fault(_matcher(method, path, match), count, self, delay=seconds))

    def slow_pages(self, seconds: float, *, path: str = "", count: int | None = None) -> Fault:
        """Wait before each page of a paged list."""
        return self.delay(seconds, method="GET", path=path, match=lambda request: "limit" in request.query, count=count)

    def hang(
        self,
        *,
        method: str | None = None,
        path: str = "",
        match: Callable[[Request], bool] | None = None,
        count: int | None = None,
    ) -> Fault:
        """Read the request and do not answer until `release()`."""
        return self._add(Fault(_matcher(method, path, match), count, self, hang=True))

    def reset(
        self,
        *,
        method: str | None = None,
        path: str = "",
        match: Callable[[Request], bool] | None = None,
        count: int | None = None,
    ) -> Fault:
        """Read the request and reset the connection (RST)."""
        return self._add(Fault(_matcher(method, path, match), count, self, reset=True))

    def watch(
        self,
        disturbance: Disturbance | str,
        *,
        after_lines: int = 0,
        path: str = "",
        match: Callable[[Request], bool] | None = None,
        count: int | None = None,
    ) -> Fault:
        """Disturb watches that start from now on, after so many lines (running ones: `ApiServer.disturb`)."""
        fault = Fault(
            _matcher("GET", path, match), count, self, watch=Disturbance(disturbance), after_lines=after_lines
        )
        return self._add(fault)

    def clear(self) -> None:
        """Take all faults back and release what hangs."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def remove(self, fault: Fault) -> None:
        """Take one fault back."""
        with self._lock:
            if fault in self._faults:
                self._faults.remove(fault)

    def met(self, request: Request) -> Iterator[Fault]:
        """The faults that this request meets: delays, and one that decides. Counts them."""
        with self._lock:
            found = []
            for fault in list(self._faults):
                if fault.watch is not None and request.verb != "watch":
                    continue
                if not fault.matches(request):
                    continue
                fault.hits += 1
                if fault.count is not None and fault.hits >= fault.count:
                    self._faults.remove(fault)
                found.append(fault)
                if not fault.delay:
                    break
        return iter(found)

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault


_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_MESSAGES = {
    401: "Unauthorized",
    429: "too many requests, please try again later",
    500: "Internal error occurred: test",
    503: "the server is currently unable to handle the request",
}


def _matcher(method: str | None, path: str, match: Callable[[Request], bool] | None) -> Callable[[Request], bool]:
    def matches(request: Request) -> bool:
        return (
            (method is None or request.method == method)
            and request.path.startswith(path)
            and (match is None or match(request))
        )

    return matches


def error_line(error: ApiError) -> bytes:
    """The ERROR line that ends a watch."""
    return dump({"type": "ERROR", "object": error.body()}) + b"\n"
