"""What an Event's text says of other pods that fare alike, read from it again (pure)."""

from __future__ import annotations

import re

from kiptail.events.event import LIMITED

__all__ = ["also_in", "without_also"]

#: What :func:`kiptail.events.event.message` says of other pods. No foreign text can end so: what has blanks in it is in
#: quotes.
_ALSO = re.compile(rf" \(also more than ([0-9,]{{1,9}}) other pods of [a-z0-9./-]+\)(?=(?:{re.escape(LIMITED)})?\Z)")


def also_in(text: str) -> int:
    """Of how many other pods an Event's text says that their packets fare alike; 0 where it does not."""
    found = _ALSO.search(text)
    return int(found[1].replace(",", "")) if found else 0


def without_also(text: str) -> str:
    """An Event's text without that."""
    found = _ALSO.search(text)
    return text if found is None else text[: found.start()] + text[found.end() :]
