"""Which lines are as ulogd2 prints them: all of its, and nothing with anything more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.netfilter import printed
from kiptail.netfilter.parser import MAX_LINE, split
from kiptail.netfilter.ulogd import is_printed
from tests.corpus import Sample, samples

SAMPLES = samples("ulogd")
HEAD = "IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=00 PREC=0x00 TTL=64 ID=1 "
TCP = "PROTO=TCP SPT=1 DPT=2 SEQ=1 ACK=0 WINDOW=1 SYN URGP=0 "
JUNK = ["x", "  ", "\t", "\n", " x", "'", "]", "\0", " SRC=10.0.0.3", "IN=c", "é", "\u0663", "MARK=0x0 MARK=0x0"]


def part_of(sample: Sample) -> str:
    parts = split(sample.line)
    assert parts is not None
    return parts[1]


class TestPrinted:
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.where)
    def test_the_corpus_is_printed_with_and_without_its_last_blank(self, sample: Sample) -> None:
        assert is_printed(part_of(sample))
        assert is_printed(part_of(sample) + " ")

    @pytest.mark.parametrize(
        "line",
        [
            HEAD + TCP + "UID=1000 GID=1000 MARK=0xffffffff",
            HEAD + TCP + "MARK=1f",
            HEAD + "PROTO=ICMP TYPE=5 CODE=5 GATEWAY=10.0.0.9 MARK=0x0",
            HEAD + "CE DF MF FRAG:8191 PROTO=ESP SPI=0xff MARK=0x0",
            "IN= OUT=b MAC= SRC=::1 DST=::ffff:10.0.0.1 LEN=60 TC=0 HOPLIMIT=1 FLOWLBL=0 MARK=0x0",
            "IN=a OUT= MAC=01:02 SRC=10.0.0.1 DST=10.0.0.2 PROTO=ARP REPLY REPLY_MAC=01:02:03:04:05:06 MARK=0x0",
            "IN=a OUT= MAC=01:02 PROTO=34525 MARK=0x0",
        ],
    )
    def test_rarer_forms(self, line: str) -> None:
        assert is_printed(line)


class TestNotPrinted:
    @pytest.mark.parametrize("junk", JUNK, ids=repr)
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.where)
    def test_nothing_may_stand_behind_it(self, sample: Sample, junk: str) -> None:
        assert not is_printed(part_of(sample) + junk + "|")
        assert not is_printed(part_of(sample) + "|" + junk)

    @pytest.mark.parametrize(
        "line",
        [
            HEAD.replace("MAC= ", "") + TCP,
            HEAD.replace("TOS=00", "TOS=0x00") + TCP,
            HEAD + TCP.replace("SEQ=1 ACK=0 ", ""),
            HEAD + TCP.replace("WINDOW=1", "WINDOW=1 RES=0x00"),
            HEAD + "PROTO=ICMP TYPE=3 CODE=3 [" + HEAD[16:] + "] ",
            HEAD + TCP + "OPT (0204) ",
            HEAD[:-3],
        ],
    )
    def test_what_it_never_writes(self, line: str) -> None:
        assert not is_printed(line)

    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.where)
    def test_the_kernel_prints_none_of_it_about_ipv4(self, sample: Sample) -> None:
        """What its own lines are held to is not wider for ulogd's."""
        if " TOS=" in sample.line:
            assert not printed.is_printed(part_of(sample))

    @pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.where)
    def test_it_prints_none_of_the_kernels_lines_about_ipv4(self, sample: Sample) -> None:
        parts = split(sample.line)
        if parts is not None and " TOS=0x" in parts[1]:
            assert not is_printed(parts[1])

    def test_the_longest_are_done_with(self) -> None:
        for line in ("IN=" * 2_000, "IN=a OUT=b MAC=" + "a" * 8_000, HEAD * 100):
            assert not is_printed(line[: MAX_LINE - 1] + "|")


class TestWhatTheFastReaderReliesOn:
    @given(st.sampled_from(SAMPLES), st.sampled_from(["", *JUNK]), st.data())
    def test_which_digits_stand_in_it_says_nothing(self, sample: Sample, junk: str, data: st.DataObject) -> None:
        part = part_of(sample) + junk
        cut = part[: data.draw(st.integers(len("IN= OUT="), len(part)))]
        head, separator, tail = cut.partition(" LEN=")
        other = head + separator + tail.translate({ord(c): "0" for c in "123456789"})
        assert is_printed(cut) == is_printed(other)

    @given(st.sampled_from(SAMPLES), st.sampled_from(SAMPLES), st.sampled_from(["", *JUNK]))
    def test_head_and_tail_are_in_form_by_themselves(self, one: Sample, other: Sample, junk: str) -> None:
        head = part_of(one).partition(" LEN=")[0]
        whole = part_of(other) + junk
        assert is_printed(f"{head} LEN={whole.partition(' LEN=')[2]}") == is_printed(whole)
