"""What is left out on the real thing: packets that nft drops, kernel, journald, kiptail as a process, an API server."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from kiptail.admin.manifests import dedicated
from tests.apiserver import ApiServer
from tests.support.policies import namespace
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.scrape import free_port, get
from tests.support.tally import Lost, miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft and journald"),
]

CLIENT, WEB = "10.244.1.9", "10.244.1.3"
CLIENT_6, WEB_6 = "fd00:10:244:1::9", "fd00:10:244:1::3"
ACCOUNT = "system:serviceaccount:kube-system:kiptail"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, {"client": [CLIENT, CLIENT_6], "web": [WEB, WEB_6]}) as made:
        yield made


@pytest.fixture
def server(node: Scene) -> Iterator[ApiServer]:
    with ApiServer() as server:
        for each in node.pod_objects():
            server.pods.put(each)
        yield server


def annotate(server: ApiServer, node: Scene, name: str, said: str | None) -> None:
    """As `kubectl annotate pod NAME kiptail/events=…`, or `kiptail/events-`."""
    (made,) = [each for each in node.pod_objects() if each["metadata"]["name"] == name]
    if said is not None:
        made["metadata"]["annotations"] = {"kiptail/events": said}
    server.pods.put(made)


def posted(server: ApiServer) -> dict[tuple[str, str], int]:
    """Counts by pod, and port as the text has it."""
    found = {}
    for event in server.events():
        (port,) = re.findall(r"on port (\d+)/UDP", event["message"])
        found[event["involvedObject"]["name"], port] = event["count"]
    return found


def value(page: str, line: str) -> float:
    """Of one label set."""
    found = re.findall(rf"^{re.escape(line)} (\S+)$", page, re.MULTILINE)
    return float(found[0]) if found else 0.0


@pytest.mark.parametrize(("said", "peer_is_told"), [("peers", True), ("off", False)])
def test_an_annotated_pod_has_no_event_and_taking_the_annotation_away_brings_the_next_ones(
    node: Scene, server: ApiServer, said: str, peer_is_told: bool
) -> None:
    annotate(server, node, "web-1", said)
    metrics = free_port()
    with node.kiptail(
        server.kubeconfig(node.directory / "kubeconfig"), "--metrics-address", f"127.0.0.1:{metrics}"
    ) as kiptail:
        node.drop(CLIENT, WEB, 7001, count=3)
        muted = 'kiptail_drops_muted_total{reason="annotation"}'
        expected = 3 if peer_is_told else 6
        kiptail.wait_for(lambda: value(get(metrics)[1], muted) == expected, "they are left out")
        # A flow of others, so that it is known that nothing is late.
        node.drop(CLIENT_6, WEB_6, 7002)
        kiptail.wait_for(lambda: ("web-2", "7002") in posted(server), "its Event")
        others = {("client-2", "7002"): 1, ("web-2", "7002"): 1}
        assert posted(server) == others | ({("client-1", "7001"): 3} if peer_is_told else {})

        annotate(server, node, "web-1", None)
        kiptail.watch(1.0)
        assert ("web-1", "7001") not in posted(server), "there is nothing new"
        node.drop(CLIENT, WEB, 7001, count=2)
        kiptail.wait_for(lambda: posted(server).get(("web-1", "7001")) == 5, "the next ones, with the whole count")
        kiptail.wait_for(lambda: posted(server).get(("client-1", "7001")) == 5, "at the other end, too")

        annotate(server, node, "web-1", said)
        kiptail.watch(1.0)
        node.drop(CLIENT, WEB, 7001, count=4)
        node.drop(CLIENT, WEB, 7003)
        told = {("client-1", "7001"): 9, ("client-1", "7003"): 1} if peer_is_told else {("client-1", "7001"): 5}
        kiptail.wait_for(lambda: told.items() <= posted(server).items(), "its peer is told, or not")
        kiptail.watch(3.0)
        assert posted(server) == others | told | {("web-1", "7001"): 5}
        assert kiptail.stop() == 0
    # The next run knows what was decided, and does not tell it after all.
    with node.kiptail(server.kubeconfig(node.directory / "kubeconfig")) as kiptail:
        kiptail.watch(3.0)
        assert kiptail.stop() == 0
    assert posted(server) == others | told | {("web-1", "7001"): 5}


def test_a_filter_on_a_range_of_ports_leaves_exactly_those_out(node: Scene, server: ApiServer) -> None:
    configuration = node.directory / "kiptail.toml"
    configuration.write_text("""
[[ignore]]
port = ["7003-7005"]
reason = "range"
what = "all"

