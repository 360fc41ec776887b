"""What ``iptables-save`` printed, as lines, words and options (pure).

It is read as iptables-restore(8) reads it: an option's argument is its argument, whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Option", "lines_of", "options_of"]

#: Options whose arguments iptables prints as they are, so that these can begin with a dash; and how many there are.
#: Those of which nothing is said end at the next option.
_ARGUMENTS = {
    **dict.fromkeys(("-s", "-d", "-p", "-i", "-o", "-m", "-j", "-g"), 1),
    **dict.fromkeys(("--source", "--destination", "--protocol", "--in-interface", "--out-interface"), 1),
    **dict.fromkeys(("--match", "--jump", "--goto"), 1),
    **dict.fromkeys(
        ("--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--nflog-group", "--log-level"), 1
    ),
    **dict.fromkeys(("--string", "--hex-string", "--name", "--helper", "--path", "--label", "--selctx"), 1),
    **dict.fromkeys(("--hashlimit-name", "--led-trigger-id", "--physdev-in", "--physdev-out", "--u32"), 1),
    **dict.fromkeys(("--bytecode", "--object-pinned", "--gateway", "--timeout", "--genre", "--condition"), 1),
    **dict.fromkeys(("--match-set", "--add-set", "--del-set", "--map-set", "--tcp-flags"), 2),
}
#: These names are printed as they are, without quotation marks also where they hold some.
_BARE = frozenset(("-j", "-g", "-i", "-o", "--physdev-in", "--physdev-out", "--match-set", "--add-set", "--del-set"))

_COUNTERS = re.compile(r"^\[\d+:\d+\] ")
#: What begins a line of its own, also where a quotation mark before was not closed.
_BEGINS = re.compile(r"-A |\[\d+:\d+\] -A |:\S+ |[*#]|COMMIT$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?= |$)', re.DOTALL)


class Option(NamedTuple):
    """An option of a rule, with its arguments."""

    #: With its dashes.
    name: str
    #: An exclamation mark stands before it.
    negated: bool
    values: tuple[str, ...]


def lines_of(text: str) -> Iterator[str]:
    """Lines, without counters; a comment may hold a line's end, and the rule goes on then."""
    begun = ""
    for line in text.split("\n"):
        if begun and not _BEGINS.match(line):
            begun += f"\n{line}"
        else:
            if begun:
                yield begun
            begun = _COUNTERS.sub("", line)
        if begun.startswith("-A ") and _is_open(begun):
            continue
        yield begun
        begun = ""
    if begun:
        yield begun


def _is_open(line: str) -> bool:
    """Whether a quotation mark is not closed."""
    if '"' not in line or not (line.count('"') % 2 or "\\" in line):
        return False
    return any(word is None for word in _words(line))


def _words(line: str) -> Iterator[tuple[str, bool] | None]:
    """Each word, and whether it stood in quotation marks; None before one whose quotation mark is not closed."""
    position, bare = 0, False
    while position < len(line):
        if line[position] == " ":
            position += 1
            continue
        if line[position] == '"' and not bare:
            quoted = _QUOTED.match(line, position)
            if quoted is not None:
                yield re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), True
                position = quoted.end()
                continue
            yield None
        end = line.find(" ", position)
        word = line[position:] if end < 0 else line[position:end]
        yield word, False
        bare = word in _BARE
        position += len(word)


def options_of(line: str) -> Iterator[Option]:
    """An exclamation mark belongs to the option after it."""
    name, negated, values, expected = "", False, list[str](), 0
    next_negated = False
    for read in _words(line):
        if read is None:
            continue
        word, quoted = read
        if expected:
            values.append(word)
            expected -= 1
        elif quoted or not _is_option(word):
            if word == "!" and not quoted:
                next_negated = True
            else:
                values.append(word)
        else:
            if name:
                yield Option(name, negated, tuple(values))
            name, negated, values, expected = word, next_negated, [], _ARGUMENTS.get(word, 0)
            next_negated = False
    if name:
        yield Option(name, negated, tuple(values))


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not word[1].isdigit()
