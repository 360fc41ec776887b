"""Log prefixes: which lines count, and what becomes of the rest of the line's text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.netfilter.parser import PacketDrop, parse, split
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixMatch, PrefixRule, Verdict
from kiptail.netfilter.reading import to_json_dict
from tests.corpus import Sample, samples
from tests.corpus.printer import Printed, printed

SAMPLES = samples()
PACKET = "IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 PROTO=89 "


def prefixes(*texts: str) -> Prefixes:
    return Prefixes(PrefixRule(text, Verdict.DROP) for text in texts)


def matched(found: PrefixMatch | None) -> str | None:
    return None if found is None else found.prefix


class TestMatch:
    @pytest.mark.parametrize(
        ("configured", "text", "expected"),
        [
            pytest.param(["calico-drop:"], "calico-drop: ", "calico-drop:", id="as the rule has it"),
            pytest.param(["calico-drop: "], "calico-drop:", "calico-drop:", id="blanks at the ends do not count"),
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
        ("configured", "text", "begins", "expected"),
        [
            pytest.param(["drop:"], "drop:", [0], "drop:", id="all of it"),
            pytest.param(["drop:"], "node kernel: drop: ", [0, 5, 13], "drop:", id="behind something"),
            pytest.param(["b", "x", "a b"], "x a b", [0, 2, 4], "a b", id="the longest"),
            pytest.param(["drop:"], "drop: x", [0, 6], None, id="not at the end"),
            pytest.param(["drop:"], "xdrop:", [0], None, id="not where one begins"),
            pytest.param(
                ["{chain} DROP"], "Nov 26 node kernel: net-fw DROP", [0, 4, 7, 12, 20, 27], "{chain} DROP", id="h"
            ),
            pytest.param(["drop:"], "", [0], None, id="nothing"),
            pytest.param([], "drop:", [0], None, id="none configured"),
        ],
    )
    def test_what_stands_behind_a_header(
        self, configured: list[str], text: str, begins: list[int], expected: str | None
    ) -> None:
        assert matched(prefixes(*configured).ending(text, begins)) == expected

    def test_a_hole_takes_nothing_of_the_header(self) -> None:
        found = prefixes("{chain} DROP").ending("Nov 26 node kernel: net-fw DROP", [0, 4, 7, 12, 20, 27])
        assert found is not None
        assert found.chain == "net-fw"


def rule(text: str, **more: Any) -> PrefixRule:
    return PrefixRule(text, **more)


ANTREA = rule("Antrea:{direction}:{verdict}:{label?}:")
VYOS = rule("[{chain}-{rule}-{verdict}]", verdicts=(("A", Verdict.ACCEPT), ("D", Verdict.DROP), ("R", Verdict.REJECT)))


class TestPatterns:
    @pytest.mark.parametrize(
        ("configured", "text", "expected"),
        [
            pytest.param(
                [ANTREA], "Antrea:O:Reject:deny-x:", {"verdict": "reject", "direction": "out", "label": "deny-x"}
            ),
            pytest.param([ANTREA], "Antrea:I:Allow:", {"verdict": "accept", "direction": "in"}, id="no label"),
            pytest.param([ANTREA], "Antrea:I:Drop:a:b:", {"verdict": "drop", "direction": "in", "label": "a:b"}),
            pytest.param(
                [VYOS], "[ipv4-FWD-filter-10-D]", {"verdict": "drop", "chain": "ipv4", "rule": "FWD-filter-10"}
            ),
            pytest.param(
                [VYOS], "[ipv4-NAME-default-drop]", {"verdict": "drop", "chain": "ipv4", "rule": "NAME-default"}
            ),
            pytest.param(
                [rule("cd {kind} {namespace}/{name}:")],
                "cd knp team-a/deny: ",
                {"verdict": "drop", "kind": "knp", "policy": "team-a/deny"},
            ),
            pytest.param([rule("x {name}:")], "x deny:", {"verdict": "drop", "policy": "deny"}, id="a name alone"),
            pytest.param([rule("x {namespace}:")], "x team-a:", {"verdict": "drop"}, id="a namespace names no policy"),
            pytest.param(
                [rule("filter_{chain}_{verdict}:"), rule("filter_{chain}_policy_{name}_{verdict}:")],
                "filter_FWD_policy_a_b_REJECT: ",
                {"verdict": "reject", "chain": "FWD", "policy": "a_b"},
                id="the one with most literal text",
            ),
            pytest.param([rule("FINAL_REJECT:")], '"FINAL_REJECT: "', {"verdict": "drop"}, id="quotation marks"),
            pytest.param([rule("{zone}_DROP:")], '"FWD_x_DROP: "', {"verdict": "drop", "zone": "FWD_x"}, id="both"),
            pytest.param([rule('"a"')], '"a"', {"verdict": "drop"}, id="quotation marks that are configured"),
            pytest.param([rule("a{{{zone}}}")], "a{x}", {"verdict": "drop", "zone": "x"}, id="braces"),
            pytest.param([rule("a{_}b{_}c")], "a1b2c", {"verdict": "drop"}, id="what does not matter"),
            pytest.param(
                [rule("fw {verdict?} {zone}:", verdict=Verdict.REJECT)], "fw wan:", {"verdict": "reject", "zone": "wan"}
            ),
            pytest.param([rule("a{zone}b")], "a b", {}, id="no blank where the pattern has none"),
            pytest.param([rule("a {zone}b")], "a x yb", {"verdict": "drop", "zone": "x y"}, id="blanks"),
            pytest.param([rule("a{zone}b")], "ab", {}, id="a hole takes one character or more"),
            pytest.param([rule("a{zone}b")], "xa1b", {}, id="something before it"),
        ],
    )
    def test_reading(self, configured: list[PrefixRule], text: str, expected: dict[str, str]) -> None:
        found = Prefixes(configured).match(text)
        fields = {} if found is None else {key: value for key, value in found._asdict().items() if value}
        fields.pop("prefix", None)
        assert fields == expected

    @pytest.mark.parametrize(
        ("configured", "text", "policy"),
        [
            pytest.param("DROP by policy {policy}", "DROP by policy default/test-n", "default/test-n…", id="iptables"),
            pytest.param("DROP by policy {policy}", "DROP by policy default/test-", "default/test-", id="shorter"),
            pytest.param(
                "calico-packet {kind}:{namespace}/{name}:",
                "calico-packet knp:team-a/allow",
                "team-a/allow…",
                id="Calico",
            ),
            pytest.param("cd {kind} {namespace}/{name}:", "cd knp team-a/abcdefghijklmn:", "team-a/abcdefghijklmn"),
            pytest.param("cd {kind} {namespace}/{name}:", f"cd knp a/{'n' * 118}", f"a/{'n' * 118}…", id="nft"),
            pytest.param("cd {kind} {namespace}/{name}:", f"cd knp {'é' * 58}/xyz", f"{'é' * 58}/xyz…", id="bytes"),
            pytest.param("x{{y {name}", "x{y " + "n" * 25, "n" * 25 + "…", id="literal braces"),
        ],
    )
    def test_what_the_kernel_cut(self, configured: str, text: str, policy: str) -> None:
        found = prefixes(configured).match(text)
        assert found is not None
        assert found.policy == policy

    def test_a_verdict_that_is_cut(self) -> None:
        rules = prefixes("FWD_{zone}_{verdict}:")
        whole, cut, gone = ("FWD_" + "z" * length + "_REJ" for length in (10, 21, 30))
        assert rules.match(cut) == PrefixMatch("FWD_{zone}_{verdict}:", Verdict.REJECT, limited=False, zone="z" * 21)
        assert [found.problem != "" if (found := rules.match(text)) else None for text in (whole, gone)] == [None, None]

    def test_an_unknown_verdict_is_a_problem(self) -> None:
        found = Prefixes([ANTREA]).match("Antrea:I:Frob:")
        assert found is not None
        assert "verdict" in found.problem
        assert not found.verdict.is_loss
        assert Prefixes([ANTREA, rule("Antrea:{_}:Frob:")]).match("Antrea:I:Frob:") == PrefixMatch(
            "Antrea:{_}:Frob:", Verdict.DROP, limited=False
        )

    @pytest.mark.parametrize(
        "text", ["x{name}-with a constant behind it", "a literal that is longer than iptables takes"]
    )
    def test_a_line_that_is_cut_is_wanted(self, text: str) -> None:
        rules = prefixes(text)
        before = "a literal that is longer than" if text.startswith("a") else "x" + "n" * 28
        message = f"{before}{PACKET}".encode()
        assert rules.match(before)
        assert rules.wanted(message)
        assert rules.needle in message

    def test_what_looks_like_everything_is_no_trouble_of_its_own(self) -> None:
        rules = Prefixes([VYOS, rule("{chain} {verdict}:")])
        for text in ("[UFW-x-AUDIT]", "zone wan:", "a b c d:"):
            assert rules.match(text) is None
            assert not rules.quoted_in(f"{text} y")

    def test_a_writer_of_its_own_cuts_elsewhere(self) -> None:
        found = Prefixes([rule("by {policy}", cut_at=10)]).match("by a/12345")
        assert found is not None
        assert found.policy == "a/12345…"

    def test_limited(self) -> None:
        rules = Prefixes([rule("a{{", limited=True), rule("b{zone}", limited=True), rule("c")])
        assert rules.limited() == {"a{", "b{zone}"}

    def test_no_prefix_at_all_where_that_stands_for_something(self) -> None:
        """As NFLOG rules have it; each line may be one, so that the needle is in all of them."""
        empty = PrefixRule("NFLOG group 100", Verdict.REJECT, limited=True)
        rules = Prefixes([rule("a:")], empty=empty)
        assert rules.match(" ") == PrefixMatch("NFLOG group 100", Verdict.REJECT, limited=True)
        assert rules.match("a:") == PrefixMatch("a:", Verdict.DROP, limited=False)
        assert rules.match("NFLOG group 100") is None
        assert rules.limited() == {"NFLOG group 100"}
        assert rules.needle == b" OUT="
        assert rules.wanted(b" IN=a OUT=b ")
        assert not rules.wanted(b"b: IN=a OUT=b ")
        assert not Prefixes([rule("a:")]).wanted(b" IN=a OUT=b ")
        assert Prefixes([], empty=empty).match("") == rules.match("")

    def test_a_prefix_that_is_cut_where_a_blank_follows(self) -> None:
        """NFLOG takes 63 bytes, and ulogd writes a blank behind them."""
        rules = Prefixes([rule("DROP by policy {policy}:")])
        message = b"DROP by policy " + b"x" * 48 + b" IN=a OUT=b "
        assert rules.wanted(message, b" ")
        assert not rules.wanted(message)

    def test_patterns_in_what_a_user_wrote(self) -> None:
        rules = prefixes("Antrea:{direction}:{verdict}:{label?}:", "DROP by policy {policy}")
        for text in ("comm: Antrea:I:Drop: x", "x DROP by policy a/b"):
            assert rules.match(text) is None
            assert rules.quoted_in(text)
            assert rules.is_word_of(text)
        assert not rules.quoted_in("Antrea:I" * 200)


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
            pytest.param([("a{zone}", "drop"), ("a{chain}", "log")], "two verdicts", id="same texts"),
            pytest.param([("{zone}", "drop")], "always there", id="no text"),
        ],
    )
    def test_are_refused(self, rules: list[tuple[str, str]], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Prefixes(PrefixRule(text, Verdict(verdict)) for text, verdict in rules)

    def test_a_direction_is_no_verdict(self) -> None:
        rules = Prefixes([PrefixRule("a:{direction}:"), PrefixRule("a:{verdict}:", verdicts=(("x", Verdict.LOG),))])
        assert [matched(rules.match(f"a:{word}:")) for word in ("in", "x")] == ["a:{direction}:", "a:{verdict}:"]

    def test_the_same_prefix_twice_is_one(self) -> None:
        assert matched(prefixes("a", "a ").match("a")) == "a"


#: Prefixes that share words, letters and, cut by iptables, halves of letters.
CONFIGURED = st.lists(
    st.sampled_from(["a", "ab", "b: ", "[UFW BLOCK] ", "ä", "\\xc3", "x\\xc3y", "\\xff\\xfe", "xc3", "c3\\x", "\\"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=4).filter(
        str.strip
    ),
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
            assert rules.needle in message or not rules.match(parts[0])

    @given(CONFIGURED, MESSAGES)
    def test_what_is_wanted_has_the_prefix_where_one_stands(self, configured: list[str], message: bytes) -> None:
        rules = prefixes(*configured)
        if rules.wanted(message) and message.count(b" OUT=") == 1:
            before = message[: message.rindex(b"IN=", 0, message.index(b" OUT="))].decode("utf-8", "backslashreplace")
            assert rules.match(before) or rules.quoted_in(before)
        assert b" OUT=" in message or not rules.wanted(message)

    @given(printed(), st.booleans())
    def test_lines_of_the_kernel(self, sample: Printed, ours: bool) -> None:
        rules = prefixes(escaped(sample.drop.prefix) if ours and sample.drop.prefix else "some-other-prefix-of-ours:")
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
        document = to_json_dict(drop, PrefixMatch("ours:", Verdict.REJECT, limited=False))
        expected = {key: value for key, value in sample.expected.items() if key not in ("ack", "reset")}
        assert document == expected | {"prefix": "ours:", "verdict": "reject"}
        assert json.loads(json.dumps(document)) == document

    def test_order_and_zeros(self) -> None:
        drop = PacketDrop("calico-drop:", "a", "b", "::1", "::2", "TCP", 0, 0, 0, 0, True)
        document = to_json_dict(drop, PrefixMatch("calico-drop:", Verdict.DROP, limited=False))
        assert json.dumps(document) == (
            '{"prefix": "calico-drop:", "verdict": "drop", "in": "a", "out": "b", "src": "::1", '
            '"dst": "::2", "protocol": "TCP", "src_port": 0, "dst_port": 0, "icmp_type": 0, "icmp_code": 0}'
        )

    def test_what_is_absent_has_no_key(self) -> None:
        drop = PacketDrop("x", "", "", "10.0.0.1", "10.0.0.2", "", None, None, None, None, False)
        assert to_json_dict(drop, PrefixMatch("x", Verdict.LOG, limited=False)) == {
            "prefix": "x",
            "verdict": "log",
            "src": "10.0.0.1",
            "dst": "10.0.0.2",
        }
