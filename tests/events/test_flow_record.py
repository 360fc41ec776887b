"""The fields of flow records, and which record is next."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord, EventStyle, message
from kiptail.events.flow_record import MESSAGE_IDS, Stretch, fields, is_urgent, next_stretch, series
from kiptail.events.stages import Tracked
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.pods.ownership import PodRef
from tests.support.running import ROOT

T0 = 1_800_000_000_000_000
STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace", frozenset({"slow:"}))
WEB = PodRef("team-a", "web-0", "uid-web")
CLIENT = PodRef("team-b", "client", "uid-client")
KEY = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, reply=False, prefix="calico-drop:", verdict="drop")
SRC, DST = Endpoint(Kind.POD, "10.0.0.1", (CLIENT,)), Endpoint(Kind.POD, "10.0.0.2", (WEB,))


def record_fields(
    key: FlowKey = KEY,
    *,
    end: str = "src",
    src: Endpoint = SRC,
    dst: Endpoint = DST,
    pod: PodRef = CLIENT,
    withdrawn: bool = False,
    muted: str = "",
    spread: Spread | None = None,
    policy: str = "",
    stamp: int = 0,
    **more: Any,
) -> dict[str, str]:
    flow = Flow(7, key._replace(policy=policy), T0, T0, T0 + 2_500_000, T0, 3, spread=spread, stamp=stamp)
    tracked = Tracked(flow, 0.0, {"src": src, "dst": dst})
    text = message(flow, end, tracked.peer(end), STYLE, withdrawn=withdrawn)
    record = EventRecord(7, end, pod, f"{pod.name[:9]}.0123456789abcdef", text, withdrawn=withdrawn, muted=muted)
    return fields(Stretch.PLACED, record, tracked, STYLE, **more)


def test_a_record_says_all_that_is_known_of_one_end() -> None:
    assert record_fields(policy="team-a/deny") == {
        "MESSAGE": "Flow placed: team-b/client: Packet dropped when sending traffic to team-a/web-0 (10.0.0.2)"
        " on port 80/TCP, by policy team-a/deny (x3)",
        "MESSAGE_ID": "c8bb318f35a4484cb1e111a3c37f28d1",
        "PRIORITY": "6",
        "KIPTAIL_NAMESPACE": "team-b",
        "KIPTAIL_POD": "client",
        "KIPTAIL_POD_UID": "uid-client",
        "KIPTAIL_NODE": "worker-3",
        "KIPTAIL_DIRECTION": "sent",
        "KIPTAIL_PEER": "team-a/web-0",
        "KIPTAIL_PEER_KIND": "pod",
        "KIPTAIL_SRC": "10.0.0.1",
        "KIPTAIL_DST": "10.0.0.2",
        "KIPTAIL_PROTOCOL": "TCP",
        "KIPTAIL_PORT": "80",
        "KIPTAIL_VERDICT": "drop",
        "KIPTAIL_PREFIX": "calico-drop:",
        "KIPTAIL_POLICY": "team-a/deny",
        "KIPTAIL_COUNT": "3",
        "KIPTAIL_FIRST": "2027-01-15T08:00:00.000000Z",
        "KIPTAIL_LAST": "2027-01-15T08:00:02.500000Z",
        "KIPTAIL_FLOW": "0123456789abcdef",
        "KIPTAIL_PAIR": "0b1e06350716d6e3",
        "KIPTAIL_EVENT": "client.0123456789abcdef",
    }


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"end": "dst", "pod": WEB}, {"KIPTAIL_DIRECTION": "received", "KIPTAIL_PEER": "team-b/client"}),
        ({"key": KEY._replace(reply=True)}, {"KIPTAIL_REPLY": "yes", "KIPTAIL_PORT": "80"}),
        (
            {"key": KEY._replace(protocol="ICMP", port=None, icmp_type=3, icmp_code=1)},
            {"KIPTAIL_ICMP": "3/1", "KIPTAIL_PORT": None},
        ),
        ({"key": KEY._replace(protocol="ICMP", port=None, icmp_type=8)}, {"KIPTAIL_ICMP": "8"}),
        ({"key": KEY._replace(port=None, protocol="")}, {"KIPTAIL_PROTOCOL": None, "KIPTAIL_PORT": None}),
        ({"key": KEY._replace(prefix="slow:")}, {"KIPTAIL_LIMITED": "yes"}),
        ({"key": KEY._replace(verdict="reject")}, {"KIPTAIL_VERDICT": "reject"}),
        ({"withdrawn": True}, {"KIPTAIL_COUNT": "0"}),
        ({"wall_us": lambda us: us + 1_000_000}, {"KIPTAIL_FIRST": "2027-01-15T08:00:01.000000Z"}),
        (
            {"key": KEY._replace(dst="", port=None, protocol="", prefix=""), "spread": Spread()},
            {"KIPTAIL_DST": None, "KIPTAIL_PEER": None, "KIPTAIL_PEER_KIND": "several", "KIPTAIL_PREFIX": None},
        ),
    ],
)
def test_what_does_not_apply_is_left_out(how: dict[str, Any], wanted: dict[str, str | None]) -> None:
    found = record_fields(**how)
    assert {name: found.get(name) for name in wanted} == wanted
    assert "" not in found.values()


@pytest.mark.parametrize(
    ("peer", "kind", "name"),
    [
        (Endpoint(Kind.NOBODY, "192.0.2.7"), "address", None),
        (Endpoint(Kind.NOBODY, "192.0.2.7", name="db.example.com"), "dns", "db.example.com"),
        (Endpoint(Kind.NOBODY, "192.0.2.7", name="node/worker-1"), "node", "worker-1"),
        (Endpoint(Kind.NOBODY, "192.0.2.7", name="service team-a/web"), "service", "team-a/web"),
        (Endpoint(Kind.AMBIGUOUS, "10.0.0.2", (WEB, CLIENT)), "ambiguous", "team-a/web-0 or team-b/client"),
    ],
)
def test_a_peer_has_a_kind_and_a_name(peer: Endpoint, kind: str, name: str | None) -> None:
    found = record_fields(dst=peer)
    assert (found["KIPTAIL_PEER_KIND"], found.get("KIPTAIL_PEER")) == (kind, name)


def test_both_ends_of_a_flow_have_the_same_pair_and_no_other_flow_has_it() -> None:
    pair = record_fields()["KIPTAIL_PAIR"]
    assert record_fields(end="dst", pod=WEB)["KIPTAIL_PAIR"] == pair
    assert record_fields(withdrawn=True)["KIPTAIL_PAIR"] == pair
    assert record_fields(key=KEY._replace(port=81))["KIPTAIL_PAIR"] != pair
    assert record_fields(stamp=1)["KIPTAIL_PAIR"] != pair


HOSTILE = "a\nMESSAGE=b\x1b[2J\x00\x85\u2028\u202e" + "ä" * 5_000


def test_hostile_names_stay_in_their_fields() -> None:
    pod = PodRef(HOSTILE, HOSTILE, HOSTILE)
    key = KEY._replace(prefix=HOSTILE, protocol=HOSTILE)
    peer = Endpoint(Kind.AMBIGUOUS, "10.0.0.2", (pod,) * 50)
    found = record_fields(key, pod=pod, dst=peer, policy=HOSTILE)
    assert all(value.isprintable() for value in found.values())
    assert max(len(value) for name, value in found.items() if name != "MESSAGE") == 256
    assert len(found["MESSAGE"]) <= 1_500
    assert sum(len(value.encode()) for value in found.values()) < 16_000
    assert list(found) == list(record_fields(policy="x")), "no field comes of a value"


PLACED = EventRecord(7, "src", CLIENT, "client.0", "", recorded="placed", recorded_count=3)
NEVER = EventRecord(7, "src", CLIENT, "client.0", "")


@pytest.mark.parametrize(
    ("record", "count", "ended", "stretch", "urgent"),
    [
        (NEVER, 1, False, Stretch.PLACED, True),
        (NEVER, 1, True, Stretch.PLACED, True),
        (NEVER, 0, False, None, True),
        (replace(NEVER, withdrawn=True), 5, False, None, True),
        (PLACED, 3, False, None, True),
        (PLACED, 4, False, Stretch.GROWN, False),
        (PLACED, 2, False, Stretch.GROWN, True),
        (PLACED, 3, True, Stretch.ENDED, True),
        (replace(PLACED, withdrawn=True), 3, False, Stretch.ENDED, True),
        (replace(PLACED, recorded="ended"), 3, True, None, True),
        (replace(PLACED, recorded="ended"), 2, True, Stretch.ENDED, True),
        (replace(PLACED, recorded="ended", recorded_count=0, withdrawn=True), 9, False, None, True),
        (replace(NEVER, recorded_unnoted=True), 1, False, Stretch.PLACED, True),
        (replace(NEVER, recorded_unnoted=True, withdrawn=True), 1, False, Stretch.ENDED, True),
        (replace(PLACED, recorded_unnoted=True), 3, False, Stretch.GROWN, True),
        (replace(PLACED, recorded_unnoted=True), 4, False, Stretch.GROWN, True),
        (replace(PLACED, recorded_unnoted=True), 3, True, Stretch.ENDED, True),
        # Taken back: it is this pod's after all.
        (replace(PLACED, recorded="ended", recorded_count=0), 9, False, Stretch.GROWN, True),
    ],
)
def test_which_record_is_next(record: EventRecord, count: int, ended: bool, stretch: Any, urgent: bool) -> None:
    flow = Flow(7, KEY, T0, T0, T0, T0, count, ended)
    assert next_stretch(record, flow) is stretch
    assert is_urgent(record, flow) is urgent


def test_a_series_is_named_by_the_events_hash() -> None:
    assert series(replace(NEVER, name="web-0.a.b.0123456789abcdef")) == "0123456789abcdef"


def test_catalog_and_document_have_every_message_id() -> None:
    assert len(set(MESSAGE_IDS.values())) == len(Stretch)
    assert all(re.fullmatch("[0-9a-f]{32}", message_id) for message_id in MESSAGE_IDS.values())
    catalog = (ROOT / "packaging/catalog/kiptail.catalog").read_text()
    assert re.findall(r"(?m)^-- (\S+)$", catalog) == [MESSAGE_IDS[stretch] for stretch in Stretch]
    document = Path(ROOT / "docs/records.md").read_text()
    for stretch in Stretch:
        assert f"| `{MESSAGE_IDS[stretch]}` | {stretch.value} |" in document


def test_the_document_has_every_field_and_no_other() -> None:
    document = (ROOT / "docs/records.md").read_text()
    rows = set(re.findall(r"(?m)^\| `(KIPTAIL_[A-Z_]+)` \|", document))
    client, web = (end._replace(pods=(end.pods[0]._replace(workload="sts/x"),), port_name="http") for end in (SRC, DST))
    key = KEY._replace(reply=True, icmp_type=1, prefix="slow:")
    wide = record_fields(key, policy="p", src=client, dst=web, pod=client.pods[0])
    muted = record_fields(muted="annotation")
    assert rows == {name for name in (*wide, *muted) if name.startswith("KIPTAIL_")}
    assert muted.keys() ^ record_fields().keys() == {"KIPTAIL_EVENT", "KIPTAIL_MUTED"}
    assert muted["KIPTAIL_MUTED"] == "annotation"


def test_the_catalog_uses_fields_that_each_record_has() -> None:
    catalog = (ROOT / "packaging/catalog/kiptail.catalog").read_text()
    used = set(re.findall(r"@([A-Z_]+)@", catalog))
    folded = record_fields(KEY._replace(dst="", port=None, protocol="", prefix=""), spread=Spread())
    assert used
    assert used <= folded.keys()


def test_a_record_names_workloads_and_the_port() -> None:
    client, web = CLIENT._replace(workload="cronjob/backup"), WEB._replace(workload="deploy/web")
    src, dst = SRC._replace(pods=(client,)), DST._replace(pods=(web,), port_name="http")
    sent = record_fields(src=src, dst=dst, pod=client)
    told = ("KIPTAIL_WORKLOAD", "KIPTAIL_PEER_WORKLOAD", "KIPTAIL_PORT_NAME")
    assert [sent[field] for field in told] == ["cronjob/backup", "deploy/web", "http"]
    received = record_fields(end="dst", src=src, dst=dst, pod=web)
    assert [received[field] for field in told] == ["deploy/web", "cronjob/backup", "http"]
    folded = record_fields(key=KEY._replace(dst="", port=None), src=src, dst=dst, pod=client, spread=Spread())
    assert "KIPTAIL_PEER_WORKLOAD" not in folded
