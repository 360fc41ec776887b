"""Netfilter log lines: what is read of them, and that nothing is read wrongly."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.addresses import canonical
from kiptail.netfilter.parser import MAX_LINE, PacketDrop, Unparsed, parse, split
from tests.corpus import Sample, as_dict, samples
from tests.corpus.printer import Printed, printed

SAMPLES = [*samples(), *samples("ulogd")]
DROPS = [sample for sample in SAMPLES if "error" not in sample.expected]
PACKET = "SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 "
PIECES = [
    *(
        "IN=",
        " OUT=",
        " SRC=",
        " DST=",
        " PROTO=",
        " SPT=",
        " TYPE=",
        " CODE=",
        "IN=a OUT=b SRC=::1 DST=::1 ",
    ),
    *("TCP", "ICMP", "10.0.0.1", "::1", "0", " ", "\t", "\n", "[", "]", "\0", "\ud800"),
]


def place(sample: Sample) -> str:
    return sample.where


def drop_of(line: str) -> PacketDrop:
    found = parse(line)
    assert isinstance(found, PacketDrop), found
    return found


def assert_nothing_wrong(found: PacketDrop | Unparsed, whole: PacketDrop, line: str) -> None:
    """What part of a line says is what the whole line says, or nothing.

    But for a protocol or code that is itself cut, for the line may as well have been stripped behind it.
    """
    last_word = line.rsplit(" ", 1)[-1].strip()
    cut = {"PROTO": "protocol", "CODE": "icmp_code"}.get(last_word.partition("=")[0])
    if isinstance(found, PacketDrop):
        for name, value, truth in zip(PacketDrop._fields, found, whole, strict=True):
            if name == cut:
                continue
            absent = value in ("", None) or value is False
            assert absent or value == truth, f"{name} of {line!r}: {value!r}, in truth {truth!r}"
        assert found[:5] == whole[:5], line


def assert_sane(found: PacketDrop | Unparsed) -> None:
    """What holds for the reading of any text at all."""
    if isinstance(found, Unparsed):
        assert found.reason.isprintable()
        assert 0 < len(found.reason) <= 80
        return
    assert canonical(found.src) == found.src
    assert canonical(found.dst) == found.dst
    assert found.protocol == "" or found.protocol.isprintable()
    for number, highest in zip(found[6:10], (65535, 65535, 255, 255), strict=True):
        assert number is None or 0 <= number <= highest
    for name in (found.in_interface, found.out_interface):
        assert not set(name) & set(" \t\n\v\f\r")


class TestCorpus:
    @pytest.mark.parametrize("sample", SAMPLES, ids=place)
    def test_a_line_says_what_is_written_below_it(self, sample: Sample) -> None:
        assert as_dict(parse(sample.line)) == sample.expected

    @pytest.mark.parametrize("sample", SAMPLES, ids=place)
    def test_the_prefix_can_be_had_whatever_the_rest_says(self, sample: Sample) -> None:
        parts = split(sample.line)
        assert (None if parts is None else parts[0].strip()) == sample.expected.get("prefix")

    @pytest.mark.parametrize("sample", DROPS, ids=place)
    def test_no_cut_makes_a_line_say_something_else(self, sample: Sample) -> None:
        whole = drop_of(sample.line)
        # Cut before the kernel's own OUT=, a line whose prefix has one as well looks like another.
        start = sample.line.rindex(" OUT=") + 5 if sample.line.count(" OUT=") > 1 else 0
        for length in range(start, len(sample.line)):
            for cut in (sample.line[:length], sample.line[:length] + "\r\n"):
                assert_nothing_wrong(parse(cut), whole, cut)

    def test_the_kernels_last_blanks_are_still_there(self) -> None:
        """An editor that strips them would make other lines of these."""
        lines = [sample.line for sample in SAMPLES if sample.where.startswith("netfilter")]
        assert len(lines) == 97
        assert sum(line.endswith(" ") for line in lines) == 96

    def test_all_kinds_of_protocol_and_error_occur(self) -> None:
        kinds = {sample.expected.get("protocol", "") for sample in SAMPLES}
        assert kinds >= {"", "TCP", "UDP", "UDPLITE", "ICMP", "ICMPv6", "AH", "ESP", "SCTP", "47"}
        errors = {sample.expected["error"] for sample in SAMPLES if "error" in sample.expected}
        assert len(errors) == 9


class TestPrinted:
    @given(printed())
    def test_every_field_comes_back(self, sample: Printed) -> None:
        assert parse(sample.line) == sample.drop

    @given(printed(), st.sampled_from(["\n", "\r\n"]))
    def test_the_end_of_the_line_makes_no_difference(self, sample: Printed, end: str) -> None:
        assert parse(sample.line + end) == sample.drop

    @given(printed())
    def test_no_cut_makes_a_line_say_something_else(self, sample: Printed) -> None:
        for length in range(sample.cut_from, len(sample.line)):
            assert_nothing_wrong(parse(sample.line[:length]), sample.drop, sample.line[:length])

    @given(printed())
    def test_a_line_without_its_last_blank_says_nothing_else(self, sample: Printed) -> None:
        line = sample.line.rstrip(" ")
        found = parse(line)
        assert_nothing_wrong(found, sample.drop, line)
        assert isinstance(found, PacketDrop)
        assert found.protocol == sample.drop.protocol

    @given(printed())
    def test_splitting_loses_nothing(self, sample: Printed) -> None:
        parts = split(sample.line)
        assert parts is not None
        assert "".join(parts) == sample.line
        assert parts[0].strip() == sample.drop.prefix
        assert parts[1].startswith(f"IN={sample.drop.in_interface} OUT={sample.drop.out_interface} ")


class TestStripped:
    """People strip lines. What can be a line's last word is still read."""

    @pytest.mark.parametrize(
        ("end", "protocol"),
        [
            pytest.param("FRAG:1 PROTO=TCP", "TCP", id="TCP"),
            pytest.param("FRAG:1 PROTO=UDPLITE", "UDPLITE", id="UDPLITE"),
            pytest.param("FRAG:1 PROTO=ICMP", "ICMP", id="ICMP is whole in IPv4"),
            pytest.param("FRAG:1 PROTO=ESP", "ESP", id="ESP"),
            pytest.param("FRAG:1 PROTO=UDP", "UDP", id="UDP"),
            pytest.param("PROTO=0", "0", id="0"),
            pytest.param("PROTO=2", "2", id="2"),
            pytest.param("PROTO=132", "SCTP", id="132"),
            pytest.param("PROTO=256", "", id="no protocol"),
            pytest.param("PROTO=047", "", id="leading zero"),
            pytest.param("PROTO=", "", id="nothing"),
            pytest.param("PROTO=QUIC", "", id="a name of later kernels"),
        ],
    )
    def test_protocol(self, end: str, protocol: str) -> None:
        assert drop_of(f"drop: IN=a OUT=b {PACKET}{end}").protocol == protocol

    @pytest.mark.parametrize(
        ("end", "code"),
        [
            pytest.param("TYPE=9 CODE=0", 0, id="0"),
            pytest.param("TYPE=9 CODE=16", 16, id="16"),
            pytest.param("TYPE=42 CODE=05", None, id="leading zero"),
            pytest.param("TYPE=42 CODE=256", None, id="no code"),
            pytest.param("TYPE=8 CODE=0", None, id="an ID follows, so that the line is cut"),
            pytest.param("TYPE=9 CODE=", None, id="nothing"),
            pytest.param("TYPE=9", None, id="no code at all"),
        ],
    )
    def test_icmp_code(self, end: str, code: int | None) -> None:
        assert drop_of(f"drop: IN=a OUT=b {PACKET}PROTO=ICMP {end}").icmp_code == code


