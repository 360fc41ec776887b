"""Journal files with times that cannot be, in their headers and in their entries: real files, with bytes written over.

Offsets are those of systemd's "Journal File Format": ``struct Header`` and ``struct EntryObject``.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from kiptail.clock.dates import LATEST_US, kubernetes_time
from kiptail.errors import JournalError
from kiptail.flows.flow import flow_key
from kiptail.flows.ledger import Ledger
from kiptail.journal.follow import Journal
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.netfilter.reading import read
from kiptail.state.store import Store
from tests.support.fuzzing import cases, source
from tests.support.journald import BOOT, export_to_journal, kernel_entry

LINE = (
    "p: IN=cali0 OUT=eth0 MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
T0 = 1_700_000_000_000_000
ENTRIES = 20

HEADER = {
    "tail_entry_boot_id": 56,
    "head_entry_realtime": 184,
    "tail_entry_realtime": 192,
    "tail_entry_monotonic": 200,
}
#: Within an entry object, from its begin.
ENTRY = {"seqnum": 16, "realtime": 24, "monotonic": 32}
#: 2^55 is the first time that systemd itself refuses in an entry; some are past 9999, past 2^63, nothing, the year 0.
VALUES = (0, 1, 2**55 - 1, 2**55, LATEST_US + 1_000_000, 2**63, 2**64 - 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal file of twenty drops, one a second."""
    file = tmp_path_factory.mktemp("whole") / "system.journal"
    export_to_journal(
        (
            kernel_entry(LINE, realtime_us=T0 + second * 1_000_000, monotonic_us=(second + 1) * 1_000_000)
            for second in range(ENTRIES)
        ),
        file,
    )
    return file.read_bytes()


def entry_offsets(data: bytes) -> list[int]:
    """Where the entry objects (type 3) are: objects follow one another, each at a multiple of 8."""
    (at,) = struct.unpack_from("<Q", data, 88)
    (tail,) = struct.unpack_from("<Q", data, 136)
    found = []
    while at <= tail:
        kind, size = data[at], struct.unpack_from("<Q", data, at + 8)[0]
        if kind == 3:
            found.append(at)
        at += (size + 7) // 8 * 8
    return found


def patched(data: bytes, *changes: tuple[int, int]) -> bytes:
    """The file with other 64-bit numbers at these places."""
    changed = bytearray(data)
    for at, value in changes:
        struct.pack_into("<Q", changed, at, value)
    return bytes(changed)


#: Places that an earlier run may have got to: none; one whose entry is gone; ones with times that cannot be.
POSITIONS = {
    "from the head": None,
    "resumed": Position("", BOOT, 5_000_000, T0 + 4_000_000, None),
    "gone": Position(f"s={'0' * 32};i=1;b={BOOT};m=1;t=1;x=1", "c" * 32, 1, 1, SourceClock(BOOT, 10**18, -(10**18))),
    "late": Position("", BOOT, 10**18, LATEST_US, None),
}


def drain(directory: Path, position: Position | None) -> tuple[list[int], Position | None]:
    """Read it as a run does that ends with the journal; what is counted is stored and can be loaded again."""
    prefixes = Prefixes([PrefixRule("p:", Verdict.DROP)])
    times: list[int] = []
    with ExitStack() as stack:
        try:
            options = {"wanted": prefixes.wanted, "needle": prefixes.needle, "position": position, "follow": False}
            journal = stack.enter_context(Journal(directory=directory, **options))  # type: ignore[arg-type]
        except JournalError:
            return [], position
        ledger = Ledger()
        for _ in range(50):
            batch = journal.read(1_000)
            times += batch.times_us
            for line, time_us in zip(batch.lines, batch.times_us, strict=True):
                assert isinstance(line, str)
                logged = read(line, prefixes)
                assert isinstance(logged, tuple)
                ledger.add(flow_key(logged[1], logged[0]), time_us)  # type: ignore[arg-type]
            journal.lag_us()
            if batch.at_end:
                break
        else:
            raise AssertionError("no end")
        position = journal.position()
    with closing(Store.in_memory()) as store:
        store.commit(ledger.changes(), position)
        assert store.load().position == position
    for s in ledger.changes().flows:
        assert kubernetes_time(s.first_us) <= kubernetes_time(s.last_us) <= "9999"
    return times, position


def shown(directory: Path) -> int:
    """How many entries journalctl has there."""
    command = ["journalctl", "--directory", directory, "--output", "cat", "--quiet"]
    return len(subprocess.run(command, capture_output=True, timeout=30, check=False).stdout.splitlines())


@pytest.fixture
def place(quick_path: Path) -> Callable[[bytes], Path]:
    directory = quick_path / "journal"
    directory.mkdir()

    def put(data: bytes) -> Path:
        (directory / "system.journal").write_bytes(data)
        return directory

    return put


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
@pytest.mark.parametrize("field", HEADER)
def test_any_time_in_a_files_header_can_be_read(
    whole: bytes, place: Callable[[bytes], Path], field: str, position: Position | None
) -> None:
    for value in VALUES:
        directory = place(patched(whole, (HEADER[field], value)))
        times, _ = drain(directory, position)
        if position is None:
            # The entries themselves are all right: systemd 252 reads them, 257 leaves alone a file with such a header.
            assert len(times) == shown(directory), value
            assert len(times) in (0, ENTRIES), value


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
@pytest.mark.parametrize("field", ENTRY)
def test_any_time_in_an_entry_can_be_read(
    whole: bytes, place: Callable[[bytes], Path], field: str, position: Position | None
) -> None:
    entries = entry_offsets(whole)
    assert len(entries) == ENTRIES
    for value in VALUES:
        for number in (0, ENTRIES - 1):
            times, _ = drain(place(patched(whole, (entries[number] + ENTRY[field], value))), position)
            if position is None:
                # libsystemd leaves a file alone from the first entry on that it takes for broken.
                assert len(times) >= number, value
            assert all(-600_000_000 <= time_us <= LATEST_US for time_us in times)


def test_all_times_of_a_file_can_be_wrong(whole: bytes, place: Callable[[bytes], Path]) -> None:
    entries = entry_offsets(whole)
    for value in VALUES:
        everywhere = [(at + ENTRY[field], value) for at in entries for field in ("realtime", "monotonic")]
        everywhere += [(at, value) for name, at in HEADER.items() if name != "tail_entry_boot_id"]
        for position in POSITIONS.values():
            drain(place(patched(whole, *everywhere)), position)


@pytest.mark.fuzz
def test_journals_with_numbers_written_over(whole: bytes, place: Callable[[bytes], Path]) -> None:
    choose, seed = source("journal files")
    entries = entry_offsets(whole)
    places = [*HEADER.values(), *(at + offset for at in entries for offset in ENTRY.values())]
    for case in range(cases(40)):
        changes = [(choose.choice(places), _number(choose)) for _ in range(choose.randint(1, 6))]
        position = choose.choice([*POSITIONS.values()])
        try:
            drain(place(patched(whole, *changes)), position)
        except Exception as error:
            raise AssertionError(f"{seed}, case {case}: {changes}, {position}") from error


def _number(choose: random.Random) -> int:
    return choose.choice([choose.choice(VALUES), choose.getrandbits(64), T0 + choose.randint(-(10**9), 10**9)])
