"""What k3s says of one packet in several lines: which policies did not allow it, the same wherever reading begins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import KnownLine, Line, LinesOfUlogd, PairedLine, UnknownLine
from kiptail.flows.pairs import LOOK_BACK_US, MOST_HINTS, WITHIN_US, Pairs, packet_of_line, policies_text
from kiptail.netfilter.nflog import STACKS, NflogSource
from kiptail.netfilter.prefixes import PrefixRule
from tests.corpus import samples

K3S = STACKS["k3s"]
SOURCE = NflogSource("u.service", "NFLOG group 100", K3S.rules, K3S.verdict, limited=True, paired=True)
REJECT = next(s.line for s in samples("ulogd") if s.line.startswith(" IN=") and "PROTO=TCP" in s.line)
START = 1_800_000_000_000_000


def hint(policy: str, packet: int = 1, mark: str = "0x0") -> bytes:
    return f"DROP by policy {policy}".encode() + reject(packet, mark)


def reject(packet: int = 1, mark: str = "0x0") -> bytes:
    return REJECT.replace("ID=50160", f"ID={packet}").replace("MARK=0x0", f"MARK={mark}").encode()


def lines_of(messages: Sequence[bytes], *, thorough: bool = False) -> list[Line | str]:
    lines = LinesOfUlogd(SOURCE.prefixes(()), paired=True, thorough=thorough)
    found = [lines.wanted(message) for message in messages]
    assert None not in found
    return [line for line in found if line is not None]


def policies(messages: Sequence[bytes], times: Sequence[int] = ()) -> list[str]:
    """Of each line that is a reject."""
    joined = Joining().joined(lines_of(messages), [START + t for t in times or range(len(messages))])
    return [line.key.policy for line in joined if isinstance(line, KnownLine) and line.counted]


def test_the_policies_before_a_reject_are_its() -> None:
    assert policies([hint("a/x"), reject()]) == ["a/x"]
    assert policies([hint("b/y"), hint("a/x"), reject()]) == ["a/x, b/y"], "by their names"
    assert policies([reject()]) == [""]
    assert policies([hint("a/x")]) == [], "which another one allowed"
    assert policies([reject(), hint("a/x")]) == [""]


def test_only_of_the_same_packet() -> None:
    messages = [hint("a/x", 1), hint("b/y", 2), reject(1), reject(2), reject(3)]
    assert policies(messages) == ["a/x", "b/y", ""]
    assert policies([hint("a/x", mark="0x20000"), reject(mark="0x0")]) == ["a/x"], "the mark may change on its way"


def test_a_line_with_a_prefix_of_its_own_is_no_reject_of_theirs() -> None:
    lines = LinesOfUlogd(SOURCE.prefixes([PrefixRule("drop:")]), paired=True)
    both = [lines.wanted(hint("a/x")), lines.wanted(b"drop:" + reject())]
    _, drop = Joining().joined([line for line in both if line], [START, START])
    assert isinstance(drop, KnownLine)
    assert (drop.key.prefix, drop.key.policy) == ("drop:", "")


def test_of_many_three_are_named() -> None:
    assert policies([*(hint(f"a/{n}") for n in "edcba"), reject()]) == ["a/a, a/b, a/c"]
    assert policies_text(["a"]) == "a"


@pytest.mark.parametrize(
    ("later_us", "expected"), [(0, "a/x"), (WITHIN_US, "a/x"), (WITHIN_US + 1, ""), (5_000_000, ""), (-1, "")]
)
def test_within_a_second(later_us: int, expected: str) -> None:
    assert policies([hint("a/x"), reject()], [999_000, 999_000 + later_us]) == [expected]


def test_a_hint_is_counted_as_no_loss_and_a_reject_by_its_policy() -> None:
    lines = lines_of([hint("a/x"), reject(), hint("a/x", 2), hint("b/y", 2), reject(2)])
    joined = Joining().joined(lines, [START] * 5)
    assert [(line.kind, line.counted) for line in joined if isinstance(line, KnownLine)] == [
        (("log", "TCP", "a/x"), False),
        (("reject", "TCP", "a/x"), True),
        (("log", "TCP", "a/x"), False),
        (("log", "TCP", "b/y"), False),
        (("reject", "TCP", ""), True),
    ]


def test_the_same_policies_are_the_same_line() -> None:
    """So that a second's are counted together."""
    joining = Joining()
    lines = LinesOfUlogd(SOURCE.prefixes(()), paired=True)
    found = []
    for n in range(3):
        both = [lines.wanted(hint("a/x", n)), lines.wanted(reject(n))]
        found += joining.joined([line for line in both if line], [START + n, START + n])[1:]
    assert len({id(line) for line in found}) == 1


def test_lines_that_are_read_thoroughly_are_joined_too() -> None:
    lines = lines_of([hint("a/x"), reject(), reject(2)], thorough=True)
    _, with_policy, without = Joining().joined(lines, [START] * 3)
    assert isinstance(with_policy, UnknownLine)
    assert isinstance(without, UnknownLine)
    assert (with_policy.policy, without.policy) == ("a/x", "")


def test_other_lines_stay_as_they_are() -> None:
    text = "drop: IN=a OUT=b "
    assert Joining().joined([text], [START]) == [text]
    broken = PairedLine(UnknownLine("x OUT=", SOURCE.prefixes(())), b"", has_prefix=True)
    assert Joining().joined([broken], [START]) == [broken.line]


def test_what_is_kept_is_bounded() -> None:
    pairs = Pairs()
    for n in range(MOST_HINTS + 10):
        pairs.note(b"%d" % n, "a/x", START)
    assert pairs.policies(b"%d" % (MOST_HINTS - 1), START) == ["a/x"]
    assert pairs.policies(b"%d" % MOST_HINTS, START) == []
    for second in range(10):
        pairs.note(b"p", "a/x", START + second * 1_000_000)
    assert sum(map(len, pairs._hints.values())) == 3


EVENTS = st.lists(
    st.tuples(st.sampled_from(["a/x", "b/y", "c/z", ""]), st.integers(1, 3), st.integers(0, 700_000)), max_size=40
)


@given(EVENTS, st.integers(0, 40), st.sampled_from([1, 2, MOST_HINTS]))
def test_reading_on_from_anywhere_comes_to_the_same(events: list[tuple[str, int, int]], begin: int, most: int) -> None:
    """Also where there are more hints than are kept."""
    messages, times, now = [], [], START
    for policy, packet, pause in events:
        now += pause
        messages.append(hint(policy, packet) if policy else reject(packet))
        times.append(now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kiptail.flows.pairs.MOST_HINTS", most)
        lines = lines_of(messages)
        whole = [key_of(line) for line in Joining().joined(lines, times)]
        resumed = Joining()
        if 0 < begin <= len(times):
            first = next(n for n, t in enumerate(times) if t >= times[begin - 1] - LOOK_BACK_US)
            resumed.look_back(lines[first:begin], times[first:begin])
        assert [key_of(line) for line in resumed.joined(lines[begin:], times[begin:])] == whole[begin:]


def key_of(line: object) -> object:
    assert isinstance(line, KnownLine)
    return line.key, line.kind


def test_what_tells_a_packet() -> None:
    assert packet_of_line(hint("a/x")) == packet_of_line(reject())
    assert packet_of_line(reject()).startswith(b" SRC=10.244.9.2 ")
    assert packet_of_line(reject()).endswith(b" URGP=0")
