"""Plays a recorded change of hands in real time: to a journal that grows, an API server, and kiptail as a process.

The times of everything are moved by one whole number of seconds, so that the recording begins now. What the kernel
wrote comes at its time; what the API server said can come late, or not at all for a while; kiptail can be ended and
started again meanwhile. :mod:`tests.support.judge` says what has to come of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.apiserver import ApiServer, Fault
from tests.support.journald import GrowingJournal, kernel_entry, until
from tests.support.judge import judge
from tests.support.recordings import PodChange, Recording, Span
from tests.support.restarts import Daemon, could_see

__all__ = ["Action", "Outcome", "Plan", "apply", "play"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: After the last line of kernel and API server: seconds until the Events are right, and in which they stay so (there
#: is an update each second). Ends of flows are undecided for 2 s or so; then a failed write may be waited for, 5 s.
_PATIENCE_S = 20.0
_SETTLED_S = 2.5


class Action(NamedTuple):
    """Something done to kiptail."""

    #: In seconds of the recording.
    at: float
    #: ``stop`` (SIGTERM), ``kill`` (SIGKILL) or ``start``.
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played, and how."""

    recording: str
    #: ``--pod-index``.
    index: str = "node"
    #: So many seconds late comes what the API server says of pods, the first list included.
    lag: float = 0.0
    #: From when to when (seconds of the recording) there is no API server.
    broken: Span | None = None
    #: In order of their times. kiptail runs from before the recording begins.
    actions: tuple[Action, ...] = ()

    def __str__(self) -> str:
        parts = [self.recording, f"--pod-index {self.index}"]
        parts += [f"{self.lag} s late"] if self.lag else []
        parts += [f"no API server from {self.broken.begin:.2f} to {self.broken.end:.2f} s"] if self.broken else []
        parts += [f"{action.what} at {action.at:.2f} s" for action in self.actions]
        return ", ".join(parts)


@dataclass(slots=True)
class Outcome:
    """What came of a plan. It went well when nothing is ``wrong``."""

    plan: Plan
    wrong: list[str] = field(default_factory=list)
    #: By how much the player itself was late at most, in seconds.
    behind: float = 0.0

    def __str__(self) -> str:
        return "\n".join([f"{self.plan} (played at most {self.behind * 1000:.0f} ms late):", *self.wrong])


def apply(server: ApiServer, change: PodChange) -> None:
    """Have the API server say of the pod what the recorded one said; only resourceVersions are its own."""
    if change.type == "DELETED":
        # In every recording, a deletion shows the pod as the line before it did.
        server.pods.delete(change.name, namespace=change.pod["metadata"]["namespace"])
    else:
        server.pods.put(change.pod)


def play(directory: Path, plan: Plan) -> Outcome:
    """Play it and wait until the Events are right, or for as long as they may take to be so."""
    directory.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(ApiServer())
        journal = stack.enter_context(GrowingJournal(directory / "journal" / "replay.journal"))
        daemon = stack.enter_context(Daemon(directory, server, pod_index=plan.index))
        return _Play(plan, server, journal, daemon).run()