class TestPacketInError:
    """The packet that an ICMP error is about is never taken for the one that was dropped."""

    INNER = "[SRC=192.0.2.1 DST=192.0.2.2 LEN=40 PROTO=TCP SPT=4000 DPT=5000 TYPE=8 CODE=7 RES=0x00 ACK RST URGP=0 ] "

    @pytest.mark.parametrize(
        ("outer", "said"),
        [
            pytest.param("PROTO=ICMP TYPE=3 ", ("ICMP", None, None, 3, None, False, False), id="no code"),
            pytest.param("PROTO=ICMP ", ("ICMP", None, None, None, None, False, False), id="no type"),
            pytest.param("PROTO=TCP ", ("TCP", None, None, None, None, False, False), id="no ports, no flags"),
            pytest.param("", ("", None, None, None, None, False, False), id="no protocol"),
        ],
    )
    def test_its_values_do_not_leak(self, outer: str, said: tuple[object, ...]) -> None:
        for inner in (self.INNER, self.INNER.rstrip("] ") + " "):
            drop = drop_of(f"drop: IN=a OUT=b {PACKET}{outer}{inner}")
            assert drop[3:] == ("10.0.0.1", "10.0.0.2", *said)

    def test_its_addresses_do_not_leak(self) -> None:
        assert isinstance(parse(f"drop: IN=a OUT=b MAC= {self.INNER}"), Unparsed)


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "port"),
        [
            ("0", 0),
            ("65535", 65535),
            ("65536", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1_0", None),
            ("0x1", None),
            ("²", None),
            ("٣", None),
            ("9" * 5_000, None),
        ],
        ids=lambda value: repr(value)[:10],
    )
    def test_a_port_is_what_a_port_can_be(self, text: str, port: int | None) -> None:
        assert drop_of(f"drop: IN=a OUT=b {PACKET}PROTO=TCP SPT={text} DPT=2 ")[6:8] == (port, 2)


