"""One written value → one typed value (pure): durations, times, addresses, names.

Every function takes the text as it stands in a flag, a variable or a TOML file and raises :class:`ValueError`
with a reason that completes "VALUE …", such as "is no duration: write 30s, 10m, 2h or 7d";
:mod:`kiptail.config.sources` puts source and value in front. Nothing here reads a clock, the environment or a file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import HIGHEST_GROUP
from kiptail.netfilter.prefixes import PrefixRule, Verdict, compiled
from kiptail.text import one_line

__all__ = [
    "Moment",
    "Network",
    "address",
    "boolean",
    "checked",
    "choice",
    "context",
    "duration",
    "event_component",
    "event_reason",
    "label_key",
    "moment",
    "network",
    "nflog_group",
    "node_name",
    "path",
    "prefix",
    "quoted",
    "server_url",
    "unit_name",
    "whole_number",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

T = TypeVar("T")
_Word = TypeVar("_Word", bound=str)

_SECOND_US = 1_000_000
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(?:[0-9]{1,9}[smhd])+")
_EPOCH = re.compile(r"@([0-9]{1,11})(?:\.([0-9]{1,9}))?")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_USER_INFO = re.compile(r"//.*@", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}")
_YEAR_S = 365 * 86_400
#: nft's limit for a log prefix (NF_LOG_PREFIXLEN less its end); iptables allows 29.
_PREFIX_BYTES = 127
#: PATH_MAX less its end.
_PATH_BYTES = 4_095


class Moment(NamedTuple):
    """A point in time: ``us`` since the epoch, or when ``relative`` from now (never positive)."""

    us: int
    relative: bool

    def at(self, now_us: int) -> int:
        """Microseconds since the epoch, when it is ``now_us``."""
        return now_us + self.us if self.relative else self.us


def quoted(text: str) -> str:
    """``text`` in quotation marks, fit for a one-line message; a password in a URL is left out."""
    return f"'{one_line(_USER_INFO.sub('//…@', text)[:1_000], 80)}'"


def boolean(text: str) -> bool:
    """``true`` or ``false`` in the spellings that systemd accepts."""
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("is neither true nor false")


def choice(*words: _Word) -> Callable[[str], _Word]:
    """A converter that takes one of ``words`` (in lower case) in any case."""

    def convert(text: str) -> _Word:
        for word in words:
            if text.lower() == word:
                return word
        raise ValueError(f"is none of {', '.join(words)}")

    return convert


def _matching(pattern: str, reason: str) -> Callable[[str], str]:
    """A converter that takes text which matches ``pattern`` as a whole, and says ``reason`` otherwise."""
    compiled = re.compile(pattern)

    def convert(text: str) -> str:
        if compiled.fullmatch(text):
            return text
        raise ValueError(reason)

    return convert


#: An uppercase letter first, as the API conventions ask of an Event's reason.
event_reason = _matching(
    "[A-Z][A-Za-z0-9]{0,127}",
    "is no reason: write letters and digits in CamelCase, at most 128, such as PacketDrop",
)
event_component = _matching(
    "[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?",
    "is no component name: write letters, digits, '-', '.' and '/'",
)
node_name = _matching(
    "(?=.{1,253}$)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?",
    "is no node name: write it as `kubectl get nodes` shows it",
)
label_key = _matching(
    "(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
    "is no label key: write it as `kubectl get pods --show-labels` shows it, such as app.kubernetes.io/name",
)
#: systemd's, of a service; those of user sessions would be taken for the system's.
unit_name = _matching(
    r"(?=.{1,255}$)(?!user@)[A-Za-z0-9:_.\\@-]+\.service",
    "is no name of a service: write it as `systemctl status` shows it, such as ulogd2.service",
)
context = _matching(r"[^\x00-\x1f\x7f]{1,1000}", "is no context: `kubectl config get-contexts` lists their names")


def duration(text: str, *, most_s: int = 10 * _YEAR_S) -> float:
    """``30s``, ``10m``, ``2h``, ``7d`` or several after each other (``1h30m``) → seconds, 1 to ``most_s``."""
    if not _DURATION.fullmatch(text):
        raise ValueError("is no duration: write a whole number and a unit, such as 30s, 10m, 2h or 7d")
    seconds = sum(int(number) * _UNIT_S[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text))
    if seconds == 0:
        raise ValueError("is too short: the least is 1s")
    if seconds > most_s:
        raise ValueError(f"is too long: the most is {most_s // 86_400}d")
    return float(seconds)


def whole_number(text: str, *, least: int, most: int) -> int:
    """Decimal digits, ``least`` to ``most``."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("is no whole number")
    number = int(text)
    if not least <= number <= most:
        raise ValueError(f"is not from {least} to {most}")
    return number


