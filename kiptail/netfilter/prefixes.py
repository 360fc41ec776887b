"""Which log prefixes count, and what verdict each stands for (pure).

A LOG rule's line is no proof of a drop (Calico logs before Allow too), so the verdict belongs to the prefix,
by configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from kiptail.netfilter.parser import PacketDrop

__all__ = ["PrefixRule", "Prefixes", "Verdict", "to_json_dict"]

#: How a byte that is no UTF-8 looks in a decoded message (``errors="backslashreplace"``).
_ESCAPED_BYTE = re.compile(r"\\x[0-9a-f]{2}")


class Verdict(StrEnum):
    """What became of a packet whose line carries the prefix."""

    DROP = "drop"
    REJECT = "reject"
    #: Counted, but no Event is posted: the rule only logs.
    LOG = "log"


class PrefixRule(NamedTuple):
    """A prefix as the firewall rule has it, and what it stands for. Blanks at its ends do not count."""

    text: str
    verdict: Verdict


class Prefixes:
    """The configured prefixes."""

    def __init__(self, rules: Iterable[PrefixRule]) -> None:
        """Raise ValueError for an empty prefix, one that is no Unicode text, or one with two verdicts."""
        self._rules: dict[str, PrefixRule] = {}
        for rule in rules:
            text = rule.text.strip()
            if not text:
                raise ValueError("a log prefix is empty")
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise ValueError("a log prefix is not valid Unicode text")
            if self._rules.setdefault(text, rule).verdict != rule.verdict:
                raise ValueError("a log prefix has two verdicts")
        self._word = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, self._rules))})(?!\S)")
        self._needles = _needles(self._rules)
        #: Bytes that are in each message for which :meth:`wanted` holds.
        self.needle = self._needles[0] if len(self._needles) == 1 else b" OUT="

    def match(self, prefix_text: str) -> PrefixRule | None:
        """The rule whose prefix is all the text before the kernel's own part; blanks at the ends do not count."""
        return self._rules.get(prefix_text.strip())

    def ending(self, text: str) -> list[PrefixRule]:
        """The rules whose prefix ``text``, without blanks around it, ends with; the longest first."""
        return [self._rules[p] for p in sorted(self._rules, key=len, reverse=True) if text.endswith(p)]

    def quoted_in(self, text: str) -> bool:
        """Whether a prefix stands anywhere in ``text``."""
        return any(prefix in text for prefix in self._rules)

    def is_word_of(self, text: str) -> bool:
        """Whether a prefix stands in ``text`` by itself, with blanks around it."""
        return bool(self._rules) and self._word.search(text) is not None

    def wanted(self, message: bytes) -> bool:
        """Whether the journal's raw ``message`` may be a netfilter line with a prefix before the kernel's part.

        A cheap test before decoding; True may turn out wrong, False never does.
        """
        if b" OUT=" not in message:
            return False
        # any() with a generator takes twice as long, on every kernel message.
        for needle in self._needles:  # noqa: SIM110
            if needle in message:
                return True
        return False


def to_json_dict(drop: PacketDrop, rule: PrefixRule) -> dict[str, str | int]:
    """``drop`` as ``kiptail parse`` prints it; what the line does not say, or leaves empty, has no key."""
    values: dict[str, str | int | None] = {
        "prefix": rule.text,
        "verdict": rule.verdict.value,
        "in": drop.in_interface,
        "out": drop.out_interface,
        "src": drop.src,
        "dst": drop.dst,
        "protocol": drop.protocol,
        "src_port": drop.src_port,
        "dst_port": drop.dst_port,
        "icmp_type": drop.icmp_type,
        "icmp_code": drop.icmp_code,
    }
    return {key: value for key, value in values.items() if value is not None and value != ""}


def _needles(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Bytes of which one at least is in every message with one of the prefixes ``texts``.

    A byte that was no UTF-8 is four characters in ``texts``, so only what stands between such bytes can be
    looked for; and a needle that is part of another makes that one needless.
    """
    longest = {max(_ESCAPED_BYTE.split(text), key=len).encode() for text in texts}
    return tuple(sorted(n for n in longest if not any(m != n and m in n for m in longest)))
