"""The short runs of what `make crash` does at length."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.apiserver.process import ServerProcess
from tests.crash.harness import FLOWS, Plan, crash
from tests.crash.victim import POINTS
from tests.support.running import Kiptail
from tests.support.scene import scene
from tests.support.tally import differences, miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]


#: How many Events of its first flow a kiptail has told that dies there.
TOLD = {"sent": 1, "in-note": 2, "noted": 2}


def test_each_point_of_death_is_where_it_says_and_harms_nothing(tmp_path: Path) -> None:
    source, target = "10.244.1.1", "10.244.2.1"
    with (
        scene(tmp_path, {"left": [source], "right": [target]}) as node,
        ServerProcess(tmp_path / "cluster", node.pod_objects()) as server,
    ):
        for port, point in enumerate(POINTS, 1001):
            # One that tells what the one before it left behind, so that the victim comes to its own.
            with node.kiptail(server.kubeconfig) as kiptail:
                expected = 2 * (port - 1001)
                kiptail.wait_for(lambda expected=expected: len(server.events()) == expected, "all before")  # type: ignore[misc]
                assert kiptail.stop() == 0
            node.drop(source, target, port)
            victim = Kiptail(
                tmp_path,
                *("--die-at", point, "--", *node.arguments(server.kubeconfig)),
                module="tests.crash.victim",
            )
            code = victim.ended(20)
            victim.kill()
            assert code == -signal.SIGKILL, f"{point}: {victim.log}"
            assert len(server.events()) - expected == TOLD.get(point, 0), point
            # What was told without a note of it is out of date by the time of the next try.
            node.drop(source, target, port)
        with node.kiptail(server.kubeconfig) as kiptail:
            kiptail.wait_for(lambda: [e["count"] for e in server.events()] == [2, 2] * len(POINTS), "two of each")
            assert kiptail.stop() == 0
        with ServerProcess(tmp_path / "undisturbed", node.pod_objects()) as other:
            node.read_at_once(other.kubeconfig)
            assert not differences(server.events(), other.events())
        assert not miscounted(node.lines(), server.events(), node.pods)


@pytest.mark.parametrize("kill_server", [False, True], ids=["kiptail", "kiptail and the API server"])
def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path, kill_server: bool) -> None:
    outcome = crash(tmp_path, Plan(kills=2 * len(POINTS), drops=400, kill_server=kill_server))
    assert not outcome.wrong, outcome
    assert outcome.lines >= 400
    assert outcome.flows == len(FLOWS) + 100
    # Not each of them has to come to its point, but if many do not, this tests less than it says.
    assert len(outcome.deaths) > len(POINTS) // 2, outcome
