"""Kernel log lines in text as people have it: from journalctl, dmesg, syslog's files or a collector (pure).

``kiptail parse`` reads that. A line may have a header of any kind; it may be a JSON document, or a line of one, or a
field (``MESSAGE=…``, ``msg="…"``), with the kernel's line in one of its texts; and it may stand for several, as
rsyslog's "message repeated 3 times: […]" does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from kiptail.netfilter.parser import MAX_LINE, Unparsed, split
from kiptail.netfilter.patterns import LONGEST
from kiptail.netfilter.prefixes import Prefixes
from kiptail.netfilter.reading import packet_of, to_json_dict
from kiptail.text import one_line

__all__ = ["LINE_LIMIT", "MOST_REPEATS", "LogText"]

#: Longest line that is read, in characters: a document holds a lot around a message.
LINE_LIMIT = 65_536
#: The most lines that one may say that it stands for: what it says of itself is only text.
MOST_REPEATS = 10_000
#: How deep documents in texts of documents, and values in values, are looked into.
_MOST_NESTED, _MOST_DEEP = 2, 8
#: How much of a text before a prefix is looked at, in characters.
_HEADER_END_LENGTH = 64
#: Of a prefix that nobody wanted, and of a line in an error, this much is shown.
_PREFIX_SHOWN, _LINE_SHOWN = 60, 1_000

# What a header ends with where no blank follows: a tag, a clock in brackets, a priority, the number of `grep -n`, a
# field's name, the length of an export's field, a quotation mark, what separates columns or ends the header of
# /dev/kmsg, the byte order mark before the message of RFC 5424.
_HEADER_END = re.compile(
    r"\s|kernel(?:\[\d{1,10}\])?:|<\d{1,3}>|\A\d{1,10}[:-]|(?:MESSAGE|message|msg|log|line)[=:]"
    r"|[]\"';,|\ufeff\0]"
)
#: Colours of a terminal: `dmesg --color=always` has one between the prefix and IN=.
_COLOUR = re.compile(r"\x1b\[[\d;]{0,16}m")
#: Texts of a document that hold what was logged, before any others.
_MESSAGE_KEYS = ("MESSAGE", "message", "msg", "log", "line", "textPayload")
#: A line of a document that was printed with line breaks, such as `journalctl -o json-pretty` does.
_MEMBER = re.compile(r"\A\s{0,64}\"(?:[^\"\\]|\\.){1,128}\"\s?:\s?(\S.*?),?\s{0,8}\Z", re.DOTALL)
_QUOTED_FIELD = re.compile(r"[\w.@-]{1,64}=(\"(?:[^\"\\]|\\.)*\")")
#: The same message once more, as it came in: `journalctl -o export` and `-o verbose`.
_RAW_FIELD = re.compile(r"\A\s{0,64}\"?SYSLOG_RAW\b")
#: rsyslog, which cuts the message at 800 bytes.
_REPEATED = re.compile(r"\bmessage repeated (\d{1,20}) times: \[")
#: Other syslog daemons: the line before this one.
_SAME_AGAIN = re.compile(r"(?:\A|\s)last message repeated (\d{1,20}) times?(?: ---)?\s{0,8}\Z")


class LogText:
    """Reads text line by line."""

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        #: Lines that looked like what the kernel's packet logging writes.
        self._logged = 0
        self._wanted = False
        self._first_prefix = ""
        self._last: dict[str, Any] | None = None

    def read(self, line: str) -> list[dict[str, Any]]:
        """What ``kiptail parse`` prints of the line: nothing, an object, or one for each packet that it stands for."""
        text = line[:LINE_LIMIT]
        answer, times = self._read(_COLOUR.sub("", text) if "\x1b" in text else text)
        self._last = answer
        if answer is None:
            return []
        self._wanted = True
        if "error" in answer:
            answer.setdefault("line", one_line(line, _LINE_SHOWN))
        answers = [answer] * min(times, MOST_REPEATS)
        if times > MOST_REPEATS:
            reason = f"repeated more often than {MOST_REPEATS} times: the rest is left out"
            answers.append({"error": reason, "line": one_line(line, _LINE_SHOWN)})
        return answers

    def remark(self) -> str:
        """One line for whoever wonders why nothing was printed, after all lines; "" where something was."""
        if self._wanted:
            return ""
        if not self._logged:
            return (
                "no line of the input looked like the kernel's packet logging (PREFIX IN=… OUT=… SRC=…):"
                " try `journalctl -k -o cat` or `dmesg`"
            )
        logged = "1 line" if self._logged == 1 else f"{self._logged} lines"
        first = self._first_prefix
        return f"{logged} of packet logging, none with a wanted prefix (the first has '{first}'): see --prefix"

    def _read(self, line: str) -> tuple[dict[str, Any] | None, int]:
        """The answer, and how many packets it stands for."""
        again = _SAME_AGAIN.search(line[-_HEADER_END_LENGTH:]) if "repeated" in line else None
        if again is not None and self._last is not None:
            return self._last, int(again[1])
        looked_like = False
        for candidate in _candidates(line, _MOST_NESTED):
            message, times = _unfolded(candidate)
            parts = split(message)
            if parts is None:
                continue
            if not (looked_like or self._logged):
                self._first_prefix = one_line(parts[0][-_PREFIX_SHOWN:])
            looked_like = True
            prefix = self._prefixes.ending(parts[0], _begins(parts[0]))
            if prefix is not None:
                self._logged += 1
                drop = packet_of(message, prefix)
                return ({"error": drop.reason} if isinstance(drop, Unparsed) else to_json_dict(drop, prefix)), times
        self._logged += looked_like
        return None, 0


def _begins(before: str) -> list[int]:
    """Where in ``before`` the prefix may begin: at its start, or behind a header."""
    first = max(0, len(before) - LONGEST)
    ends = (found.end() for found in _HEADER_END.finditer(before, max(0, first - _HEADER_END_LENGTH)))
    return [*([] if first else [0]), *(end for end in ends if end >= first)]


def _unfolded(text: str) -> tuple[str, int]:
    """The message that ``text`` repeats, and how many there were; else itself and 1."""
    found = _REPEATED.search(text) if "message repeated " in text else None
    if found is None:
        return text, 1
    # A blank ends each value, and rsyslog may have taken the last one.
    return text[found.end() :].rstrip().removesuffix("]"), int(found[1])


def _candidates(line: str, nested: int) -> Iterator[str]:
    """Texts that may be the kernel's line with a header, most likely first."""
    # A document can have the message as numbers, in a list.
    if (" OUT=" not in line and not ('"' in line and "[" in line)) or _RAW_FIELD.match(line):
        return
    if '"' in line:
        for value in _documents(line):
            for text in _texts(value, _MOST_DEEP):
                if nested:
                    yield from _candidates(text, nested - 1)
                else:
                    yield text
        for field in _QUOTED_FIELD.finditer(line):
            value = _json(field[1])
            if isinstance(value, str):
                yield value
    yield line[:MAX_LINE]


def _documents(line: str) -> Iterator[object]:
    """JSON in the line: an object, perhaps behind a header, or one member of an object."""
    begin = line.find("{")
    if begin >= 0:
        with suppress(ValueError, RecursionError):
            yield _DECODER.raw_decode(line, begin)[0]
    member = _MEMBER.match(line)
    if member is not None:
        yield _json(member[1])


def _json(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _texts(value: object, deep: int) -> Iterator[str]:
    """The texts in a document, those by the usual names first. journald writes bytes that are no text as numbers."""
    if isinstance(value, str):
        yield value
    elif deep and isinstance(value, dict):
        named = [value[key] for key in _MESSAGE_KEYS if key in value]
        yield from _all_texts([*named, *(of for key, of in value.items() if key not in _MESSAGE_KEYS)], deep)
    elif deep and isinstance(value, list):
        if value and all(type(element) is int and 0 <= element < 256 for element in value):
            yield bytes(value).decode("utf-8", "backslashreplace")
        else:
            yield from _all_texts(value, deep)


def _all_texts(values: Iterable[object], deep: int) -> Iterator[str]:
    for value in values:
        yield from _texts(value, deep - 1)


_DECODER = json.JSONDecoder(strict=False)
