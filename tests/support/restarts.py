"""kiptail that is ended and started again, on one state and one journal, and what it could know of a pod."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

from tests.apiserver import ApiServer
from tests.support.recordings import Span
from tests.support.running import LOG_TOLD, Kiptail, without_names
from tests.support.scrape import free_port, get

__all__ = ["Daemon", "could_see"]

#: Of the recordings in tests/handover.
_NODE_NAME = "node1"
_PREFIX = "rc-drop:"
_PODS = "/api/v1/pods"

#: Seconds in which many that start at once have started.
_STARTED_S = 60.0
#: Between a change at the API server and kiptail's having read it, in seconds.
_UNDER_WAY_S = 0.3

_AMBIGUOUS = re.compile(r"^kiptail_drops_ambiguous_total (\d+)(?:\.0)?$", re.MULTILINE)


def could_see(runs: Sequence[Span], visible: Span) -> bool:
    """Whether any run of kiptail could have read that a pod has its address.

    A run begins with its first request for pods and ends with the process; the pod is ``visible`` from when the API
    server has its address until it has no such pod. Where both overlap for less time than a line of a watch, or the
    answer to a list, may be under way, nobody can tell: that is taken for "could not".
    """
    overlaps = (min(run.end, visible.end) - max(run.begin, visible.begin) for run in runs)
    return any(seconds > _UNDER_WAY_S for seconds in overlaps)


class Daemon:
    """kiptail, as often as it is started on the same state. Its journal is in ``directory``/journal."""

    def __init__(self, directory: Path, server: ApiServer, *, pod_index: str) -> None:
        self._directory, self._server = directory, server
        self._kubeconfig = server.kubeconfig(directory / "kubeconfig")
        self._port = free_port()
        self._pod_index = pod_index
        # A time and not "now": a first run that is killed before it stored a position leaves none to go on from.
        self._since = int(time.time())
        self._starts: list[float] = []
        self._ends: list[float] = []
        self.process: Kiptail | None = None

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()

    def start(self) -> None:
        self._starts.append(time.monotonic())
        self.process = Kiptail(
            self._directory,
            "--kubeconfig", self._kubeconfig,
            "--journal-directory", self._directory / "journal",
            "--state-directory", self._directory / "state",
            "--prefix", _PREFIX,
            "--node-name", _NODE_NAME,
            "--pod-index", self._pod_index,
            "--since", f"@{self._since}",
            "--repeat-interval", "1s",
            "--metrics-address", f"127.0.0.1:{self._port}",
            within=without_names(self._directory),
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        process = self.process
        assert process is not None
        process.wait_for(lambda: "READY=1" in process.notes, "READY=1", timeout=_STARTED_S)

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process is None or self.process.ended(0) is not None

    def end(self, what: str) -> list[str]:
        """Stop or kill it; what is wrong with how it ended."""
        process = self.process
        assert process is not None
        code = process.ended(0)
        wrong = [] if code is None else [f"kiptail ended by itself with {code}:\n{process.log[-LOG_TOLD:]}"]
        if what == "kill" or wrong:
            process.kill()
        elif (code := process.stop()) != 0:
            wrong.append(f"kiptail was stopped and ended with {code}:\n{process.log[-LOG_TOLD:]}")
        self.process = None
        self._ends.append(time.monotonic())
        return wrong

    @property
    def runs(self) -> list[Span]:
        """From the first request for pods to the end of each process, by time.monotonic()."""
        asked = [request.time for request in self._server.requests("GET", _PODS, status=200)]
        found = []
        for start, end in zip(self._starts, [*self._ends, math.inf], strict=False):
            answered = [at for at in asked if start <= at < end]
            found += [Span(answered[0], end)] if answered else []
        return found

    @property
    def ambiguous(self) -> int | None:
        """Drops at whose end several pods may have been, since its last start; None when it does not say."""
        try:
            found = _AMBIGUOUS.search(get(self._port)[1])
        except OSError:
            return None
        return int(found[1]) if found else None
