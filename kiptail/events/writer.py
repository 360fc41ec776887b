"""Writes of Events: one write and what its answer means; pace, trouble, and when a write that failed is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from kiptail.clock.pacing import Backoff, TokenBucket
from kiptail.clock.trouble import Trouble
from kiptail.errors import ApiError

__all__ = ["MAX_ROUNDS", "Again", "EventSink", "GivenUp", "Outcome", "Result", "Sender", "Sent", "Written", "deliver"]

log = logging.getLogger(__name__)

#: Back-off between tries while the API server does not take a request, in seconds; doubles up to the cap.
BACKOFF_FIRST, BACKOFF_CAP = 0.2, 5.0
#: After so many failures in a row, whatever they are about, the server is let alone for a while.
FAILURES_IN_A_ROW = 3
#: An Event that somebody else wrote at the same moment is written again after so many seconds.
CONFLICT_RETRY = 1.0
#: A missing right is tried again after so many seconds.
FORBIDDEN_RETRY = 60.0
#: The longest that a server's Retry-After is believed, in seconds.
RETRY_AFTER_CAP = 60.0
#: An Event that the API server no longer has is created anew at most so often.
MAX_ROUNDS = 3


class EventSink(Protocol):
    """Where Events go. Both raise :class:`ApiError`."""

    def create(self, event: dict[str, Any]) -> None:
        """Create the Event."""

    def update(self, event: dict[str, Any]) -> None:
        """Bring the fields that change of an existing Event up to date."""


class Written(Protocol):
    """What is remembered of an Event from one write to the next."""

    #: A write of it was begun.
    tried: bool
    #: How often it had to be created anew because the API server no longer had it.
    rounds: int

    @property
    def key(self) -> tuple[int, str, str]:
        """What no other Event has."""

    @property
    def namespace(self) -> str:
        """Where it is written."""

    @property
    def sent_count(self) -> int:
        """The count of the last successful write; 0 = never written."""

    @property
    def withdrawn(self) -> bool:
        """It is there to say that it counts nothing any more."""


class Result(StrEnum):
    """What came of a write, and whose fault it is that nothing did."""

    OK = "ok"
    #: The server does not take requests at present: nothing else would succeed either.
    SERVER_FAILS = "retry"
    #: Somebody else wrote the Event at the same moment.
    CONFLICT = "conflict"
    #: A right is missing (here).
    FORBIDDEN = "forbidden"
    #: The namespace, or the Event once too often, is gone.
    GONE = "gone"
    #: The server will never take this Event.
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``operation`` is ``create`` or ``update``: what it came to in the end."""

    operation: str
    result: Result
    error: ApiError | None = None
    #: The API server no longer had the Event, and it was created anew.
    recreated: bool = False


def deliver(sink: EventSink, event: dict[str, Any], *, known: bool, may_recreate: bool) -> Outcome:
    """Write ``event`` once.

    ``known``: the API server had it. ``may_recreate``: if it no longer has it, create it again.
    """
    operation, recreated = ("update" if known else "create"), False
    try:
        if known:
            try:
                sink.update(event)
            except ApiError as error:
                if error.status != 404 or not may_recreate:
                    raise
                operation = "create"
                sink.create(event)
                recreated = True
        else:
            try:
                sink.create(event)
            except ApiError as error:
                if not (error.status == 409 and error.reason == "AlreadyExists"):
                    raise
                # An earlier try got through although its answer did not; what it wrote may be older than this.
                operation = "update"
                sink.update(event)
    except ApiError as error:
        return Outcome(operation, _meaning(error), error, recreated)
    return Outcome(operation, Result.OK, recreated=recreated)


def _meaning(error: ApiError) -> Result:
    match error.status:
        case 401:
            return Result.SERVER_FAILS  # the credential was reloaded already; a new one may yet be written
        case 403:
            return Result.GONE if "NamespaceTerminating" in error.causes else Result.FORBIDDEN
        case 404:
            return Result.GONE
        case 409:
            return Result.CONFLICT
    return Result.SERVER_FAILS if error.transient else Result.INVALID


@dataclass(frozen=True, slots=True)
class Sent:
    """The API server has it."""


