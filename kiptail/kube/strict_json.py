"""JSON that came over the network, read as strictly as the API server writes it (pure).

Python's reader takes more than that: UTF-16, halves of surrogate pairs, which no file and no request can hold,
``NaN``, numbers of any length, and texts that take a hundred times their size in memory.
"""

from __future__ import annotations

import json
import math

__all__ = ["MOST_VALUES", "parse"]

#: Commas and opening brackets in one text, at most: a value has one or two, and takes 250 bytes at most. A page of 250
#: ordinary pods has 130,000.
MOST_VALUES = 2_000_000
#: An int64 has no more characters.
_INT_LENGTH = 20


def parse(data: bytes) -> object:
    """The value. Of a key that comes twice the last one counts, as in Go. Raises ValueError, and nothing else."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        text = data.decode()
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # fails where a half has no other half
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _int(text: str) -> int:
    if len(text) > _INT_LENGTH:
        raise ValueError("a number that is too long")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(parse_int=_int, parse_float=_float, parse_constant=_constant)
