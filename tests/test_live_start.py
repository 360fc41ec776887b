"""`--since now` on the real thing: what was dropped after the first start is told, whenever kiptail ends."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.process import ServerProcess
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.tally import Lost, miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

CLIENT, WEB = "10.244.1.9", "10.244.1.3"
#: Of what is dropped before the first start, which is not to be told.
OLD_PORT = 999
PORTS = (1001, 1002, 1003)
KILLS = 20


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scene]:
    """The journal's last entry is a kernel line from before the start, as on a quiet node."""
    with scene(tmp_path, {"client": [CLIENT], "web": [WEB]}) as node:
        node.drop(CLIENT, WEB, OLD_PORT)
        assert sum(node.lines().values()) == 1
        yield node


@pytest.fixture
def server(node: Scene, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "cluster", node.pod_objects()) as server:
        yield server


def begun(node: Scene, server: ServerProcess) -> Kiptail:
    return node.kiptail(server.kubeconfig, "--since", "now")


def due(node: Scene) -> Counter[Lost]:
    """What the journal holds of the drops since the first start."""
    return Counter({lost: count for lost, count in node.lines().items() if lost.port != OLD_PORT})


def told_by_the_next(node: Scene, server: ServerProcess) -> list[str]:
    """Start kiptail once more, and say in what the Events differ from the journal when it has told everything."""
    lines = due(node)
    assert lines
    expected = 2 * sum(lines.values())
    with begun(node, server) as kiptail:
        kiptail.wait_for(
            lambda: sum(event["count"] for event in server.events()) >= expected,
            f"{expected} are told: {miscounted(lines, server.events(), node.pods)}",
        )
        assert kiptail.stop() == 0
        assert "deleted before they were read" not in kiptail.log
    return miscounted(lines, server.events(), node.pods)


@pytest.mark.parametrize("quiet_s", [0, 6])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_drops_after_the_first_start_are_told_by_the_next_also_if_the_first_read_nothing(
    node: Scene, server: ServerProcess, quiet_s: int, end: str
) -> None:
    with begun(node, server) as kiptail:
        kiptail.watch(quiet_s)
        if end == "stop":
            assert kiptail.stop() == 0
        else:
            kiptail.kill()
    node.drop(CLIENT, WEB, PORTS[0], 5)
    assert told_by_the_next(node, server) == []


def test_twenty_crashes_in_a_row_from_the_first_second_on_lose_and_double_nothing(
    node: Scene, server: ServerProcess
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    with begun(node, server) as kiptail, drops_going_on(node):
        # As soon as it is ready, most likely before it has counted anything.
        kiptail.kill()
        for _ in range(KILLS - 1):
            another = begun(node, server)
            # It is ready after about a second, and may be killed before that as well.
            assert another.ended(chance.uniform(0.0, 2.0)) is None, another.log
            another.kill()
    assert told_by_the_next(node, server) == [], f"seed {seed}"


@contextlib.contextmanager
def drops_going_on(node: Scene) -> Iterator[None]:
    """About twenty drops a second, of three flows in turn."""
    ending = threading.Event()

    def send() -> None:
        number = 0
        while not ending.wait(0.05):
            node.drop(CLIENT, WEB, PORTS[number % len(PORTS)])
            number += 1

    thread = threading.Thread(target=send, name="drops")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