class TestAddresses:
    @given(st.integers(0, 2**128 - 1) | st.integers(0, 2**48 - 1))
    @example(0)
    @example(1)
    @example(0xFFFF_0A00_0001)
    @example(0x0A00_0001)
    @example(0x2001_0DB8_0000_0000_0001_0000_0000_0001)
    def test_ipv6_has_one_spelling(self, number: int) -> None:
        address = ipaddress.IPv6Address(number)
        one = canonical(str(address))
        for text in (address.exploded, str(address), address.packed.hex(":", 2)):
            assert drop_of(f"x IN=a OUT= SRC={text} DST={text} LEN=1 ")[3:5] == (one, one)

    @given(st.text("0123456789abcdefABCDEF:.%/x", max_size=50) | st.ip_addresses().map(str))
    def test_what_is_no_address_to_ipaddress_is_none(self, text: str) -> None:
        try:
            truth = None if "%" in text else canonical(str(ipaddress.ip_address(text)))
        except ValueError:
            truth = None
        found = parse(f"x IN=a OUT= SRC={text} DST={text} LEN=1 ")
        assert (found.src if isinstance(found, PacketDrop) else None) == truth


class TestAnything:
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        assert_sane(parse(text))
        split(text)

    @given(st.lists(st.sampled_from(PIECES)).map("".join))
    def test_any_pile_of_keys_and_values(self, text: str) -> None:
        assert_sane(parse(text))

    @given(st.data())
    def test_lines_that_were_tampered_with(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from(SAMPLES)).line
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(line)))
            end = data.draw(st.integers(start, min(len(line), start + 20)))
            line = line[:start] + data.draw(st.text(max_size=5)) + line[end:]
        assert_sane(parse(line))


ABSURD = [
    "IN=",
    " OUT=",
    "IN= OUT=",
    "IN= OUT=\t",
    "IN=a\tb OUT=c ",
    "x",
    "x ",
    "SRC=",
    " SRC=1.2.3.4",
    " [",
    "IN= OUT= SRC=10.0.0.1 DST=10.0.0.2 LEN=1 PROTO=",
]


class TestAbsurdLines:
    @pytest.mark.parametrize("text", ABSURD, ids=repr)
    def test_longer_lines_than_the_kernel_writes_are_not_read(self, text: str) -> None:
        line = f"drop: IN=a OUT=b {PACKET}" + text * 100_000
        assert parse(line) == Unparsed(f"line is longer than {MAX_LINE} characters", None)
        assert split(line) is None

    def test_the_longest_line_is_read(self) -> None:
        line = f"IN=a OUT=b {PACKET}"
        assert drop_of("x" * (MAX_LINE - len(line)) + line).src == "10.0.0.1"
        assert isinstance(parse("x" * (MAX_LINE - len(line) + 1) + line), Unparsed)

    @pytest.mark.parametrize("text", ABSURD, ids=repr)
    def test_work_grows_no_faster_than_the_line(self, text: str) -> None:
        """Counted in calls: each looks at the stretch between two blanks at most, or is one of a few."""
        short, long = (text * (length // len(text)) for length in (1_000, 8_000))
        assert calls(short) <= 100 + len(short)
        assert calls(long) <= 100 + len(long)


def calls(line: str) -> int:
    """How many functions, Python's and C's, are called to read ``line``."""
    count = 0

    def profile(frame: object, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        parse(line)
    finally:
        sys.setprofile(before)
    return count
