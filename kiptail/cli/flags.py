"""Options as click's flags: made of the table in :mod:`kiptail.config.options`, for every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from kiptail.config.options import Option
from kiptail.config.values import checked

__all__ = ["flags", "merged", "value_of"]

_Value = TypeVar("_Value")


def flags(table: Iterable[Option[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a command these options' flags."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(list(table)):
            function = _flag(option)(function)
        return function

    return decorate


def merged(outer: Mapping[str, object], inner: Mapping[str, object]) -> dict[str, object]:
    """The flags of ``kiptail`` with those of its command, which win. An empty text is given, too, and refused later."""
    return {**outer, **{key: value for key, value in inner.items() if value not in (None, False, ())}}


def value_of(given: Mapping[str, Any], option: str, convert: Callable[[str], _Value]) -> _Value | None:
    """A flag's value; None where it was not given."""
    text = given.get(option)
    return None if text is None else checked(f"--{option}", text, convert)


def _flag(option: Option[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if option.switch:
        return click.option(option.flag, option.key, is_flag=True, help=option.help_text)
    return click.option(
        option.flag, option.key, multiple=option.repeatable, metavar=option.metavar, help=option.help_text
    )
