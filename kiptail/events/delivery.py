"""One write of one Event: create or update, and what an answer means for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from kiptail.errors import ApiError

__all__ = ["EventSink", "Outcome", "Result", "deliver"]


class EventSink(Protocol):
    """Where Events go. Both raise :class:`ApiError`."""

    def create(self, event: dict[str, Any]) -> None:
        """Create the Event."""

    def update(self, event: dict[str, Any]) -> None:
        """Bring the fields that change of an existing Event up to date."""


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
    #: The API server no longer had the Event, and it was told anew.
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
