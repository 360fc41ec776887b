"""The replay of recorded changes of hands, and its judge, which has to see a single packet."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.client import Client
from tests.support.journald import GrowingJournal, kernel_entry, until
from tests.support.judge import around_change, judge
from tests.support.recordings import RECORDINGS, Packet, Recording, Span
from tests.support.replay import apply
from tests.support.restarts import could_see

README = Path(__file__).parent / "handover" / "README.md"
EVERY_RECORDING = pytest.mark.parametrize("name", RECORDINGS)
SHARED, OF_A, OF_B = ("198.51.100.2", 9099), ("198.51.100.3", 9001), ("198.51.100.4", 9002)
#: The nearest to each other: both pods' packets in one second.
NEAREST = "forced-0s"

Event = dict[str, Any]


def text_of(flow: tuple[str, int]) -> str:
    return f"Packet dropped when sending traffic to {flow[0]} on port {flow[1]}/UDP"


def clock(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(recording: Recording, owner: str, packets: Sequence[Packet]) -> Event:
    """An Event on a pod about packets of one flow."""
    times = sorted(packet.logged for packet in packets)
    pod = recording.pods[owner]
    return {
        "metadata": {"name": f"{pod.name}.{packets[0].flow[1]}"},
        "involvedObject": {"name": pod.name, "uid": pod.uid},
        "message": text_of(packets[0].flow),
        "count": len(packets),
        "firstTimestamp": clock(times[0]),
        "lastTimestamp": clock(times[-1]),
    }


def events_of(recording: Recording, told: Iterable[tuple[str, Packet]]) -> list[Event]:
    """Events that count each packet on the pod that it is given with."""
    counted = defaultdict(list)
    for owner, packet in told:
        counted[owner, packet.flow].append(packet)
    return [event(recording, owner, packets) for (owner, _), packets in counted.items()]


def truth(recording: Recording) -> list[tuple[str, Packet]]:
    return [(packet.owner, packet) for packet in recording.packets]


def packets_of(recording: Recording, owner: str, flow: tuple[str, int]) -> list[Packet]:
    return [packet for packet in recording.packets if (packet.owner, packet.flow) == (owner, flow)]


# Recordings


@EVERY_RECORDING
def test_the_recording_is_the_one_that_the_readme_tells_of(name: str) -> None:
    recording = Recording.load(name)
    row = re.search(rf"^\| {name} \|.*\| ([0-9.]+) s \|$", README.read_text(), re.MULTILINE)
    assert row
    assert recording.since_began("b", 0) - recording.since_began("a", -1) == pytest.approx(float(row[1]), abs=0.006)
    flows = {(packet.owner, packet.flow) for packet in recording.packets}
    assert flows == {("a", SHARED), ("a", OF_A), ("b", SHARED), ("b", OF_B)}
    assert list(recording.steps) == sorted(recording.steps, key=lambda step: step.at)


@EVERY_RECORDING
def test_a_recording_that_is_moved_differs_in_its_times_alone_and_by_whole_seconds(name: str) -> None:
    recording = Recording.load(name)
    moved = recording.later(86_400)
    assert moved.began == recording.began + 86_400
    # A day later, all times of day are the same.
    assert repr(moved.listed).replace("11-26T", "11-25T") == repr(recording.listed)
    for before, after in zip(recording.pod_changes, moved.pod_changes, strict=True):
        assert after.at == before.at + 86_400
        assert repr(after.pod) != repr(before.pod)
        assert repr(after.pod).replace("11-26T", "11-25T") == repr(before.pod)
    for line, later in zip(recording.kernel_lines, moved.kernel_lines, strict=True):
        assert (later.message, later.delay_us) == (line.message, line.delay_us)
        assert later.realtime_us == line.realtime_us + 86_400 * 1_000_000


@EVERY_RECORDING
def test_a_watch_of_the_test_server_shows_each_change_as_the_recorded_one_did(name: str, server: ApiServer) -> None:
    """A pod's last state, with its deletionTimestamp, included."""
    recording = Recording.load(name)
    path = f"/api/v1/pods?watch=1&fieldSelector=spec.nodeName=node1&resourceVersion={server.store.version}"
    with Client(server) as client, client.watch(path) as watch:
        for change in recording.pod_changes:
            apply(server, change)
            line = watch.next()
            del line["object"]["metadata"]["resourceVersion"], change.pod["metadata"]["resourceVersion"]
            assert line == {"type": change.type, "object": change.pod}
            if change.type == "DELETED":
                assert line["object"]["metadata"]["deletionTimestamp"]


