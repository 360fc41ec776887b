"""Patterns of log prefixes: literal text with holes for what varies from rule to rule (pure).

``Antrea:{direction}:{verdict}:{label?}:`` is all the text before the kernel's part. A hole takes one character or more,
and no blank unless the pattern itself has one. ``{label?}`` may be missing, with the character behind it. ``{_}`` takes
what does not matter; ``{{`` and ``}}`` are braces. ``{verdict}`` and ``{direction}`` take words that mean one, the
others any text.

Of several ways to fill the holes the one counts whose earlier holes are shorter. The work is linear in the text's
length, whatever it holds: no piece of the pattern is tried twice at the same character.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["DIRECTION", "ELLIPSIS", "HOLES", "LONGEST", "VERDICT", "Filled", "Pattern", "escaped"]

DIRECTION, VERDICT = "direction", "verdict"
#: Takes what does not matter, and may stand more than once.
_NAMELESS = "_"
#: What a hole may be called.
HOLES = ("policy", "namespace", "name", "tier", "kind", VERDICT, DIRECTION, "rule", "zone", "chain", "label", _NAMELESS)

#: Stands at the end of a value that was cut.
ELLIPSIS = "…"

#: Longer texts are no prefix, in characters: the kernel takes 127 bytes, each of which may have become ``\\xNN``.
LONGEST = 512
#: Most holes of a pattern.
MOST_HOLES = 16

#: Words for the way of a packet as its firewall sees it, in small letters; "" when it is forwarded.
_DIRECTIONS = {
    **dict.fromkeys(("i", "in", "ingress", "input", "inbound"), "in"),
    **dict.fromkeys(("o", "out", "egress", "output", "outbound"), "out"),
    **dict.fromkeys(("f", "fwd", "forward"), ""),
}


class _Literal(NamedTuple):
    text: str


class _Hole(NamedTuple):
    name: str
    optional: bool
    #: Pieces behind it that are missing where it is.
    skipped: int
    #: What may stand there, in small letters, and what it means, the shortest first; None: any text.
    words: Mapping[str, str] | None


_Piece = _Literal | _Hole


class Filled(NamedTuple):
    """How a text fills a pattern's holes."""

    #: By the holes' names, without ``_`` and without those that are missing.
    values: Mapping[str, str]
    #: How much of the text is the pattern's own, in characters.
    literal: int


class Pattern:
    """One pattern."""

    def __init__(self, text: str, verdicts: Mapping[str, str]) -> None:
        """``verdicts``: what may stand at ``{verdict}``, and what each means. Blanks at the text's ends do not count.

        Raise ValueError, with what is wrong and where, for a text that is no pattern.
        """
        words = {VERDICT: _shortest_first(verdicts), DIRECTION: _shortest_first(_DIRECTIONS)}
        self._pieces = tuple(_pieces(text.strip(), words))
        self._loose = tuple(p if isinstance(p, _Literal) else p._replace(words=None) for p in self._pieces)
        literals = [piece.text for piece in self._pieces if isinstance(piece, _Literal)]
        #: The holes' names, in their order.
        self.holes = tuple(piece.name for piece in self._pieces if isinstance(piece, _Hole))
        #: The texts of it that are in each text that matches.
        self.constants = tuple(_constants(self._pieces))
        #: How much of it is literal, in characters.
        self.literal = sum(map(len, literals))
        #: Two patterns with the same shape match the same texts.
        self.shape = tuple(
            p.text if isinstance(p, _Literal) else (p.optional, p.name if p.words else "") for p in self._pieces
        )
        self._has_blanks = any(c.isspace() for literal in literals for c in literal)
        if not "".join(self.constants).strip():
            raise ValueError("has no text that is always there: it would match any prefix")
        #: What each text that matches begins with; "" where that is a hole.
        self.start = self._pieces[0].text if isinstance(self._pieces[0], _Literal) else ""

    def match(self, text: str, *, cut: bool = False, loose: bool = False) -> Filled | None:
        """How the whole ``text`` fills the pattern; None when it does not.

        ``cut``: the text is as long as a writer's limit, so that its end may be missing. ``loose``: any text may stand
        where a verdict or a direction is wanted.
        """
        if len(text) > LONGEST or (not self._has_blanks and any(c.isspace() for c in text)):
            return None
        # Where there are many patterns, most are refused here, without a search.
        if not cut and not all(constant in text for constant in self.constants):
            return None
        if not (text.startswith(self.start) or (cut and self.start.startswith(text))):
            return None
        return _Search(self._loose if loose else self._pieces, text, cut=cut).run()


def escaped(text: str) -> str:
    """The pattern that ``text``, as a firewall logs it, alone matches."""
    return text.replace("{", "{{").replace("}", "}}")


def _shortest_first(words: Mapping[str, str]) -> Mapping[str, str]:
    return {word.casefold(): words[word] for word in sorted(words, key=len)}


def _pieces(text: str, words: Mapping[str, Mapping[str, str]]) -> Iterator[_Piece]:
    """What ``text`` consists of; literal text behind an optional hole begins with a piece of one character."""
    seen: set[str] = set()
    holes = 0
    #: The hole right before; None behind literal text.
    before: _Hole | None = None
    for at, token, is_hole in _tokens(text):
        if not is_hole:
            apart = 1 if before is not None and before.optional else len(token)
            yield from (_Literal(part) for part in (token[:apart], token[apart:]) if part)
            before = None
            continue
        name, optional = token.removesuffix("?"), token.endswith("?")
        if name not in HOLES:
            raise ValueError(f"has an unknown hole {{{token}}} at character {at}: holes are {', '.join(HOLES)}")
        if name in seen and name != _NAMELESS:
            raise ValueError(f"has {{{name}}} twice, again at character {at}")
        if before is not None:
            raise ValueError(f"has nothing between two holes at character {at}: nobody could tell where one ends")
        seen.add(name)
        holes += 1
        if holes > MOST_HOLES:
            raise ValueError(f"has more than {MOST_HOLES} holes")
        followed = text.find("}", at) + 1 < len(text)
        before = _Hole(name, optional, int(optional and followed), words.get(name))
        yield before


