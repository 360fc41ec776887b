"""URLs of API servers and proxies: what can be one, and what of one may be shown (pure)."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from kiptail.text import one_line

__all__ = ["is_host", "shown_url", "split_url"]


def split_url(url: str) -> SplitResult:
    """The parts of a URL with a host and, perhaps, a port. Raises ValueError, without a word of it."""
    try:
        parts = urlsplit(url)
        usable = is_host(parts.hostname or "") and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[^\s\x00-\x1f]+", url):
        raise ValueError("it has no host, or no port, that can be")
    return parts


def shown_url(url: str) -> str:
    """A URL, or a text that should be one, for a message: without user and password, and what follows ``?`` or ``#``.

    Nobody knows where a password ends that holds one of ``/?#@``: all up to the last ``@`` is left out.
    """
    scheme = re.match(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?//", url)
    begin = scheme[0] if scheme else ""
    _, at, rest = url[len(begin) :].rpartition("@")
    return one_line(begin + ("…@" if at else "") + re.split(r"[?#]", rest)[0], 100)


def is_host(text: str) -> bool:
    """A name or an address, as a URL has it, but for an IPv6 address without its brackets."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?", text))
