"""Profiles: what a firewall logs, by its name, so that nobody has to find out its prefixes.

A profile is a TOML file: ``description``, ``applies_to``, ``[[prefixes]]`` as in the configuration, and ``[[samples]]``
with what is expected to be read from each. kiptail ships some; the operator's own are in :data:`OWN_PROFILES`, and one
of them replaces a shipped one of the same name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiptail.config import documents
from kiptail.config.prefix_tables import prefix_rules, tables_of
from kiptail.config.values import quoted
from kiptail.errors import SettingsError
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, compiled
from kiptail.text import one_line

__all__ = ["OWN_PROFILES", "READING_KEYS", "Profile", "Sample", "load", "merged", "profile_files"]

OWN_PROFILES = Path("/etc/kiptail/profiles")
_SHIPPED = Path(__file__).with_name("profiles")

_SUFFIX = ".toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_KEYS = ("description", "applies_to", "prefixes", "samples")
_SAMPLE_KEYS = ("text", "line", "reading")
#: What a reading may hold: those keys of `kiptail parse` that follow from the prefix.
READING_KEYS = frozenset(
    ("prefix", "verdict", "policy", "direction", "tier", "kind", "rule", "zone", "chain", "label", "limited")
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A logged text and what it is expected to say."""

    #: Either all that stands before ``IN=``, or a line as `kiptail parse` takes it, a header included.
    text: str
    whole_line: bool
    #: The keys and values of `kiptail parse` that follow from the prefix.
    reading: Mapping[str, str | bool]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a firewall logs."""

    name: str
    #: Its first line says in short what is read.
    description: str
    #: Versions, and what has to be configured.
    applies_to: str
    prefixes: tuple[PrefixRule, ...]
    samples: tuple[Sample, ...]
    #: The operator's own file; None for one that kiptail ships.
    file: Path | None


def profile_files(own: Path = OWN_PROFILES) -> Mapping[str, Path]:
    """The files of all profiles by name, sorted. Raise SettingsError for one that is not named as a profile is."""
    return dict(sorted((_files(_SHIPPED) | _files(own)).items()))


def load(name: str, source: str, own: Path = OWN_PROFILES) -> Profile:
    """The profile; SettingsError for one that is unknown, which begins with ``source``, or wrong, with its file."""
    files = profile_files(own)
    # Looked up, so that no name is ever a path.
    if name not in files:
        raise documents.unknown("profile", name, files, source)
    file = files[name]
    shown = one_line(str(file))
    try:
        document = documents.read(file)
    except OSError as error:
        raise SettingsError(f"{shown}: {error.strerror}") from error
    documents.require_known(document, _KEYS, shown)
    rules = prefix_rules(document.get("prefixes", []), f"{shown}: key prefixes")
    try:
        Prefixes(rules)
    except ValueError as error:
        raise SettingsError(f"{shown}: {error}") from error
    return Profile(
        name=name,
        description=_text(document, "description", shown),
        applies_to=_text(document, "applies_to", shown),
        prefixes=rules,
        samples=_samples(document.get("samples", []), f"{shown}: key samples"),
        file=None if file.parent == _SHIPPED else file,
    )


def merged(configured: Sequence[PrefixRule], profiles: Iterable[Profile]) -> tuple[PrefixRule, ...]:
    """The configured prefixes, and those of the profiles that match other texts.

    Raise SettingsError where two profiles have the same prefix with different verdicts.
    """
    shapes = {compiled(rule).shape for rule in configured}
    added: dict[object, tuple[str, PrefixRule]] = {}
    for profile in profiles:
        for rule in profile.prefixes:
            shape = compiled(rule).shape
            if shape in shapes:
                continue
            first, earlier = added.setdefault(shape, (profile.name, rule))
            if (earlier.verdict, earlier.verdicts) != (rule.verdict, rule.verdicts):
                raise SettingsError(
                    f"profiles {first} and {profile.name} have different verdicts for the prefix {quoted(rule.text)}:"
                    " leave one of them out, or give the prefix its verdict in a [[prefixes]] table"
                )
            limited = earlier.limited or rule.limited
            added[shape] = (first, earlier._replace(limited=limited, cut_at=earlier.cut_at or rule.cut_at))
    return (*configured, *(rule for _, rule in added.values()))


def _files(directory: Path) -> dict[str, Path]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"{one_line(str(directory))}: {error.strerror}") from error
    files = {}
    for file in (directory / name for name in names if name.endswith(_SUFFIX) and not name.startswith(".")):
        if not _NAME.fullmatch(file.stem):
            raise SettingsError(
                f"{one_line(str(file))}: is no name of a profile: write small letters, digits and '-', at most 63"
            )
        files[file.stem] = file
    return files


def _text(document: Mapping[str, Any], key: str, shown: str) -> str:
    text = document.get(key)
    if not isinstance(text, str) or not text.strip():
        raise SettingsError(f"{shown}: has no text {key}, which says what the profile is for")
    return text.strip()


def _samples(value: object, source: str) -> tuple[Sample, ...]:
    tables = tables_of(value, source, '[[samples]], text = "…", reading = { verdict = "drop" }')
    return tuple(_sample(table, f"{source}, table {number}") for number, table in enumerate(tables, start=1))


def _sample(table: Mapping[str, Any], where: str) -> Sample:
    documents.require_known(table, _SAMPLE_KEYS, where)
    texts = [table[key] for key in ("text", "line") if key in table]
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise SettingsError(f"{where}: needs either text, which is all before IN=, or line")
    reading = table.get("reading")
    if not isinstance(reading, dict):
        raise SettingsError(f'{where}: has no table reading: write reading = {{ verdict = "drop" }}')
    documents.require_known(reading, READING_KEYS, f"{where}: reading")
    for key, said in reading.items():
        if not isinstance(said, bool if key == "limited" else str):
            raise SettingsError(f"{where}: reading, {key} is no {'true or false' if key == 'limited' else 'text'}")
    return Sample(texts[0], "line" in table, reading)