def test_an_entry_can_be_read_while_its_journal_grows(tmp_path: Path) -> None:
    with GrowingJournal(tmp_path / "replay.journal") as journal:
        for number in range(3):
            now_us = time.time_ns() // 1000
            entry = kernel_entry(f"line {number}", realtime_us=now_us, monotonic_us=5_000_000 + number)
            journal.append(entry | {"_SOURCE_MONOTONIC_TIMESTAMP": 4_999_000})
            until(lambda number=number: len(journal.entries()) == number + 1, "the entry")
            read = journal.entries()[-1]
            expected = {**entry, "_SOURCE_MONOTONIC_TIMESTAMP": 4_999_000}
            assert {key: read[key] for key in expected} == {key: str(value) for key, value in expected.items()}


# The judge


@EVERY_RECORDING
def test_events_that_say_the_truth_are_right(name: str) -> None:
    recording = Recording.load(name)
    assert judge(recording, events_of(recording, truth(recording)), ambiguous=0) == []
    assert judge(recording, events_of(recording, truth(recording)), ambiguous=None) == []


@EVERY_RECORDING
def test_a_flow_may_be_told_in_several_events(name: str) -> None:
    recording = Recording.load(name)
    whole = events_of(recording, truth(recording))
    packets = packets_of(recording, "b", OF_B)
    parts = [event(recording, "b", packets[:30]), event(recording, "b", packets[30:])]
    assert judge(recording, [e for e in whole if e["message"] != text_of(OF_B)] + parts, ambiguous=0) == []


@EVERY_RECORDING
def test_packets_around_the_change_may_be_missing_when_they_are_said_to_be_ambiguous(name: str) -> None:
    recording = Recording.load(name)
    unsure = around_change(recording.packets)
    kept = [(owner, packet) for owner, packet in truth(recording) if packet.logged not in unsure]
    events, missing = events_of(recording, kept), len(recording.packets) - len(kept)
    # A packet each tenth of a second, in two flows of each pod; both ends of a second count.
    assert missing == 4 * 11
    assert judge(recording, events, ambiguous=missing) == []
    assert judge(recording, events, ambiguous=None) == []
    for wrong in (missing - 1, missing + 1):
        assert judge(recording, events, ambiguous=wrong) == [
            f"{missing} packets are counted nowhere, {wrong} are said to be ambiguous"
        ]


@EVERY_RECORDING
@pytest.mark.parametrize(("owner", "flow"), [("a", SHARED), ("a", OF_A), ("b", SHARED), ("b", OF_B)])
@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_one_packet_on_the_other_pod_is_wrong(name: str, owner: str, flow: tuple[str, int], which: int) -> None:
    recording = Recording.load(name)
    astray = packets_of(recording, owner, flow)[which]
    other = "b" if owner == "a" else "a"
    told = [(other if packet == astray else right, packet) for right, packet in truth(recording)]
    wrong = judge(recording, events_of(recording, told), ambiguous=None)
    assert any(line.startswith(f"{other}, {flow[0]}:{flow[1]}/UDP: ") for line in wrong)


@EVERY_RECORDING
@pytest.mark.parametrize(("owner", "flow"), [("a", SHARED), ("a", OF_A), ("b", SHARED), ("b", OF_B)])
def test_one_packet_that_is_lost_is_wrong(name: str, owner: str, flow: tuple[str, int]) -> None:
    recording = Recording.load(name)
    sent = packets_of(recording, owner, flow)
    near = [packet for packet in sent if packet.logged in around_change(recording.packets)]
    far = [packet for packet in sent if packet not in near]
    lost = {*near, far[-1 if owner == "a" else 0]}
    events = events_of(recording, [(who, packet) for who, packet in truth(recording) if packet not in lost])
    wrong = judge(recording, events, ambiguous=len(lost))
    assert wrong[0] == (
        f"{owner}, {flow[0]}:{flow[1]}/UDP: {len(sent) - len(lost)} counted, {len(sent)} sent:"
        f" at most {len(near)} of them may be missing"
    )
    # Without any that are ambiguous, one near to the change is one too many as well.
    events = events_of(recording, [(who, packet) for who, packet in truth(recording) if packet != near[0]])
    assert judge(recording, events, ambiguous=0) == ["1 packets are counted nowhere, 0 are said to be ambiguous"]


