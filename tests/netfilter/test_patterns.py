"""Patterns of prefixes, against a naive reading of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.netfilter import patterns
from kiptail.netfilter.patterns import LONGEST, Filled, Pattern

VERDICTS = {"drop": "drop", "reject": "reject", "allow": "accept", "d": "drop"}


def pattern(text: str) -> Pattern:
    return Pattern(text, VERDICTS)


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            pytest.param("a{}b", "unknown hole {} at character 2", id="no name"),
            pytest.param("a{what}", "unknown hole {what} at character 2: holes are policy, ", id="unknown name"),
            pytest.param("a{Zone}", "unknown hole {Zone}", id="names are small"),
            pytest.param("a{zone??}", "unknown hole", id="two question marks"),
            pytest.param("a{{b}{zone}", "} without { at character 5: write }}", id="no beginning"),
            pytest.param("a{zone", "{ without } at character 2: write {{", id="no end"),
            pytest.param("{zone}a{zone}", "{zone} twice, again at character 8", id="twice"),
            pytest.param("a{zone}{chain}", "nothing between two holes at character 8", id="side by side"),
            pytest.param("a{zone?}{chain}", "nothing between two holes", id="side by side, one optional"),
            pytest.param("{zone}", "no text that is always there", id="only a hole"),
            pytest.param("{zone?}:{chain}", "no text that is always there", id="its only text may be missing"),
            pytest.param("{zone} {chain}", "no text that is always there", id="only a blank"),
            pytest.param("{_}".join("a" * 18), "more than 16 holes", id="too many"),
        ],
    )
    def test_with_the_place(self, text: str, reason: str) -> None:
        with pytest.raises(ValueError, match="has") as caught:
            pattern(text)
        assert reason in str(caught.value)


# A naive reading: all ways to fill the holes, shorter first.

Piece = str | tuple[str, bool]


@st.composite
def pieces(draw: st.DrawFn) -> list[Piece]:
    """Literal texts (str) and holes (name, optional), never two holes side by side."""
    names = draw(st.permutations(["policy", "zone", "chain", "verdict", "label", "rule"]))
    made: list[Piece] = [draw(st.sampled_from(["a", "ab", "x:", "{b"]))]
    for name in names[: draw(st.integers(0, 4))]:
        made.append((name, draw(st.booleans())))
        made.append(draw(st.sampled_from(["a", "b", "_", ":", "-b", ":a", " ", "}"])))
    return made[:-1] if draw(st.booleans()) and len(made) > 1 else made


def written(made: list[Piece]) -> str:
    return "".join(
        p.replace("{", "{{").replace("}", "}}") if isinstance(p, str) else f"{{{p[0]}{'?' * p[1]}}}" for p in made
    )


def naive(made: list[Piece], text: str, *, blanks: bool) -> Iterator[dict[str, str]]:
    """All ways, in the order in which they are preferred."""
    if not made:
        if not text:
            yield {}
        return
    first, *rest = made
    if isinstance(first, str):
        if text.startswith(first):
            yield from naive(rest, text[len(first) :], blanks=blanks)
        return
    name, optional = first
    for length in range(1, len(text) + 1):
        taken = text[:length]
        if name == "verdict":
            if taken.lower() not in VERDICTS:
                continue
            value = VERDICTS[taken.lower()]
        elif not blanks and " " in taken:
            break
        else:
            value = taken
        for others in naive(rest, text[length:], blanks=blanks):
            yield {name: value, **others}
    if optional:
        if rest:
            assert isinstance(rest[0], str)
            rest = [piece for piece in [rest[0][1:], *rest[1:]] if piece]
        yield from naive(rest, text, blanks=blanks)


@st.composite
def made_and_text(draw: st.DrawFn) -> tuple[list[Piece], str]:
    """A pattern, and a text that mostly is one of its own."""
    made = draw(pieces())
    text, skip = "", False
    for piece in made:
        if isinstance(piece, str):
            text += piece[1:] if skip else piece
            skip = False
        elif piece[1] and draw(st.booleans()):
            skip = True
        elif piece[0] == "verdict":
            text += draw(st.sampled_from(["drop", "DROP", "Reject", "allow", "D", "frob"]))
        else:
            text += draw(st.text("ab:_- }", min_size=1, max_size=4))
    if draw(st.integers(0, 9)) == 0:
        text += draw(st.text("ab: ", min_size=1, max_size=3))
    return made, text


@given(made_and_text())
def test_as_a_naive_reading(given_: tuple[list[Piece], str]) -> None:
    made, text = given_
    try:
        compiled = pattern(written(made))
    except ValueError:
        return
    # Blanks at a pattern's ends do not count.
    trimmed = [*made]
    if isinstance(trimmed[-1], str):
        trimmed[-1] = trimmed[-1].rstrip()
    trimmed = [piece for piece in trimmed if piece]
    blanks = any(" " in piece for piece in trimmed if isinstance(piece, str))
    if not blanks and " " in text:
        assert compiled.match(text) is None
        return
    expected = list(naive(trimmed, text, blanks=blanks))
    found = compiled.match(text)
    assert (found is not None) == bool(expected)
    if found is not None:
        assert dict(found.values) == expected[0]


@given(made_and_text(), st.integers(1, 30))
def test_a_cut_text_is_read_as_the_beginning_of_a_whole_one(given_: tuple[list[Piece], str], at: int) -> None:
    made, text = given_
    try:
        compiled = pattern(written(made))
    except ValueError:
        return
    found = compiled.match(text[:at], cut=True)
    if found is None or compiled.match(text[:at]) is not None:
        return
    for name, value in found.values.items():
        if name != "verdict":
            assert value.removesuffix("…") in text[:at]
    # What is decided, is decided by what is there.
    assert "verdict" in found.values or ("verdict", False) not in made


def steps(compiled: Pattern, text: str, **how: Any) -> tuple[int, Filled | None]:
    """How many lines of the matching were executed."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != patterns.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = compiled.match(text, **how)
    finally:
        sys.settrace(before)
    return count, found


HARD = [
    pytest.param("a{policy}a{zone}a{chain}a{rule}a{label}b", "a", id="everything could end each hole"),
    pytest.param("a{policy?}a{zone?}a{chain?}a{rule?}a{label?}b", "a", id="all of them optional"),
    pytest.param("a{_}ab{_}ab{_}ab{_}abc", "ab", id="longer texts"),
    pytest.param("a{policy}:{verdict}:{zone}:{direction}:b", ":drop:in", id="words"),
]


@pytest.mark.parametrize(("text", "of"), HARD)
@pytest.mark.parametrize("cut", [False, True])
def test_the_work_is_linear(text: str, of: str, cut: bool) -> None:
    compiled = pattern(text)
    lengths = [50, 100, 200, 400]
    work = [steps(compiled, "a" + (of * LONGEST)[: length - 1], cut=cut)[0] for length in lengths]
    for shorter, longer in pairwise(work):
        assert longer <= 2.5 * shorter
    assert steps(compiled, "a" * (LONGEST + 1)) == (steps(compiled, "a" * 100_000)[0], None)
