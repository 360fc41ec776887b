"""Filters as they are written: tables ``[[ignore]]`` of a TOML file, and one text each for ``--ignore``.

Both have the same keys, and a key's values are read alike. In a text, ``key=value`` stand side by side, quoted as in a
shell where there are blanks in a value, and a word alone is a name of known noise.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kiptail.config.documents import require_known
from kiptail.config.values import boolean, checked, network, quoted
from kiptail.errors import SettingsError
from kiptail.netfilter.prefixes import Verdict
from kiptail.netfilter.protocols import icmp_messages, protocol_called
from kiptail.quiet.filter import Filter, Network, Place
from kiptail.quiet.label_selector import selector
from kiptail.quiet.noise import NOISE

__all__ = ["KEYS", "MOST_FILTERS", "filter_of_text", "filters_of", "require_bounded"]

#: The most filters, values of one key, different reasons (each is a label in the metrics), and stars in a value.
MOST_FILTERS, _MOST_VALUES, _MOST_REASONS, _MOST_STARS = 2_000, 1_000, 100, 4
_EVENTS, _ALL = "events", "all"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9*?-]{1,63}")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_ICMP = re.compile(r"([0-9]{1,3})(?:/([0-9]{1,3}))?")


def filters_of(value: object, source: str) -> tuple[Filter, ...]:
    """What the key ``ignore`` of a TOML file says: tables, texts as for ``--ignore``, or both.

    SettingsError, which begins with ``source``, names the item, by its number, and what is wrong with it.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict | str) for item in value):
        raise SettingsError(f'{source}: is no list of filters: write [[ignore]], port = 22, or ignore = ["replies"]')
    made = []
    for number, item in enumerate(value, start=1):
        where = f"{source}, {'table' if isinstance(item, dict) else 'item'} {number}"
        made.append(_of_table(item, where) if isinstance(item, dict) else checked(where, item, filter_of_text))
    return tuple(made)


def require_bounded(filters: Sequence[Filter], source: str) -> None:
    """Raise SettingsError where there are too many filters or reasons."""
    if len(filters) > MOST_FILTERS:
        raise SettingsError(f"{source}: {len(filters)} filters are more than the {MOST_FILTERS} that are allowed")
    reasons = len({each.reason for each in filters})
    if reasons > _MOST_REASONS:
        raise SettingsError(f"{source}: {reasons} different reasons are more than the {_MOST_REASONS} that are allowed")


def filter_of_text(text: str) -> Filter:
    """``src=198.51.100.0/24 port=22,8000-8100``, or ``replies``; ValueError as in :mod:`kiptail.config.values`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError("has a quotation mark without its end") from error
    table: dict[str, Sequence[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            key, value = "name", word
        if key in table:
            raise ValueError(f"has {quoted(key)} twice: write {key}=ONE,OTHER where any of them is meant")
        table[key] = [part.strip() for part in value.split(",")] if key in _SPLIT else [value]
    try:
        require_known(table, KEYS, "there")
        return _made(table, "")
    except SettingsError as error:
        raise ValueError(f"cannot be used: {str(error).removeprefix('there: ').removeprefix(': ')}") from error


def _of_table(table: Mapping[str, Any], where: str) -> Filter:
    require_known(table, KEYS, where)
    return _made({key: _texts(key, value, where) for key, value in table.items()}, where)


def _texts(key: str, value: object, where: str) -> list[str]:
    """A table's value as the texts of its values."""
    values = value if isinstance(value, list) and key in _LISTS else [value]
    texts = []
    for each in values:
        if isinstance(each, bool) and key == "reply":
            texts.append(str(each).lower())
        elif type(each) is int and key in ("port", "icmp", "protocol"):
            texts.append(str(each))
        elif isinstance(each, str):
            texts.append(each)
        else:
            wanted = "true or false" if key == "reply" else "text, or a list of texts" if key in _LISTS else "text"
            raise SettingsError(f"{where}: {key} is no {wanted}")
    return texts


