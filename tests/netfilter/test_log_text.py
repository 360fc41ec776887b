"""What people feed to ``kiptail parse``."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.netfilter.log_text import LINE_LIMIT, MOST_REPEATS, LogText
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict

PACKET = (
    "IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=40000 DPT=80"
    " WINDOW=64240 RES=0x00 SYN URGP=0 "
)
SAID = {
    "verdict": "drop", "in": "a", "out": "b", "src": "10.0.0.1", "dst": "10.0.0.2", "protocol": "TCP",
    "src_port": 40000, "dst_port": 80,
}  # fmt: skip
#: Of one word and of several, with what means something to JSON, brackets like a clock's, and no letter at all.
PREFIXES = [
    "calico-drop:",
    "[UFW BLOCK]",
    "-- FW -- DROP",
    "iptables denied:",
    'a "b" \\c',
    "Antrea:I:Drop:x:",
    "[1.5]",
]


def reader(*texts: str) -> LogText:
    return LogText(Prefixes(PrefixRule(text, Verdict.DROP) for text in texts or ("calico-drop:",)))


def read(line: str, *texts: str) -> list[dict[str, Any]]:
    return reader(*texts).read(line)


HEADERS = [
    pytest.param("", id="none"),
    pytest.param("\ufeff", id="byte order mark"),
    pytest.param("[   12.345678] ", id="dmesg"),
    pytest.param("[12.345678]", id="without a blank"),
    pytest.param("[1234567.345678] [ T1234] ", id="dmesg with the caller"),
    pytest.param("[   12.345678][    C0] ", id="console with the caller"),
    pytest.param("<4>[   12.345678] ", id="dmesg --raw"),
    pytest.param("<4>", id="priority alone"),
    pytest.param("kern  :warn  : [   12.345678] ", id="dmesg --decode"),
    pytest.param("[Sun Nov 23 10:00:00 2025] ", id="dmesg -T"),
    pytest.param("[Sat Nov  1 10:00:00 2025]", id="dmesg -T, first of the month, without a blank"),
    pytest.param("2025-11-23T10:00:00,123456+01:00 ", id="dmesg --time-format iso"),
    pytest.param("kern  :warn  : 2025-11-23T10:00:00,123456+01:00 ", id="dmesg --time-format iso --decode"),
    pytest.param("[  +0.000012] ", id="dmesg --time-format reltime"),
    pytest.param("[<    0.000012>] ", id="dmesg --time-format delta"),
    pytest.param("4,1234,12345678,-;", id="/dev/kmsg"),
    pytest.param("4,1234,12345678,-,caller=T1;", id="/dev/kmsg with the caller"),
    pytest.param("Nov 23 10:00:00 host kernel: ", id="journalctl"),
    pytest.param("Nov 23 10:00:00 host kernel[0]: ", id="journalctl with a number"),
    pytest.param("Nov 23 10:00:00 host kernel:", id="syslog's tag without a blank"),
    pytest.param("Nov  1 10:00:00 host kernel: [   12.345678] ", id="rsyslog"),
    pytest.param("<4>Nov 23 10:00:00 host.example.com kernel: [   12.345678] ", id="RFC 3164"),
    pytest.param("<4>1 2025-11-23T10:00:00.1Z host kernel - - - ", id="RFC 5424"),
    pytest.param('<4>1 2025-11-23T10:00:00Z h kernel - - [x@1 a="b"] \ufeff', id="RFC 5424 with data and mark"),
    pytest.param("2025-11-23T10:00:00.123456+01:00 host kernel: [   12.345678] ", id="rsyslog, ISO 8601"),
    pytest.param("Sun 2025-11-23 10:00:00 CET host kernel: ", id="journalctl -o short-full"),
    pytest.param("Sun 2025-11-23 10:00:00 CET kernel: ", id="journalctl -o with-unit"),
    pytest.param("2025-11-23T10:00:00+0100 host kernel: ", id="journalctl -o short-iso"),
    pytest.param("[   12.345678] host kernel: ", id="journalctl -o short-monotonic"),
    pytest.param("1763888400.123456 host kernel: ", id="journalctl -o short-unix"),
    pytest.param("    MESSAGE=", id="journalctl -o verbose"),
    pytest.param("MESSAGE=", id="journalctl -o export"),
    pytest.param("\\xb4\0\0\0\0\0\0\0", id="journalctl -o export, binary"),
    pytest.param("\x01\0\0\0\0\0\0", id="journalctl -o export, binary, of a length that begins with a line feed"),
    pytest.param("kernel: ", id="no time"),
    pytest.param("Nov 23 10:00:00 host ulogd[812]: ", id="ulogd's SYSLOG"),
    pytest.param("Nov 23 10:00:00 host ", id="ulogd's LOGEMU"),
    pytest.param("2025-11-23T10:00:00.123456789Z stdout F ", id="a container's log file"),
    pytest.param("2025-11-23T10:00:00.123456789Z ", id="kubectl logs --timestamps"),
    pytest.param("[pod/logs-x2b/tail] ", id="kubectl logs --prefix"),
    pytest.param("logs-1  | ", id="docker compose logs"),
    pytest.param("/var/log/kern.log-20251123:1034:Nov 23 10:00:00 host kernel: ", id="grep -Hn"),
    pytest.param("1034:", id="grep -n"),
    pytest.param("2025-11-23 10:00:00|host|", id="columns"),
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_any_kind_is_passed_over(header: str, prefix: str) -> None:
    assert read(f"{header}{prefix} {PACKET}", prefix) == [{"prefix": prefix, **SAID}]
    assert read(f"{header}{prefix}{PACKET.rstrip()}", prefix) == [{"prefix": prefix, **SAID}]


def test_colours_are_passed_over() -> None:
    line = f"\x1b[32m[   12.345678] \x1b[0m\x1b[33mcalico-drop:\x1b[0m {PACKET}"
    assert read(line) == [{"prefix": "calico-drop:", **SAID}]


#: Documents with the line that ``%s`` stands for as a JSON text.
DOCUMENTS = [
    pytest.param('{"_TRANSPORT":"kernel","MESSAGE":%s,"PRIORITY":"4"}', id="journalctl -o json"),
    pytest.param('\x1e{"MESSAGE":%s}', id="journalctl -o json-seq"),
    pytest.param('data: {"MESSAGE":%s}', id="journalctl -o json-sse"),
    pytest.param('\t"MESSAGE" : %s,', id="journalctl -o json-pretty"),
    pytest.param('\t"MESSAGE" : %s', id="journalctl -o json-pretty, last"),
    pytest.param('    "message": %s,', id="jq"),
    pytest.param('{"MESSAGE":[%s,"another"]}', id="a field twice"),
    pytest.param('{"log":%s,"stream":"stdout","time":"2025-11-23T10:00:00Z"}', id="docker"),
    pytest.param('2025-11-23T10:00:00Z stdout F {"message":%s}', id="a container's log file"),
    pytest.param('logs-1  | {"message":%s,"host":"h"}', id="docker compose logs of vector"),
    pytest.param('{"labels":{"job":"journal"},"line":%s,"timestamp":"2025-11-23T10:00:00Z"}', id="logcli"),
    pytest.param('{"_index":"x","_source":{"event":{"original":%s}}}', id="Elasticsearch"),
    pytest.param('{"jsonPayload":{"MESSAGE":%s}}', id="Google"),
    pytest.param("ts=2025-11-23T10:00:00Z level=warn msg=%s host=h", id="logfmt"),
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_holds_the_line(document: str, prefix: str) -> None:
    for line in (f"{prefix} {PACKET}", f"Nov 23 10:00:00 host kernel: [ 1.5] {prefix} {PACKET}"):
        for ascii_only in (True, False):
            text = json.dumps(line, ensure_ascii=ascii_only)
            assert read(document.replace("%s", text), prefix) == [{"prefix": prefix, **SAID}]


@pytest.mark.parametrize("document", DOCUMENTS[:5])
def test_journald_writes_bytes_that_are_no_text_as_numbers(document: str) -> None:
    numbers = json.dumps([*b"f\xfcr drop: ", *PACKET.encode()])
    assert read(document.replace("%s", numbers), "f\\xfcr drop:") == [{"prefix": "f\\xfcr drop:", **SAID}]


def test_a_document_in_a_documents_text() -> None:
    inner = json.dumps({"MESSAGE": f"calico-drop: {PACKET}"})
    assert read(json.dumps({"log": inner + "\n", "stream": "stdout"})) == [{"prefix": "calico-drop:", **SAID}]


def test_an_entry_is_one_packet_however_often_it_says_so() -> None:
    line = f"calico-drop: {PACKET}"
    assert len(read(json.dumps({"SYSLOG_RAW": f"<4>kernel: {line}", "MESSAGE": line, "message": line}))) == 1
    of_lines = reader()
    entry = [
        f"SYSLOG_RAW=<4>kernel: {line}",
        f"    SYSLOG_RAW=<4>kernel: {line}",
        f'\t"SYSLOG_RAW" : {json.dumps(line)},',
    ]
    assert [of_lines.read(text) for text in entry] == [[], [], []]
    assert len(of_lines.read(f"MESSAGE={line}")) == 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"no-calico-drop: {PACKET}", id="part of a word"),
        pytest.param(f"calico-drop: x {PACKET}", id="not at the end"),
        pytest.param(f"other: {PACKET}", id="another prefix"),
        pytest.param('{"MESSAGE":"calico-drop: nothing"}', id="a document without a packet"),
        pytest.param('{"MESSAGE":', id="half a document"),
        pytest.param("", id="nothing"),
    ],
)
def test_lines_without_a_wanted_prefix_give_nothing(line: str) -> None:
    assert read(line) == []


@pytest.mark.parametrize(
    ("line", "count"),
    [
        pytest.param("Nov 23 10:00:00 host kernel: message repeated 3 times: [[   12.3] %s]", 3, id="rsyslog"),
        pytest.param("Nov 23 10:00:00 host kernel:  message repeated 2 times: [ %s]", 2, id="rsyslog, two blanks"),
        pytest.param('{"message":" message repeated 4 times: [%s]"}', 4, id="rsyslog's JSON"),
        pytest.param("message repeated 1 times: [%s", 1, id="cut behind the message"),
        pytest.param("message repeated 0 times: [%s]", 0, id="none"),
    ],
)
def test_a_repeated_message_is_so_many_packets(line: str, count: int) -> None:
    for message in (f"calico-drop: {PACKET}", f"calico-drop: {PACKET.rstrip()}"):
        assert read(line.replace("%s", message)) == [{"prefix": "calico-drop:", **SAID}] * count


def test_a_repeated_message_that_rsyslog_cut_says_what_is_left() -> None:
    line = f"kernel: message repeated 2 times: [calico-drop: {PACKET[:90]}]"
    assert [(said["src"], said.get("dst_port")) for said in read(line)] == [("10.0.0.1", None)] * 2


@pytest.mark.parametrize("times", [MOST_REPEATS + 1, 4_294_967_295, 10**19])
def test_what_a_line_says_of_itself_is_bounded(times: int) -> None:
    said = read(f"kernel: message repeated {times} times: [calico-drop: {PACKET}]")
    assert len(said) == MOST_REPEATS + 1
    assert set(said[-1]) == {"error", "line"}
    assert str(MOST_REPEATS) in said[-1]["error"]


def test_last_message_repeated_is_that_of_the_line_before() -> None:
    text = reader()
    assert len(text.read(f"Nov 23 10:00:00 host kernel: calico-drop: {PACKET}")) == 1
    assert text.read("Nov 23 10:00:09 host last message repeated 3 times") == [{"prefix": "calico-drop:", **SAID}] * 3
    assert len(text.read("Nov 23 10:00:39 host --- last message repeated 1 time ---")) == 1
    assert text.read("Nov 23 10:00:40 host kernel: something else") == []
    assert text.read("Nov 23 10:00:59 host last message repeated 9 times") == []


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("", id="without --log-ip"),
        pytest.param(" IP SRC=10.0.0.1 IP DST=10.0.0.2, IP tos=0x00, IP proto=6 SPT=40000 DPT=80", id="IPv4"),
        pytest.param(" IP SRC=10.0.0.1 IP DST=10.0.0.2, IP tos=0x00, IP proto=1", id="ICMP"),
        pytest.param(" IPv6 SRC=fd00::1 IPv6 DST=fd00::2, IPv6 priority=0x0, Next Header=17 SPT=1 DPT=2", id="IPv6"),
        pytest.param(" INCOMPLETE IP header", id="cut"),
        pytest.param(
            " ARP HTYPE=1, PTYPE=0x0800, OPCODE=1 ARP MAC SRC=02:00:00:00:00:01 ARP IP SRC=10.0.0.1"
            " ARP MAC DST=00:00:00:00:00:00 ARP IP DST=10.0.0.2",
            id="ARP",
        ),
    ],
)
def test_the_form_of_ebtables_is_refused_by_name(end: str) -> None:
    """net/bridge/netfilter/ebt_log.c"""
    line = (
        f"bridge-drop IN=veth0 OUT=eth0 MAC source = 02:00:00:00:00:01 MAC dest = 02:00:00:00:00:02 proto = 0x0800{end}"
    )
    (said,) = read(line, "bridge-drop")
    assert "ebtables" in said["error"]
    assert said["line"] == line


class TestRemark:
    def test_something_was_printed(self) -> None:
        text = reader()
        text.read(f"calico-drop: {PACKET}")
        text.read("other")
        assert text.remark() == ""

    def test_a_line_that_cannot_be_read_was_printed_too(self) -> None:
        text = reader()
        text.read("calico-drop: IN=a OUT=b ")
        assert text.remark() == ""

    @pytest.mark.parametrize("lines", [[], ["", "usb 1-1: new device"], ["\x1f\x8b\x08"], ['{"MESSAGE":null}']])
    def test_nothing_looked_like_packet_logging(self, lines: list[str]) -> None:
        text = reader()
        for line in lines:
            text.read(line)
        remark = text.remark()
        assert "\n" not in remark
        for word in ("no line", "IN=", "journalctl -k -o cat"):
            assert word in remark

    def test_no_line_had_a_wanted_prefix(self) -> None:
        text = reader()
        for prefix in ("host kernel: other\x1b[31m:", "another:"):
            text.read(f"{prefix} {PACKET}")
        assert text.remark() == (
            "2 lines of packet logging, none with a wanted prefix (the first has 'host kernel: other:'): see --prefix"
        )


class TestAbsurdText:
    @pytest.mark.fuzz
    @given(st.text() | st.text('{}[]"\\:=, MESAGOUTIN01.x\t'))
    def test_any_text(self, line: str) -> None:
        for text in (line, line + PACKET, f'{{"MESSAGE":"{line}"}}', f"{line}message repeated 2 times: [{line} OUT="):
            for said in read(text, "x"):
                json.dumps(said)

    def test_half_a_character_in_a_document(self) -> None:
        (said,) = read('{"MESSAGE": "\\ud800 calico-drop: ' + PACKET + '"}')
        assert said["prefix"] == "calico-drop:"

    @pytest.mark.parametrize(
        "text",
        [
            *(" ", "x ", "[", "{", '{"', '{"a":', '"', '="', '\\"="', "a", "1", "\x1b[", "\x1b[31m", "[[", "IN= OUT= "),
            *(' OUT="[', "message repeated 1 times: [", "last message repeated ", '"a":', " ,", '{"a":" OUT="},'),
        ],
        ids=repr,
    )
    def test_a_long_line_takes_no_longer_than_its_length_says(self, text: str) -> None:
        begin = time.process_time()
        for line in (text * LINE_LIMIT, '"[ OUT=' + text * LINE_LIMIT, text * LINE_LIMIT + '"'):
            reader().read(line)
        assert time.process_time() - begin < 2.0