[[ignore]]
dst = "fd00:10:244::/48"
port = [7006, 7007]
reason = "six"
""")
    with node.kiptail(server.kubeconfig(node.directory / "kubeconfig"), "--config", configuration) as kiptail:
        for number, port in enumerate(range(7001, 7010), 1):
            node.drop(CLIENT, WEB, port, count=number)
            node.drop(CLIENT_6, WEB_6, port, count=number)
        lines = Counter({_canonical(lost): count for lost, count in node.lines().items()})
        kept = Counter({lost: count for lost, count in lines.items() if not _left_out(lost)})
        kiptail.wait_for(lambda: not miscounted(kept, server.events(), node.pods), "all that is not left out")
        kiptail.watch(1.5)
        assert miscounted(kept, server.events(), node.pods) == []
        assert kiptail.stop() == 0
    assert {port for _, port in posted(server)} == {"7001", "7002", "7006", "7007", "7008", "7009"}
    assert sum(lines.values()) == 2 * sum(range(1, 10))


def _canonical(lost: Lost) -> Lost:
    return lost._replace(src=str(ip_address(lost.src)), dst=str(ip_address(lost.dst)))


def _left_out(lost: Lost) -> bool:
    return 7003 <= lost.port <= 7005 or (":" in lost.dst and lost.port in (7006, 7007))


def test_metrics_add_up_to_what_was_read(node: Scene, server: ApiServer) -> None:
    metrics = free_port()
    with node.kiptail(
        server.kubeconfig(node.directory / "kubeconfig"),
        "--metrics-address", f"127.0.0.1:{metrics}",
        "--ignore", "port=7003-7005 what=all reason=range",
        "--ignore", "dst=fd00:10:244::/48 reason=six",
    ) as kiptail:  # fmt: skip
        for port in range(7001, 7010):
            node.drop(CLIENT, WEB, port, count=3)
            node.drop(CLIENT_6, WEB_6, port, count=2)
        total = sum(node.lines().values())

        def counted() -> dict[str, Any]:
            page = get(metrics)[1]
            return {
                "drops": value(page, 'kiptail_drops_total{protocol="UDP",verdict="drop"}'),
                "ignored": value(page, 'kiptail_drops_ignored_total{reason="range"}'),
                "muted": value(page, 'kiptail_drops_muted_total{reason="six"}'),
            }

        expected = {"drops": 6 * 5.0, "ignored": 3 * 5.0, "muted": 2 * 6 * 2.0}
        kiptail.wait_for(lambda: counted() == expected, "all are counted")
        assert expected["drops"] + expected["ignored"] == total
        kiptail.wait_for(lambda: sum(posted(server).values()) == 2 * 6 * 3, "the others are told")
        assert kiptail.stop() == 0


def test_a_namespace_opts_out_where_it_may_be_read(node: Scene, server: ApiServer) -> None:
    server.apply(dedicated())
    quiet = namespace("team-a")
    quiet["metadata"]["annotations"] = {"kiptail/events": "off"}
    server.namespaces.put(quiet)
    kubeconfig = server.kubeconfig(node.directory / "kubeconfig", token=server.add_user(ACCOUNT))
    with node.kiptail(kubeconfig, module="tests.support.short_memory") as kiptail:
        node.drop(CLIENT, WEB, 7001, count=2)
        kiptail.wait_for(lambda: "(annotation 4)" in " ".join(kiptail.notes), "they are left out")
        assert posted(server) == {}
        server.namespaces.put(namespace("team-a"))
        time.sleep(1.1)  # what was known of it is old then
        node.drop(CLIENT, WEB, 7001)
        # It is asked for with this one, and told once that is answered.
        kiptail.wait_for(lambda: posted(server) == {(name, "7001"): 3 for name in ("client-1", "web-1")}, "all of them")
        assert kiptail.stop() == 0


def test_without_the_right_to_read_namespaces_nothing_changes_and_nothing_is_said(
    node: Scene, server: ApiServer
) -> None:
    server.apply(dedicated())
    server.revoke(ACCOUNT, "get", "namespaces")
    kubeconfig = server.kubeconfig(node.directory / "kubeconfig", token=server.add_user(ACCOUNT))
    kiptail: Kiptail
    with node.kiptail(kubeconfig) as kiptail:
        node.drop(CLIENT, WEB, 7001, count=2)
        kiptail.wait_for(lambda: len(posted(server)) == 2, "both Events")
        assert kiptail.stop() == 0
    assert "namespaces" not in kiptail.log
