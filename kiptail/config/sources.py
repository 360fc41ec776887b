"""Where a setting can stand: a flag, a variable of kiptail's or of kube-iptables-tailer's, the TOML file.

Each place yields :class:`Found` values, read by the rows of :mod:`kiptail.config.options`; :class:`Levels` asks them
strongest first. What the values must be together is :mod:`kiptail.config.settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Generic, TypeVar

from kiptail.config import documents, options
from kiptail.config.ignore_tables import filters_of, require_bounded
from kiptail.config.nflog_tables import nflog_sources
from kiptail.config.options import OPTIONS, Option
from kiptail.config.prefix_tables import prefix_rules
from kiptail.config.values import checked
from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import NflogSource
from kiptail.quiet.filter import Filter
from kiptail.text import one_line

__all__ = ["DEFAULT_CONFIG", "Found", "Levels", "read_config"]

DEFAULT_CONFIG = Path("/etc/kiptail/kiptail.toml")

_FLAG, _VARIABLE, _PEER, _FILE = range(4)

#: The TOML key of prefixes that have a verdict.
_PREFIX_TABLES = "prefixes"
#: That of what lines of NFLOG rules stand for.
_NFLOG_TABLES = "nflog"
_TABLES = (_PREFIX_TABLES, _NFLOG_TABLES)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What one level says about one option."""

    #: At least one; more only when the option is repeatable.
    values: tuple[T, ...]
    #: Where it stands, for error messages.
    source: str
    #: 0 is the strongest.
    level: int

    @property
    def value(self) -> T:
        """The only value, or the last."""
        return self.values[-1]


class Levels:
    """The places where a setting can stand, strongest first."""

    def __init__(self, flags: Mapping[str, object], environ: Mapping[str, str], file: Mapping[str, Found[Any]]) -> None:
        self._flags = flags
        self._environ = environ
        self._file = file

    def find(self, option: Option[T]) -> Found[T] | None:
        """What the strongest level that mentions ``option`` says; an empty variable mentions nothing."""
        return (
            _convert(option, _flag_texts(self._flags.get(option.key)), source=option.flag, level=_FLAG)
            or self._variable(option, option.variable, str, level=_VARIABLE)
            or (option.peer and self._variable(option, option.peer.variable, option.peer.translate, level=_PEER))
            or self._file.get(option.name)
        )

    def nflog_tables(self) -> tuple[tuple[NflogSource, str], ...]:
        """The tables that only the file may have, each with where it stands."""
        found = self._file.get(_NFLOG_TABLES)
        return found.values if found else ()

    def filters(self) -> tuple[Filter, ...]:
        """Those of the strongest level that has some. Raises SettingsError where there are too many."""
        found = self.find(options.IGNORE)
        if found:
            require_bounded(found.values, found.source)
        return found.values if found else ()

    def one(self, option: Option[T]) -> T | None:
        """The value, or None where no level mentions it; a default is not looked at."""
        found = self.find(option)
        return found.value if found else None

    def all(self, option: Option[T]) -> tuple[T, ...]:
        """The values of the strongest level that mentions the option."""
        found = self.find(option)
        return found.values if found else ()

    def need(self, option: Option[T]) -> T:
        """The value, else the option's default, which it has."""
        found = self.find(option)
        return found.value if found else option.convert(option.default or "")

    def on(self, switch: Option[bool]) -> bool:
        """Whether the switch is on; it is off where no level mentions it."""
        return self.one(switch) is True

    def _variable(
        self, option: Option[T], name: str, translate: Callable[[str], str | None], *, level: int
    ) -> Found[T] | None:
        text = self._environ.get(name)
        translated = checked(name, text, translate) if text else None
        if translated is None:
            return None
        texts = [line.strip() for line in translated.split("\n")] if option.repeatable else [translated]
        return _convert(option, filter(None, texts), source=name, level=level)


def _flag_texts(flag: object) -> list[str]:
    """A flag's value as click gives it."""
    if flag is None or flag is False:
        return []
    if flag is True:
        return ["true"]
    return [str(item) for item in flag] if isinstance(flag, list | tuple) else [str(flag)]


def _convert(option: Option[T], texts: Iterable[str], *, source: str, level: int) -> Found[T] | None:
    values = tuple(checked(source, text, option.convert) for text in texts)
    return Found(values, source, level) if values else None


def read_config(named: Found[Path] | None, default: Path) -> Mapping[str, Found[Any]]:
    """What the file says by option name; checked as a whole, also where a stronger level overrides it."""
    file = named.value if named else default
    shown = one_line(str(file))
    try:
        document = documents.read(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        if named is None:
            return {}
        raise SettingsError(f"{named.source}: {shown}: {error.strerror}") from error
    except OSError as error:
        raise SettingsError(f"{named.source + ': ' if named else ''}{shown}: {error.strerror}") from error
    return _from_document(document, shown)


def _from_document(document: Mapping[str, object], file: str) -> dict[str, Found[Any]]:
    by_name: dict[str, Option[Any]] = {option.name: option for option in OPTIONS if option.in_file}
    found: dict[str, Found[Any] | None] = {}
    for key, value in document.items():
        source = f"{file}: key {key}"
        if key == _PREFIX_TABLES:
            rules = prefix_rules(value, source)
            found[key] = Found(rules, source, _FILE) if rules else None
        elif key == _NFLOG_TABLES:
            nflog = nflog_sources(value, source)
            found[key] = Found(nflog, source, _FILE) if nflog else None
        elif key == options.IGNORE.name:
            filters = filters_of(value, source)
            found[key] = Found(filters, source, _FILE) if filters else None
        elif option := by_name.get(key):
            found[key] = _convert(option, _toml_texts(option, value, source), source=source, level=_FILE)
        else:
            raise documents.unknown("key", key, (*by_name, *_TABLES), file)
    tables, plain = found.pop(_PREFIX_TABLES, None), found.get(options.PREFIX.name)
    if tables:
        found[options.PREFIX.name] = Found((*tables.values, *plain.values), file, _FILE) if plain else tables
    return {key: value for key, value in found.items() if value}


def _toml_texts(option: Option[Any], value: object, source: str) -> list[str]:
    """``value`` in the notation of the flag."""
    if option.repeatable and option.number:
        if isinstance(value, list) and all(type(item) is int for item in value):
            return [str(item) for item in value]
        raise SettingsError(f"{source}: is no list of whole numbers: write [100]")
    if option.repeatable:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        raise SettingsError(f'{source}: is no list of texts: write ["…", "…"]')
    if option.switch:
        if isinstance(value, bool):
            return [str(value).lower()]
        raise SettingsError(f"{source}: is neither true nor false")
    if option.number:
        if isinstance(value, int) and not isinstance(value, bool):
            return [str(value)]
        raise SettingsError(f"{source}: is no whole number (write it without quotation marks)")
    if option is options.SINCE and isinstance(value, date):
        return [value.isoformat()]
    if isinstance(value, str):
        return [value]
    raise SettingsError(f'{source}: is no text: put it in quotation marks ("…")')
