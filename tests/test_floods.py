"""Many drops at once: many pods towards one, many ports of one, many packets of one flow."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.crash.scenarios import flood
from tests.scene import Scene, scene
from tests.tally import miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

TARGET = "10.244.2.1"


def cluster(server: ApiServer, node: Scene, directory: Path) -> Path:
    """The scene's pods in this server, and a kubeconfig."""
    for pod in node.pod_objects():
        server.pods.put(pod)
    server.grant("kiptail", "get list watch", "pods")
    server.grant("kiptail", "create patch", "events")
    return server.kubeconfig(directory / "kubeconfig", token=server.add_user("kiptail"))


def of(server: ApiServer, name: str) -> list[int]:
    """The counts of a pod's Events."""
    return [event["count"] for event in server.events() if event["involvedObject"]["name"] == name]


def test_sixty_pods_that_drop_towards_one_are_each_told_within_ten_seconds(tmp_path: Path) -> None:
    sources = [f"10.244.1.{n}" for n in range(1, 61)]
    with scene(tmp_path, {"left": sources, "right": [TARGET]}) as node, ApiServer() as server:
        with node.kiptail(cluster(server, node, tmp_path)) as kiptail:
            sent: dict[str, float] = {}
            seen: dict[str, float] = {}

            def look() -> bool:
                for event in server.events():
                    seen.setdefault(event["involvedObject"]["name"], time.monotonic())
                return len(seen) == len(sources) + 1

            for source in sources:
                node.drop(source, TARGET, 5432)
                sent[node.pods[source]] = time.monotonic()
                kiptail.watch(0.1)
                look()
            kiptail.wait_for(look, "an Event for each of them")
            late = {name: seen[name] - at for name, at in sent.items() if seen[name] - at > 10}
            assert not late
            kiptail.wait_for(lambda: sum(of(server, "right-1")) == len(sources), "the target's Events count all")
            assert kiptail.stop() == 0
        assert [of(server, name) for name in sent] == [[1]] * len(sources)
        assert not miscounted(node.lines(), server.events(), node.pods)


def test_a_scan_of_two_thousand_ports_is_a_handful_of_events_that_count_all(tmp_path: Path) -> None:
    source = "10.244.1.1"
    with scene(tmp_path, {"left": [source], "right": [TARGET]}) as node, ApiServer() as server:
        with node.kiptail(cluster(server, node, tmp_path)) as kiptail:
            for port in range(1, 2001):
                node.drop(source, TARGET, port)
                if port % 20 == 0:
                    time.sleep(0.01)
            lines = sum(node.lines().values())
            for end in ("left-1", "right-1"):
                kiptail.wait_for(lambda end=end: sum(of(server, end)) == lines, f"{end} has them all", timeout=60)  # type: ignore[misc]
            assert len(server.events()) <= 50
            assert kiptail.stop() == 0
        assert lines > 1900, "the kernel log had room for nearly all of them"
        assert not miscounted(node.lines(), server.events(), node.pods)


def test_ten_thousand_packets_of_one_flow_are_counted_to_the_last_line(tmp_path: Path) -> None:
    flood(tmp_path, 10_000, 5_000)
