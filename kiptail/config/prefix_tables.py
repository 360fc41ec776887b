"""The tables of prefixes in a TOML file, of the configuration or a profile: ``[[prefixes]]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from kiptail.config.documents import require_known
from kiptail.config.values import checked, prefix, quoted
from kiptail.errors import SettingsError
from kiptail.netfilter.patterns import VERDICT
from kiptail.netfilter.prefixes import PrefixRule, Verdict, compiled

__all__ = ["prefix_rules", "tables_of", "verdict_of"]

#: What a table may hold.
_KEYS = ("text", "verdict", "verdicts", "limited", "cut_at")


def prefix_rules(value: object, source: str) -> tuple[PrefixRule, ...]:
    """What the tables say; SettingsError, which begins with ``source``, names the table, by its number, and why not."""
    tables = tables_of(value, source, '[[prefixes]], text = "…", verdict = "drop"')
    return tuple(_rule(table, f"{source}, table {number}") for number, table in enumerate(tables, start=1))


def tables_of(value: object, source: str, example: str) -> Sequence[Mapping[str, Any]]:
    """``value`` as a list of tables; SettingsError, which begins with ``source``, when it is none."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise SettingsError(f"{source}: is no list of tables: write {example}")
    return value


def _rule(table: Mapping[str, Any], where: str) -> PrefixRule:
    require_known(table, _KEYS, where)
    text = table.get("text")
    if not isinstance(text, str):
        raise SettingsError(f"{where}: has no text, which is the prefix")
    verdict = verdict_of(table.get("verdict", Verdict.DROP), where)
    words = table.get("verdicts", {})
    if not isinstance(words, dict):
        raise SettingsError(f'{where}: verdicts is no table: write verdicts = {{ D = "drop", R = "reject" }}')
    verdicts = tuple((word, verdict_of(value, f"{where}: verdicts, {quoted(word)}")) for word, value in words.items())
    limited = table.get("limited", False)
    if not isinstance(limited, bool):
        raise SettingsError(f"{where}: limited is neither true nor false")
    cut_at = table.get("cut_at", 0)
    if type(cut_at) is not int or cut_at < 0:
        raise SettingsError(f"{where}: cut_at is no number of characters")
    rule = checked(where, text, partial(prefix, verdict=verdict, verdicts=verdicts, limited=limited, cut_at=cut_at))
    if "verdict" in table and VERDICT in compiled(rule).holes:
        raise SettingsError(f"{where}: {quoted(text)} has {{verdict}}, so the line says the verdict: leave verdict out")
    return rule


def verdict_of(value: object, where: str) -> Verdict:
    """The verdict that ``value`` names; SettingsError, which begins with ``where``."""
    verdict = next((one for one in Verdict if one == value), None)
    if verdict is None:
        raise SettingsError(f"{where}: verdict is none of {', '.join(Verdict)}")
    return verdict
