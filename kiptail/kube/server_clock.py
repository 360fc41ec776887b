"""The API server's clock, as its answers show it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

__all__ = ["ServerClock"]


class ServerClock:
    """What the ``Date`` of the latest answer says; used by any thread."""

    def __init__(self) -> None:
        #: That date, in seconds since the epoch, less what time.monotonic() showed then; None while nothing tells.
        self.ahead_s: float | None = None
        self._date = ""

    def note(self, headers: Mapping[str, str]) -> None:
        """Take it from an answer's headers; the API server says all in JSON, a gateway shows pages."""
        if not str(headers.get("Content-Type") or "").startswith("application/json"):
            return
        date = str(headers.get("Date") or "")
        if date == self._date:
            return  # of the same second
        try:
            seconds = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError, OverflowError, OSError):
            return
        self.ahead_s, self._date = seconds - time.monotonic(), date
