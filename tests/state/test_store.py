"""The state of a node on disk."""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kiptail.clock.dates import LATEST_US
from kiptail.errors import StateError, StoreUnavailableError
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord, event_name
from kiptail.flows.budget import Limits
from kiptail.flows.counter import LineCounter
from kiptail.flows.flow import Flow, FlowKey
from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.flows.ledger import Ledger
from kiptail.flows.trail import Trail
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock
from kiptail.netfilter.prefixes import Prefixes, PrefixRule
from kiptail.pods.ownership import Hands, Interval, PodRef
from kiptail.state.schema import EVENT, SCHEMA_VERSION
from kiptail.state.store import Store
from tests.support.clock import own_clock
from tests.support.statefiles import edit

VERSION_1, VERSION_2, VERSION_3, VERSION_4 = (
    Path(__file__).parents[1] / f"state-{number}.sqlite.gz" for number in (1, 2, 3, 4)
)
KEY = FlowKey("10.0.0.1", "fd00::2", "TCP", 80, None, None, True, "calico drop:", "reject")
PING = FlowKey("10.0.0.1", "10.0.0.2", "ICMP", None, 8, 0, False, "p", "drop")
POSITION = Position("s=1;i=2", "b" * 32, 3, 4, SourceClock("b" * 32, 5, -6))
WEB = PodRef("team-a", "web-0", "uid", "label")
RECORD = EventRecord(1, "src", WEB, "web-0.1", "text")
SRC = Endpoint(Kind.POD, "10.0.0.1", (WEB,))
DST = Endpoint(Kind.NOBODY, "fd00::2", name="db.example.com")


def filled(store: Store) -> Ledger:
    ledger = Ledger()
    ledger.add(KEY, 100)
    ledger.add(PING, 101)
    store.commit(ledger.changes(), POSITION)
    ledger.committed()
    return ledger


def test_what_was_committed_is_loaded_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    filled(store)
    store.save_endpoints(1, {"src": SRC, "dst": DST}, [RECORD])
    store.close()
    with closing(Store.open(tmp_path)) as store:
        saved = store.load()
    assert saved.position == POSITION
    assert (saved.watermark_us, saved.next_flow_id) == (101, 3)
    tcp, ping = saved.flows
    assert tcp.flow == Flow(1, KEY, 100, 100, 100, 100, 1, stamp=100, trail=Trail.begun(100))
    assert (tcp.endpoints, tcp.records) == ({"src": SRC, "dst": DST}, (RECORD,))
    assert ping.flow.key == PING
    assert (ping.endpoints, ping.records) == ({}, ())


def test_folded_flows_and_budgets_are_loaded_again(tmp_path: Path) -> None:
    limits = Limits(flows_per_address=1)
    ledger = Ledger(limits=limits)
    for port in (1, 2, 3):
        ledger.add(KEY._replace(port=port), 100)
    with closing(Store.open(tmp_path)) as store:
        store.commit(ledger.changes(), POSITION)
        ledger.committed()
    with closing(Store.open(tmp_path)) as store:
        saved = store.load()
    assert [s.flow for s in saved.flows] == sorted(ledger._open.values(), key=lambda flow: flow.id)
    assert [s.flow.ends for s in saved.flows] == [("src", "dst"), ("src",), ("dst",)]
    again = Ledger((s.flow for s in saved.flows), next_id=9, watermark_us=100, budget=saved.budget, limits=limits)
    assert again.add(KEY._replace(port=4), 100) is None
    assert again.add(KEY._replace(port=1), 100) is not None