@dataclass(frozen=True, slots=True)
class Again:
    """It has not: to be tried again after ``after`` seconds. ``unreachable``: nothing else would get through."""

    after: float
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It was refused, and will be until something changes. ``expected``: its namespace or pod is gone."""

    reason: str
    expected: bool


class Sender:
    """Writes one Event after the other; of one thread."""

    def __init__(
        self,
        sink: EventSink,
        *,
        paced: bool,
        observe: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``observe`` gets each write's operation and result."""
        self._sink, self._observe, self._clock = sink, observe, clock
        self._bucket = TokenBucket(50, 100, clock=clock) if paced else None
        self._pauses = Backoff(BACKOFF_FIRST, BACKOFF_CAP)
        self._own_pauses: dict[tuple[int, str, str], Backoff] = {}
        self._failures = 0
        self._forbidden: set[str] = set()
        self.paused_until = 0.0
        #: When the request that is under way was begun, by the clock; None when none is.
        self.busy_since: float | None = None
        #: Nobody answered the last time.
        self.unreachable = False
        self._trouble = Trouble()

    @property
    def trouble(self) -> str:
        """Why requests do not succeed at present, or ""."""
        return self._trouble.text

    def wait(self) -> float:
        """Seconds until the next write may be made; 0.0 means now, and takes the place."""
        pause = self.paused_until - self._clock()
        if pause > 0:
            return pause
        return self._bucket.delay() if self._bucket is not None else 0.0

    def send(self, event: dict[str, Any], record: Written) -> Sent | Again | GivenUp:
        """Write ``event``, which tells what there is of ``record``."""
        self.busy_since = self._clock()
        record.tried = True
        # One that is withdrawn may never have got there, and need not then.
        known, may_recreate = record.sent_count > 0 or record.withdrawn, record.rounds < MAX_ROUNDS
        outcome = deliver(self._sink, event, known=known, may_recreate=may_recreate and not record.withdrawn)
        self.busy_since = None
        self.unreachable = outcome.error is not None and outcome.error.unreachable
        record.rounds += outcome.recreated
        self._observe(outcome.operation, outcome.result)
        key, namespace = record.key, record.namespace
        if outcome.error is None or (record.withdrawn and outcome.error.status == 404):
            self._own_pauses.pop(key, None)
            self._succeeded(namespace)
            return Sent()
        match outcome.result:
            case Result.SERVER_FAILS:
                return self._server_fails(outcome, outcome.error, key)
            case Result.CONFLICT:
                return Again(CONFLICT_RETRY)
            case Result.FORBIDDEN:
                if namespace not in self._forbidden:
                    self._forbidden.add(namespace)
                    log.warning(
                        "not allowed to %s Events in namespace %s, trying again every %.0f s: %s",
                        outcome.operation, namespace, FORBIDDEN_RETRY, outcome.error,
                    )  # fmt: skip
                return Again(FORBIDDEN_RETRY)
        self._own_pauses.pop(key, None)
        return GivenUp(str(outcome.error), expected=outcome.result is Result.GONE)

    def _server_fails(self, outcome: Outcome, error: ApiError, key: tuple[int, str, str]) -> Again:
        self._failures += 1
        asked = min(error.retry_after or 0.0, RETRY_AFTER_CAP)
        if self._trouble.begins(str(error)):
            log.warning("cannot %s Events at present, trying again: %s", outcome.operation, error)
        if error.unreachable:
            self.paused_until = self._clock() + self._pauses.pause()
            return Again(0.0, unreachable=True)
        # The fault may be with this Event or its namespace (a webhook, a rate limit): others go on without it.
        own = self._own_pauses.setdefault(key, Backoff(BACKOFF_FIRST, BACKOFF_CAP))
        if self._failures >= FAILURES_IN_A_ROW:
            self.paused_until = self._clock() + max(self._pauses.pause(), asked)
        return Again(max(own.pause(), asked))

    def _succeeded(self, namespace: str) -> None:
        self._failures = 0
        self._pauses.reset()
        self._forbidden.discard(namespace)
        if self._trouble.ends():
            log.info("the API server takes Events again")
