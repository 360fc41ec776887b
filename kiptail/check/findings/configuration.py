"""A configuration file with what is proposed, and a comment for each decision (pure): text of :mod:`.proposal`.

Prefixes are whatever root wrote into a rule. In a comment they are made harmless, in a value they are escaped, so that
the text is TOML, and means what is proposed, whatever they hold.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kiptail.check.findings.groups import LoggedGroup
from kiptail.check.findings.proposal import LoggedPrefix, Proposal
from kiptail.check.findings.wording import quoted, seen, toml, where
from kiptail.netfilter.nflog import STACKS, unit_of_group
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Verdict
from kiptail.text import one_line, plural

__all__ = ["MOST_TABLES", "Sources", "configuration_text"]

#: Most prefixes that are configured: those that were seen most. The settings take 100, with those of profiles.
MOST_TABLES = 60
#: Most decisions of one kind that have a comment of their own, and the longest comment, in characters.
_MOST_COMMENTS, _COMMENT_LIMIT = 40, 600
_WIDTH = 116
_MOST_GROUPS_SHOWN = 5


class Sources(NamedTuple):
    """What the proposal was made from."""

    #: The tools whose rules were read.
    tools: Sequence[str]
    #: Why others could not be read, by tool.
    refusals: Mapping[str, str]
    #: The journal, as an error names it.
    journal: str
    #: Lines of it were passed over, for there were too many.
    incomplete: bool = False


def configuration_text(proposal: Proposal, sources: Sources, groups: Sequence[LoggedGroup] = ()) -> str:
    """All of the file. What is proposed is in force; what is not certain stands in comments."""
    parts = [_head(sources)]
    if proposal.profiles:
        parts.append(_profiles(proposal.profiles, more=sources.incomplete))
    named = [group for group in groups if group.is_read and not group.has_table]
    if named:
        parts.append(_named(named))
    parts += _section(
        "Profiles that read some of these prefixes and are not proposed:",
        (f"{name}: {reason}" for name, reason in proposal.unfit.items()),
        len(proposal.unfit),
    )
    parts += _section(
        "Not proposed, for it is not certain that a drop follows:",
        (f"{_shown(one, more=sources.incomplete)}: {one.reason}" for one in proposal.others),
        len(proposal.others),
    )
    unread = [group for group in groups if not group.is_read and not group.is_passing]
    parts += _section(
        "NFLOG groups that are not proposed:",
        (f"{_place(group)}: {group.reason}" for group in unread),
        len(unread),
    )
    tables = sorted(proposal.prefixes, key=lambda one: -one.lines)
    if len(tables) > MOST_TABLES:
        left_out = plural(len(tables) - MOST_TABLES, "prefix", "prefixes")
        parts.append(_comment(f"{left_out} more, of which fewer lines were seen, are more than one file may have."))
    # Tables come last: what stands behind one belongs to it.
    parts += [_table(one, more=sources.incomplete) for one in tables[:MOST_TABLES]]
    parts += [_passing(one, more=sources.incomplete) for one in proposal.passing[:_MOST_COMMENTS]]
    if len(proposal.passing) > _MOST_COMMENTS:
        parts.append(_comment(f"and {len(proposal.passing) - _MOST_COMMENTS} more that are logged where packets pass"))
    parts += [_group_table(group) for group in groups if group.has_table]
    parts += [_passing_group(group) for group in groups if group.is_passing]
    return "\n".join(parts)


def _head(sources: Sources) -> str:
    text = _comment(
        "Settings of kiptail, as `kiptail setup` proposes them from the rules of this machine's firewall"
        f" ({', '.join(sources.tools)}) and the last day of {sources.journal}. kiptail.toml(5) has all that can be set."
        " After a change: systemctl restart kiptail"
    )
    text += "#\n" + _comment(
        "kiptail runs as a user without rights: this file must be readable by everybody. It holds no secrets."
    )
    if sources.refusals:
        why = "; ".join(f"{tool}: {reason}" for tool, reason in sources.refusals.items())
        text += "#\n" + _comment(f"Not all rules could be read ({why}), so prefixes may be missing.")
    return text


def _profiles(profiles: Mapping[str, Sequence[LoggedPrefix]], *, more: bool) -> str:
    text = ""
    for name, covered in profiles.items():
        text += _comment(f"Profile {name}: what it says of each of these prefixes is what the rules here do.")
        text += "".join(
            _comment(f"{_shown(one, more=more)}: {_read_by_profile(one)}", "  ") for one in covered[:_MOST_COMMENTS]
        )
        if len(covered) > _MOST_COMMENTS:
            text += _comment(f"and {len(covered) - _MOST_COMMENTS} more", "  ")
    return text + f"profile = [{', '.join(toml(name) for name in profiles)}]\n"


def _read_by_profile(one: LoggedPrefix) -> str:
    if one.rules and one.verdict is None:
        # Else the profile would not fit.
        return "the rules do not say what follows; by the profile it makes no Events"
    return _follows(one)


def _section(title: str, lines: Iterable[str], count: int) -> Iterator[str]:
    if count:
        shown = [_comment(line, "  ") for line, _ in zip(lines, range(_MOST_COMMENTS), strict=False)]
        more = count - len(shown)
        yield _comment(title) + "".join(shown) + (_comment(f"and {more} more", "  ") if more else "")


def _table(one: LoggedPrefix, *, more: bool) -> str:
    return _comment(f"{_shown(one, more=more)}: {_follows(one)}") + "".join(f"{line}\n" for line in _lines(one))


def _passing(one: LoggedPrefix, *, more: bool) -> str:
    said = f"{_shown(one, more=more)}: {_follows(one)}, so there are no Events. To count such packets in the metrics,"
    return _comment(f"{said} remove the # in front of these lines:") + "".join(f"#{line}\n" for line in _lines(one))


def _lines(one: LoggedPrefix) -> Iterator[str]:
    yield "[[prefixes]]"
    yield f"text = {toml(escaped(one.prefix))}"
    yield f'verdict = "{one.verdict}"'
    if one.limited:
        yield "limited = true"


def _named(groups: Sequence[LoggedGroup]) -> str:
    """The groups of which packets with a prefix count, and no others."""
    text = ""
    for group in groups:
        without = f" Packets without a prefix do not count: {group.reason}." if group.reason else ""
        text += _comment(f"{_place(group)}: it logs prefixes that stand for drops.{without} {_unit(group)}")
    return text + f"nflog-group = [{', '.join(str(group.group) for group in groups)}]\n"


def _group_table(group: LoggedGroup) -> str:
    without = group.without_prefix()
    follows = _follows(LoggedPrefix("", without, 0, group.verdict))
    return _comment(f"{_place(group)}, without a prefix: {follows}. {_unit(group)}") + "".join(
        f"{line}\n" for line in _group_lines(group)
    )


def _passing_group(group: LoggedGroup) -> str:
    said = f"{_place(group)}, without a prefix: what is logged passes, so there are no Events. To count such packets in"
    return _comment(f"{said} the metrics, remove the # in front of these lines. {_unit(group)}") + "".join(
        f"#{line}\n" for line in _group_lines(group)
    )


def _group_lines(group: LoggedGroup) -> Iterator[str]:
    yield "[[nflog]]"
    yield f"group = {group.group}"
    yield f'profile = "{group.profile}"' if group.profile else f'verdict = "{group.verdict}"'
    if group.limited and not (group.profile and STACKS[group.profile].limited):
        yield "limited = true"


def _place(group: LoggedGroup) -> str:
    return f"NFLOG group {group.group} ({where(group.rules)})"


def _unit(group: LoggedGroup) -> str:
    """What has to run for a group to be read."""
    return f"It needs: systemctl enable --now {unit_of_group(group.group).removesuffix('.service')}"


def _shown(one: LoggedPrefix, *, more: bool) -> str:
    """A prefix, where it is logged, and how often it was seen."""
    name = quoted(one.prefix) if one.prefix else "no prefix"
    place = f" ({where(one.rules)})" if one.rules else ""
    numbers = sorted({rule.group for rule in one.rules if rule.group is not None})
    if numbers:
        by_nflog = f"NFLOG group{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers[:_MOST_GROUPS_SHOWN]))}"
        if not one.lines:
            return f"{name}{place}, by {by_nflog}"
        place = f"{place}, also by {by_nflog}"
    return f"{name}{place}, {seen(one.lines, more=more)} in the last day"


def _follows(one: LoggedPrefix) -> str:
    limited = "; its rule logs at a limited rate, so there are more packets than lines" if one.limited else ""
    if one.verdict is None:
        return (one.reason or "what follows is not certain") + limited
    said = {Verdict.ACCEPT: "what is logged passes", Verdict.REJECT: "a reject follows"}.get(
        one.verdict, "a drop follows"
    )
    if one.verdict is Verdict.DROP and len({rule.fate for rule in one.rules}) > 1:
        said = "a drop follows, or a reject"
    return said + limited


def _comment(text: str, indent: str = "") -> str:
    """``text`` as lines that are comments, whatever it holds."""
    lines = textwrap.wrap(one_line(text, _COMMENT_LIMIT), _WIDTH - len(indent), break_on_hyphens=False)
    return "".join(f"# {indent}{'' if number == 0 else indent}{line}\n" for number, line in enumerate(lines))