def test_flows_that_were_cut_are_loaded_again(tmp_path: Path) -> None:
    second = 1_000_000
    ledger = Ledger()
    with closing(Store.open(tmp_path)) as store:
        for time_us in (5 * second, 2 * second, 6 * second):
            ledger.add(KEY._replace(here="src"), time_us)
        store.commit(ledger.changes(), None)
        ledger.committed()
        ledger.hand_over({KEY.dst: Hands((4 * second,), (4 * second,))})
        ledger.add(KEY._replace(here="src"), 7 * second)
        store.commit(ledger.changes(), None)
    with closing(Store.open(tmp_path)) as store:
        saved = [saved.flow for saved in store.load().flows]
    assert saved == sorted(ledger._register.all(), key=lambda flow: flow.id)
    assert [(flow.opened_us // second, flow.count) for flow in saved] == [(2, 1), (5, 3)]
    again = Ledger(saved, next_id=9, watermark_us=7 * second)
    again.hand_over({KEY.dst: Hands((4 * second, 6 * second), ())})
    assert sorted(flow.count for flow in again._register.all()) == [1, 1, 2]


def test_what_cannot_be_told_apart_is_known_as_such(tmp_path: Path) -> None:
    ledger = Ledger()
    flow = ledger.add(KEY, 100)
    assert flow is not None
    flow.mixed = True
    with closing(Store.open(tmp_path)) as store:
        store.commit(ledger.changes(), None)
        assert [saved.flow.mixed for saved in store.load().flows] == [True]


def test_each_pod_that_was_taken_for_an_end_has_an_event(tmp_path: Path) -> None:
    other = PodRef("team-b", "web-1", "uid-1")
    with closing(Store.open(tmp_path)) as store:
        filled(store)
        store.save_endpoints(1, {"src": SRC}, [RECORD])
        wrong, right = replace(RECORD, sent_count=4, withdrawn=True), replace(RECORD, pod=other, name="web-1.1")
        store.save_endpoints(1, {"src": SRC._replace(pods=(other,), probes=True)}, [wrong, right])
        store.note(replace(wrong, sent_count=0))
        store.write_notes()
        (saved, _) = store.load().flows
    assert saved.endpoints == {"src": SRC._replace(pods=(other,), probes=True)}
    assert sorted(saved.records, key=lambda record: record.name) == [replace(wrong, sent_count=0), right]


def test_an_event_that_was_never_sent_to_a_pod_is_forgotten_with_the_decision(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path)) as store:
        filled(store)
        store.save_endpoints(1, {"src": SRC, "dst": DST}, [RECORD])
        store.save_endpoints(1, {"dst": DST}, [])
        assert (store.load().flows[0].endpoints, store.load().flows[0].records) == ({"dst": DST}, ())


def test_windows_that_are_over_leave_the_file(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.add(KEY, 100)
    with closing(Store.open(tmp_path)) as store:
        store.commit(ledger.changes(), None)
        ledger.committed()
        ledger.add(PING, 3_600_000_000)
        store.commit(ledger.changes(), None)
        assert {window.address for window in store.load().budget.windows} == {PING.src, PING.dst}


def test_a_delivery_is_noted(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    filled(store)
    record = EventRecord(1, "src", WEB, "web-0.1", "text")
    store.save_endpoints(1, {"src": SRC}, [record])
    record.sent_count, record.sent_message, record.writes, record.rounds, record.given_up = 5, "text", 2, 1, "why"
    store.note(record)
    noted = replace(record)
    record.sent_count = 6  # told, and not noted
    store.write_notes()
    assert store.load().flows[0].records == (noted,)
    store.close()


def test_what_is_stored_after_a_delivery_is_never_there_without_its_note(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    ledger = filled(store)
    record = EventRecord(1, "src", WEB, "web-0.1", "text")
    store.save_endpoints(1, {"src": SRC}, [record])
    store.note(replace(record, sent_count=5))
    store.commit(ledger.changes(), None)
    assert store.load().flows[0].records == (replace(record, sent_count=5),)
    store.close()


def test_a_note_about_what_is_no_longer_stored_is_none(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    filled(store)
    store.save_endpoints(1, {"src": SRC}, [RECORD])
    store.save_endpoints(1, {"src": SRC}, [])
    store.note(RECORD)
    store.write_notes()
    assert store.load().flows[0].records == ()
    store.close()


def test_notes_that_could_not_be_stored_are_stored_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path)
    filled(store)
    store.save_endpoints(1, {"src": SRC}, [RECORD])
    store.note(replace(RECORD, sent_count=9))
    with monkeypatch.context() as patch:
        patch.setattr(type(EVENT), "replace", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk full")))
        with pytest.raises(StateError):
            store.write_notes()
    store.forget([2])
    assert store.load().flows[0].records == (replace(RECORD, sent_count=9),)
    store.close()


def test_counts_are_replaced_and_told_flows_forgotten(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    ledger = filled(store)
    store.save_endpoints(1, {"src": SRC}, [RECORD])
    flow = ledger.add(KEY, 200)
    assert flow is not None
    flow.ended = True
    store.commit(ledger.changes(), None)
    store.forget([1, 2])
    saved = store.load()
    assert [f.flow.id for f in saved.flows] == [2], "an open flow is not forgotten"
    assert saved.position == POSITION, "a commit without a position leaves the last one"
    assert saved.next_flow_id == 3, "ids are not used twice"
    store.close()


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    with closing(Store.open(directory)) as store:
        filled(store)
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert "state.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_commit_survives_the_death_of_the_process(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from tests.state.test_store import filled; from kiptail.state.store import Store\n"
        "filled(Store.open(Path(sys.argv[1]))); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    with closing(Store.open(tmp_path)) as store:
        assert len(store.load().flows) == 2


def test_two_cannot_use_one_directory(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(StateError, match="in use by another kiptail"):
        Store.open(tmp_path)
    store.close()
    Store.open(tmp_path).close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    filled(store)
    store.close()
    path = tmp_path / "state.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=rf"version {SCHEMA_VERSION + 1}.* knows {SCHEMA_VERSION}"):
        Store.open(tmp_path)
    assert path.read_bytes() == before


def unpacked(file: Path, directory: Path) -> Store:
    (directory / "state.sqlite").write_bytes(gzip.decompress(file.read_bytes()))
    return Store.open(directory)


def test_a_file_of_version_1_is_brought_up_to_this_one(tmp_path: Path) -> None:
    """The file is one that version 1 wrote, with a flow from a pod to a stranger."""
    with closing(unpacked(VERSION_1, tmp_path)) as store:
        (saved,) = store.load().flows
        assert store.load().position == POSITION
        assert store.damaged is None
    assert saved.flow == Flow(1, KEY, 100, 100, 100, 100, 1, stamp=100)
    assert saved.endpoints == {"src": SRC, "dst": DST._replace(name="")}
    assert saved.records == (replace(RECORD, sent_count=5, sent_message="text", writes=2),)


@pytest.mark.parametrize("change", ["UPDATE flow SET count = count + 1", "DELETE FROM event"])
def test_a_file_of_version_4_that_another_program_changed_is_set_aside(tmp_path: Path, change: str) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(gzip.decompress(VERSION_4.read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("by_kiptail_only", 1, lambda _: 7)
        connection.execute(change)
        connection.commit()
    with closing(Store.open(tmp_path)) as store:
        assert store.damaged is not None
        assert store.load().flows == ()


SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND


def test_a_recorded_file_of_version_4_goes_on(tmp_path: Path) -> None:
    """The file is one that 0.1.0 wrote before its modules stood in rooms: the same counts and Event names follow."""
    with closing(unpacked(VERSION_4, tmp_path)) as store:
        saved = store.load()
        assert store.damaged is None
        ledger = Ledger(
            (one.flow for one in saved.flows),
            next_id=saved.next_flow_id,
            watermark_us=saved.watermark_us,
            last_stamp=saved.last_stamp,
            budget=saved.budget,
        )
        rest = saved.flows[-1]
        assert (rest.flow.count, rest.flow.ended) == (2, False)
        assert ledger.add(rest.flow.key, saved.watermark_us + SECOND) is rest.flow
        store.commit(ledger.changes(), saved.position)
    with closing(Store.open(tmp_path)) as store:
        again = store.load()
    assert [one.records for one in again.flows] == [one.records for one in saved.flows]
    assert rest.records == (EventRecord(6, "src", WEB, "web-0.2", "text", 1, "text", writes=1),)
    assert [one.flow.count for one in again.flows] == [2, 1, 1, 2, 2, 3]
    assert again.next_flow_id == saved.next_flow_id == 7


@pytest.mark.parametrize("known_line", [True, False])
def test_a_flow_of_a_literal_prefix_goes_on_under_its_name(tmp_path: Path, known_line: bool) -> None:
    """The file is from before prefixes had holes; the name is what the kiptail of then makes."""
    prefixes = Prefixes([PrefixRule("p"), PrefixRule("by {policy}:"), PrefixRule("{_}p{policy?}")])
    line = (
        "p IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=84 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=ICMP TYPE=8 CODE=0"
        " ID=1 SEQ=2 "
    )
    with closing(unpacked(VERSION_4, tmp_path)) as store:
        saved = store.load()
    ledger = Ledger((one.flow for one in saved.flows), next_id=saved.next_flow_id, watermark_us=saved.watermark_us)
    (before,) = (one.flow for one in saved.flows if one.flow.key == PING)
    count = before.count
    lines = LineCounter(prefixes, ledger, own_clock(lambda: saved.watermark_us / 1e6), expire_after=None)
    known = KnownLines(prefixes).wanted(line.encode())
    assert isinstance(known, KnownLine)
    lines.count([known if known_line else line], [saved.watermark_us])
    assert [(flow is before, flow.count) for flow in ledger.changes().flows] == [(True, count + 1)]
    assert event_name(before, "src", WEB, "worker-3") == "web-0.789d946f232756c7"


def test_a_file_of_version_2_is_brought_up_to_this_one(tmp_path: Path) -> None:
    """The file is one that version 2 wrote; its flows, Events and budgets go on where they were."""
    old, new = PodRef("team-a", "old", "uid-old"), PodRef("team-b", "new", "uid-new")
    with closing(unpacked(VERSION_2, tmp_path)) as store:
        saved = store.load()
        assert store.damaged is None
    assert (saved.position, saved.watermark_us, saved.next_flow_id) == (POSITION, T0 + 6 * SECOND, 6)
    told, ambiguous, own, sent, received = saved.flows
    assert told.flow == Flow(1, KEY, T0, T0, T0 + 2 * SECOND, T0 + 2 * SECOND, 3, stamp=T0)
    assert told.endpoints == {"src": SRC, "dst": DST}
    assert told.records == (
        replace(RECORD, sent_count=3, sent_message="text", sent_at_us=T0 + 9 * SECOND, writes=2, rounds=1),
    )
    assert ambiguous.flow.key == PING
    assert ambiguous.endpoints == {
        "src": Endpoint(Kind.AMBIGUOUS, PING.src, (old, new)),
        "dst": Endpoint(Kind.POD, PING.dst, (new,)),
    }
    assert ambiguous.records == (EventRecord(2, "dst", new, "new.2", "text of new", given_up="no namespace"),)
    assert [(s.flow.ends, s.flow.count) for s in (own, sent, received)] == [
        (("dst",), 1),
        (("src",), 3),
        (("dst",), 2),
    ]
    assert sent.flow.spread is not None
    assert (sent.flow.spread.peers.count, sent.flow.spread.ports.count) == (1, 3)
    limits = Limits(flows_per_address=2)
    ledger = Ledger((s.flow for s in saved.flows), next_id=6, watermark_us=T0, budget=saved.budget, limits=limits)
    again = ledger.add(KEY, T0 + 60 * SECOND)
    assert again is not None
    assert (again.id, again.count, again.ends) == (1, 4, ("src", "dst"))
    assert ledger.add(KEY._replace(port=4), T0 + 60 * SECOND) is None, "the budget is used up"


def test_what_version_2_knew_of_pods_has_bounds(tmp_path: Path) -> None:
    """They are a second wide at both ends, for it was never more exact; one pod had its address twice in a second."""
    web, old, new = WEB, PodRef("team-a", "old", "uid-old"), PodRef("team-b", "new", "uid-new")
    with closing(unpacked(VERSION_2, tmp_path)) as store:
        intervals, news_us = store.load_intervals()
    assert news_us == T0 + 8 * SECOND
    known = sorted(intervals, key=lambda entry: entry[1].key)
    assert known[0] == ("10.0.0.1", Interval("a", web, T0, T0 + SECOND, None, None, local=True))
    assert known[1] == (
        "10.0.0.1",
        Interval("b", old, T0 - SECOND, T0 + 3 * SECOND, T0 + 7 * SECOND, T0 + 8 * SECOND, unseen_end=True, local=True),
    )
    assert [address for address, _ in known[2:]] == ["10.0.0.2"]
    assert known[2][1].ref == new
    assert known[2][1].until_us is None, "the later one"


def test_a_file_of_version_3_is_brought_up_to_this_one(tmp_path: Path) -> None:
    """The file is one that version 3 wrote: a flow that was cut, one that is ambiguous, folded ones, and pods."""
    old = PodRef("team-a", "old", "uid-old")
    unpacked(VERSION_3, tmp_path).close()
    for _ in range(2):  # the file as it was left by the step, and by a start of this version
        with closing(Store.open(tmp_path)) as store:
            saved, (intervals, news_us) = store.load(), store.load_intervals()
            assert store.damaged is None
        assert (saved.position, saved.watermark_us, saved.next_flow_id) == (POSITION, T0 + 4 * SECOND, 7)
        assert saved.last_stamp == T0 + 4 * SECOND + 3
        cut, ambiguous, own, sent, received, rest = saved.flows
        assert (cut.flow.key, cut.flow.count, cut.flow.ended) == (KEY._replace(here="src"), 2, True)
        assert (rest.flow.key, rest.flow.count, rest.flow.opened_us) == (KEY._replace(here="src"), 1, T0 + 2 * SECOND)
        assert len(cut.flow.trail) == 2
        assert cut.endpoints == {"src": SRC._replace(probes=True), "dst": DST}
        assert cut.records == (
            replace(RECORD, sent_count=2, sent_message="text", sent_at_us=T0 + 9 * SECOND, writes=2, rounds=1),
            EventRecord(1, "src", old, "old.1", "text", withdrawn=True, given_up="no namespace"),
        )
        assert ambiguous.endpoints["src"] == Endpoint(Kind.AMBIGUOUS, "10.0.0.1", (WEB, old))
        assert own.flow.ends == ("src", "dst")
        assert [(s.flow.ends, s.flow.count, s.flow.spread and s.flow.spread.ports.count) for s in (sent, received)] == [
            (("src",), 2, 3),
            (("dst",), 2, 2),
        ]
        assert [(w.address, len(w.flows)) for w in saved.budget.windows] == [
            ("10.0.0.1", 1), ("10.0.0.2", 1), ("fd00::2", 2)
        ]  # fmt: skip
        assert [interval.ref for _, interval in intervals] == [old, WEB]
        assert intervals[1][1].after_gap
        assert news_us == T0 + 8 * SECOND


#: What no kiptail wrote, and an earlier one would have read on, or died of.
CANNOT_BE = [
    "UPDATE flow SET last_us = 253402300800000000",
    "UPDATE flow SET first_us = -9223372036854775808",
    "UPDATE flow SET count = -1",
    "UPDATE flow SET count = 0.5",
    "UPDATE flow SET count = 'many'",
    "UPDATE flow SET src = CAST(x'ff' AS TEXT)",
    "UPDATE flow SET src = x'00'",
    "UPDATE flow SET protocol = zeroblob(5000000)",
    "UPDATE flow SET port = 65536",
    "UPDATE flow SET here = 'there'",
    "UPDATE flow SET sides = 'src,src'",
    "UPDATE flow SET peers = 'x'",
    "UPDATE flow SET trail = x'0102'",
    "UPDATE flow SET ended = 7",
    "UPDATE ledger SET watermark_us = 253402300800000000",
    "UPDATE ledger SET next_flow_id = 0",
    "UPDATE ledger SET new_pairs = 'x'",
    "UPDATE position SET cursor = x'41'",
    "UPDATE position SET realtime_us = 'now'",
    "UPDATE position SET clock_offset_us = 9223372036854775807",
    "UPDATE endpoint SET state = 'nowhere'",
    "UPDATE endpoint SET pods = '[[1]]'",
    "UPDATE endpoint SET pods = '[' || replace(hex(zeroblob(50000)), '0', '[')",
    "UPDATE endpoint SET side = 'left' WHERE side = 'src'",
    "UPDATE endpoint SET flow_id = 77 WHERE flow_id = 1",
    "UPDATE endpoint SET pods = '[[1, 2, 3, 4]]'",
    "UPDATE endpoint SET pods = '7'",
    "UPDATE event SET pod = 'null'",
    'UPDATE event SET pod = \'{"a": 1, "b": 2, "c": 3}\'',
    'UPDATE event SET pod = \'["a", "b", "c", null]\'',
    "UPDATE event SET sent_at_us = 1e300",
    "UPDATE interval SET sure_us = 'x'",
    "UPDATE budget SET flows = x'01'",
    "UPDATE interval SET until_us = 253402300800000000",
    "UPDATE interval SET namespace = x'ff'",
    "UPDATE pod_news SET at_us = 'x'",
    "DROP TABLE pod_news",
    "CREATE TABLE more (id)",
    "CREATE TABLE machine (id)",
    "CREATE VIEW more AS SELECT * FROM flow",
    "ALTER TABLE flow RENAME TO seal",
    "ALTER TABLE ledger DROP COLUMN new_pairs",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 2",
]


@pytest.mark.parametrize("statement", CANNOT_BE)
def test_an_earlier_versions_file_that_cannot_be_is_set_aside(tmp_path: Path, statement: str) -> None:
    """It has no checksums: what is between its bounds is believed."""
    path = tmp_path / "state.sqlite"
    path.write_bytes(gzip.decompress(VERSION_3.read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    with closing(Store.open(tmp_path)) as store:
        assert store.damaged is not None
        assert store.load().flows == ()


MACHINES = [
    ("this", "this", False),
    ("this", "other", True),
    ("this", "", False),
    ("", "this", False),
    ("", "", False),
]


@pytest.mark.parametrize(("wrote", "reads", "foreign"), MACHINES)
def test_another_machines_state_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrote: str, reads: str, foreign: bool
) -> None:
    with closing(Store.open(tmp_path, wrote)) as store:
        filled(store)
    with closing(Store.open(tmp_path, reads)) as store:
        assert len(store.load().flows) == (0 if foreign else 2)
        assert store.damaged is None, "it is none"
    aside = list(tmp_path.glob("state.sqlite.foreign-*"))
    assert [str(file) in caplog.text for file in aside] == [True] * foreign
    # Where nothing was known, it is known from then on; and what was known is not forgotten.
    with closing(Store.open(tmp_path, "a third")) as store:
        assert (store.load().flows == ()) == bool(foreign or wrote or reads)


@pytest.mark.parametrize("time_us", [-600_000_000, -1, 0, LATEST_US])
def test_any_time_that_a_drop_can_have_is_loaded_again(tmp_path: Path, time_us: int) -> None:
    """A clock that was not set yet, and a delay: then the kernel wrote the line before 1970."""
    ledger = Ledger()
    ledger.add(KEY, time_us)
    with closing(Store.open(tmp_path)) as store:
        store.commit(ledger.changes(), POSITION)
    with closing(Store.open(tmp_path)) as store:
        assert store.damaged is None
        (saved,) = store.load().flows
    assert saved.flow.first_us == time_us
    assert saved.flow.trail == ledger.changes().flows[0].trail


def test_a_restored_backup_comes_to_the_same_counts(tmp_path: Path) -> None:
    """As long as the journal holds what was read since: the same flows, so the same names, with the same counts."""
    entries = [(KEY._replace(port=80 + at % 7), T0 + at * 40 * SECOND) for at in range(120)]

    def count(store: Store, begin: int, end: int) -> None:
        saved = store.load()
        ledger = Ledger(
            (s.flow for s in saved.flows),
            next_id=saved.next_flow_id,
            watermark_us=saved.watermark_us,
            last_stamp=saved.last_stamp,
            budget=saved.budget,
        )
        for at in range(begin, end):
            ledger.add(*entries[at])
            store.commit(ledger.changes(), replace(POSITION, monotonic_us=at))
            ledger.committed()

    with closing(Store.open(tmp_path / "state")) as store:
        count(store, 0, 50)
        with closing(sqlite3.connect(tmp_path / "backup")) as backup:
            store._file.connection.backup(backup)
        count(store, 50, 120)
        counted = {(s.flow.key, s.flow.stamp): s.flow.count for s in store.load().flows}
    (tmp_path / "backup").replace(tmp_path / "state" / "state.sqlite")
    with closing(Store.open(tmp_path / "state")) as store:
        position = store.load().position
        assert position is not None
        count(store, position.monotonic_us + 1, 120)
        assert {(s.flow.key, s.flow.stamp): s.flow.count for s in store.load().flows} == counted


def test_an_earlier_versions_file_is_this_machines(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_bytes(gzip.decompress(VERSION_3.read_bytes()))
    with closing(Store.open(tmp_path, "this")) as store:
        assert len(store.load().flows) == 6
    with closing(Store.open(tmp_path, "other")) as store:
        assert store.load().flows == ()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE endpoint",
        "UPDATE endpoint SET pods='x'",
        "UPDATE budget SET flows=7",
        "UPDATE event SET pod='x'",
        "UPDATE flow SET trail=x'0102'",
        "UPDATE flow SET trail='x'",
    ],
)
def test_a_file_that_holds_something_else_is_damaged(tmp_path: Path, statement: str) -> None:
    with closing(Store.open(tmp_path)) as store:
        filled(store)
        store.save_endpoints(1, {"src": SRC}, [RECORD])
    edit(tmp_path / "state.sqlite", statement)
    with closing(Store.open(tmp_path)) as store:
        assert store.load().flows == ()
        assert store.damaged is not None
        assert store.damaged.exists()


def test_damage_that_shows_later_says_that_the_next_start_mends_it(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path)) as store:
        ledger = filled(store)
        store._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = tmp_path / "state.sqlite"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        store._file.connection.execute("PRAGMA shrink_memory")  # what it has read once it would not read again
        ledger.add(KEY, 200)
        with pytest.raises(StateError, match="next start sets it aside") as caught:
            store.commit(ledger.changes(), POSITION)
        assert not isinstance(caught.value, StoreUnavailableError)
    with closing(Store.open(tmp_path)) as store:
        assert store.damaged is not None


@pytest.mark.parametrize("damage", [b"no database at all " * 300, None], ids=["overwritten", "a page broken"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(tmp_path)
    filled(store)
    store.close()
    path = tmp_path / "state.sqlite"
    content = damage or path.read_bytes()[:4096] + b"\xff" * 4096 + path.read_bytes()[8192:]
    path.write_bytes(content)
    with closing(Store.open(tmp_path)) as fresh:
        assert fresh.load().flows == ()
    (aside,) = tmp_path.glob("state.sqlite.damaged-*")
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file/state: .*--state-directory"):
        Store.open(tmp_path / "file" / "state")


def test_a_closed_store_says_so_like_one_that_cannot_be_written(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    with pytest.raises(StateError):
        store.forget([1])


def test_in_memory_nothing_is_left_behind() -> None:
    store = Store.in_memory()
    filled(store)
    assert len(store.load().flows) == 2
    store.forget([1])
    store.close()
