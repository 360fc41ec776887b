"""What one write of an Event comes to."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.events.writer import Outcome, Result, deliver

EVENT: dict[str, Any] = {"metadata": {"name": "e"}}


class ScriptedSink:
    """Answers each call with the next of the given errors, None for success, and notes what was called."""

    def __init__(self, *answers: ApiError | None) -> None:
        self._answers = list(answers)
        self.calls: list[str] = []

    def create(self, event: dict[str, Any]) -> None:
        self._answer("create")

    def update(self, event: dict[str, Any]) -> None:
        self._answer("update")

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        answer = self._answers.pop(0)
        if answer is not None:
            raise answer


def error(status: int | None, reason: str = "", *causes: str) -> ApiError:
    return ApiError("no", status=status, reason=reason, causes=causes)


@pytest.mark.parametrize(
    ("known", "answers", "calls", "operation", "result"),
    [
        (False, [None], ["create"], "create", Result.OK),
        (True, [None], ["update"], "update", Result.OK),
        (False, [error(409, "AlreadyExists"), None], ["create", "update"], "update", Result.OK),
        (False, [error(409, "AlreadyExists"), error(503)], ["create", "update"], "update", Result.SERVER_FAILS),
        (True, [error(404, "NotFound"), None], ["update", "create"], "create", Result.OK),
        (True, [error(404), error(403, "", "NamespaceTerminating")], ["update", "create"], "create", Result.GONE),
        (False, [error(404, "NotFound")], ["create"], "create", Result.GONE),
        (False, [error(403, "Forbidden", "NamespaceTerminating")], ["create"], "create", Result.GONE),
        (False, [error(403, "Forbidden")], ["create"], "create", Result.FORBIDDEN),
        (False, [error(None)], ["create"], "create", Result.SERVER_FAILS),
        (False, [error(429)], ["create"], "create", Result.SERVER_FAILS),
        (False, [error(500)], ["create"], "create", Result.SERVER_FAILS),
        (False, [error(401)], ["create"], "create", Result.SERVER_FAILS),
        (True, [error(409, "Conflict")], ["update"], "update", Result.CONFLICT),
        (False, [error(422, "Invalid")], ["create"], "create", Result.INVALID),
        (False, [error(400)], ["create"], "create", Result.INVALID),
    ],
)
def test_answers_and_what_they_mean(
    known: bool, answers: list[ApiError | None], calls: list[str], operation: str, result: Result
) -> None:
    sink = ScriptedSink(*answers)
    outcome = deliver(sink, EVENT, known=known, may_recreate=True)
    assert (sink.calls, outcome.operation, outcome.result) == (calls, operation, result)


def test_an_event_is_not_created_anew_for_ever() -> None:
    gone = error(404)
    outcome = deliver(ScriptedSink(gone), EVENT, known=True, may_recreate=False)
    assert outcome == Outcome("update", Result.GONE, gone)


def test_creating_anew_is_told() -> None:
    assert deliver(ScriptedSink(error(404), None), EVENT, known=True, may_recreate=True).recreated


def test_trying_to_create_anew_is_not_creating_anew() -> None:
    assert not deliver(ScriptedSink(error(404), error(429)), EVENT, known=True, may_recreate=True).recreated
