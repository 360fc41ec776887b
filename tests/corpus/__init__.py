"""Log lines with what they say, written by hand beside each: every bug report adds a line.

A file holds, apart from comments (``#``) and empty lines, a log line as it is, its last blank included, and
below it, indented, ``=> {…}``: the keys of ``kiptail parse`` that the line has (``prefix`` is all the text
before the kernel's own part), ``"ack": true`` and ``"reset": true`` where the TCP flags ACK and RST are set; or
``{"error": …}`` with the reason, and the prefix where there is a kernel part. A log line with bytes that an editor
would not keep is a Python bytes literal, ``b'…'``, decoded as messages are (bytes that are no UTF-8 become ``\\xNN``).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiptail.netfilter.parser import PacketDrop, Unparsed

HERE = Path(__file__).parent

#: The fields of a PacketDrop, in their order.
_KEYS = (
    *("prefix", "in", "out", "src", "dst", "protocol"),
    *("src_port", "dst_port", "icmp_type", "icmp_code", "ack", "reset"),
)


@dataclass(frozen=True)
class Sample:
    """One log line and its reading; ``where`` is its file and line number."""

    where: str
    line: str
    expected: dict[str, Any]


def samples(of: str = "kernel") -> list[Sample]:
    """All log lines of all files, in order: the kernel's, or ulogd's."""
    folder = HERE / "ulogd" if of == "ulogd" else HERE
    return [sample for file in sorted(folder.glob("*.txt")) for sample in _read(file)]


def as_dict(found: PacketDrop | Unparsed) -> dict[str, Any]:
    """A reading as the files write it."""
    if isinstance(found, Unparsed):
        prefix = {} if found.prefix is None else {"prefix": found.prefix}
        return {"error": found.reason, **prefix}
    said = {name: value for name, value in zip(_KEYS, found, strict=True) if value not in ("", None)}
    return {"prefix": found.prefix, **{name: value for name, value in said.items() if value is not False}}


def _read(file: Path) -> Iterator[Sample]:
    line = ""
    # Not splitlines(): it takes more than "\n" for the end of a line.
    for number, text in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if text.startswith("  => "):
            yield Sample(f"{file.name}:{number - 1}", line, json.loads(text.removeprefix("  => ")))
        elif text and not text.startswith("#"):
            line = _decoded(text) if text.startswith("b'") else text


def _decoded(literal: str) -> str:
    message = ast.literal_eval(literal)
    assert isinstance(message, bytes)
    return message.decode("utf-8", errors="backslashreplace")
