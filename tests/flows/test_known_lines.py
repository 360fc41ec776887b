"""Known lines: looked up or read thoroughly, a line says the same."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.flows import known_lines
from kiptail.flows.known_lines import LONGEST, MAX_KNOWN, MAX_SHAPES, KnownLine, KnownLines, understood
from kiptail.journal import scanner
from kiptail.journal.entry import MESSAGE_LIMIT, MISSED_MESSAGE_ID, is_trusted, microseconds, text_of
from kiptail.journal.follow import Journal
from kiptail.journal.scanner import Batch
from kiptail.journal.source_clock import source_delay
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.netfilter.reading import KERNEL, ULOGD, Printer
from tests.corpus import samples
from tests.corpus.printer import Printed, printed
from tests.support.journald import BOOT, Fields, export_to_journal, fields_of, kernel_entry

RULES = [
    PrefixRule("drop:", Verdict.DROP),
    PrefixRule("seen", Verdict.LOG),
    PrefixRule("no no:", Verdict.REJECT),
    PrefixRule("A:{direction}:{verdict}:{label?}:"),
    PrefixRule("by policy {policy}"),
]
LINE = (
    "drop: IN=eth0 OUT= MAC=aa SRC=10.0.0.1 DST=10.0.0.2 LEN={length} TOS=0x00 PREC=0x00 TTL=63 ID={id} DF "
    "PROTO=TCP SPT={source} DPT={port} WINDOW=64240 RES=0x00 {flags} URGP=0 "
)
LINE_6 = (
    "drop: IN=eth0 OUT= SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=fe80:0000:0000:0000:0000:0000:0000:0002"
    " LEN=72 TC=0 HOPLIMIT=255 FLOWLBL=0 PROTO=ICMPv6 TYPE=136 CODE=0 "
)


def plain(port: int = 80, source: int = 40_000, flags: str = "SYN", length: int = 60, number: int = 1) -> bytes:
    return LINE.format(length=length, id=number, source=source, port=port, flags=flags).encode()


def contents(line: KnownLine | None) -> tuple[object, ...] | None:
    return dataclasses.astuple(line) if line else None


def read_thoroughly(batch: Batch, prefixes: Prefixes) -> list[tuple[object, int]]:
    """What stands in each line, and when it was written."""
    lines = [line if isinstance(line, KnownLine) else understood(line, prefixes) for line in batch.lines]
    return list(zip(map(contents, lines), batch.times_us, strict=True))


def assert_alike(lines: KnownLines, prefixes: Prefixes, message: bytes, printer: Printer = KERNEL) -> None:
    """What is said of the line is what the thorough reading gives, or that it has to be read."""
    said = lines.wanted(message)
    if isinstance(said, KnownLine):
        assert contents(said) == contents(understood(text_of(message), prefixes, printer))
    else:
        assert said == prefixes.wanted(message, printer.gap.encode())


#: What the kernel prints, and text that a reader could stumble over.
WORDS = [
    *("A:I:Drop:x:", "A:O:Allow:", "A:I:Frob:", "by policy a/b ", "by policy ", '"by policy c" '),
    *("drop: ", "seen ", "x ", "IN=a OUT=b ", "IN= OUT=", " OUT=c ", "MAC= ", "PHYSIN=ACK ", "IN=x"),
    *("SRC=10.0.0.1 ", "DST=10.0.0.2 ", "SRC=10.0.0.1 DST=10.0.0.2", "SRC=::1 DST=::2", " LEN=60 ", "LEN=60 "),
    *("TOS=0x00 PREC=0x00 TTL=63 ID=1 ", "DF ", "CE ", "TC=0 HOPLIMIT=64 FLOWLBL=0 ", "FRAG:1 "),
    *("PROTO=TCP ", "PROTO=UDP ", "PROTO=ICMP ", "PROTO=ICMPv6 ", "PROTO=TCP SPT=40000 DPT=80 ", "PROTO=UDP SPT=53 "),
    *("SPT=80 ", "SPT=99999 ", "DPT=40000 ", "DPT=65535 ", "DPT=65536 ", "DPT=080 ", "TYPE=8 ", "CODE=0 ", "CODE=0"),
    *(
        "WINDOW=1 RES=0x00 ",
        "URGP=0 ",
        "OPT (0204) ",
        "UID=0 GID=0 ",
        "MARK=0x1 ",
        "ID=1 SEQ=1 ",
        "INCOMPLETE [3 bytes] ",
    ),
    *("[TRUNCATED] ", "MTU=1 ", "': -2", "[116b,55d0+1000] likely on CPU 1"),
    *("ACK ", "SYN ", "RES=0x00 ACK URGP=0 ", "[", " [", "] ", "\n", "\r\n", "\0", "\u00e9", " "),
]
HEAD = "drop: IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF "


#: Few values, and mostly of five digits, so that lines meet: same addresses, same shape, or same port.
PORTS = st.sampled_from(["30080", "32767", "32768", "40000"]) | st.sampled_from(
    ["80", "9999", "65535", "65536", "00080"]
)
PACKETS = st.tuples(
    st.sampled_from(["TCP", "TCP", "UDP"]),
    PORTS,
    PORTS,
    st.sampled_from(["SYN", "ACK"]),
    st.sampled_from([False, False, True]),
)


def packet(protocol: str, source: str, port: str, flags: str, back: bool) -> bytes:
    line = HEAD.replace("SRC=10.0.0.1 DST=10.0.0.2", "SRC=10.0.0.2 DST=10.0.0.1") if back else HEAD
    rest = f"WINDOW=1 RES=0x00 {flags} URGP=0 " if protocol == "TCP" else "LEN=40 "
    return f"{line}PROTO={protocol} SPT={source} DPT={port} {rest}".encode()


@given(st.lists(printed(), max_size=8), st.data())
def test_lines_of_the_kernel_say_the_same_whatever_was_seen_before(lines: list, data: st.DataObject) -> None:
    prefixes = Prefixes(
        [*RULES, *(PrefixRule(escaped(one.drop.prefix), Verdict.DROP) for one in lines if one.drop.prefix)]
    )
    known = KnownLines(prefixes)
    for one in [*lines, *lines]:
        assert_alike(known, prefixes, one.line.encode("utf-8", "surrogateescape"))


@given(
    st.lists(printed(), min_size=1, max_size=4), st.lists(st.sampled_from(WORDS), max_size=3).map("".join), st.data()
)
def test_lines_of_the_kernel_with_something_around_them_say_the_same(
    lines: list[Printed], junk: str, data: st.DataObject
) -> None:
    """Behind the last field, in the middle, or before the prefix; the line itself is known by then."""
    prefixes = Prefixes(
        [*RULES, *(PrefixRule(escaped(one.drop.prefix), Verdict.DROP) for one in lines if one.drop.prefix)]
    )
    known = KnownLines(prefixes)
    for one in [*lines, *lines]:
        known.wanted(one.line.encode("utf-8", "surrogateescape"))
        place = data.draw(st.sampled_from([0, len(one.line)]) | st.integers(0, len(one.line)))
        message = one.line[:place] + junk + one.line[place:]
        assert_alike(known, prefixes, message.encode("utf-8", "surrogateescape"))


JUNK = [
    "': -2",
    "'",
    "x",
    " ",
    "x ",
    "[116b,55d06116b000+1000] likely on CPU 1",
    "\n",
    "URGP=0 ",
    " OUT=c ",
    "SYN ",
    "\xff",
]


@given(st.lists(st.tuples(PACKETS, st.sampled_from(["", "", *JUNK]), st.sampled_from(["", "", *JUNK])), max_size=30))
@example([(("TCP", "40000", "80", "SYN", False), "", ""), (("TCP", "40000", "80", "SYN", False), "': -2", "")])
def test_junk_makes_no_known_line(packets: list[tuple[tuple[str, str, str, str, bool], str, str]]) -> None:
    """Whether the line, its head or its tail was seen before with or without it."""
    prefixes = Prefixes(RULES)
    known = KnownLines(prefixes)
    for one, behind, before in [*packets, *packets]:
        message = before.encode() + packet(*one) + behind.encode()
        assert_alike(known, prefixes, message)
        if behind not in ("", "\n", "URGP=0 ") or before.strip():
            assert not isinstance(known.wanted(message), KnownLine)


@given(st.lists(st.lists(st.sampled_from(WORDS)).map("".join), max_size=12), st.sampled_from(["", HEAD, "drop: IN=a"]))
@example([plain(40_000, 80, "ACK").decode(), plain(40_000, 80, "SYN").decode()], "")
@example([plain(40_000, 80, "ACK").decode(), plain(69_999, 80, "ACK").decode()], "")
@example(["PROTO=TCP SPT=1 DPT=80 ", "PROTO=TCP SPT=1 DPT=80 IN=x OUT=y SRC=1.1.1.1 DST=2.2.2.2 "], HEAD)
@example(["PROTO=TCP SPT=80 DPT=40000 RES=0x00 ACK ", "PROTO=TCP SPT=80 DPT=40000 RES=0x00 [ ACK "], HEAD)
@example(["PROTO=TCP SPT=1 DPT=8 ", "PROTO=UDP SPT=1 DPT=8 ", "PROTO=ICMP TYPE=8 CODE=0 "], HEAD)
@example([f"PROTO=UDP SPT={s} DPT={d} LEN=8 " for s in (53, 40_000, 50_000) for d in (40_000, 50_000, 53)], HEAD)
@example(["PROTO=UDP SPT=53 DPT=40000 LEN=8 ", "PROTO=UDP SPT=40000 DPT=53 LEN=8 "], HEAD)
@example(["PROTO=TCP SPT=1 DPT=80 SYN ", "PRO1TO=TCP SPT= DPT=80 SYN "], HEAD)
@example(["PROTO=TCP SPT=1 DPT=80 SYN ", "PROTO=TCP SPT= DPT1=80 SYN "], HEAD)
@example(["PROTO=TCP SPT=1 DPT=50000 [ ACK ", "PROTO=TCP SPT=1 DPT=50000 [ SYN "], HEAD)
@example(["SPT=80 DPT=40000 SYN ", "SPT=81 DPT=40000 SYN "], HEAD.replace("SRC=", "ACK SRC=") + "PROTO=TCP ")
@example(["DST=10.0.0.2 ", "DST=10.0.0.3 "], HEAD.replace(" DST=10.0.0.2", "") + "PROTO=TCP SPT=1 DPT=80 ")
def test_piles_of_keys_and_values_say_the_same(texts: list[str], head: str) -> None:
    prefixes = Prefixes(RULES)
    known = KnownLines(prefixes)
    for text in [*texts, *texts]:
        assert_alike(known, prefixes, (head + text).encode())


@given(st.lists(PACKETS, min_size=12, max_size=50))
@example([("TCP", "40000", "20000", "ACK", False), ("TCP", "50000", "40000", "SYN", False)]
         + [("TCP", "30080", "40000", "ACK", False)] * 2)  # fmt: skip
def test_requests_and_replies_say_the_same_in_any_order(packets: list[tuple[str, str, str, str, bool]]) -> None:
    prefixes = Prefixes(RULES)
    known = KnownLines(prefixes)
    for one in [*packets, *packets]:
        assert_alike(known, prefixes, packet(*one))


def test_a_reply_is_no_request_to_its_port() -> None:
    """What a shape is known from says nothing about the direction of the next line: ten replies are told as such."""
    lines = [plain(20_000, 50_000, "ACK"), plain(40_000, 50_000, "SYN"), *[plain(40_000, 30_080, "ACK")] * 10]
    for order in (lines, lines[::-1]):
        known = KnownLines(Prefixes(RULES))
        said = [line.key for line in map(known.wanted, order) if isinstance(line, KnownLine)]
        assert Counter((key.port, key.reply) for key in said) == {
            (20_000, False): 1,
            (40_000, False): 1,
            (30_080, True): 10,
        }


@given(st.data())
def test_lines_that_were_tampered_with_say_the_same(data: st.DataObject) -> None:
    """Each is read when the line that it was made of is known."""
    prefixes = Prefixes(RULES)
    known = KnownLines(prefixes)
    lines = [plain(), plain(40_000, 80, "ACK"), plain(40_000, 50_000), LINE_6.encode()]
    line = data.draw(st.sampled_from(lines))
    for each in lines:
        known.wanted(each)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(line)))
        end = data.draw(st.integers(start, min(len(line), start + 12)))
        line = line[:start] + data.draw(st.sampled_from(WORDS).map(str.encode) | st.binary(max_size=3)) + line[end:]
        assert_alike(known, prefixes, line)


@given(st.binary())
def test_any_bytes(message: bytes) -> None:
    prefixes = Prefixes(RULES)
    assert_alike(KnownLines(prefixes), prefixes, message)


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.where)
def test_the_corpus_says_the_same(sample) -> None:
    prefixes = Prefixes([PrefixRule(escaped(sample.expected.get("prefix") or "drop:"), Verdict.DROP)])
    known = KnownLines(prefixes)
    for _ in range(2):
        assert_alike(known, prefixes, sample.line.encode("utf-8", "surrogateescape"))


#: Of ulogd: where the prefix is empty, a blank stands before IN=.
ULOGD_RULES = [PrefixRule("drop:", Verdict.DROP), PrefixRule("DROP by policy {policy}", Verdict.LOG)]
ULOGD_LINES = [sample.line for sample in samples("ulogd")]


def of_ulogd() -> tuple[KnownLines, Prefixes]:
    prefixes = Prefixes(ULOGD_RULES, empty=PrefixRule("NFLOG group 100", Verdict.REJECT))
    return KnownLines(prefixes, ULOGD), prefixes


def test_lines_of_ulogd_say_the_same() -> None:
    known, prefixes = of_ulogd()
    for line in [*ULOGD_LINES, *ULOGD_LINES]:
        assert_alike(known, prefixes, line.encode(), ULOGD)
    said = [known.wanted(line.encode()) for line in ULOGD_LINES]
    assert sum(isinstance(line, KnownLine) for line in said) > len(said) / 2


@given(st.lists(st.tuples(st.sampled_from(ULOGD_LINES), st.sampled_from(["", *JUNK]), st.data()), max_size=10))
def test_lines_of_ulogd_that_were_tampered_with_say_the_same(lines: list[tuple[str, str, st.DataObject]]) -> None:
    known, prefixes = of_ulogd()
    for line in ULOGD_LINES:
        known.wanted(line.encode())
    for line, junk, data in lines:
        place = data.draw(st.sampled_from([0, len(line)]) | st.integers(0, len(line)))
        word = data.draw(st.sampled_from(["", *WORDS]))
        for message in (
            line[:place] + junk + line[place:],
            line[:place] + word,
            line[:place] + word + line[place + 4 :],
        ):
            assert_alike(known, prefixes, message.encode("utf-8", "surrogateescape"), ULOGD)


def test_a_known_flow_of_ulogd_takes_two_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = of_ulogd()
    line = next(line for line in ULOGD_LINES if "SEQ=" in line and line.startswith(" IN="))
    first = known.wanted(line.encode())
    assert isinstance(first, KnownLine)
    assert first.kind == ("reject", "TCP", "")
    monkeypatch.delattr(KnownLines, "_look_closer")
    assert known.wanted(line.replace("SEQ=1432540570", "SEQ=2432540571").encode()) is first


def test_a_kernels_line_is_none_of_ulogds_and_the_other_way_round() -> None:
    known, prefixes = of_ulogd()
    assert known.wanted(plain()) is True
    assert understood(plain().decode(), prefixes, ULOGD) is None
    known = KnownLines(Prefixes(ULOGD_RULES))
    line = next(line for line in ULOGD_LINES if line.startswith("drop:"))
    assert known.wanted(line.encode()) is True
    assert understood(line, Prefixes(ULOGD_RULES)) is None


def parses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are read thoroughly from now on."""
    read: list[str] = []
    monkeypatch.setattr(known_lines, "understood", lambda text, *how: read.append(text) or understood(text, *how))
    return read


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([plain(number=n, length=60 + n, source=40_000 + n) for n in range(9)], id="a request"),
        pytest.param([plain(40_000 + n, 80, "ACK", number=n) for n in range(9)], id="a reply"),
        pytest.param([LINE_6.encode(), LINE_6.replace("HOPLIMIT=255", "HOPLIMIT=9").encode()], id="ICMP of IPv6"),
    ],
)
def test_a_flow_is_read_once(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    read = parses(monkeypatch)
    known = KnownLines(Prefixes(RULES))
    assert len({id(known.wanted(line)) for line in lines}) == 1
    assert len(read) == 1


def test_what_is_remembered_is_bounded_and_what_comes_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownLines(Prefixes(RULES))
    read = parses(monkeypatch)
    for n in range(2 * MAX_KNOWN):
        assert isinstance(known.wanted(plain()), KnownLine)
        known.wanted(plain(number=n).replace(b"10.0.0.1", b"10.%d.%d.1" % (n // 250, n % 250)))
        assert len(known._known) + len(known._older) <= MAX_KNOWN
    assert len([text for text in read if "SRC=10.0.0.1 " in text]) == 1
    assert isinstance(known.wanted(plain().replace(b"10.0.0.1", b"10.0.1.1")), KnownLine)
    assert len([text for text in read if "SRC=10.0.1.1 " in text]) == 2, "the oldest is forgotten"


def test_what_is_remembered_of_shapes_is_bounded() -> None:
    known = KnownLines(Prefixes(RULES))
    for n in range(MAX_SHAPES + 10):
        numbers = b"WINDOW=" + b"1" * (1 + n % 50), b"URGP=" + b"1" * (1 + n // 50)
        known.wanted(plain().replace(b"WINDOW=64240", numbers[0]).replace(b"URGP=0", numbers[1]))
        assert len(known._spots) <= MAX_SHAPES
    assert len(known._spots) == 10


def test_tcp_options_are_no_shapes() -> None:
    """Each packet's timestamps would be another one."""
    known = KnownLines(Prefixes(RULES))
    assert isinstance(known.wanted(plain() + b"OPT (0101080A00AF3B7C) "), KnownLine)
    assert known._spots == {}


@pytest.mark.parametrize(
    "line",
    [plain(), plain(50_000), plain(flags="ACK"), plain(50_000, 80, "ACK"), plain(50_000, flags="ACK"), LINE_6.encode()],
)
def test_two_look_ups_are_enough_for_a_known_line(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownLines(Prefixes(RULES))
    first = known.wanted(line)
    monkeypatch.delattr(KnownLines, "_look_closer")
    assert known.wanted(line) is first


def test_other_rules_lines_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = parses(monkeypatch)
    assert KnownLines(Prefixes(RULES)).wanted(plain().replace(b"drop:", b"other")) is False
    assert read == []


def test_the_longest_known_line_is_no_longer_than_a_message() -> None:
    """A byte that is no UTF-8 becomes four characters; longer text is not read."""
    assert 4 * (2 * LONGEST + len(" LEN=")) <= MESSAGE_LIMIT
    line = plain()
    prefixes = Prefixes(RULES)
    known = KnownLines(prefixes)
    known.wanted(line)
    head, cut, tail = line.partition(b" LEN=")
    for length in (LONGEST, LONGEST + 1, MESSAGE_LIMIT + 1):
        for _ in range(2):
            assert_alike(known, prefixes, head + cut + tail.ljust(length, b"\xff"))
            assert_alike(known, prefixes, b"\xff" * (length - len(head)) + b" " + line)


START = 1_800_000_000_000_000
OTHER_BOOT = "b0070000000000000000000000000002"


def journal_lines() -> Iterable[Fields]:
    """Drops and others, delayed and not, of two boots, with fields missing and forged."""
    for n in range(120):
        boot = BOOT if n < 80 else OTHER_BOOT
        monotonic = 10_000_000 + n * 1_700
        fields: dict[str, str | int | None] = {"_SOURCE_MONOTONIC_TIMESTAMP": monotonic - n * 37 % 900}
        match n % 12:
            case 5:
                fields["SYSLOG_FACILITY"] = 1
            case 7:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = None
            case 9:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = "x"
            case 10:
                fields["SYSLOG_FACILITY"] = None
            case 11:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = monotonic - 3_000_000
        message = plain(80 + n % 3, number=n) if n % 4 else b"eth0: link up"
        yield kernel_entry(message, realtime_us=START + n * 1_700, monotonic_us=monotonic, boot_id=boot, **fields)


def a_flood() -> Iterable[Fields]:
    """One flow's drops right after each other, of two boots, with what is out of the ordinary among them."""
    for n in range(120):
        monotonic = 1_000_000_000 + n * 10
        fields: dict[str, str | int | None] = {"_SOURCE_MONOTONIC_TIMESTAMP": monotonic - 50 - n % 7}
        match n:
            case 20:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = monotonic + 5
            case 30:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = 1_000
            case 40:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = "9" * 19
            case 50:
                fields |= {"_TRANSPORT": "driver", "MESSAGE_ID": MISSED_MESSAGE_ID}
            case 60:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = "x"
            case n if n > 72:
                fields["_SOURCE_MONOTONIC_TIMESTAMP"] = monotonic - 80 - n % 7
        boot = BOOT if n <= 72 else OTHER_BOOT
        yield kernel_entry(plain(number=n), realtime_us=START + n * 10, monotonic_us=monotonic, boot_id=boot, **fields)


def naively_dated(directory: Path) -> list[tuple[str, int]]:
    """Trusted drops of the journal with the kernel's times, as the functions of kiptail.journal say."""
    found: list[tuple[str, int]] = []
    clock = None
    for fields in fields_of(directory):
        trusted = is_trusted(fields["_TRANSPORT"].encode(), fields.get("SYSLOG_FACILITY", "").encode())
        if not trusted or " OUT=" not in fields["MESSAGE"]:
            continue
        time_us, delay_us = int(fields["__REALTIME_TIMESTAMP"]), 0
        source_us = microseconds(fields.get("_SOURCE_MONOTONIC_TIMESTAMP", "").encode())
        if source_us is not None:
            monotonic_us = int(fields["__MONOTONIC_TIMESTAMP"])
            clock, delay_us = source_delay(clock, fields["_BOOT_ID"], monotonic_us, source_us)
        found.append((fields["MESSAGE"], time_us - delay_us))
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("lines", [journal_lines, a_flood])
def test_known_lines_are_counted_at_the_same_times_and_places(
    size: int, lines: Callable[[], Iterable[Fields]], tmp_path: Path
) -> None:
    export_to_journal(lines(), tmp_path / "journal" / "x.journal")
    prefixes = Prefixes(RULES)
    readings = []
    for wanted, needle in ((prefixes.wanted, b""), (KnownLines(prefixes).wanted, prefixes.needle)):
        said, places = [], []
        with Journal(directory=tmp_path / "journal", wanted=wanted, needle=needle) as journal:
            at_end = False
            while not at_end:
                batch = journal.read(size)
                at_end = batch.at_end
                said += read_thoroughly(batch, prefixes)
                places.append(journal.position())
        readings.append((said, places, journal.counts))
    assert readings[0] == readings[1]
    naive = naively_dated(tmp_path / "journal")
    assert readings[0][0] == [(contents(understood(text, prefixes)), time_us) for text, time_us in naive]
    assert len({clock for _, places, _ in readings for place in places if (clock := place.clock)}) > 3 or size == 1000
    assert len(readings[0][0]) > 60


def test_a_scan_that_ends_at_once_leaves_no_line_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends a run of known lines is read before the scan ends."""
    monkeypatch.setattr(scanner, "_SCAN_STEP", 1)
    monkeypatch.setattr(scanner, "_SCAN_SECONDS", 0.0)
    export_to_journal(a_flood(), tmp_path / "journal" / "x.journal")
    times_us: list[int] = []
    with Journal(directory=tmp_path / "journal", wanted=KnownLines(Prefixes(RULES)).wanted) as journal:
        at_end = False
        while not at_end:
            batch = journal.read(1000)
            times_us, at_end = times_us + batch.times_us, batch.at_end
    assert times_us == [time_us for _, time_us in naively_dated(tmp_path / "journal")]


def test_known_lines_that_were_read_already_are_skipped(tmp_path: Path) -> None:
    """After a start whose cursor is not found."""
    export_to_journal(a_flood(), tmp_path / "journal" / "x.journal")
    known = KnownLines(Prefixes(RULES))
    with Journal(directory=tmp_path / "journal", wanted=known.wanted) as journal:
        journal.read(25)
        position = journal.position()
        assert position is not None
        undisturbed = journal.read(25), journal.position()
    position = dataclasses.replace(position, cursor="")
    with Journal(directory=tmp_path / "journal", wanted=known.wanted, position=position) as journal:
        assert (journal.read(25), journal.position()) == undisturbed


@pytest.mark.parametrize("name", ["MESSAGE", "SYSLOG_FACILITY", "_SOURCE_MONOTONIC_TIMESTAMP"])
def test_a_field_that_occurs_twice_is_read_alike(name: str, tmp_path: Path) -> None:
    """All fields at once give a list for it, one asked for by itself its first value."""
    twice = {
        "MESSAGE": [plain(8080), plain(80)],
        "SYSLOG_FACILITY": ["0", "1"],
        "_SOURCE_MONOTONIC_TIMESTAMP": ["900", "700"],
    }
    lines = [
        kernel_entry(
            plain(80 + n % 2),
            realtime_us=START + n,
            monotonic_us=1_000 + n,
            **({name: twice[name]} if n % 5 == 3 else {}),
        )
        for n in range(20)
    ]
    export_to_journal(lines, tmp_path / "journal" / "x.journal")
    prefixes = Prefixes(RULES)
    with Journal(directory=tmp_path / "journal", wanted=KnownLines(prefixes).wanted) as journal:
        fast = read_thoroughly(journal.read(100), prefixes)
    with Journal(directory=tmp_path / "journal", wanted=prefixes.wanted) as journal:
        slow = read_thoroughly(journal.read(100), prefixes)
    assert fast == slow
    assert len(fast) >= 16
