"""Many drops at once: many pods towards one, many ports of one, many packets of one flow."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.process import ServerProcess
from tests.crash.scenarios import flood
from tests.support.hostile_clients import crowd
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.processes import cpu_seconds, descriptors, threads
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.scrape import free_port, get
from tests.support.tally import miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

TARGET = "10.244.2.1"


def cluster(server: ApiServer, node: Scene, directory: Path) -> Path:
    """The scene's pods in this server, and a kubeconfig."""
    for each in node.pod_objects():
        server.pods.put(each)
    server.grant("kiptail", "get list watch", "pods")
    server.grant("kiptail", "create patch", "events")
    return server.kubeconfig(directory / "kubeconfig", token=server.add_user("kiptail"))


def of(server: ApiServer, name: str) -> list[int]:
    """The counts of a pod's Events."""
    return of_all(server.events(), name)


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


def test_a_crowd_on_the_metrics_port_is_in_nobodys_way(tmp_path: Path) -> None:
    """1,100 connections that say nothing, drip or do not read, while 1,000 drops a second come."""
    sources, rate, seconds, port = [f"10.244.1.{n}" for n in range(1, 6)], 1_000, 6, free_port()
    with (
        scene(tmp_path, {"left": sources, "right": [TARGET]}) as node,
        ServerProcess(tmp_path / "cluster", node.pod_objects()) as server,
        node.kiptail(
            server.kubeconfig, "--metrics-address", f"127.0.0.1:{port}", within=["prlimit", "--nofile=1024:1024"]
        ) as kiptail,
    ):
        kiptail.watch(0.5)
        pid = kiptail.pid
        files, before, memory = descriptors(pid), threads(pid), anonymous_mib(pid)
        most_files = most_threads = 0
        with crowd(port, 1_100):
            began, cpu = time.monotonic(), cpu_seconds(pid)
            while node.sent < rate * seconds:
                due = min(rate * seconds, int((time.monotonic() - began) * rate)) - node.sent
                for number in range(due):
                    node.drop(sources[number % len(sources)], TARGET, 5432)
                kiptail.watch(0.02)
                if node.sent % 1_000 < 100:
                    most_files = max(most_files, descriptors(pid))
                    most_threads = max(most_threads, threads(pid))
            kiptail.wait_for(lambda: scraped(port), "a scrape has its turn", timeout=10)
            used = (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
            lines = sum(node.lines().values())
            # While the crowd is still there.
            kiptail.wait_for(lambda: sum(of_all(server.events(), "right-1")) == lines, "all are told", timeout=10)
        assert most_files <= files + 40, "16 connections, and those to the API server"
        assert most_threads <= before + 24
        assert anonymous_mib(pid) < memory + 24
        assert used < 0.9
        assert lines > rate * seconds * 0.95, "the kernel log had room for nearly all of them"
        assert not miscounted(node.lines(), server.events(), node.pods)
        assert "Traceback" not in kiptail.log
        assert kiptail.stop() == 0


def of_all(events: list[dict[str, Any]], name: str) -> list[int]:
    """The counts of a pod's Events, of these."""
    return [event["count"] for event in events if event["involvedObject"]["name"] == name]


def scraped(port: int) -> bool:
    with contextlib.suppress(OSError):  # its turn was over before it was answered
        return get(port)[0] == 200
    return False


def anonymous_mib(pid: int) -> float:
    """Memory that is not mapped from files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def test_a_backlog_of_two_hundred_thousand_drops_is_counted_to_the_last_without_growing(tmp_path: Path) -> None:
    """What the journal holds is behind no queue of kiptail's own."""
    drops, per_flow = 200_000, 200_000 // 20
    now_us = time.time_ns() // 1000 - 60 * 1_000_000
    line = (
        "backlog: IN=a OUT=b MAC= SRC=10.244.1.{} DST=10.244.2.1 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID={} DF PROTO=TCP"
        " SPT={} DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
    )
    journal = tmp_path / "journal"
    export_to_journal(
        (
            kernel_entry(
                line.format(1 + n % 20, n % 65_536, 32_768 + n % 20_000),
                realtime_us=now_us + n * 100,
                monotonic_us=1_000_000 + n * 100,
            )
            for n in range(drops)
        ),
        journal / "x.journal",
    )
    pods = [pod(f"pod-{n}", f"10.244.1.{n}", uid=f"uid-{n}") for n in range(1, 21)]
    with (
        ServerProcess(tmp_path / "cluster", pods) as server,
        Kiptail(
            tmp_path,
            "--kubeconfig", server.kubeconfig, "--journal-directory", journal, "--state-directory", tmp_path / "state",
            "--prefix", "backlog:", "--node-name", "worker-3", "--since", "-10m", "--repeat-interval", "1s",
            "--metrics-address", "off",
        ) as kiptail,
    ):  # fmt: skip
        before = anonymous_mib(kiptail.pid)
        kiptail.wait_for(
            lambda: [event["count"] for event in server.events()] == [per_flow] * 20, "every drop is told", timeout=120
        )
        assert anonymous_mib(kiptail.pid) < before + 16
        assert kiptail.stop() == 0