@EVERY_RECORDING
@pytest.mark.parametrize(("owner", "flow"), [("a", SHARED), ("a", OF_A), ("b", SHARED), ("b", OF_B)])
def test_one_packet_that_is_counted_twice_is_wrong(name: str, owner: str, flow: tuple[str, int]) -> None:
    recording = Recording.load(name)
    twice = packets_of(recording, owner, flow)[0]
    [wrong, *shown] = judge(recording, events_of(recording, [*truth(recording), (owner, twice)]), ambiguous=0)
    assert wrong.startswith(f"{owner}, {flow[0]}:{flow[1]}/UDP: ")
    assert "1 of them another pod's, or counted twice" in wrong
    assert shown[0].startswith("    sent: ")
    assert "Event " in shown[1]


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name != NEAREST])
def test_the_right_number_of_the_wrong_packets_is_wrong(name: str) -> None:
    """Of both pods' common flow, only an Event's times tell which packets it counts, when the seconds differ."""
    recording = Recording.load(name)
    astray, lost = packets_of(recording, "b", SHARED)[0], packets_of(recording, "a", SHARED)[-1]
    told = [(("a" if packet == astray else owner), packet) for owner, packet in truth(recording) if packet != lost]
    wrong = judge(recording, events_of(recording, told), ambiguous=1)
    assert wrong[0].startswith(f"a, {SHARED[0]}:{SHARED[1]}/UDP: last counted at ")


def test_what_is_wrong_is_shown_with_whose_packets_went_in_which_second() -> None:
    recording = Recording.load("graceful-3s")
    told = [("a" if owner == "b" and packet.flow == SHARED else owner, packet) for owner, packet in truth(recording)]
    wrong = judge(recording, events_of(recording, told), ambiguous=0)
    assert wrong[0] == ("a, 198.51.100.2:9099/UDP: 101 counted, 20 sent: 81 of them another pod's, or counted twice")
    assert "17:32:42 7 of a, 17:32:43 10 of a, 17:32:44 3 of a, 17:32:48 9 of b" in wrong[2]
    assert wrong[3].startswith("    Event hd-a.9099: 101 from 17:32:42 to 17:32:56: Packet dropped when sending")


def test_an_event_whose_packets_are_counted_elsewhere_since_counts_nothing() -> None:
    recording = Recording.load(NEAREST)
    events = events_of(recording, truth(recording))
    withdrawn = event(recording, "a", packets_of(recording, "b", SHARED))
    assert judge(recording, [*events, withdrawn], ambiguous=0)
    withdrawn["message"] += ", counted for another pod since"
    assert judge(recording, [*events, withdrawn], ambiguous=0) == []


def test_a_pod_that_could_not_be_seen_may_miss_all_packets_but_get_no_other_ones() -> None:
    recording = Recording.load(NEAREST)
    events = events_of(recording, [(owner, packet) for owner, packet in truth(recording) if owner == "b"])
    assert judge(recording, events, ambiguous=None, unseen=("a",)) == []
    assert judge(recording, events, ambiguous=None)
    told = [("b", packet) for _, packet in truth(recording)]
    assert judge(recording, events_of(recording, told), ambiguous=None, unseen=("a",))


def test_events_about_other_pods_or_of_unknown_texts_are_wrong() -> None:
    recording = Recording.load(NEAREST)
    events = events_of(recording, truth(recording))
    events[0]["involvedObject"] = {"name": "hc-a", "uid": "another"}
    events[1]["message"] = "Packets dropped when sending traffic to more than 20 addresses"
    wrong = judge(recording, events, ambiguous=0)
    assert "which has sent nothing" in wrong[0]
    assert "a text that nobody expects here" in wrong[1]


@pytest.mark.parametrize("text", ["to host.example (198.51.100.3) on", "to 198.51.100.3 on"])
def test_a_destination_may_have_a_name(text: str) -> None:
    recording = Recording.load(NEAREST)
    events = events_of(recording, truth(recording))
    for each in events:
        each["message"] = each["message"].replace("to 198.51.100.3 on", text)
    assert judge(recording, events, ambiguous=0) == []


# What kiptail could know


@pytest.mark.parametrize(
    ("runs", "could"),
    [
        pytest.param([Span(0, 100)], True, id="all the time"),
        pytest.param([Span(0, 12), Span(30, 100)], True, id="ended when a was there"),
        pytest.param([Span(0, 8), Span(15, 100)], True, id="started when a was there"),
        pytest.param([Span(0, 10), Span(20, 100)], False, id="ended before a's address, started after its end"),
        pytest.param([Span(0, 10.1), Span(19.9, 100)], False, id="nobody can tell"),
        pytest.param([Span(0, 5), Span(6, 9), Span(25, 100)], False, id="away twice"),
        pytest.param([], False, id="never"),
    ],
)
def test_whether_a_could_be_seen(runs: list[Span], could: bool) -> None:
    assert could_see(runs, Span(10, 20)) == could
