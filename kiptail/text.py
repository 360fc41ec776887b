"""Text for people: foreign text made safe, spans of time, plurals (pure)."""

from __future__ import annotations

__all__ = ["FOREIGN_TEXT_LIMIT", "ago", "one_line", "plural", "span"]

#: Foreign text (a server's message, a path, a log line) is cut at this many characters in an error.
FOREIGN_TEXT_LIMIT = 300
#: What is nearer than this, in seconds, is now.
_JUST_NOW = 1.0


def one_line(text: str, limit: int = FOREIGN_TEXT_LIMIT) -> str:
    """``text`` without control characters and cut at ``limit`` characters: safe for a terminal and a log."""
    cut = text[: 4 * limit]
    printable = cut if cut.isprintable() else "".join(c if c.isprintable() else " " for c in cut)
    flat = " ".join(printable.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def span(seconds: float) -> str:
    """``3 days``, ``1 hour``, ``90 minutes``: rounded, in the largest unit of which it is one, or two and more."""
    seconds = abs(seconds)
    count, unit, size = round(seconds), "second", 1
    for larger, factor in (("minute", 60), ("hour", 60), ("day", 24)):
        if count != factor and count < 2 * factor:
            break
        size *= factor
        count, unit = round(seconds / size), larger
    return plural(count, unit)


def plural(count: int, noun: str, several: str = "") -> str:
    """``1 rule``, ``2 rules``; ``several`` is the plural where an s does not make it."""
    return f"{count} {noun if count == 1 else several or noun + 's'}"


def ago(then: float, now: float) -> str:
    """``3 days ago``, ``just now``, ``in 5 minutes``."""
    if abs(then - now) < _JUST_NOW:
        return "just now"
    return f"{span(now - then)} ago" if then <= now else f"in {span(then - now)}"
