"""Paired lines of a batch → lines by themselves, with the policies that others named (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kiptail.flows.known_lines import KnownLine, Line, PairedLine, UnknownLine, understood
from kiptail.flows.left_out import LeaveOut, nothing_left_out, sorted_out
from kiptail.flows.pairs import Pairs, policies_text
from kiptail.netfilter.prefixes import Verdict
from kiptail.netfilter.reading import ULOGD

__all__ = ["Joining"]

#: The most different joined lines that are remembered: each has to be the same object as before, to be counted fast.
MOST_JOINED = 4_096


class Joining:
    """Joins what k3s says of one packet in several lines."""

    def __init__(self, leave_out: LeaveOut = nothing_left_out) -> None:
        """``leave_out``: what filters say of a line, which the policies may change."""
        self._leave_out = leave_out
        self._pairs = Pairs()
        self._joined: dict[tuple[KnownLine, str], KnownLine] = {}

    def joined(self, lines: Sequence[Line | str], times_us: Sequence[int]) -> list[Line | str]:
        """The lines of a batch, those of rejects with what came before them in this batch or an earlier one."""
        return [
            self._one(line, time_us) if isinstance(line, PairedLine) else line
            for line, time_us in zip(lines, times_us, strict=True)
        ]

    def look_back(self, lines: Iterable[Line | str], times_us: Iterable[int]) -> None:
        """Take note of lines from before the first batch, which are not to be counted."""
        for line, time_us in zip(lines, times_us, strict=True):
            if isinstance(line, PairedLine):
                self._one(line, time_us)

    def _one(self, pair: PairedLine, time_us: int) -> Line:
        line = pair.line
        known = line if isinstance(line, KnownLine) else understood(line.text, line.prefixes, ULOGD)
        if known is None:
            return line
        if pair.has_prefix:
            if known.key.policy and not Verdict(known.key.verdict).is_loss:
                self._pairs.note(pair.packet, known.key.policy, time_us)
            return line
        policies = self._pairs.policies(pair.packet, time_us)
        if not policies:
            return line
        text = policies_text(policies)
        if isinstance(line, UnknownLine):
            return UnknownLine(line.text, line.prefixes, text)
        return self._with_policies(line, text, policies)

    def _with_policies(self, line: KnownLine, text: str, policies: Sequence[str]) -> KnownLine:
        found = self._joined.get((line, text))
        if found is None:
            if len(self._joined) >= MOST_JOINED:
                self._joined.clear()
            verdict, protocol, _ = line.kind
            # Metrics have a label for one policy.
            kind = (verdict, protocol, policies[0] if len(policies) == 1 else "")
            key, ignored = sorted_out(line.key._replace(policy=text), line.reset, self._leave_out)
            counted = Verdict(verdict).is_loss and not ignored
            found = self._joined[line, text] = KnownLine(key, kind, counted, ignored, line.reset)
        return found
