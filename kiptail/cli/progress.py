"""How far reading a journal has got, shown on a terminal when it takes longer."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

import click

__all__ = ["Progress"]

#: Reading that takes no longer shows nothing, in seconds.
_AFTER = 1.0
#: The bar's steps.
_STEPS = 1_000


class Progress:
    """A bar on the standard error, where that is a terminal, with the rate and the time that is left.

    Entered before reading begins; it is called with the part that has been read (0 to 1) and the lines in that.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._bar: Any = None
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if kind is None:
                self._bar.update(_STEPS - self._steps)
            self._bar.__exit__(kind, error, trace)

    def __call__(self, part: float, lines: int) -> None:
        """So much has been read."""
        took = time.monotonic() - self._begun
        if took < _AFTER or not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = click.progressbar(
                length=_STEPS, label="reading the journal", file=sys.stderr, item_show_func=lambda rate: rate
            ).__enter__()
        steps = min(max(self._steps, int(part * _STEPS)), _STEPS - 1)
        self._bar.update(steps - self._steps, f"{lines / took:,.0f} lines/s")
        self._steps = steps
