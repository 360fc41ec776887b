"""What a machine's rules justify as configuration (pure): for ``kiptail setup``, and for ``kiptail check`` to advise.

A prefix is proposed when every rule that logs with it is followed by a drop or a reject, for every packet. A profile is
proposed when what it says of each prefix that is logged here is what the rules do. All else has a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kiptail.check.facts import NEEDS_ROOT, NOT_INSTALLED, RuleFacts
from kiptail.check.findings.wording import SHOW_RULES, quoted, where
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.config.values import prefix as checked_prefix
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixMatch, PrefixRule, Verdict

__all__ = ["LoggedPrefix", "Profiles", "Proposal", "certain_verdict", "obstacle", "propose", "propose_texts"]

#: Of each profile, by its name, the prefixes that it has.
Profiles = Mapping[str, Sequence[PrefixRule]]

#: Most prefixes that the profiles may have together, so that there is room for others.
_MOST_OF_PROFILES = 40
#: How a byte that is no UTF-8 looks in what the tools print.
_NO_TEXT = "\ufffd"


class LoggedPrefix(NamedTuple):
    """A prefix that rules log with, or that the journal has, and what is known of it."""

    #: Without blanks at its ends.
    prefix: str
    #: Those that log with it; none for what the journal alone has.
    rules: tuple[LogRule, ...]
    #: Lines in the journal.
    lines: int
    #: What becomes of each packet that is logged; None when that is not certain.
    verdict: Verdict | None
    #: Why nothing is proposed; "" where something is.
    reason: str = ""

    @property
    def limited(self) -> bool:
        """Some of its rules log at a limited rate."""
        return any(rule.limited for rule in self.rules)

    @property
    def is_loss(self) -> bool:
        return self.verdict is not None and self.verdict.is_loss


@dataclass(frozen=True, slots=True)
class Proposal:
    """What there is to configure. Each prefix is in one of these."""

    #: By the profiles' names, the prefixes of this machine that they read.
    profiles: Mapping[str, tuple[LoggedPrefix, ...]]
    #: To be written as they are.
    prefixes: tuple[LoggedPrefix, ...]
    #: Nothing is lost where these are logged: there may be a verdict, but there are no Events.
    passing: tuple[LoggedPrefix, ...]
    #: Not proposed; each has its reason.
    others: tuple[LoggedPrefix, ...]
    #: Profiles that read some of the prefixes, by name, and why they are not proposed.
    unfit: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        """There is nothing that makes Events."""
        return not self.profiles and not self.prefixes


def obstacle(rules: RuleFacts) -> str:
    """Why there is nothing that a configuration could be proposed from, and what to do; "" when there is."""
    reasons = set(rules.refusals.values())
    if NEEDS_ROOT in reasons:
        return "the firewall's rules can be read by root only: run `kiptail setup` as root"
    if not rules.read and reasons == {NOT_INSTALLED}:
        return "neither nft nor iptables is installed, so no rules can be read: install nftables or iptables"
    why = "; ".join(f"{tool}: {reason}" for tool, reason in rules.refusals.items())
    if not rules.read:
        return f"the firewall's rules could not be read ({why}): run that program by hand to see more"
    if not rules.rules:
        unread = f"; not all rules could be read ({why})" if why else ""
        return f"no rule of {', '.join(rules.read)} logs into the kernel log{unread}: {SHOW_RULES} shows rules that do"
    return ""


def propose(rules: Sequence[LogRule], counts: Mapping[str, int], profiles: Profiles) -> Proposal:
    """What ``rules`` justify of the kernel log. ``counts``: its lines by the text before their ``IN=``."""
    return propose_texts([rule for rule in rules if rule.group is None], counts, profiles)


def propose_texts(rules: Sequence[LogRule], counts: Mapping[str, int], profiles: Profiles) -> Proposal:
    """The same of all rules, wherever they log to: a prefix counts in every log that is read."""
    all_logged = _all_logged(rules, counts)
    chosen, unfit = _profiles(all_logged, profiles)
    covered = {logged.prefix for of_profile in chosen.values() for logged in of_profile}
    left = _unmistakable([logged for logged in all_logged if logged.prefix not in covered])
    return Proposal(
        chosen,
        tuple(logged for logged in left if logged.is_loss and not logged.reason),
        tuple(logged for logged in left if logged.verdict is Verdict.ACCEPT and not logged.reason),
        tuple(logged for logged in left if logged.reason),
        unfit,
    )


def _unmistakable(all_logged: Sequence[LoggedPrefix]) -> list[LoggedPrefix]:
    """The same, without proposals that another text would be taken for where the kernel cuts texts."""
    found = {logged.prefix: logged for logged in all_logged}
    while True:
        proposed = [name for name, logged in found.items() if logged.is_loss and not logged.reason]
        others = [name for name, logged in found.items() if logged.rules and not logged.is_loss]
        mistaken = _taken_for(others, proposed) if proposed else {}
        if not mistaken:
            return list(found.values())
        for name, other in mistaken.items():
            reason = (
                f"{quoted(other)}, of which no drop is certain, would be taken for it, cut: give one another prefix"
            )
            found[name] = found[name]._replace(reason=reason)


def _taken_for(others: Sequence[str], proposed: Sequence[str]) -> dict[str, str]:
    """Of those proposed that ``others`` would be taken for: by which of these."""
    match = Prefixes(PrefixRule(escaped(name)) for name in proposed).match
    return {said.prefix: name for name in others if (said := match(name))}


def _all_logged(rules: Sequence[LogRule], counts: Mapping[str, int]) -> list[LoggedPrefix]:
    by_prefix: dict[str, list[LogRule]] = {}
    for rule in rules:
        by_prefix.setdefault(rule.prefix.strip(), []).append(rule)
    times: dict[str, int] = {}
    for text, count in counts.items():
        times[text.strip()] = times.get(text.strip(), 0) + count
    return [
        _logged(prefix, tuple(by_prefix.get(prefix, ())), times.get(prefix, 0))
        for prefix in dict.fromkeys((*by_prefix, *times))
    ]


def _logged(prefix: str, rules: tuple[LogRule, ...], count: int) -> LoggedPrefix:
    reason = _unusable(prefix)
    verdict, unsure = certain_verdict(rules)
    return LoggedPrefix(prefix, rules, count, verdict, reason or unsure)


def _unusable(prefix: str) -> str:
    """Why a text cannot be configured as it is; "" when it can."""
    if not prefix:
        return "nothing distinguishes lines without a prefix, so kiptail cannot know what they stand for"
    if _NO_TEXT in prefix:
        return "it holds bytes that are no UTF-8: give the rule another prefix"
    try:
        checked_prefix(escaped(prefix))
    except ValueError as error:
        return f"it {error}: give the rule another prefix"
    return ""


def certain_verdict(rules: Sequence[LogRule]) -> tuple[Verdict | None, str]:
    """What becomes of all packets that these rules log, or why that is not certain."""
    fates = {rule.fate for rule in rules}
    if not rules:
        return None, "no rule with it was found: it may be gone"
    if fates <= {Fate.DROP, Fate.REJECT}:
        # Of some that are dropped and some that are rejected, the former holds for all: they did not arrive.
        return (Verdict.REJECT if fates == {Fate.REJECT} else Verdict.DROP), ""
    if fates == {Fate.ACCEPT}:
        return Verdict.ACCEPT, ""
    passing = [rule for rule in rules if rule.fate is Fate.ACCEPT]
    lost = [rule for rule in rules if rule.fate in (Fate.DROP, Fate.REJECT)]
    if passing and lost:
        return None, (
            f"a drop follows in some places ({where(lost)}) and none in others ({where(passing)}):"
            " give these rules different prefixes"
        )
    mixed = [rule for rule in rules if rule.fate is Fate.MIXED]
    if mixed:
        return None, (
            f"a drop may follow, which depends on rules that look at more ({where(mixed)}):"
            " log directly before the drop, with the same matches"
        )
    unknown = [rule for rule in rules if rule.fate is Fate.UNKNOWN]
    return None, f"the rules do not say what follows ({where(unknown)}): log directly before the drop"


# -- profiles ---------------------------------------------------------------------------------------------------


def _profiles(
    all_logged: Sequence[LoggedPrefix], profiles: Profiles
) -> tuple[dict[str, tuple[LoggedPrefix, ...]], dict[str, str]]:
    """Those that fit, with the prefixes that each reads, and why others do not."""
    fit: dict[str, tuple[LoggedPrefix, ...]] = {}
    unfit: dict[str, str] = {}
    for name, rules in profiles.items():
        match = Prefixes(rules).match
        covered = [(logged, said) for logged in all_logged if logged.prefix and (said := match(logged.prefix))]
        of_rules = [(logged, said) for logged, said in covered if logged.rules]
        if not any(logged.is_loss for logged, _ in of_rules):
            continue
        complaint = next(filter(None, (_complaint(logged, said) for logged, said in of_rules)), "")
        if complaint:
            unfit[name] = complaint
        else:
            fit[name] = tuple(logged for logged, _ in covered)
    chosen: dict[str, tuple[LoggedPrefix, ...]] = {}
    taken: set[str] = set()
    # The one that reads the most comes first.
    for name in sorted(fit, key=lambda name: (-len(fit[name]), name)):
        fresh = tuple(logged for logged in fit[name] if logged.prefix not in taken)
        if any(logged.is_loss for logged in fresh) and _agree([*chosen, name], profiles):
            chosen[name] = fresh
            taken |= {logged.prefix for logged in fresh}
    return chosen, unfit


def _complaint(logged: LoggedPrefix, said: PrefixMatch) -> str:
    """Why a profile does not fit what is logged here; "" when it does."""
    if said.problem:
        return f"{quoted(logged.prefix)}: {said.problem}"
    if logged.verdict is None:
        # It would be counted as what it says, and nothing shows that it is.
        return f"{quoted(logged.prefix)}: {logged.reason}" if said.verdict.is_loss else ""
    if said.limited and not logged.limited:
        return f"{quoted(logged.prefix)} is logged at a limited rate there, and by the rules here it is not"
    if said.verdict.is_loss == logged.is_loss:
        return ""
    return f"{quoted(logged.prefix)} stands for {said.verdict} there, and by the rules here it is {logged.verdict}"


def _agree(names: Sequence[str], profiles: Profiles) -> bool:
    """Whether these can be configured together."""
    rules = [rule for name in names for rule in profiles[name]]
    try:
        Prefixes(rules)
    except ValueError:
        return False
    return len(rules) <= _MOST_OF_PROFILES
