"""What is asked of namespaces: policies, labels and opt-outs, when they are needed; kept a minute, never watched.

Whoever asks gets an answer at once, perhaps that there is something to wait for. One thread, started with the first
question, asks for one thing at a time, and for each only once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from cachetools import TTLCache

from kiptail.clock.pacing import TokenBucket
from kiptail.clock.trouble import Trouble
from kiptail.errors import ApiError
from kiptail.pods.opt_out import OptOut
from kiptail.policies.evaluate import Rules
from kiptail.policies.requests import Namespace, PolicyApi, Unusable, request_namespace, request_rules

__all__ = ["Asker", "Missing"]

log = logging.getLogger(__name__)

#: How long an answer is used, in seconds; also until a missing right, or what cannot be used, is tried again.
KEPT = 60.0
#: The same while the API server does not answer.
KEPT_FAILURE = 10.0
#: The longest pause that the API server may ask for, in seconds.
MAX_RETRY_AFTER = 60.0
#: Requests a second, at once, and waiting: as look-ups of pods.
RATE, BURST, MAX_WAITING = 5.0, 100, 2_048
#: What is kept of all namespaces: conditions, ranges and ports. Each takes some 200 bytes.
MAX_ALL_TERMS = 50_000

_POLICIES, _NAMESPACES = "networkpolicies", "namespaces"


class Missing(Enum):
    """Why there is no answer."""

    #: It may come.
    AWAITED = auto()
    #: The API server does not answer, or with what cannot be used.
    UNKNOWN = auto()
    #: The right is missing.
    REFUSED = auto()


class _Question(NamedTuple):
    resource: str
    namespace: str


class _Queue:
    """What is asked next, and when. Not for several threads; all times are by time.monotonic()."""

    def __init__(self) -> None:
        #: In the order of the questions; the one that is under way among them.
        self._waiting: dict[_Question, None] = {}
        self._bucket = TokenBucket(RATE, BURST)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, question: _Question) -> bool:
        return question in self._waiting

    def add(self, question: _Question) -> bool:
        """False when no further question can wait."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting[question] = None
        return question in self._waiting

    def next(self) -> tuple[_Question | None, float | None]:
        """The question whose turn it is, or None and the seconds until one may be asked."""
        if not self._waiting:
            return None, None
        wait = self._bucket.delay()
        return (None, wait) if wait > 0 else (next(iter(self._waiting)), 0.0)

    def drop(self, question: _Question) -> None:
        """It is answered."""
        self._waiting.pop(question, None)

    def drop_all(self, resource: str = "") -> None:
        """Nothing of the resource, or nothing at all, would be answered now."""
        self._waiting = {each: None for each in self._waiting if resource and each.resource != resource}


