"""Which log prefixes count, and what the text of one says (pure).

A LOG rule's line is no proof of a drop (Calico logs before Allow too), so the verdict belongs to the prefix: by
configuration, or by what the prefix itself says at its pattern's ``{verdict}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from kiptail.netfilter.patterns import DIRECTION, LONGEST, VERDICT, Filled, Pattern

__all__ = ["PrefixMatch", "PrefixRule", "Prefixes", "Verdict", "compiled"]

#: How a byte that is no UTF-8 looks in a decoded message (``errors="backslashreplace"``).
_ESCAPED_BYTE = re.compile(r"\\x[0-9a-f]{2}")

#: Where prefixes are cut, in bytes: by iptables (29; texts of 30 have been seen), NFLOG and nft.
_CUTS = frozenset({29, 30, 63, 127})
#: Answers that are remembered: there is one for each rule that logs.
_REMEMBERED = 2_048
#: A pattern with fewer letters and digits that are always there looks like too much else.
_TELLING = 3
#: The most words that are looked at of a text that no rule logged.
_MOST_WORDS = 128


class Verdict(StrEnum):
    """What became of a packet whose line carries the prefix."""

    DROP = "drop"
    REJECT = "reject"
    #: Counted, but no Event is posted: the rule only logs.
    LOG = "log"
    #: Counted, but no Event is posted: the packet was let through.
    ACCEPT = "accept"

    @property
    def is_loss(self) -> bool:
        """The packet did not arrive, so that Events are posted."""
        return self in (Verdict.DROP, Verdict.REJECT)


#: What ``{verdict}`` understands, in any case.
_WORDS = {**{verdict.value: verdict for verdict in Verdict}, "allow": Verdict.ACCEPT}


class PrefixRule(NamedTuple):
    """A prefix as it is configured, literal or with holes, and what it stands for. Blanks at its ends do not count."""

    text: str
    #: Unless the line itself says it at ``{verdict}``.
    verdict: Verdict = Verdict.DROP
    #: What the words at ``{verdict}`` mean, beside those that are always understood.
    verdicts: tuple[tuple[str, Verdict], ...] = ()
    #: The firewall logs at a limited rate: there are more packets than lines.
    limited: bool = False
    #: Its writer cuts the text at this length, in characters; 0: only where the kernel does.
    cut_at: int = 0


class PrefixMatch(NamedTuple):
    """What the text before the kernel's part says. Texts that it does not have are ""."""

    #: The configured prefix: what is literal as the firewall has it, a pattern as it was written.
    prefix: str
    verdict: Verdict
    limited: bool
    #: The policy that the line names, as ``namespace/name`` where it says both.
    policy: str = ""
    #: ``in`` or ``out``.
    direction: str = ""
    tier: str = ""
    kind: str = ""
    rule: str = ""
    zone: str = ""
    chain: str = ""
    label: str = ""
    #: Why the line cannot be counted, though it has the prefix.
    problem: str = ""


@lru_cache(_REMEMBERED)
def compiled(rule: PrefixRule) -> Pattern:
    """The rule's pattern. Raise ValueError, with what is wrong with its text, where that is none."""
    if any("\ud800" <= c <= "\udfff" for c in rule.text):
        raise ValueError("is not valid Unicode text")
    if not rule.text.strip():
        raise ValueError("is empty")
    words: dict[str, str] = {word: verdict.value for word, verdict in _WORDS.items()}
    own: dict[str, Verdict] = {}
    for word, verdict in rule.verdicts:
        if own.setdefault(word.casefold(), verdict) != verdict:
            raise ValueError("has a word with two verdicts")
    pattern = Pattern(rule.text, {**words, **{word: verdict.value for word, verdict in own.items()}})
    if own and VERDICT not in pattern.holes:
        raise ValueError("has words for verdicts, but no {verdict}")
    return pattern


class _Configured(NamedTuple):
    rule: PrefixRule
    pattern: Pattern
    #: What :class:`PrefixMatch` calls it.
    name: str

    @property
    def is_telling(self) -> bool:
        """A text that does not match can be recognised by it."""
        return sum(map(str.isalnum, "".join(self.pattern.constants))) >= _TELLING


