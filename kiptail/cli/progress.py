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

    Entered before reading begins; it is called with the part that has been read and the lines in that. With 1 it ends,
    so that what is printed then has a line of its own.
    """

    def __init__(self, what: str = "lines") -> None:
        """``what`` is read: it is the rate that the bar shows."""
        self._what = what
        self._begun = time.monotonic()
        self._bar: Any = None
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(whole=kind is None)

    def __call__(self, part: float, lines: int) -> None:
        """So much has been read, from 0 to 1."""
        took = time.monotonic() - self._begun
        if part >= 1:
            self._close(whole=True)
        elif took >= _AFTER and sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(
                    length=_STEPS, label="reading the journal", file=sys.stderr, item_show_func=lambda rate: rate
                ).__enter__()
            steps = max(self._steps, int(part * _STEPS))
            self._bar.update(steps - self._steps, f"{lines / took:,.0f} {self._what}/s")
            self._steps = steps

    def _close(self, *, whole: bool) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            if whole:
                bar.update(_STEPS - self._steps)
            bar.__exit__(None, None, None)
