"""NFLOG groups and units of ulogd2 in the settings, and the tables of a TOML file about them: ``[[nflog]]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kiptail.config.documents import require_known
from kiptail.config.prefix_tables import tables_of, verdict_of
from kiptail.config.profile import Profile
from kiptail.config.values import checked, nflog_group, quoted, unit_name
from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import STACKS, NflogSource, unit_of_group
from kiptail.netfilter.prefixes import PrefixRule

__all__ = [
    "all_sources",
    "groups_of_profiles",
    "nflog_sources",
    "source_of_group",
    "source_of_unit",
    "unread_groups",
]

#: What a table may hold.
_KEYS = ("group", "unit", "verdict", "profile", "limited")


def source_of_group(group: int, profiles: Iterable[Profile] = ()) -> NflogSource:
    """That of the package's unit for this group, which one of ``profiles`` may be about; SettingsError if two are."""
    source = NflogSource(unit_of_group(group), f"NFLOG group {group}", group=group)
    names = [name for name, about in groups_of_profiles(profiles).items() if about == group]
    if len(names) > 1:
        raise SettingsError(f"profiles {' and '.join(names)} both say what NFLOG group {group} is: choose one")
    return source.of_stack(names[0]) if names else source


def source_of_unit(unit: str) -> NflogSource:
    """That of an operator's own unit."""
    return NflogSource(unit, f"NFLOG to {unit}")


def nflog_sources(value: object, source: str) -> tuple[tuple[NflogSource, str], ...]:
    """What the tables say, each with where it stands; SettingsError, which begins with that."""
    tables = tables_of(value, source, '[[nflog]], group = 100, verdict = "reject"')
    places = [f"{source}, table {number}" for number in range(1, len(tables) + 1)]
    return tuple((_source(table, where), where) for table, where in zip(tables, places, strict=True))


def _source(table: Mapping[str, Any], where: str) -> NflogSource:
    require_known(table, _KEYS, where)
    group, unit = table.get("group"), table.get("unit")
    if (group is None) is (unit is None):
        raise SettingsError(f'{where}: write either group = 100 or unit = "ulogd2.service"')
    if unit is None:
        if type(group) is not int:
            raise SettingsError(f"{where}: group is no number")
        source = source_of_group(checked(f"{where}: group", str(group), nflog_group))
    elif isinstance(unit, str):
        source = source_of_unit(checked(f"{where}: unit", unit, unit_name))
    else:
        raise SettingsError(f"{where}: unit is no text")
    profile, limited = table.get("profile"), table.get("limited", False)
    if not isinstance(limited, bool):
        raise SettingsError(f"{where}: limited is neither true nor false")
    if (profile is None) is ("verdict" not in table):
        raise SettingsError(
            f'{where}: write either profile = "kube-router" or verdict = "reject": it says what lines without a prefix'
            " stand for"
        )
    if profile is None:
        return source._replace(verdict=verdict_of(table["verdict"], where), limited=limited)
    if not isinstance(profile, str) or profile not in STACKS:
        raise SettingsError(f"{where}: profile is none of {', '.join(STACKS)}")
    return source.of_stack(profile, limited=limited)


def groups_of_profiles(profiles: Iterable[Profile]) -> dict[str, int]:
    """The chosen profiles that are about an NFLOG group, by name, each with its group.

    A profile reads none by itself: who has chosen one of these before there were groups reads what he did. But where
    its group is read as well, it says what packets without a prefix stand for.
    """
    # An operator's own of that name says what it likes.
    return {one.name: STACKS[one.name].group for one in profiles if one.name in STACKS and one.file is None}


def unread_groups(profiles: Iterable[Profile], sources: Sequence[NflogSource]) -> dict[str, int]:
    """Those of :func:`groups_of_profiles` whose group is not read."""
    if any(source.group is None for source in sources):
        # Which groups an operator's own unit listens to is not known here.
        return {}
    read = {source.group for source in sources}
    return {name: group for name, group in groups_of_profiles(profiles).items() if group not in read}


def all_sources(
    named: Sequence[tuple[NflogSource, str]], tables: Sequence[tuple[NflogSource, str]], rules: Sequence[PrefixRule]
) -> tuple[NflogSource, ...]:
    """All sources, each once: those of tables, and those that are named, each with where that stands.

    ``rules`` are the prefixes that are configured. SettingsError where nothing could count, or is contradictory.
    """
    sources: dict[str, NflogSource] = {}
    for source, where in tables:
        if source.unit in sources:
            raise SettingsError(f"{where}: {quoted(source.name)} has a table already")
        sources[source.unit] = source
        try:
            source.prefixes(rules)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from error
    for source, where in named:
        if source.unit not in sources and source.verdict is None and not rules:
            raise SettingsError(
                f"{where}: nothing says which lines of {source.name} stand for dropped packets: name a log prefix"
                " (--prefix TEXT), or what no prefix stands for, in a table [[nflog]] of the configuration file"
            )
        sources.setdefault(source.unit, source)
    return tuple(sources.values())