def _tokens(text: str) -> Iterator[tuple[int, str, bool]]:
    """Literal text and the insides of holes: where each begins (from 1), what it is, and whether it is a hole's."""
    literal, begin, at = "", 1, 0
    while at < len(text):
        char = text[at]
        if text[at : at + 2] in ("{{", "}}"):
            literal += char
            at += 2
        elif char == "}":
            raise ValueError(f"has a }} without {{ at character {at + 1}: write }}}} for a brace")
        elif char == "{":
            end = text.find("}", at)
            if end < 0:
                raise ValueError(f"has a {{ without }} at character {at + 1}: write {{{{ for a brace")
            if literal:
                yield begin, literal, False
            yield at + 1, text[at + 1 : end], True
            at = end + 1
            literal, begin = "", at + 1
        else:
            literal += char
            at += 1
    if literal:
        yield begin, literal, False


def _constants(pieces: tuple[_Piece, ...]) -> Iterator[str]:
    """Literal pieces that are never missing."""
    left_out = 0
    for piece in pieces:
        if isinstance(piece, _Hole):
            left_out = piece.skipped
        elif left_out:
            left_out -= 1
        else:
            yield piece.text


class _Value(NamedTuple):
    name: str
    text: str
    #: Those of earlier holes.
    before: _Value | None


class _State(NamedTuple):
    """A way to fill the pieces so far."""

    #: The next piece, or the hole whose text ends at ``at`` or later.
    piece: int
    #: The next character.
    at: int
    #: Where that hole's text begins; None before any of it.
    begin: int | None = None
    #: Characters of the pattern's own so far.
    literal: int = 0
    values: _Value | None = None

    def filled(self) -> Filled:
        found: dict[str, str] = {}
        value = self.values
        while value is not None:
            if value.name != _NAMELESS:
                found[value.name] = value.text
            value = value.before
        return Filled(found, self.literal)


class _Search:
    """A search in depth that tries no piece twice at the same character."""

    def __init__(self, pieces: tuple[_Piece, ...], text: str, *, cut: bool) -> None:
        self._pieces = pieces
        self._text = text
        self._cut = cut

    def run(self) -> Filled | None:
        """The first way to fill all of it."""
        tried: set[tuple[int, int, bool]] = set()
        ways = [_State(0, 0)]
        cut_ways: list[_State] = []
        while ways:
            way = ways.pop()
            if way.piece == len(self._pieces):
                if way.at == len(self._text):
                    return way.filled()
                continue
            step = (way.piece, way.at, way.begin is None)
            if step in tried:
                continue
            tried.add(step)
            piece = self._pieces[way.piece]
            if self._cut and not cut_ways:
                cut_ways.extend(self._at_the_cut(piece, way))
            # The last one is gone first.
            ways.extend(self._past_literal(piece, way) if isinstance(piece, _Literal) else self._in_hole(piece, way))
        # Only now: what is rather whole is not cut.
        return cut_ways[0].filled() if cut_ways else None

    def _past_literal(self, piece: _Literal, way: _State) -> Iterator[_State]:
        if self._text.startswith(piece.text, way.at):
            length = len(piece.text)
            yield _State(way.piece + 1, way.at + length, None, way.literal + length, way.values)

    def _in_hole(self, hole: _Hole, way: _State) -> Iterator[_State]:
        at, begin = way.at, way.begin
        if begin is None and hole.optional:
            yield way._replace(piece=way.piece + 1 + hole.skipped)
        if hole.words is not None:
            for word in reversed(tuple(hole.words)):
                end = at + len(word)
                if self._text[at:end].casefold() == word:
                    yield self._after(way, _Value(hole.name, hole.words[word], way.values), end)
            return
        if at < len(self._text):
            yield way._replace(at=at + 1, begin=at if begin is None else begin)
        if begin is not None:
            yield self._after(way, self._value(hole, begin, at, way.values), at)

    def _at_the_cut(self, piece: _Piece, way: _State) -> Iterator[_State]:
        """The end of the way, if the text may have been cut here, so that what follows in the pattern is missing."""
        rest = self._text[way.at :]
        wanted = [p for p in self._pieces[way.piece :] if isinstance(p, _Hole) and p.name == VERDICT and p.words]
        # Something of the pattern's own has to be there.
        if not way.literal and way.at:
            return
        if isinstance(piece, _Literal):
            if piece.text.startswith(rest) and not wanted:
                yield way._replace(literal=way.literal + len(rest))
        elif piece.words is not None:
            meanings = {piece.words[word] for word in piece.words if rest and word.startswith(rest.casefold())}
            if len(meanings) == 1 and wanted in ([], [piece]):
                yield way._replace(values=_Value(piece.name, meanings.pop(), way.values))
            elif not rest and not wanted:
                yield way
        elif not rest and not wanted and way.literal:
            begin = way.begin
            yield way if begin is None else way._replace(values=self._value(piece, begin, way.at, way.values))

    def _after(self, way: _State, value: _Value, at: int) -> _State:
        return _State(way.piece + 1, at, None, way.literal, value)

    def _value(self, hole: _Hole, begin: int, end: int, before: _Value | None) -> _Value:
        text = self._text[begin:end]
        return _Value(hole.name, text + ELLIPSIS if self._cut and end == len(self._text) else text, before)
