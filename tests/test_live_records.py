"""Flow records in a real journald, of packets that a real kernel dropped, as journalctl finds them."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kiptail.events.flow_record import MESSAGE_IDS, UNIT, Stretch
from kiptail.report.run import CountedBy
from tests.apiserver import ApiServer
from tests.support.journald import Journald
from tests.support.reported import reported, settings_of
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.ulogd import in_unit

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

CLIENT, WEB = "10.244.1.9", "10.244.1.3"
#: What systemd does for a service: the standard error is a stream of journald's, and a variable says so.
CONNECTED = 'export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec "$@"'
STRETCHES = {message_id: stretch for stretch, message_id in MESSAGE_IDS.items()}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, {"client": [CLIENT], "web": [WEB]}) as made:
        yield made


@pytest.fixture
def server(node: Scene) -> Iterator[ApiServer]:
    with ApiServer() as server:
        for each in node.pod_objects():
            server.pods.put(each)
        yield server


def started(node: Scene, server: ApiServer, groups: Sequence[str] = ()) -> Kiptail:
    """``groups``: the files of control groups that it enters."""
    entered = "".join(f"echo $$ >{shlex.quote(group)}; " for group in groups)
    within = node.journald.command("systemd-cat", "-t", "kiptail", "sh", "-c", f"{entered}{CONNECTED}", "sh")
    return node.kiptail(server.kubeconfig(node.directory / "kubeconfig"), within=within)


def found(journald: Journald, *matches: str) -> list[dict[str, Any]]:
    journald.sync()
    out = journald.run("journalctl", "-q", "--no-pager", "-o", "json", *matches)
    return [json.loads(line) for line in out.splitlines()]


def told(journald: Journald, *matches: str) -> Counter[tuple[Stretch, str, str]]:
    entries = found(journald, *matches)
    return Counter((STRETCHES[e["MESSAGE_ID"]], e["KIPTAIL_POD"], e["KIPTAIL_COUNT"]) for e in entries)


def last(journald: Journald) -> Callable[[], dict[tuple[str, str, str], int]]:
    """The last counts by pod, direction and port, as docs/records.md says to take them."""

    def counts() -> dict[tuple[str, str, str], int]:
        series = {entry["KIPTAIL_FLOW"]: entry for entry in found(journald, "SYSLOG_IDENTIFIER=kiptail")
                  if "KIPTAIL_FLOW" in entry}  # fmt: skip
        return {
            (entry["KIPTAIL_POD"], entry["KIPTAIL_DIRECTION"], entry["KIPTAIL_PORT"]): int(entry["KIPTAIL_COUNT"])
            for entry in series.values()
        }

    return counts


def test_journalctl_finds_a_pods_flows_also_while_the_api_server_is_away_and_sums_are_exact(
    node: Scene, server: ApiServer
) -> None:
    journald, counts = node.journald, last(node.journald)
    with started(node, server) as kiptail:
        node.drop(CLIENT, WEB, 7001, count=3)
        kiptail.wait_for(lambda: len(server.events()) == 2, "its Events")
        server.stop()
        node.drop(CLIENT, WEB, 7002, count=2)
        kiptail.wait_for(lambda: found(journald, "KIPTAIL_POD=web-1", "KIPTAIL_PORT=7002"), "the API server is away")
        node.drop(CLIENT, WEB, 7001, count=4)
        kiptail.wait_for(lambda: counts().get(("web-1", "received", "7001")) == 7, "it has grown")
        kiptail.kill()
    node.drop(CLIENT, WEB, 7001)
    with started(node, server) as kiptail:
        kiptail.wait_for(lambda: counts().get(("client-1", "sent", "7001")) == 8, "it goes on after a crash")
        server.start()
        kiptail.wait_for(lambda: len(server.events()) == 4, "all Events")
        node.drop(CLIENT, WEB, 7002, count=5)
        kiptail.wait_for(lambda: counts().get(("client-1", "sent", "7002")) == 7, "both have grown")
        assert kiptail.stop() == 0
    ends = (("client-1", "sent"), ("web-1", "received"))
    assert counts() == {(*end, port): count for end in ends for port, count in (("7001", 8), ("7002", 7))}
    assert sum(node.lines().values()) == 15
    names = {entry["KIPTAIL_EVENT"] for entry in found(journald, "KIPTAIL_VERDICT=drop")}
    assert names == {event["metadata"]["name"] for event in server.events()}
    (first, *_) = found(journald, "KIPTAIL_POD=web-1", "KIPTAIL_PORT=7001")
    assert (first["_TRANSPORT"], first["SYSLOG_IDENTIFIER"], first["PRIORITY"]) == ("journal", "kiptail", "6")
    placed = told(journald, f"MESSAGE_ID={MESSAGE_IDS[Stretch.PLACED]}")
    assert sorted(pod for _, pod, _ in placed.elements()) == ["client-1", "client-1", "web-1", "web-1"]


def test_a_report_counts_the_units_own_records_and_no_forged_ones(node: Scene, server: ApiServer) -> None:
    with in_unit("system.slice", UNIT) as groups, started(node, server, groups) as kiptail:
        node.drop(CLIENT, WEB, 7001, count=3)
        node.drop(WEB, CLIENT, 7002, count=2)
        kiptail.wait_for(lambda: len(server.events()) == 4, "its Events")
        node.drop(CLIENT, WEB, 7001, count=4)
        kiptail.wait_for(lambda: last(node.journald)().get(("client-1", "sent", "7001")) == 7, "it has grown")
        assert kiptail.stop() == 0
    real = found(node.journald, "KIPTAIL_POD=client-1", "KIPTAIL_PORT=7001", f"_SYSTEMD_UNIT={UNIT}")
    assert real, "journald knows the unit"
    forged = {key: value for key, value in real[-1].items() if key.startswith(("KIPTAIL_", "MESSAGE"))}
    for more in ({"KIPTAIL_COUNT": "1000"}, {"KIPTAIL_FLOW": "0" * 16, "KIPTAIL_PAIR": "0" * 16}):
        node.journald.send_native({**forged, "_SYSTEMD_UNIT": UNIT, "SYSLOG_IDENTIFIER": "kiptail", **more})
    assert len(found(node.journald, "KIPTAIL_POD=client-1", "KIPTAIL_PORT=7001")) == len(real) + 2
    sums = {("client-1", "web-1", 7001): 7, ("web-1", "client-1", 7002): 2}
    # Lines of other tests are in the journal as well, for the kernel log is everyone's.
    settings = settings_of(node.directory, node.prefix, journal_directory=str(node.journald.directory))
    for by in (CountedBy.RECORDS, CountedBy.AUTO):
        counted = Counter[tuple[str, str, int | None]]()
        for flow in reported(settings, by).flows:
            counted[flow.id.src.pod, flow.id.dst.pod, flow.id.port] += flow.count
        assert counted == sums, by
