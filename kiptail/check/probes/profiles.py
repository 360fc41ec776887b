"""Reads the profiles that there are, shipped ones and the operator's own, for ``kiptail check`` and ``setup``."""

from __future__ import annotations

from kiptail.config.profile import load, profile_files
from kiptail.errors import SettingsError
from kiptail.netfilter.prefixes import PrefixRule

__all__ = ["gather_profiles"]


def gather_profiles() -> tuple[dict[str, tuple[PrefixRule, ...]], list[str]]:
    """The prefixes of each profile by its name, and what is wrong with those that cannot be used."""
    try:
        names = tuple(profile_files())
    except SettingsError as error:
        return {}, [str(error)]
    found: dict[str, tuple[PrefixRule, ...]] = {}
    wrong = []
    for name in names:
        try:
            found[name] = load(name, "profiles").prefixes
        except SettingsError as error:
            wrong.append(str(error))
    return found, wrong
