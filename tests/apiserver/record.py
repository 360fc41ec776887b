"""The log of requests, for tests to count on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Log", "Request"]

# A demo may run for days.
_KEPT = 200_000


@dataclass
class Request:
    """One request. `status` is None until it is answered; `sent` grows while a watch goes on.

    `headers` have their names in title case. `time` is `time.monotonic()` when it was read, `verb` the API's
    (get, list, watch, create, update, patch, delete), `body` what the client sent, `sent` the bytes of the
    answer's body, `seconds` how long it took.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: str = ""
    verb: str = ""
    status: int | None = None
    sent: int = 0
    seconds: float | None = None
    connection: int = 0
    time: float = field(default_factory=time.monotonic)


class Log:
    """Thread-safe list of the latest requests."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._requests: deque[Request] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        """Note a request when it has been read."""
        with self._lock:
            self._requests.append(request)
        self._changed()

    def answered(self, request: Request, status: int) -> None:
        """Note the status before the answer is sent, so that a client that has it finds it here."""
        request.status = status
        self._changed()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._requests.clear()

    def select(
        self,
        method: str | None = None,
        path_prefix: str = "",
        *,
        verb: str | None = None,
        user: str | None = None,
        status: int | None = None,
    ) -> list[Request]:
        """The requests that match all that is given, oldest first."""
        with self._lock:
            requests = list(self._requests)
        return [
            request
            for request in requests
            if (method is None or request.method == method)
            and request.path.startswith(path_prefix)
            and (verb is None or request.verb == verb)
            and (user is None or request.user == user)
            and (status is None or request.status == status)
        ]
