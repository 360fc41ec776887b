"""Which lines are as the kernel's packet logging prints them: all of its, and nothing with anything more."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kiptail.netfilter.parser import MAX_LINE, split
from kiptail.netfilter.printed import is_printed
from tests.corpus import Sample, samples
from tests.corpus.printer import Printed, printed

SAMPLES = [sample for sample in samples() if split(sample.line) is not None]
#: Made by hand to be hard for a parser: what they say is read, but the kernel's packet logging does not print that.
NOT_PRINTED = [
    "SRC=10.0.0.1\0 ",
    "DST=10.0.0.² ",
    "SRC=fe80::1%eth0 ",
    "SRC= ",
    "SRC=10.0.0.1x ",
    "DPT=-1 ",
    "PROTO= ",
    "PROTO=89 OUT=x ",
    " MAC source = ",
]
HEAD = "IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 LEN=60 "
HEAD_4 = HEAD + "TOS=0x00 PREC=0x00 TTL=64 ID=1 "
HEAD_6 = (
    "IN=a OUT=b SRC=" + ":".join(["fd00"] * 8) + " DST=" + ":".join(["fd01"] * 8) + " LEN=60 TC=0 HOPLIMIT=1 FLOWLBL=0 "
)
TCP = "PROTO=TCP SPT=1 DPT=2 WINDOW=1 RES=0x00 "
#: What the kernel writes behind names of processes, files and the like, and other text.
JUNK = [
    *("': -2", "'", "]", " [116b,55d0+1000] likely on CPU 1", "[1000+2000]", " x", "x", "  ", "\t", "\n", "\0", " ("),
    *(" SRC=10.0.0.3 ", "SPT=1 ", "junk ", "URGP=0': -2", "OUT=x ", "IN=", "\u00e9", "\u0663"),
]


def kernel_part(line: str) -> str:
    parts = split(line)
    assert parts is not None
    return parts[1]


class TestPrinted:
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.where)
    def test_the_corpus_is_printed_but_for_what_no_kernel_writes(self, sample: Sample) -> None:
        absurd = sample.where.startswith("handmade") and any(text in sample.line for text in NOT_PRINTED)
        assert is_printed(kernel_part(sample.line)) is not absurd

    @given(printed())
    def test_every_line_of_the_printer_is_also_where_it_is_cut(self, sample: Printed) -> None:
        line = sample.line[len(sample.line) - len(kernel_part(sample.line)) :]
        for length in range(len("IN= OUT="), len(line) + 1):
            assert is_printed(line[:length])

    @pytest.mark.parametrize(
        "line",
        [
            "IN= OUT= TRUNCATED",
            "IN=a OUT= PHYSIN=a1 PHYSOUT=b1 MACSRC=42:96:37:af:5e:03 MACDST=a2:e8:53:39:59:a9 MACPROTO=88cc ",
            "IN=a OUT=b MAC= TUNNEL=10.0.0.1->10.0.0.2 TRUNCATED",
            HEAD_4 + "PROTO=ESP INCOMPLETE [4294967292 bytes] UID=0 GID=0 MARK=0xffffffff ",
            HEAD_4 + "PROTO=132 UID=4294967295 GID=0 ",
            HEAD_4 + "PROTO=SCTP SPT=1 DPT=2 ",
            HEAD_4 + "CE DF MF FRAG:8191 OPT (94040000) PROTO=ICMP MARK=0x1 ",
            HEAD_4 + "PROTO=ICMP TYPE=3 CODE=4 [TRUNCATED] MTU=1280 MARK=0x1 ",
            HEAD_4 + f"PROTO=ICMP TYPE=3 CODE=3 [{HEAD_4[11:]}{TCP}SYN URGP=0 OPT (TRUNCATED)] ",
            HEAD_4 + "PROTO=ICMP TYPE=5 CODE=1 GATEWAY=10.0.0.3 [" + HEAD_4[11:] + "PROTO=ICMP TYPE=3 CODE=4 MTU=9 ] ",
            HEAD_4 + TCP + "AE CWR ECE URG ACK PSH RST SYN FIN URGP=65535 OPT (0204) UID=0 GID=0 MARK=0xa ",
            HEAD_6 + "TRUNCATED",
            HEAD_6 + "OPT ( ) OPT ( FRAG:8 INCOMPLETE ID:0000000a ) OPT ( )",
            HEAD_6 + "OPT ( FRAG:TRUNCATED ",
            HEAD_6 + "FRAG:TRUNCATED ",
            HEAD_6 + "Unknown Ext Hdr 135",
            HEAD_6 + "OPT ( AH SPI=0x1 ) OPT ( ESP SPI=0xffffffff )",
            HEAD_6 + "OPT ( ESP INCOMPLETE [6 bytes] )",
            HEAD_6 + f"PROTO=ICMPv6 TYPE=4 CODE=0 POINTER=0000000f [{HEAD_6[11:]}OPT ( ESP )] MARK=0x1 ",
            r"IN=caf\xe9\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff OUT=[x= ",
        ],
    )
    def test_rarer_forms(self, line: str) -> None:
        assert is_printed(line)


class TestNotPrinted:
    @given(printed(), st.sampled_from(JUNK))
    def test_nothing_may_stand_behind_it(self, sample: Printed, junk: str) -> None:
        part = kernel_part(sample.line)
        # The bar, for what goes on with a digit or with a field that may follow is a longer line.
        assert not is_printed(part + "|" + junk)
        assert not is_printed(part + junk + "|")

    @pytest.mark.parametrize("junk", JUNK, ids=repr)
    @pytest.mark.parametrize("end", ["", " "])
    def test_junk_behind_the_last_field(self, junk: str, end: str) -> None:
        assert not is_printed(HEAD_4 + TCP + "SYN URGP=0" + end + junk + "|")
        if junk.strip():
            assert not is_printed(HEAD_4 + TCP + "SYN URGP=0 MARK=0x1 " + junk)

    @pytest.mark.parametrize(
        "line",
        [
            "IN=a OUT=b: x",
            "IN=a/b OUT=c ",
            "IN=a OUT=" + "b" * 61 + " ",
            "IN=a OUT=b  SRC=10.0.0.1 ",
            HEAD_4.replace("LEN", "Len"),
            HEAD_4 + "PROTO=TCP SPT=1 DPT=2 SYN ",
            HEAD_4 + TCP + "FIN SYN URGP=0 ",
            HEAD_4 + "DF CE ",
            HEAD_4 + "PROTO=89 PROTO=89 ",
            HEAD_4 + f"PROTO=ICMP TYPE=3 CODE=3 [{HEAD_4[11:]}PROTO=ICMP TYPE=3 CODE=3 [TRUNCATED] ] ",
            HEAD_4 + "PROTO=TCP\x00 ",
            HEAD_4 + "PROTO=UDP SPT=\u0661 DPT=2 ",
        ],
        ids=repr,
    )
    def test_what_it_never_writes(self, line: str) -> None:
        assert not is_printed(line)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        assert not is_printed("IN= OUT= " + text + "|")


class TestWhatTheFastReaderReliesOn:
    @given(printed(), st.sampled_from(["", *JUNK]), st.data())
    def test_which_digits_stand_in_it_says_nothing(self, sample: Printed, junk: str, data: st.DataObject) -> None:
        part = kernel_part(sample.line) + junk
        cut = part[: data.draw(st.integers(len("IN= OUT="), len(part)))]
        head, separator, tail = cut.partition(" LEN=")
        other = head + separator + tail.translate({ord(c): "0" for c in "123456789"})
        assert is_printed(cut) == is_printed(other)

    @given(printed(), printed(), st.sampled_from(["", *JUNK]))
    def test_head_and_tail_are_in_form_by_themselves(self, one: Printed, other: Printed, junk: str) -> None:
        """Of lines that go as far as LEN=, as those that it looks up do."""
        head = kernel_part(one.line).partition(" LEN=")[0]
        tail = (kernel_part(other.line) + junk).partition(" LEN=")[2]
        whole = kernel_part(other.line) + junk
        assume(" IN=" not in head and " IN=" not in whole)
        assert is_printed(f"{head} LEN={tail}") == is_printed(whole)


class TestAbsurdLines:
    @pytest.mark.parametrize(
        "line",
        ["IN=" * 2_000, "IN=a OUT=b MAC=" + "a" * 8_000, HEAD_4 + "OPT (" + "A" * 8_000, HEAD_6 + "OPT ( ) " * 1_000],
        ids=lambda line: line[:20],
    )
    def test_the_longest_are_done_with(self, line: str) -> None:
        """The pattern knows at each character how to go on, so that time is linear; a quadratic one takes minutes."""
        assert not is_printed(line[: MAX_LINE - 1] + "|")
