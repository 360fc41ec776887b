"""Log prefixes: which lines count, and what becomes of the rest of the line's text."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.netfilter.parser import PacketDrop, parse, split
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict, to_json_dict
from tests.corpus import Sample, samples
from tests.corpus.printer import Printed, printed

SAMPLES = samples()
PACKET = "IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 PROTO=89 "


def prefixes(*texts: str) -> Prefixes:
    return Prefixes(PrefixRule(text, Verdict.DROP) for text in texts)


def matched(found: PrefixRule | None) -> str | None:
    return None if found is None else found.text


class TestMatch:
    @pytest.mark.parametrize(
        ("configured", "text", "expected"),
        [
            pytest.param(["calico-drop:"], "calico-drop: ", "calico-drop:", id="as the rule has it"),
            pytest.param(["calico-drop: "], "calico-drop:", "calico-drop: ", id="blanks at the ends do not count"),
            pytest.param(["[UFW BLOCK]"], "[UFW BLOCK] ", "[UFW BLOCK]", id="blanks inside"),
            pytest.param(["[UFW BLOCK]"], "[UFW LIMIT BLOCK] ", None, id="another rule of the same program"),
            pytest.param(["drop:"], "zone wan drop: ", None, id="something before it"),
            pytest.param(["drop:"], "drop: zone wan ", None, id="something behind it"),
            pytest.param(["drop"], "drop: ", None, id="part of it"),
            pytest.param(["INPUT-DROP:"], "INPUT-DROP: ", "INPUT-DROP:", id="begins like the kernel's IN"),
            pytest.param(["a", "a b"], "a b ", "a b", id="one that begins like another"),
            pytest.param(
                ["DROP by policy default/test-n"],
                "DROP by policy default/test-n",
                "DROP by policy default/test-n",
                id="cut by iptables",
            ),
            pytest.param(["verböten:"], "verböten: ", "verböten:", id="not ASCII"),
            pytest.param(["drop:"], "DROP: ", None, id="case counts"),
            pytest.param(["drop:"], "", None, id="no prefix"),
            pytest.param([], "drop: ", None, id="none configured"),
        ],
    )
    def test_all_of_the_text(self, configured: list[str], text: str, expected: str | None) -> None:
        assert matched(prefixes(*configured).match(text)) == expected

    def test_each_prefix_stands_for_its_verdict(self) -> None:
        rules = Prefixes([PrefixRule(f"{verdict}:", verdict) for verdict in Verdict])
        for verdict in Verdict:
            found = rules.match(f"{verdict}: ")
            assert found is not None
            assert found.verdict is verdict


class TestEnding:
    @pytest.mark.parametrize(
        ("configured", "text", "expected"),
        [
            pytest.param(["drop:"], "drop:", ["drop:"], id="all of it"),
            pytest.param(["drop:"], "node kernel: drop:", ["drop:"], id="behind something"),
            pytest.param(["b", "x", "a b"], "x a b", ["a b", "b"], id="the longest first"),
            pytest.param(["drop:"], "drop: x", [], id="not at the end"),
            pytest.param(["drop:"], "", [], id="nothing"),
            pytest.param([], "drop:", [], id="none configured"),
        ],
    )
    def test_what_the_text_ends_with(self, configured: list[str], text: str, expected: list[str]) -> None:
        assert [rule.text for rule in prefixes(*configured).ending(text)] == expected


class TestHeld:
    @pytest.mark.parametrize(
        ("configured", "text", "quoted", "word"),
        [
            pytest.param(["drop:"], "x drop: y", True, True, id="a word"),
            pytest.param(["[UFW BLOCK]"], "' [UFW BLOCK] ", True, True, id="blanks inside"),
            pytest.param(["drop:"], "'drop: ", True, False, id="behind a quote"),
            pytest.param(["a.c"], "abc", False, False, id="no pattern"),
            pytest.param(["drop:"], "drop", False, False, id="part of it"),
            pytest.param([], "drop:", False, False, id="none configured"),
        ],
    )
    def test_whether_a_prefix_stands_in_a_text(
        self, configured: list[str], text: str, quoted: bool, word: bool
    ) -> None:
        rules = prefixes(*configured)
        assert (rules.quoted_in(text), rules.is_word_of(text)) == (quoted, word)


class TestWrongPrefixes:
    @pytest.mark.parametrize(
        ("rules", "reason"),
        [
            pytest.param([("", "drop")], "empty", id="empty"),
            pytest.param([(" \t", "drop")], "empty", id="blank"),
            pytest.param([("a\udcff", "drop")], "Unicode", id="an argument that was no UTF-8"),
            pytest.param([("a", "drop"), ("a ", "log")], "two verdicts", id="contradiction"),
        ],
    )
    def test_are_refused(self, rules: list[tuple[str, str]], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Prefixes(PrefixRule(text, Verdict(verdict)) for text, verdict in rules)

    def test_the_same_prefix_twice_is_one(self) -> None:
        assert matched(prefixes("a", "a ").match("a")) == "a"


#: Prefixes that share words, letters and, cut by iptables, halves of letters.
CONFIGURED = st.lists(
    st.sampled_from(["a", "ab", "b: ", "[UFW BLOCK] ", "ä", "\\xc3", "x\\xc3y", "\\xff\\xfe", "xc3", "c3\\x", "\\"])
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).filter(str.strip),
    max_size=4,
)
MESSAGES = st.lists(
    st.sampled_from(
        [
            b"a",
            b"ab",
            b"b:",
            b"[UFW BLOCK]",
            "ä".encode(),
            b"\xc3",
            b"\xff\xfe",
            b"\\xc3",
            b"\\",
            b"xc3",
            b"y",
            b" ",
            b" ",
            b"IN=",
            b" OUT=",
            b"IN=a OUT=b ",
        ]
    )
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


class TestWanted:
    @given(CONFIGURED, MESSAGES)
    @example(["\\xff"], b"\xffIN= OUT=")
    @example(["\\xff"], b"\\xffIN= OUT=")
    @example(["ä", "ä drop"], "ä drop IN= OUT=".encode())
    @example(["xc3"], b"\xc3IN=a OUT=b ")  # only in what stands for a byte that is no text
    def test_no_line_with_a_wanted_prefix_is_passed_over(self, configured: list[str], message: bytes) -> None:
        rules = prefixes(*configured)
        parts = split(message.decode("utf-8", errors="backslashreplace"))
        if parts is not None and (rules.match(parts[0]) or rules.is_word_of(parts[0])):
            assert rules.wanted(message)

    @given(CONFIGURED.map(lambda texts: [text for text in texts if "\\x" not in text]), MESSAGES)
    def test_as_cheap_as_it_sounds(self, configured: list[str], message: bytes) -> None:
        naive = b" OUT=" in message and any(text.strip().encode() in message for text in configured)
        assert prefixes(*configured).wanted(message) == naive

    @given(printed(), st.booleans())
    def test_lines_of_the_kernel(self, sample: Printed, ours: bool) -> None:
        rules = prefixes(sample.drop.prefix if ours and sample.drop.prefix else "some-other-prefix-of-ours:")
        assert rules.wanted(sample.line.encode()) >= (rules.match(sample.drop.prefix) is not None)

    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.where)
    def test_corpus(self, sample: Sample) -> None:
        rules = prefixes("calico-drop:", "[UFW BLOCK]", "verbot-f\\xc3", "blöcked – all:")
        # The corpus holds decoded lines. A byte that was no UTF-8 stands there as \xNN, which reads the same.
        prefix = sample.expected.get("prefix")
        assert rules.wanted(sample.line.encode()) >= (prefix is not None and rules.match(prefix) is not None)

    @pytest.mark.parametrize(
        "message",
        [
            pytest.param(b"usb 1-1: new high-speed USB device", id="something else"),
            pytest.param(b"calico-drop: is loaded", id="the prefix alone"),
            pytest.param(b"other: " + PACKET.encode(), id="another prefix"),
            pytest.param(b"", id="nothing"),
        ],
    )
    def test_other_lines_are_not(self, message: bytes) -> None:
        assert not prefixes("calico-drop:", "[UFW BLOCK]").wanted(message)

    def test_nothing_is_wanted_where_nothing_is_configured(self) -> None:
        assert not prefixes().wanted(PACKET.encode())


class TestJson:
    @pytest.mark.parametrize(
        "sample", [s for s in SAMPLES if "error" not in s.expected], ids=lambda sample: sample.where
    )
    def test_what_the_line_says_and_nothing_else(self, sample: Sample) -> None:
        drop = parse(sample.line)
        assert isinstance(drop, PacketDrop)
        document = to_json_dict(drop, PrefixRule("ours:", Verdict.REJECT))
        expected = {key: value for key, value in sample.expected.items() if key != "ack"}
        assert document == expected | {"prefix": "ours:", "verdict": "reject"}
        assert json.loads(json.dumps(document)) == document

    def test_order_and_zeros(self) -> None:
        drop = PacketDrop("calico-drop:", "a", "b", "::1", "::2", "TCP", 0, 0, 0, 0, True)
        document = to_json_dict(drop, PrefixRule("calico-drop: ", Verdict.DROP))
        assert json.dumps(document) == (
            '{"prefix": "calico-drop: ", "verdict": "drop", "in": "a", "out": "b", "src": "::1", '
            '"dst": "::2", "protocol": "TCP", "src_port": 0, "dst_port": 0, "icmp_type": 0, "icmp_code": 0}'
        )

    def test_what_is_absent_has_no_key(self) -> None:
        drop = PacketDrop("x", "", "", "10.0.0.1", "10.0.0.2", "", None, None, None, None, False)
        assert to_json_dict(drop, PrefixRule("x", Verdict.LOG)) == {
            "prefix": "x",
            "verdict": "log",
            "src": "10.0.0.1",
            "dst": "10.0.0.2",
        }
