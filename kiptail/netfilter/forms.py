"""Patterns for what a program prints, made of its format strings (pure)."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Form", "all_of", "any_number_of", "each_perhaps", "formatted", "one_of", "perhaps"]


class Form(NamedTuple):
    """Patterns for a piece of a line: all of it, and any beginning of it, from nothing to all."""

    whole: str
    cut: str


#: What stands for a conversion, such as the kernel's: the characters, and how many at least and at most.
_CONVERSIONS = {
    "%u": ("[0-9]", "1", ""),
    "%x": ("[0-9a-f]", "1", ""),
    "%X": ("[0-9A-F]", "1", ""),
    # %pM, and as many bytes as a header has.
    "%M": ("[0-9a-f:]", "0", ""),
    # %pI4 or %pI6, which has all 39 characters.
    "%I": ("[0-9a-f.:]", "7", "39"),
    # inet_ntop(), which writes IPv6 addresses short.
    "%A": ("[0-9a-f.:]", "2", "45"),
    # An interface's 15 bytes, each of which may be one that is not UTF-8 and has become ``\\xNN``.
    "%s": (r"[^ \t-\r/:]", "0", "60"),
    # A protocol's number, or its name.
    "%P": ("[0-9A-Za-z-]", "1", "16"),
}


def formatted(text: str) -> Form:
    """What is printed by the format ``text``."""
    whole, beginnings = "", []
    for piece in re.split("(%[a-zA-Z])", text):
        if piece in _CONVERSIONS:
            chars, least, most = _CONVERSIONS[piece]
            beginnings.append(f"{whole}{chars}{{0,{most}}}")
            whole += f"{chars}{{{least},{most}}}"
        else:
            beginnings += [whole + re.escape(piece[:length]) for length in range(len(piece))]
            whole += re.escape(piece)
    # The longest first: it is the one unless the line is cut here.
    return Form(whole, f"(?:{'|'.join([whole, *reversed(beginnings)])})")


def all_of(*forms: Form) -> Form:
    """One after the other."""
    whole, cut = "", ""
    for form in reversed(forms):
        cut = f"(?:{form.whole}{cut}|{form.cut})" if cut else form.cut
    for form in forms:
        whole += form.whole
    return Form(whole, cut)


def one_of(*forms: Form) -> Form:
    """Any of them."""
    return Form(f"(?:{'|'.join(form.whole for form in forms)})", f"(?:{'|'.join(form.cut for form in forms)})")


def perhaps(form: Form) -> Form:
    """It, or nothing."""
    return Form(f"(?:{form.whole})?", form.cut)


def any_number_of(form: Form) -> Form:
    """It, again and again, or nothing."""
    return Form(f"(?:{form.whole})*", f"(?:{form.whole})*{form.cut}")


def each_perhaps(*texts: str) -> Form:
    """What these formats print, in this order, each of them or not."""
    return all_of(*(perhaps(formatted(text)) for text in texts))
