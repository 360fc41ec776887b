"""What tests run in short and `make crash` at length: a server that freezes, one that comes back empty, a flood."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.apiserver.process import ServerProcess
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.tally import differences, miscounted

__all__ = ["LEFT", "RIGHT", "WATCHDOG", "flood", "freeze", "order", "outlast", "restart_empty", "told"]

#: Enough for ten pairs of pods, and for some that lost packets before.
LEFT = [f"10.244.1.{n}" for n in range(1, 15)]
RIGHT = [f"10.244.2.{n}" for n in range(1, 15)]
PAIRS = list(zip(LEFT, RIGHT, strict=True))
NEW_PAIRS = PAIRS[:10]
PORT = 8080
#: What systemd would ask for: a sign of life every second, at the latest every two.
WATCHDOG = {"WATCHDOG_USEC": "2000000"}
#: So soon after the API server is back everything is there, in seconds.
SOON = 10.0

Event = dict[str, Any]


def told(events: Iterable[Event], source: str, target: str, count: int) -> bool:
    """Both ends of the pair have an Event with this count."""
    about = (f"to team-a/{_name(target)} ({target}) on", f"from team-a/{_name(source)} ({source}) on")
    found = [
        event["count"]
        for event in events
        if any(text in event["message"] for text in about)
        and event["involvedObject"]["name"] in (_name(source), _name(target))
    ]
    return found == [count, count]


def order(events: Iterable[Event]) -> list[str]:
    """The pods on the left, in the order in which they were told for the first time."""
    ours = [event for event in events if event["involvedObject"]["name"].startswith("left-")]
    # Of Events that were not updated since, the resourceVersion tells the order of their creation.
    ours.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
    return [event["involvedObject"]["name"] for event in ours]


def outlast(node: Scene, kiptail: Kiptail, seconds: float) -> None:
    """Ten new pairs lose a packet each while the outage lasts; kiptail counts them, and lives."""
    begin, signs = time.monotonic(), kiptail.notes.count("WATCHDOG=1")
    before = node.sent
    for source, target in NEW_PAIRS:
        node.drop(source, target, PORT)
        kiptail.watch(0.1)
    kiptail.watch(max(0.0, begin + seconds - time.monotonic()))
    kiptail.wait_for(lambda: kiptail.counted == before + len(NEW_PAIRS), "STATUS says that they are counted")
    passed = time.monotonic() - begin
    # Twice as rarely as it should: this machine is shared.
    assert kiptail.notes.count("WATCHDOG=1") - signs >= passed / 2 - 1, kiptail.notes


def wait_until_told(kiptail: Kiptail, events: Callable[[], Iterable[Event]], timeout: float = SOON) -> float:
    """Wait for the Events of the ten pairs; returns how long that took, in seconds."""
    begin = time.monotonic()

    def complete() -> bool:
        found = list(events())
        return all(told(found, source, target, 1) for source, target in NEW_PAIRS)

    kiptail.wait_for(complete, f"both ends of ten pairs are told: {order(events())}", timeout=timeout)
    return time.monotonic() - begin


def freeze(directory: Path, seconds: float) -> str:
    """The API server stands still for so many seconds while ten pairs lose packets."""
    with (
        scene(directory, {"left": LEFT, "right": RIGHT}) as node,
        ServerProcess(directory / "cluster", node.pod_objects()) as server,
        node.kiptail(server.kubeconfig, **WATCHDOG) as kiptail,
    ):
        _tell(node, kiptail, server, *PAIRS[10])
        server.freeze()
        outlast(node, kiptail, seconds)
        server.thaw()
        took = wait_until_told(kiptail, server.events)
        assert order(server.events())[1:] == [_name(source) for source, _ in NEW_PAIRS], "in order of age"
        assert kiptail.stop() == 0
        assert not miscounted(node.lines(), server.events(), node.pods)
    return f"frozen for {seconds:.0f} s: ten pairs told {took:.1f} s after its return"


def restart_empty(directory: Path, seconds: float) -> str:
    """The API server is killed, and comes back without its Events; of one that is gone there is news, of one none."""
    with (
        scene(directory, {"left": LEFT, "right": RIGHT}) as node,
        ServerProcess(directory / "cluster", node.pod_objects()) as server,
        node.kiptail(server.kubeconfig, **WATCHDOG) as kiptail,
    ):
        _tell(node, kiptail, server, *PAIRS[10])
        _tell(node, kiptail, server, *PAIRS[11])
        before = server.events()
        server.kill()
        node.drop(*PAIRS[10], PORT)
        outlast(node, kiptail, seconds)
        server.start(empty=True)
        took = wait_until_told(kiptail, server.events)
        kiptail.wait_for(lambda: told(server.events(), *PAIRS[10], 2), "told anew, with all of its count", SOON)
        events = server.events()
        assert len(events) == 2 * (len(NEW_PAIRS) + 1), "without news, nothing is told anew"
        names = {event["metadata"]["name"] for event in events}
        assert len([event for event in before if event["metadata"]["name"] in names]) == 2, "under its old name"
        assert kiptail.stop() == 0
    return f"killed, {seconds:.0f} s later restarted empty: ten pairs told {took:.1f} s after its return"


def flood(directory: Path, packets: int, rate: int) -> str:
    """So many packets of one flow, ``rate`` a second."""
    source, target = PAIRS[0]
    with (
        scene(directory, {"left": [source], "right": [target]}) as node,
        ServerProcess(directory / "cluster", node.pod_objects()) as server,
        node.kiptail(server.kubeconfig) as kiptail,
    ):
        begin = time.monotonic()
        while node.sent < packets:
            node.drop(source, target, PORT, min(packets, int((time.monotonic() - begin) * rate)) - node.sent)
            kiptail.watch(0.005)
        took = time.monotonic() - begin
        lines = sum(node.lines().values())
        kiptail.wait_for(lambda: told(server.events(), source, target, lines), f"{lines} counted", timeout=60)
        assert kiptail.stop() == 0
        assert not miscounted(node.lines(), server.events(), node.pods)
        with ServerProcess(directory / "undisturbed", node.pod_objects()) as other:
            node.read_at_once(other.kubeconfig)
            assert not differences(server.events(), other.events())
    return f"{packets} packets of one flow at {packets / took:.0f}/s: {lines} in the journal, {lines} in the Events"


def _tell(node: Scene, kiptail: Kiptail, server: ServerProcess, source: str, target: str) -> None:
    node.drop(source, target, PORT)
    kiptail.wait_for(lambda: told(server.events(), source, target, 1), "told before the outage")


def _name(address: str) -> str:
    """As :mod:`tests.support.scene` names pods."""
    place = "left" if address in LEFT else "right"
    return f"{place}-{address.rpartition('.')[2]}"
