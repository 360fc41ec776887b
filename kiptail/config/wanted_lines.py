"""Which log lines are wanted: by prefixes, by profiles, and of NFLOG groups, and what must hold between these.

Errors are as those of :mod:`kiptail.config.settings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kiptail.config import options
from kiptail.config.nflog_tables import all_sources, groups_of_profiles, source_of_group, source_of_unit
from kiptail.config.profile import Profile, load, merged
from kiptail.config.sources import DEFAULT_CONFIG, Found, Levels
from kiptail.config.values import quoted
from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import NflogSource
from kiptail.netfilter.prefixes import Prefixes, PrefixRule

__all__ = ["WantedLines", "wanted_lines"]

#: A line is compared with each prefix, and more are a mistake.
MOST_PREFIXES = 100


class WantedLines(NamedTuple):
    """As the fields of :class:`kiptail.config.settings.Settings` with these names."""

    prefixes: tuple[PrefixRule, ...]
    profiles: tuple[Profile, ...]
    nflog: tuple[NflogSource, ...]


def wanted_lines(levels: Levels, own_profiles: Path, *, needed: bool) -> WantedLines:
    """Those that the settings name; without ``needed`` there may be none. Raises SettingsError."""
    profiles = _profiles(levels.find(options.PROFILE), own_profiles)
    tables = levels.nflog_tables()
    named = _named_sources(levels, profiles)
    needed = needed and not tables and not any(source.verdict for source, _ in named)
    prefixes = _prefixes(levels.find(options.PREFIX), profiles, needed=needed)
    return WantedLines(prefixes, profiles, all_sources(named, tables, prefixes))


def _profiles(found: Found[str] | None, own: Path) -> tuple[Profile, ...]:
    return tuple(load(name, found.source, own) for name in dict.fromkeys(found.values)) if found else ()


def _prefixes(
    found: Found[PrefixRule] | None, profiles: tuple[Profile, ...], *, needed: bool
) -> tuple[PrefixRule, ...]:
    prefixes = merged(_configured(found) if found else (), profiles)
    if not prefixes and needed:
        raise _no_prefix(profiles)
    if len(prefixes) > MOST_PREFIXES:
        raise SettingsError(
            f"{len(prefixes)} prefixes, those of profiles included, are more than the {MOST_PREFIXES} that are allowed"
        )
    return prefixes


def _configured(found: Found[PrefixRule]) -> tuple[PrefixRule, ...]:
    chosen: dict[str, PrefixRule] = {}
    for setting in found.values:
        earlier = chosen.setdefault(setting.text, setting)
        if earlier.verdict != setting.verdict:
            raise SettingsError(
                f"{found.source}: prefix {quoted(setting.text)} has two verdicts,"
                f" {earlier.verdict} and {setting.verdict}"
            )
    if len(chosen) > MOST_PREFIXES:
        raise SettingsError(
            f"{found.source}: {len(chosen)} prefixes are more than the {MOST_PREFIXES} that are allowed"
        )
    try:
        Prefixes(chosen.values())
    except ValueError as error:
        raise SettingsError(f"{found.source}: {error}") from error
    return tuple(chosen.values())


def _no_prefix(profiles: tuple[Profile, ...]) -> SettingsError:
    if profiles:
        groups = "".join(f" add --nflog-group {group}," for group in groups_of_profiles(profiles).values())
        return SettingsError(
            f"profile {profiles[0].name} has no log prefix, and none is configured beside it:{groups}"
            f" `kiptail profiles {profiles[0].name}` says why"
        )
    return SettingsError(
        "no log prefix is configured: name the prefix of the rules that drop packets, --prefix TEXT (or"
        f" {options.PREFIX.variable}, or prefix in {DEFAULT_CONFIG}), or the firewall, --profile NAME; `kiptail check`"
        " helps to find it"
    )


def _named_sources(levels: Levels, profiles: Sequence[Profile]) -> list[tuple[NflogSource, str]]:
    """Those of options, each with where it stands."""
    groups, units = levels.find(options.NFLOG_GROUP), levels.find(options.ULOGD_UNIT)
    named = [(source_of_group(group, profiles), groups.source) for group in groups.values] if groups else []
    named += [(source_of_unit(unit), units.source) for unit in units.values] if units else []
    return named
