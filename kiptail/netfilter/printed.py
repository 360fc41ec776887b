"""Whether text is what the kernel's packet logging prints behind a rule's prefix (pure).

The kernel logs users' text as well: names of processes, executables, directories. Where such a text reads like a log
line, something else of the kernel's message stands before or behind it; so a line counts only if nothing does.

The forms are those of net/netfilter/nf_log_syslog.c of Linux, given by its format strings, of all versions since 3.10.
They are a little wider than what it prints: a number may have any value, and what belongs to one protocol may stand
behind another, which a later kernel may know by name. A line that is cut anywhere is still in form, and one whose last
blank somebody stripped is such a line.

Two things :mod:`kiptail.flows.known_lines` relies on: whether a line is in form does not hang on which digits stand in
it, and what is behind its first LEN= is in form or not whatever stands before.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

__all__ = ["is_printed"]


class _Form(NamedTuple):
    """Patterns for a piece of a line: all of it, and any beginning of it, from nothing to all."""

    whole: str
    cut: str


#: What stands for a conversion of the kernel's: the characters, and how many at least and at most.
_CONVERSIONS = {
    "%u": ("[0-9]", "1", ""),
    "%x": ("[0-9a-f]", "1", ""),
    "%X": ("[0-9A-F]", "1", ""),
    # %pM, and as many bytes as a header has.
    "%M": ("[0-9a-f:]", "0", ""),
    # %pI4 or %pI6, which has all 39 characters.
    "%I": ("[0-9a-f.:]", "7", "39"),
    # An interface's 15 bytes, each of which may be one that is not UTF-8 and has become ``\\xNN``.
    "%s": (r"[^ \t-\r/:]", "0", "60"),
    # A protocol's number, or its name.
    "%P": ("[0-9A-Za-z-]", "1", "16"),
}


def _print(text: str) -> _Form:
    """What a call of nf_log_buf_add() with the format ``text`` prints."""
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
    return _Form(whole, f"(?:{'|'.join([whole, *reversed(beginnings)])})")


def _all_of(*forms: _Form) -> _Form:
    """One after the other."""
    whole, cut = "", ""
    for form in reversed(forms):
        cut = f"(?:{form.whole}{cut}|{form.cut})" if cut else form.cut
    for form in forms:
        whole += form.whole
    return _Form(whole, cut)


def _one_of(*forms: _Form) -> _Form:
    return _Form(f"(?:{'|'.join(form.whole for form in forms)})", f"(?:{'|'.join(form.cut for form in forms)})")


def _perhaps(form: _Form) -> _Form:
    return _Form(f"(?:{form.whole})?", form.cut)


def _any_number_of(form: _Form) -> _Form:
    return _Form(f"(?:{form.whole})*", f"(?:{form.whole})*{form.cut}")


def _each_perhaps(*texts: str) -> _Form:
    return _all_of(*(_perhaps(_print(text)) for text in texts))


_INCOMPLETE = _print("INCOMPLETE [%u bytes] ")

#: nf_log_dump_tcp_header() behind the ports.
_TCP = _all_of(
    _each_perhaps("SEQ=%u ACK=%u "),
    _print("WINDOW=%u RES=0x%x "),
    _each_perhaps("AE ", "CWR ", "ECE ", "URG ", "ACK ", "PSH ", "RST ", "SYN ", "FIN "),
    _print("URGP=%u "),
    _perhaps(_one_of(_print("OPT (%X) "), _print("OPT (TRUNCATED)"))),
)


def _payload(*in_error: _Form) -> _Form:
    """From PROTO= on; ``in_error`` is the packet in an ICMP error, if it has one."""
    icmp = _all_of(
        _print("TYPE=%u CODE=%u "),
        _perhaps(
            _one_of(
                _INCOMPLETE,
                _print("ID=%u SEQ=%u "),
                _print("PARAMETER=%u "),
                _all_of(
                    _each_perhaps("GATEWAY=%I ", "POINTER=%x "), *map(_perhaps, in_error), _each_perhaps("MTU=%u ")
                ),
            )
        ),
    )
    ports = _all_of(_print("SPT=%u DPT=%u "), _perhaps(_one_of(_print("LEN=%u "), _TCP)))
    return _all_of(_print("PROTO=%P "), _perhaps(_one_of(_INCOMPLETE, ports, icmp, _print("SPI=0x%x "))))


#: dump_ipv6_packet(): extension headers, and those that it returns at.
_FRAGMENT = _all_of(_print("FRAG:%u "), _each_perhaps("INCOMPLETE "), _print("ID:%x "))
_HEADER = _one_of(
    _FRAGMENT, _all_of(_print("OPT ( "), _perhaps(_one_of(_FRAGMENT, _print("AH SPI=0x%x "))), _print(") "))
)
_LAST_HEADER = _one_of(
    _print("TRUNCATED"),
    _all_of(
        _each_perhaps("OPT ( "),
        _one_of(_print("FRAG:TRUNCATED "), _print("Unknown Ext Hdr %u"), _print(")"), _print("AH )"), _print("ESP )")),
    ),
    _all_of(_print("OPT ( "), _one_of(_print("AH "), _print("ESP ")), _print("INCOMPLETE [%u bytes] )")),
    _print("OPT ( ESP SPI=0x%x )"),
)


def _packet(*in_error: _Form) -> _Form:
    """dump_ipv4_packet() and dump_ipv6_packet()."""
    payload = _perhaps(_payload(*in_error))
    version_4 = _all_of(
        _print("TOS=0x%X PREC=0x%X TTL=%u ID=%u "),
        _each_perhaps("CE ", "DF ", "MF ", "FRAG:%u "),
        _one_of(_print("TRUNCATED"), _all_of(_each_perhaps("OPT (%X) "), payload)),
    )
    version_6 = _all_of(
        _print("TC=%u HOPLIMIT=%u FLOWLBL=%u "), _any_number_of(_HEADER), _one_of(_LAST_HEADER, payload)
    )
    return _one_of(_print("TRUNCATED"), _all_of(_print("SRC=%I DST=%I LEN=%u "), _one_of(version_4, version_6)))


_MAC = _one_of(
    _all_of(_print("MAC=%M"), _each_perhaps(" TUNNEL=%I->%I"), _print(" ")),
    _all_of(_print("MACSRC=%M MACDST=%M "), _each_perhaps("VPROTO=%x VID=%u "), _print("MACPROTO=%x ")),
)
_ARP = _all_of(
    _print("ARP HTYPE=%u PTYPE=0x%x OPCODE=%u"),
    _perhaps(_one_of(_print(" INCOMPLETE [%u bytes]"), _print(" MACSRC=%M IPSRC=%I MACDST=%M IPDST=%I"))),
)


def _line() -> _Form:
    in_error = _all_of(_print("["), _packet(), _print("] "))
    packet = _all_of(_packet(in_error), _each_perhaps("UID=%u GID=%u ", "MARK=0x%x "))
    return _all_of(
        _print("IN=%s OUT=%s "),
        _each_perhaps("PHYSIN=%s ", "PHYSOUT=%s "),
        _perhaps(_MAC),
        _perhaps(_one_of(_ARP, packet)),
    )


# Compiled when the first line is asked about: that takes some milliseconds, and ten times as long for what is cut.
@functools.cache
def _whole() -> re.Pattern[str]:
    """Any line."""
    return re.compile(_line().whole)


@functools.cache
def _beginning() -> re.Pattern[str]:
    """Any beginning of any line."""
    return re.compile(_line().cut)


def is_printed(kernel_part: str) -> bool:
    """Whether the kernel prints ``kernel_part``, a line from its ``IN=`` on, or a longer line that begins with it."""
    return _whole().fullmatch(kernel_part) is not None or _beginning().fullmatch(kernel_part) is not None
