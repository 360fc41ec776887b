"""Compares what is said of logging rules with what became of the packets that they logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kiptail.check.facts import RuleFacts
from kiptail.check.firewall.log_rules import Fate
from tests.firewalls.maker import Load

__all__ = ["Tally", "judge"]


@dataclass(slots=True)
class Tally:
    """Of many rule sets."""

    sets: int = 0
    #: Rule sets that the tools did not take, and why not the last one.
    refused: int = 0
    refusal: str = ""
    #: Rule sets of which not all could be read, which was said.
    unread: int = 0
    #: Logging rules that packets came to, by what is said of them.
    said: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("ok", "problem", "unknown"), 0))
    #: Those of which nothing is known although all of their packets had the same fate.
    cautious: int = 0
    wrong: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    facts: RuleFacts, arrived: set[int], logged: Mapping[str, set[int]], tally: Tally, *, name: str, load: Load
) -> None:
    """``arrived`` are the packets that came through, ``logged`` those that a rule with a prefix logged."""
    tally.sets += 1
    wrong = []
    # nft 1.0.6 cannot print a table with flags, and iptables-save not every rule that nft put into its table.
    flagged = any("flags dormant" in text for _, text in load.programs) or len(load.programs) > 2
    tally.unread += bool(facts.refusals)
    if facts.refusals and not flagged:
        wrong.append(f"not read: {dict(facts.refusals)}")
    fates = {rule.prefix: rule for rule in facts.rules}
    for prefix, numbers in logged.items():
        rule = fates.get(prefix)
        if rule is None:
            if not facts.refusals:
                wrong.append(f"no rule with the prefix {prefix!r} was found")
            continue
        passed, lost = numbers & arrived, numbers - arrived
        if rule.fate in (Fate.DROP, Fate.REJECT):
            tally.said["ok"] += 1
            if passed:
                wrong.append(f"{prefix!r} is said to {rule.fate}, and {len(passed)} of {len(numbers)} packets passed")
        elif rule.fate is Fate.ACCEPT:
            tally.said["problem"] += 1
            if lost:
                wrong.append(f"{prefix!r} is said to accept, and {len(lost)} of {len(numbers)} packets were lost")
        else:
            tally.said["unknown"] += 1
            tally.cautious += not (passed and lost)
    if wrong:
        texts = "\n".join(f"$ {' '.join(command)}\n{text}" for command, text in load.programs)
        tally.wrong.append(f"rule set {name}:\n" + "\n".join(wrong) + f"\n{texts}")