def _made(table: Mapping[str, Sequence[str]], where: str) -> Filter:
    """The filter that these texts make; SettingsError, which begins with ``where``."""
    made: dict[str, Any] = {}
    for key, texts in table.items():
        if not 0 < len(texts) <= _MOST_VALUES:
            raise SettingsError(f"{where}: {key} has {len(texts)} values: write 1 to {_MOST_VALUES}")
        attribute, convert = _CONVERTERS[key]
        values = [checked(f"{where}: {key}", text, convert) for text in texts]
        if key in ("port", "icmp"):
            made[attribute] = tuple(part for value in values for part in value)
        else:
            made[attribute] = tuple(values) if key in _LISTS else values[0]
    conditions = made.keys() - {"reason", "everything"}
    if not conditions:
        raise SettingsError(f"{where}: would leave out everything: write what it is about, such as port = 22")
    if "noise" in made:
        made.setdefault("reason", made["noise"])
    text = " ".join(f"{key}={','.join(texts)}" for key, texts in table.items())
    return Filter(**made, text=text)


def _where(text: str) -> Network | Place:
    if text in tuple(Place):
        return Place(text)
    try:
        return network(text if "/" in text else f"{text}/{128 if ':' in text else 32}")
    except ValueError as error:
        if "did you mean" in str(error):
            raise
        raise ValueError(
            f"is no address or range such as 198.51.100.0/24 or fd00::/8, and none of {', '.join(Place)}"
        ) from error


def _namespace(text: str) -> str:
    if _NAMESPACE.fullmatch(text):
        return _glob(text)
    raise ValueError("is no namespace: write its name, in which * is any text and ? any character")


def _glob(text: str) -> str:
    if text.count("*") > _MOST_STARS:
        raise ValueError(f"has more than {_MOST_STARS} stars")
    return text


def _named(text: str) -> str:
    text = text.strip()
    if not text or not text.isprintable() or len(text) > 1_000:
        raise ValueError("is empty, too long, or has control characters in it")
    return text


def _policy(text: str) -> str:
    return _glob(_named(text))


def _ports(text: str) -> tuple[tuple[int, int]]:
    found = _PORTS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if first <= last < 65_536:
        return ((first, last),)
    raise ValueError("is no port or range of ports: write 22 or 8000-8100")


def _protocol(text: str) -> str:
    protocol = protocol_called(text)
    if protocol is None:
        raise ValueError("is no protocol: write TCP, UDP, SCTP, ICMP, ICMPv6, GRE … or its number")
    return protocol


def _icmp(text: str) -> tuple[tuple[str, int, int | None], ...]:
    if found := _ICMP.fullmatch(text):
        number, code = int(found[1]), int(found[2]) if found[2] else None
        if number < 256 and (code is None or code < 256):
            return tuple((protocol, number, code) for protocol in ("ICMP", "ICMPv6"))
    elif messages := icmp_messages(text):
        return messages
    raise ValueError("is no ICMP message: write its type, type/code or name, such as 8, 3/1 or echo-request")


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"is none of {', '.join(words)}")

    return convert


def _reason(text: str) -> str:
    if _NAME.fullmatch(text):
        return text
    raise ValueError("is no word for the metrics: write letters, digits, '.', '_' and '-', at most 63")


def _noise(text: str) -> str:
    if text in NOISE:
        return text
    raise ValueError(f"is no name of known noise, which are {', '.join(NOISE)}, and no KEY=VALUE")


def _everything(text: str) -> bool:
    return _one_of((_EVENTS, _ALL))(text) == _ALL


#: Of each key, the attribute of a filter and what makes its value, or some, of a text.
_CONVERTERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "src": ("src", _where),
    "dst": ("dst", _where),
    "peer": ("peer", _where),
    "namespace": ("namespaces", _namespace),
    "pod": ("pod", selector),
    "port": ("ports", _ports),
    "protocol": ("protocols", _protocol),
    "icmp": ("icmp", _icmp),
    "direction": ("direction", _one_of(("sent", "received"))),
    "prefix": ("prefixes", _named),
    "policy": ("policies", _policy),
    "verdict": ("verdicts", _one_of(tuple(Verdict))),
    "reply": ("reply", boolean),
    "name": ("noise", _noise),
    "reason": ("reason", _reason),
    "what": ("everything", _everything),
}
#: What a filter may have.
KEYS = tuple(_CONVERTERS)
#: Those that may have several values, and of these those whose values are apart by commas in a text.
_LISTS = frozenset({"src", "dst", "peer", "namespace", "port", "protocol", "icmp", "prefix", "policy", "verdict"})
_SPLIT = _LISTS - {"prefix", "policy"}
