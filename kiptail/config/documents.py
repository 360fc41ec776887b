"""A TOML file that somebody writes, of the configuration or a profile, and what one holds that it may not."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kiptail import inputfile
from kiptail.config.values import quoted
from kiptail.errors import SettingsError
from kiptail.text import one_line

__all__ = ["read", "require_known", "unknown"]

#: A file is read up to this size, so that a mistaken path cannot exhaust the memory.
_MOST_BYTES = 1 << 20


def read(file: Path) -> Mapping[str, Any]:
    """The file's document. Raise OSError where it cannot be read, and SettingsError, with its name, for no TOML."""
    content = inputfile.read(file, _MOST_BYTES)
    shown = one_line(str(file))
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{shown}: is not UTF-8 (at line {line})") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{shown}: is not TOML: {one_line(str(error))}") from error


def require_known(table: Mapping[str, object], known: Iterable[str], where: str) -> None:
    """Raise SettingsError for a key of ``table`` that is not ``known``."""
    for key in table:
        if key not in known:
            raise unknown("key", key, known, where)


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> SettingsError:
    """The error for a ``name`` that is none of the ``known``: the nearest one, or all."""
    near = difflib.get_close_matches(name[:100].replace("_", "-").lower(), known, n=1)
    advice = f": did you mean {near[0]}?" if near else f": known are {', '.join(sorted(known))}"
    return SettingsError(f"{where}: unknown {kind} {quoted(name)}{advice}")