class Prefixes:
    """The configured prefixes. Of several that match a text, the one with the most literal text counts."""

    def __init__(self, rules: Iterable[PrefixRule], *, empty: PrefixRule | None = None) -> None:
        """``empty``: what lines without any prefix stand for, and what to call that; without it they do not count.

        Raise ValueError for a text that is no prefix or pattern, or for one with two verdicts.
        """
        by_shape: dict[object, _Configured] = {}
        for rule in rules:
            pattern = compiled(rule)
            constant = "" if pattern.holes else "".join(pattern.constants)
            configured = _Configured(rule, pattern, constant or rule.text.strip())
            first = by_shape.setdefault(pattern.shape, configured)
            if (first.rule.verdict, first.rule.verdicts) != (rule.verdict, rule.verdicts):
                names = " and ".join(dict.fromkeys(repr(one.name) for one in (first, configured)))
                raise ValueError(f"the log prefix {names} has two verdicts")
        self._literals = {one.name: one for one in by_shape.values() if not one.pattern.holes}
        holed = [one for one in by_shape.values() if one.pattern.holes]
        self._patterns = sorted(holed, key=lambda one: -one.pattern.literal)
        self._empty = empty
        self._all = [*self._literals.values(), *self._patterns]
        #: What is configured, by what :attr:`PrefixMatch.prefix` calls it.
        self.rules = tuple((one.name, one.rule) for one in by_shape.values())
        self._cut_at = frozenset(one.rule.cut_at for one in self._all if one.rule.cut_at)
        self._word = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, self._literals))})(?!\S)")
        #: Bytes that are in each message for which :meth:`wanted` holds.
        self.needle = (len(self._all) == 1 and empty is None and _needle(self._all[0].pattern)) or b" OUT="
        self._remembered = lru_cache(_REMEMBERED)(self._match)
        self._is_wanted = lru_cache(_REMEMBERED)(self._may_match)

    def limited(self) -> frozenset[str]:
        """The prefixes, by their :attr:`PrefixMatch.prefix`, whose rules log at a limited rate."""
        empty = () if self._empty is None else ((self._empty.text, self._empty),)
        return frozenset(name for name, rule in (*self.rules, *empty) if rule.limited)

    def match(self, before: str) -> PrefixMatch | None:
        """What ``before``, all the text before the kernel's own part, says; blanks at its ends do not count."""
        return self._remembered(before) if len(before) <= LONGEST else None

    def ending(self, text: str, begins: Sequence[int]) -> PrefixMatch | None:
        """As :meth:`match`, of what stands behind a header: from one of ``begins`` on, to the end of ``text``."""
        return self._ending(text, begins, [one for one in self._patterns if one.pattern.constants[0] in text])

    def quoted_in(self, text: str) -> bool:
        """Whether a prefix stands anywhere in ``text``, one with holes as a word or at its end."""
        return any(prefix in text for prefix in self._literals) or self._has_pattern_in(text)

    def is_word_of(self, text: str) -> bool:
        """Whether a prefix stands in ``text`` by itself, with blanks around it."""
        return (bool(self._literals) and self._word.search(text) is not None) or self._has_pattern_in(text)

    def wanted(self, message: bytes, gap: bytes = b"") -> bool:
        """Whether the journal's raw ``message`` may be a netfilter line with a prefix, and ``gap``, before ``IN=``.

        A cheap test before decoding; True may turn out wrong, False never does.
        """
        out = message.find(b" OUT=")
        if out < 0:
            return False
        if message.find(b" OUT=", out + 1) >= 0:
            # One of them may be in the prefix.
            return True
        begin = message.rfind(b"IN=", 0, out)
        return begin >= 0 and (self._is_wanted if begin <= LONGEST else self._may_match)(
            message[:begin].removesuffix(gap)
        )

    def _may_match(self, before: bytes) -> bool:
        text = before.decode("utf-8", "backslashreplace")
        return (len(text) <= LONGEST and self._match(text) is not None) or self.quoted_in(text)

    def _match(self, before: str) -> PrefixMatch | None:
        if self._empty is not None and not before.strip():
            return PrefixMatch(self._empty.text, self._empty.verdict, self._empty.limited)
        return self._ending(before, (0,), self._patterns)

    def _ending(self, text: str, begins: Sequence[int], patterns: Sequence[_Configured]) -> PrefixMatch | None:
        for loose in (False, True):
            near = [one for one in patterns if one.is_telling] if loose else patterns
            found = [
                (filled.literal, begin, one, filled)
                for begin in begins
                for one, filled in self._found(text[begin:], near, loose=loose)
            ]
            if found:
                # The one that begins last: a hole takes no more of a header than it has to.
                _, _, one, filled = max(found, key=lambda one: one[:2])
                return _said(one, filled, loose=loose)
        return None

    def _found(
        self, before: str, patterns: Sequence[_Configured], *, loose: bool
    ) -> Iterator[tuple[_Configured, Filled]]:
        text = before.strip()
        cut = len(text) in self._cut_at or len(_ESCAPED_BYTE.sub("x", before).encode("utf-8", "surrogatepass")) in _CUTS
        # firewalld 0.9 logs quotation marks around the text.
        unquoted = text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text
        for one_text in dict.fromkeys((text, unquoted)):
            literal = self._literals.get(one_text)
            if literal is not None:
                yield literal, Filled({}, len(one_text))
                return
            for one in [*self._literals.values(), *patterns] if cut else patterns:
                filled = one.pattern.match(one_text, cut=cut, loose=loose)
                if filled is not None:
                    yield one, filled
                    if not cut:
                        # Those behind it have less literal text.
                        break

    def _has_pattern_in(self, text: str) -> bool:
        near = [one for one in self._patterns if one.is_telling and one.pattern.constants[0] in text]
        if not near:
            return False
        words = text.split(None, _MOST_WORDS)
        ends = (text[at.start() :] for at in islice(re.finditer(r"\S+", text), _MOST_WORDS))
        return any(one.pattern.match(part, loose=True) for part in (*words, *ends) for one in near)


def _needle(pattern: Pattern) -> bytes:
    """Bytes that are in each message with the prefix, also in one that is cut; none where that is hard to say."""
    # A byte that was no UTF-8 is four characters in the pattern.
    return b"" if _ESCAPED_BYTE.search(pattern.start) else pattern.start.encode()[: min(_CUTS)]


def _said(one: _Configured, filled: Filled, *, loose: bool) -> PrefixMatch:
    values = dict(filled.values)
    namespace, name = values.pop("namespace", ""), values.pop("name", "")
    policy = values.pop("policy", "") or (f"{namespace}/{name}" if namespace and name else name)
    verdict = values.pop(VERDICT, one.rule.verdict)
    if loose:
        values.pop(DIRECTION, None)
        verdict, problem = Verdict.LOG, "the verdict or direction in its prefix is not known"
    else:
        problem = ""
    return PrefixMatch(one.name, Verdict(verdict), one.rule.limited, policy, **values, problem=problem)
