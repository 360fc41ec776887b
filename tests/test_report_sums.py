"""`kiptail report` adds up what a plain count of the journal has, whether by its lines or by flow records.

The records are those that kiptail really wrote while it crashed, was cut off and learned late whose an address was:
journal loop, ledger, store and recorder are the real ones, as is the journal that the report reads.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiptail.flows.budget import Limits
from kiptail.report.run import CountedBy, Period
from kiptail.report.summary import Report
from tests import test_exactly_once as once
from tests import test_ownership_model as model
from tests.support.fuzzing import cases
from tests.support.histories import BEGIN, SHARED_IN, SHARED_OUT, History, history
from tests.support.reported import reported, scratch, settings_of, written_journal
from tests.support.simulation import Events

SECOND = 1_000_000

Key = tuple[str, str, int | None]


def by_pods(report: Report) -> Counter[Key]:
    """Packets by the names of the pods at either end, and the port."""
    sums: Counter[Key] = Counter()
    for flow in report.flows:
        sums[flow.id.src.pod, flow.id.dst.pod, flow.id.port] += flow.count
    return sums


@pytest.mark.timeout(600)
@given(
    once.drops, once.actions, once.answers, st.lists(st.booleans(), max_size=30),
    st.sampled_from([once.AMPLE, once.TIGHT, once.MEAN]), st.integers(0, 4 * 1_800),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=cases(40), deadline=None)
def test_lines_records_and_events_add_up_to_the_entries(  # noqa: PLR0917 - hypothesis gives them
    journal: once.Journal, story: list[tuple[str, int]], said: list[str], refuses: list[bool], limits: Limits, cut: int
) -> None:
    server, records = once.Server(said), once.Records(refuses)
    once.told(journal, story, server, limits, records)
    naive: Counter[Key] = Counter((src, dst, port) for src, dst, port, _ in journal)
    events: Counter[str] = Counter()
    for event in server.events.values():
        events["sending" if "when sending" in event["message"] else "receiving"] += event["count"]
    with scratch() as name:
        lines = [(at_us, once.LINE.format(src=src, dst=dst, port=port)) for src, dst, port, at_us in journal]
        written_journal(Path(name) / "a.journal", lines, records.entries)
        chosen = settings_of(Path(name))
        cut_us = once.T0 + cut * SECOND
        halves = (Period(None, cut_us), Period(cut_us, None))
        for by in (CountedBy.AUTO, CountedBy.RECORDS):
            report, parts = reported(chosen, by), [reported(chosen, by, half) for half in halves]
            assert report.packets == sum(flow.count for flow in report.flows)
            assert sum(part.packets for part in parts) == report.packets, "no packet is in both halves, or in none"
            if by is CountedBy.AUTO:
                assert report.packets == len(journal)
                assert parts[0].packets == sum(at_us < cut_us for *_, at_us in journal)
            elif limits is once.MEAN:
                # What is told at no end has no record, and what may be told at both is left out.
                assert report.packets <= len(journal)
            else:
                assert report.packets == len(journal) == events["sending"] == events["receiving"]
            if limits is once.AMPLE:
                assert by_pods(report) == naive, "each is named by the pods at its ends"


def uids_of(report: Report, port: int) -> tuple[Counter[str], Counter[str]]:
    """By UID, whom the packets of a port are reported to be from, and to whom; "" for nobody."""
    src: Counter[str] = Counter()
    dst: Counter[str] = Counter()
    for flow in report.flows:
        if flow.id.port == port:
            src[flow.id.src.pod and f"uid-{flow.id.src.pod}"] += flow.count
            dst[flow.id.dst.pod and f"uid-{flow.id.dst.pod}"] += flow.count
    return src, dst


def check(story: History, played: model.Played, report: Report, recorded: Report) -> None:
    ports = model.told(played.events)
    assert report.packets == len(story.packets)
    assert recorded.packets == told_once(played.events)
    oracle = model.Oracle(story, played)
    for packet in story.packets:
        where = f"{packet} at {packet.at - BEGIN:.3f}"
        src, dst = uids_of(report, packet.port)
        for found, said, address in (
            (src, ports.get(f"sending {packet.port}", Counter()), packet.src),
            (dst, ports.get(f"receiving {packet.port}", Counter()), packet.dst),
        ):
            for uid, count in said.items():
                assert found[uid] >= count, f"{where}: Events tell {dict(said)}, the report {dict(found)}"
            if packet.port in (SHARED_IN, SHARED_OUT):
                continue
            for uid in found.keys() - said.keys() - {""}:
                truth = oracle.owner(address, packet.at)
                right = truth is None or truth.uid == uid or oracle.unknowable(uid, truth, packet.at)
                right = right or had_before_and_after(story, uid, address, packet.at)
                assert right, f"{where}: {uid} is named, not {truth}"


def had_before_and_after(story: History, uid: str, address: str, at: float) -> bool:
    """A pod whose sandbox was made anew, and got the same address: who had it meanwhile was not recorded."""
    times = [t for t in story.tenancies if (t.uid, t.address) == (uid, address)]
    return any(t.given < at for t in times) and any(t.ended > at for t in times)


def told_once(events: Events) -> int:
    """All packets of which an Event tells: a packet of two pods by the sender's."""
    sent, received = Counter[str](), Counter[str]()
    for place, uids in model.told(events).items():
        direction, port = place.split()
        (sent if direction == "sending" else received)[port] += sum(uids.values())
    return sum(max(sent[port], received[port]) for port in sent | received)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
def test_reports_of_random_histories_name_whom_the_events_tell(part: int, tmp_path: Path) -> None:
    for seed in range(part, 24 * cases(1), 4):
        story = history(seed)
        played = model.play(story, model.Faults.drawn(seed, story.end))
        directory = tmp_path / str(seed)
        directory.mkdir()
        lines = [(round(p.at * 1e6), model.LINE.format(src=p.src, dst=p.dst, port=p.port)) for p in story.packets]
        written_journal(directory / "a.journal", lines, played.recorded.entries)
        chosen = settings_of(directory)
        try:
            check(story, played, reported(chosen), reported(chosen, CountedBy.RECORDS))
        except AssertionError as error:
            raise AssertionError(f"history {seed}: {error}") from error
