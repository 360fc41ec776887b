"""Crashes kiptail again and again while packets are dropped, and holds what it told against an undisturbed run."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.apiserver.process import ServerProcess
from tests.crash.victim import POINTS
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.tally import differences, miscounted

__all__ = ["Outcome", "Plan", "crash"]

LEFT = [f"10.244.1.{n}" for n in range(1, 5)]
RIGHT = [f"10.244.2.{n}" for n in range(1, 5)]
#: Those that scan and are scanned; the others have no more flows than are told one by one.
SCANNER, SCANNED = LEFT[3], RIGHT[3]
PORTS = (53, 5432, 8080)
#: 54 flows, 9 in each direction of each pod.
FLOWS = [
    (source, target, port)
    for here, there in ((LEFT[:3], RIGHT[:3]), (RIGHT[:3], LEFT[:3]))
    for source in here
    for target in there
    for port in PORTS
]
#: A kiptail starts in a second or so, and lives for about another one.
SECONDS_A_KILL = 1.8
#: A victim that never comes to its point (there may be no news to send) is killed after so many seconds.
VICTIM_PATIENCE = 6.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: how often kiptail is killed, and over how many drops."""

    kills: int
    drops: int
    #: Of a pod by another one, on so many ports.
    scanned_ports: int = 100
    #: The API server is killed, too.
    kill_server: bool = False
    #: Of all that is random.
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(1 << 32))


@dataclass(slots=True)
class Outcome:
    """What came of a run. It went well when nothing is ``wrong``."""

    plan: Plan
    #: By the point of death; "any moment" for those that were not asked to die at one.
    deaths: Counter[str] = field(default_factory=Counter)
    server_kills: int = 0
    lines: int = 0
    flows: int = 0
    events: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        deaths = ", ".join(f"{count} {point}" for point, count in sorted(self.deaths.items()))
        text = (
            f"seed {self.plan.seed}: {sum(self.deaths.values())} kills ({deaths}), {self.server_kills} of the server,"
            f" {self.lines} drops of {self.flows} flows, {self.events} Events, {self.seconds:.0f} s"
        )
        return "\n".join([text, *self.wrong])


def crash(directory: Path, plan: Plan) -> Outcome:
    """Crash kiptail as planned, let it finish, and compare."""
    outcome = Outcome(plan)
    begin = time.monotonic()
    with scene(directory, {"left": LEFT, "right": RIGHT}) as node:
        with ServerProcess(directory / "cluster", node.pod_objects()) as server:
            _crash(node, server, plan, outcome)
            lines = node.lines()
            outcome.lines, outcome.flows = sum(lines.values()), len(lines)
            _finish(node, server, outcome)
            events = server.events()
        with ServerProcess(directory / "undisturbed", node.pod_objects()) as other:
            node.read_at_once(other.kubeconfig)
            undisturbed = other.events()
        outcome.events = len(events)
        outcome.wrong += miscounted(lines, events, node.pods)
        outcome.wrong += [f"undisturbed: {wrong}" for wrong in miscounted(lines, undisturbed, node.pods)]
        outcome.wrong += differences(events, undisturbed)
    outcome.seconds = time.monotonic() - begin
    return outcome


