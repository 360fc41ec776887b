"""Which log prefixes count, and what verdict each stands for (pure).

A LOG rule's line is no proof of a drop (Calico logs before Allow too), so the verdict belongs to the prefix,
by configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from kiptail.netfilter import PacketDrop

__all__ = ["PrefixRule", "Prefixes", "Verdict", "to_json_dict", "without_log_header"]

#: How a byte that is no UTF-8 looks in a decoded message (``errors="backslashreplace"``).
_ESCAPED_BYTE = re.compile(r"\\x[0-9a-f]{2}")

# What dmesg, journalctl, rsyslog or /dev/kmsg put before a kernel message. Every repetition is bounded, and
# no two neighbours can take the same character, so that no input takes long.
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_LOG_HEADER = re.compile(
    r"\A"
    # A record of /dev/kmsg: priority, number, microseconds, flag and fields of later kernels.
    r"(?:\d{1,3},\d{1,20},\d{1,20},[^;]{1,80};)?"
    # The priority of `dmesg --raw`, in words with --decode.
    r"(?:<\d{1,3}>)?"
    r"(?:[a-z0-9]{1,8} {0,8}:[a-z]{1,6} {0,8}: )?"
    # Time and host of syslog and journalctl, up to six words in any of their forms.
    r"(?:(?:[^\s]{1,256} {1,16}){0,6}kernel(?:\[\d{1,10}\])?: )?"
    # The kernel's clock, with the caller where PRINTK_CALLER is set, or the wall clock of `dmesg -T`.
    rf"(?:\[(?: {{0,12}}\d{{1,12}}\.\d{{1,9}}|{_DAY} {_MONTH} [ \d]\d \d\d:\d\d:\d\d \d{{4}})\] ?"
    r"(?:\[ {0,12}[CT]\d{1,12}\] ?)?)?"
)


class Verdict(StrEnum):
    """What became of a packet whose line carries the prefix."""

    DROP = "drop"
    REJECT = "reject"
    #: Counted, but told to nobody: the rule only logs.
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

    def match_end(self, text: str) -> PrefixRule | None:
        """The rule whose prefix ``text`` ends with, as a whole or behind a blank; the longest counts."""
        text = text.strip()
        ends = [p for p in self._rules if text.endswith(p) and (text == p or text[-len(p) - 1].isspace())]
        return self._rules[max(ends, key=len)] if ends else None

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


def without_log_header(line: str) -> str:
    """``line`` without what dmesg, journalctl, syslog or /dev/kmsg put before a kernel message, if anything.

    A prefix can look like such a header (``[1.5] ``), so try the line as it is first.
    """
    return _LOG_HEADER.sub("", line, count=1)


def _needles(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Bytes of which one at least is in every message with one of the prefixes ``texts``.

    A byte that was no UTF-8 is four characters in ``texts``, so only what stands between such bytes can be
    looked for; and a needle that is part of another makes that one needless.
    """
    longest = {max(_ESCAPED_BYTE.split(text), key=len).encode() for text in texts}
    return tuple(sorted(n for n in longest if not any(m != n and m in n for m in longest)))