class Asker:
    """Asks, and keeps the answers."""

    def __init__(
        self,
        api: PolicyApi,
        *,
        on_answer: Callable[[], None],
        how_to_grant: Callable[[str, str], str],
    ) -> None:
        """Both callbacks run in the thread.

        ``on_answer()``: something that was awaited is answered. ``how_to_grant(verb, resource)`` says what to do when
        that right is missing; it may take a request.
        """
        self._api = api
        self._on_answer = on_answer
        self._how_to_grant = how_to_grant
        #: For all that follows.
        self._changed = threading.Condition()
        self._queue = _Queue()
        self._answers: TTLCache[_Question, tuple[object, int]] = TTLCache(
            MAX_ALL_TERMS, KEPT, getsizeof=lambda answer: answer[1]
        )
        #: Until when there is no answer, and why: to one question, to all of a resource, or ("") to any.
        self._silent: dict[_Question | str, tuple[float, Missing]] = {}
        self._troubles = {_POLICIES: Trouble(), _NAMESPACES: Trouble()}
        #: Explanations need labels of namespaces.
        self._explains_by_labels = False
        self._thread: threading.Thread | None = None
        self._closed = False
        #: Requests, by resource and result: answered, unusable, refused, failed.
        self.requests: Counter[tuple[str, str]] = Counter()

    def rules(self, namespace: str) -> Rules | Missing:
        """The policies of a namespace."""
        found = self._ask(_Question(_POLICIES, namespace))
        return found if isinstance(found, (Rules, Missing)) else Missing.UNKNOWN

    def labels(self, namespace: str) -> Mapping[str, str] | Missing:
        """The labels of a namespace."""
        if not self._explains_by_labels:
            # That the right is missing was not logged, for without it only opt-outs are not known.
            with self._changed:
                self._explains_by_labels = True
                self._silent.pop(_NAMESPACES, None)
        found = self._namespace(namespace)
        return found.labels if isinstance(found, Namespace) else found

    def opt_out(self, namespace: str) -> OptOut | Missing:
        """Whether a namespace's owner wants Events."""
        found = self._namespace(namespace)
        return found.opt_out if isinstance(found, Namespace) else found

    def close(self, timeout: float = 2.0) -> None:
        """End the thread; a request under way is not waited for any longer than ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _namespace(self, namespace: str) -> Namespace | Missing:
        found = self._ask(_Question(_NAMESPACES, namespace))
        return found if isinstance(found, (Namespace, Missing)) else Missing.UNKNOWN

    def _ask(self, question: _Question) -> object:
        with self._changed:
            known = self._answers.get(question)
            if known is not None:
                return known[0]
            if (silent := self._silence(question)) is not None:
                return silent
            if self._closed or not self._queue.add(question):
                return Missing.UNKNOWN
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="policies", daemon=True)
                self._thread.start()
            self._changed.notify()
            return Missing.AWAITED

    def _silence(self, question: _Question) -> Missing | None:
        now = time.monotonic()
        for about in (question, question.resource, ""):
            until, why = self._silent.get(about, (0.0, None))
            if now < until:
                return why
        return None

    # -- the thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (question := self._next()) is not None:
            try:
                answer = self._ask_server(question)
            except Unusable as error:
                log.debug("of %s: %s", question, error)
                self._note(question, "unusable", KEPT, Missing.UNKNOWN, question)
            except ApiError as error:
                self._failed(question, error)
            else:
                self._answered(question, answer)
            if not self._closed:
                self._on_answer()

    def _next(self) -> _Question | None:
        """Wait for a question whose turn it is; None at the end."""
        with self._changed:
            while not self._closed:
                question, wait = self._queue.next()
                if question is not None:
                    return question
                self._changed.wait(wait)
            return None

    def _ask_server(self, question: _Question) -> tuple[object, int]:
        """What is kept, and its size. Raises ApiError, Unusable."""
        ask = request_rules if question.resource == _POLICIES else request_namespace
        return ask(self._api, question.namespace)

    def _answered(self, question: _Question, answer: tuple[object, int]) -> None:
        with self._changed:
            self._queue.drop(question)
            self.requests[question.resource, "answered"] += 1
            self._answers[question] = answer
            ended = self._troubles[question.resource].ends()
        if ended:
            log.info("%s can be read now", question.resource)

    def _failed(self, question: _Question, error: ApiError) -> None:
        if error.status == 403 and "NamespaceTerminating" not in error.causes:
            self._note(question, "refused", KEPT, Missing.REFUSED, question.resource)
            self._say_refused(question, error)
        elif error.unreachable or error.status == 429:
            # What waits would wait in vain.
            pause = max(KEPT_FAILURE, min(error.retry_after or 0.0, MAX_RETRY_AFTER))
            self._note(question, "failed", pause, Missing.UNKNOWN, "")
        else:
            log.debug("%s", error)
            pause = KEPT_FAILURE if error.transient else KEPT
            self._note(question, "failed", pause, Missing.UNKNOWN, question)

    def _note(self, question: _Question, result: str, pause: float, why: Missing, about: _Question | str) -> None:
        """There is no answer, nor will there be one for ``pause`` seconds to what it is ``about``."""
        with self._changed:
            self.requests[question.resource, result] += 1
            now = time.monotonic()
            self._silent = {key: silent for key, silent in self._silent.items() if silent[0] > now}
            self._silent[about] = (now + pause, why)
            if isinstance(about, str):
                self._queue.drop_all(about)
            else:
                self._queue.drop(question)

    def _say_refused(self, question: _Question, error: ApiError) -> None:
        with self._changed:
            needed = question.resource == _POLICIES or self._explains_by_labels
            begins = needed and not self._closed and self._troubles[question.resource].begins(str(error))
        if begins:
            where = "" if question.resource == _POLICIES else " where those select namespaces by labels"
            verb = "list" if question.resource == _POLICIES else "get"
            log.warning(
                "Events do not say which NetworkPolicies are in the way%s: %s; %s",
                where,
                error,
                self._how_to_grant(verb, question.resource),
            )