def nflog_group(text: str) -> int:
    """The number of an NFLOG group."""
    return whole_number(text, least=0, most=HIGHEST_GROUP)


def moment(text: str) -> Moment:
    """``now``, ``-10m``, ``@EPOCH`` (seconds, also with a fraction) or ISO 8601 (no offset: local time)."""
    if text == "now":
        return Moment(0, relative=True)
    if text.startswith("-"):
        return Moment(-int(duration(text[1:])) * _SECOND_US, relative=True)
    if epoch := _EPOCH.fullmatch(text):
        seconds, fraction = epoch.groups(default="")
        return Moment(int(seconds) * _SECOND_US + int(fraction.ljust(9, "0")[:6]), relative=False)
    try:
        when = datetime.fromisoformat(text).astimezone()
        us = int(when.timestamp()) * _SECOND_US + when.microsecond
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError("is no time: write now, -10m, @1700000000 or 2026-01-31T12:00:00") from error
    if us < 0:
        raise ValueError("lies before 1970")
    return Moment(us, relative=False)


def path(text: str) -> Path:
    """A path that the system can take; whether something is there is for its user to find out."""
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError as error:
        raise ValueError("holds characters that no path can have") from error
    if not text:
        raise ValueError("is empty")
    if "\0" in text:
        raise ValueError("holds a NUL byte, which no path can have")
    if size > _PATH_BYTES:
        raise ValueError(f"is longer than a path can be ({_PATH_BYTES} bytes)")
    return Path(text)


def network(text: str) -> Network:
    """``10.244.0.0/16`` or ``fd00:10:244::/56``: the address must be the network's first."""
    if "/" not in text or "%" in text:
        raise ValueError("is no address range: write it as 10.244.0.0/16 or fd00:10:244::/56")
    try:
        range_ = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError("is no address range: write it as 10.244.0.0/16 or fd00:10:244::/56") from error
    if range_.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"has address bits beyond its length: did you mean {range_}?")
    return range_


def address(text: str) -> tuple[str, int] | None:
    """``HOST:PORT`` or ``[IPV6]:PORT`` → host without brackets, port (0: any free one); ``off`` → None."""
    if text.lower() == "off":
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("is no HOST:PORT: write 127.0.0.1:9877, [::1]:9877, 0.0.0.0:9877 (every interface) or off")
    if not _PORT.fullmatch(port) or int(port) > 65_535:
        raise ValueError(f"has no port number from 0 to 65535 after its last colon: {quoted(port)}")
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise ValueError("holds no IPv6 address between its brackets") from error
        return host[1:-1], int(port)
    if ":" in host:
        raise ValueError("has an IPv6 address without brackets: write [::1]:9877")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"has no host name or address before its colon: {quoted(host)}")
    return host, int(port)


def server_url(text: str) -> str:
    """The API server's address, ``https://HOST:PORT``; a path is kept, as proxies have one."""
    reason = "is no server address: write https://HOST:PORT"
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(reason)
    try:
        url = urlsplit(text)
        usable = url.scheme in ("https", "http") and bool(url.hostname) and url.port != 0
    except ValueError as error:
        raise ValueError(reason) from error
    if not usable or url.query or url.fragment:
        raise ValueError(reason)
    if url.username is not None:
        raise ValueError("carries a user name: credentials belong into the kubeconfig")
    return text.rstrip("/")


def checked(source: str, text: str, convert: Callable[[str], T]) -> T:
    """``convert(text)``; what it refuses becomes a :class:`SettingsError` that names ``source``."""
    try:
        return convert(text)
    except ValueError as error:
        raise SettingsError(f"{source}: {quoted(text)} {error}") from error


def prefix(
    text: str,
    verdict: Verdict = Verdict.DROP,
    verdicts: tuple[tuple[str, Verdict], ...] = (),
    *,
    limited: bool = False,
    cut_at: int = 0,
) -> PrefixRule:
    """A log prefix as the firewall rule has it, or a pattern of some; blanks at its ends do not count."""
    text = text.strip()
    if not text:
        raise ValueError("is empty: a prefix names the rules whose lines count")
    if not text.isprintable():
        raise ValueError("holds control characters, which no log prefix can have")
    rule = PrefixRule(text, verdict, verdicts, limited, cut_at)
    pattern = compiled(rule)
    if len("".join(pattern.constants).encode()) > _PREFIX_BYTES:
        raise ValueError(f"is longer than the {_PREFIX_BYTES} bytes that the kernel takes")
    return rule