class _Play:
    """One plan, being played."""

    def __init__(self, plan: Plan, server: ApiServer, journal: GrowingJournal, daemon: Daemon) -> None:
        self._plan, self._server, self._journal, self._daemon = plan, server, journal, daemon
        self._boot_id = _BOOT_ID.read_text().strip().replace("-", "")
        #: What CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, in µs.
        self._offset_us = (time.time_ns() - time.monotonic_ns()) // 1000
        self._recorded = Recording.load(plan.recording)
        self._recording = _from_now(self._recorded)
        self._outcome = Outcome(plan)
        self._fault: Fault | None = None
        #: When the API server showed a pod with its address (by name), by time.monotonic().
        self._visible: dict[str, Span] = {}

    def run(self) -> Outcome:
        # Whoever is listed has ended long before. How long kiptail takes to start is not known yet: these pods' times
        # are by so much earlier than they would be.
        for pod in self._recording.listed:
            self._server.pods.put(pod)
        # kiptail refuses to start on a directory without a journal.
        self._append("the recording begins soon", time.time_ns() // 1000, 0)
        until(self._journal.entries, "a journal with an entry")
        self._daemon.start()
        self._daemon.wait_until_ready()
        self._recording = _from_now(self._recorded)
        with ThreadPoolExecutor(1, thread_name_prefix="actions") as pool:
            # In a thread of their own, since to end a process takes time, and the recording goes on.
            actions = pool.submit(self._act)
            for at, step in self._schedule():
                _sleep_until(at)
                self._outcome.behind = max(self._outcome.behind, time.time() - at)
                step()
            actions.result()
        self._wait()
        return self._outcome

    def _schedule(self) -> list[tuple[float, Callable[[], None]]]:
        """What comes from kernel and API server, and when (seconds since the epoch)."""
        began, plan = self._recording.began, self._plan
        found: list[tuple[float, Callable[[], None]]] = []
        for line in self._recording.kernel_lines:
            found.append((line.at, partial(self._append, line.message, line.realtime_us, line.delay_us)))
        for change in self._recording.pod_changes:
            found.append((change.at + plan.lag, partial(self._apply, change)))
        if plan.broken is not None:
            found.append((began + plan.broken.begin, self._break))
            found.append((began + plan.broken.end, self._mend))
        return sorted(found, key=lambda each: each[0])

    def _append(self, message: str, realtime_us: int, delay_us: int) -> None:
        monotonic_us = realtime_us - self._offset_us
        self._journal.append(
            kernel_entry(
                message,
                realtime_us=realtime_us,
                monotonic_us=monotonic_us,
                boot_id=self._boot_id,
                _SOURCE_MONOTONIC_TIMESTAMP=monotonic_us - delay_us,
            )
        )

    def _apply(self, change: PodChange) -> None:
        apply(self._server, change)
        now, known = time.monotonic(), self._visible.get(change.name)
        if change.has_address and known is None:
            self._visible[change.name] = Span(now, math.inf)
        elif change.type == "DELETED" and known is not None:
            self._visible[change.name] = Span(known.begin, now)

    def _break(self) -> None:
        self._fault = self._server.faults.reset()
        self._server.disturb("reset")

    def _mend(self) -> None:
        assert self._fault is not None
        self._fault.release()

    def _act(self) -> None:
        for action in self._plan.actions:
            _sleep_until(self._recording.began + action.at)
            if action.what == "start":
                self._daemon.start()
            else:
                self._outcome.wrong += self._daemon.end(action.what)

    def _wait(self) -> None:
        """Until the Events are right and stay so; then stop kiptail, which writes what it still has to, and judge."""
        deadline = time.monotonic() + _PATIENCE_S
        right_since = math.inf
        while time.monotonic() < min(deadline, right_since + _SETTLED_S) and not self._daemon.ended():
            right_since = math.inf if self._judge(self._daemon.ambiguous) else min(right_since, time.monotonic())
            time.sleep(0.2)
        ambiguous = self._daemon.ambiguous
        self._outcome.wrong += self._daemon.end("stop")
        self._outcome.wrong += self._judge(ambiguous)

    def _judge(self, ambiguous: int | None) -> list[str]:
        if self._plan.actions:
            # The counter began anew with the last start.
            return judge(self._recording, self._server.events(), ambiguous=None, unseen=self._unseen())
        wrong = judge(self._recording, self._server.events(), ambiguous=ambiguous)
        return wrong if ambiguous is not None else ["there is no kiptail_drops_ambiguous_total to be had", *wrong]

    def _unseen(self) -> list[str]:
        """Whose address kiptail never could have read: killed before it came, started after the pod was gone."""
        runs, never = self._daemon.runs, Span(math.inf, math.inf)
        pods = self._recording.pods.items()
        return [owner for owner, pod in pods if not could_see(runs, self._visible.get(pod.name, never))]


def _from_now(recording: Recording) -> Recording:
    """The recording, to begin within the next second or so: its times are moved by whole seconds."""
    return recording.later(math.ceil(time.time() - recording.began))


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))