def _crash(node: Scene, server: ServerProcess, plan: Plan, outcome: Outcome) -> None:
    chance = random.Random(plan.seed)
    traffic = _Background(_Traffic(node, plan).step)
    gremlin = _Background(_ServerKiller(server, plan, outcome).step) if plan.kill_server else None
    try:
        for number in range(plan.kills):
            # Every other one at a point, each point in its turn.
            point = POINTS[number // 2 % len(POINTS)] if number % 2 else ""
            _live_and_die(node, server, chance, point, outcome)
            if outcome.wrong:
                break
    finally:
        if gremlin is not None:
            gremlin.stop()
        traffic.stop()
    outcome.wrong += traffic.complaints + (gremlin.complaints if gremlin is not None else [])


def _live_and_die(node: Scene, server: ServerProcess, chance: random.Random, point: str, outcome: Outcome) -> None:
    """One kiptail, from its start to a SIGKILL."""
    if point:
        options = ("--die-at", point, "--after", chance.randrange(1, 6), "--")
        kiptail = Kiptail(node.directory, *options, *node.arguments(server.kubeconfig), module="tests.crash.victim")
    else:
        kiptail = node.kiptail(server.kubeconfig)
    code = kiptail.ended(VICTIM_PATIENCE if point else chance.uniform(0.0, 2.5))
    if code is None:
        point = ""
    elif not point or code != -signal.SIGKILL:
        outcome.wrong.append(f"kiptail ended by itself with {code}: {kiptail.log}")
    outcome.deaths[point or "any moment"] += 1
    kiptail.kill()


def _finish(node: Scene, server: ServerProcess, outcome: Outcome) -> None:
    """Start kiptail once more, and stop it when it has told everything."""
    expected = 2 * outcome.lines
    with node.kiptail(server.kubeconfig) as kiptail:
        try:
            kiptail.wait_for(
                lambda: sum(event["count"] for event in server.events()) == expected, "all is told", timeout=60
            )
        except AssertionError as error:
            outcome.wrong.append(str(error))
        if kiptail.ended(0) is None and kiptail.stop() != 0:
            outcome.wrong.append(f"the last kiptail did not stop well: {kiptail.log}")


class _Traffic:
    """Drops at an even rate, in flows of which ever more take part: new ones are opened all the time."""

    def __init__(self, node: Scene, plan: Plan) -> None:
        self._node, self._plan = node, plan
        self._chance = random.Random(f"{plan.seed} traffic")
        scan = [(SCANNER, SCANNED, port) for port in range(1, plan.scanned_ports + 1)]
        self._unopened = self._chance.sample(FLOWS + scan, len(FLOWS) + len(scan))
        self._flows = len(self._unopened)
        self._open: list[tuple[str, str, int]] = []
        self._sent = 0
        self._pause = plan.kills * SECONDS_A_KILL / (plan.drops / 2)

    def step(self, stopping: threading.Event) -> bool:
        """Send a few packets; False when all are sent and it is time to stop."""
        while self._unopened and len(self._open) <= self._flows * self._sent / self._plan.drops:
            self._open.append(self._unopened.pop())
            self._send(self._open[-1])
        self._send(self._chance.choice(self._open))
        if stopping.is_set():
            time.sleep(0.0005)  # the rest at once, but slowly enough for the kernel's ring buffer
            return self._sent < self._plan.drops or bool(self._unopened)
        stopping.wait(self._chance.uniform(0, 2 * self._pause))
        return True

    def _send(self, flow: tuple[str, str, int]) -> None:
        count = self._chance.randrange(1, 4)
        self._node.drop(*flow, count)
        self._sent += count


class _ServerKiller:
    """Kills the API server now and then, and starts it again."""

    def __init__(self, server: ServerProcess, plan: Plan, outcome: Outcome) -> None:
        self._server, self._outcome = server, outcome
        self._chance = random.Random(f"{plan.seed} server")

    def step(self, stopping: threading.Event) -> bool:
        """Let it live, and be away, for a while."""
        stopping.wait(self._chance.uniform(0.2, 2.0))
        self._server.kill()
        self._outcome.server_kills += 1
        stopping.wait(self._chance.uniform(0.0, 1.5))
        self._server.start()
        return not stopping.is_set()


class _Background:
    """Takes a step after the other in a thread, until there are no more or it failed."""

    def __init__(self, step: Callable[[threading.Event], bool]) -> None:
        self.complaints: list[str] = []
        self._step = step
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Have it come to its end, and wait for that."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._step(self._stopping):
                pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the run did not test what it should
            self.complaints.append(f"the test itself failed: {error!r}")
