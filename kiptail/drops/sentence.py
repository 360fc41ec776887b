"""What can be read in the text of an Event about dropped packets (pure).

kiptail's own Events have the annotation as well; those of kube-iptables-tailer, which words them alike, have the text
alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kiptail.events.also import without_also
from kiptail.events.endpoint import RECEIVED, SENT
from kiptail.events.event import LIMITED, PROBES, WITHDRAWN

__all__ = ["Sentence", "is_withdrawn", "read_sentence"]

#: What is looked at of a text, in characters: kiptail's have 1,024 bytes.
_LOOKED_AT = 2_000
_TEXT = re.compile(
    r"Packets? (?P<verdict>dropped|rejected) when (?P<action>sending|receiving) (?P<what>traffic|a reply)"
    r"(?: (?:to|from) (?P<peer>.+?)(?: \((?P<address>[0-9A-Fa-f.:]{2,45})\))?)?"
    r"(?: (?:on|from) port (?P<port>[0-9]{1,5})(?:/(?P<protocol>[A-Za-z0-9-]{1,20}))?"
    r"(?: \((?:[a-z0-9-]{1,63}|a host port of [^()]{1,600})\))?)?"
    r"(?:, (?P<icmp>ICMP(?:v6)?) (?P<message>[^,:;()]{1,60}?(?: \([A-Za-z-]{1,40}\))?)"
    r"|, protocol (?P<other>[A-Za-z0-9-]{1,20}))?"
    r'(?:, by policy (?P<policy>"[^"]*"|\S+?)|, by policies (?P<policies>\S+?(?:, \S+?){1,2}))?'
    rf"(?P<ending>: .*|{re.escape(PROBES)})?"
)


class Sentence(NamedTuple):
    """What a text says; "" or None where it does not."""

    verdict: str = ""
    #: :data:`~kiptail.events.endpoint.SENT` or :data:`~kiptail.events.endpoint.RECEIVED`.
    direction: str = ""
    reply: bool = False
    #: A name, or the address where it has none.
    peer: str = ""
    address: str = ""
    port: int | None = None
    protocol: str = ""
    #: The ICMP message's name.
    icmp: str = ""
    #: Or policies, with commas.
    policy: str = ""
    why: str = ""


def is_withdrawn(text: str) -> bool:
    """The Event says that its packets count for another pod."""
    return text.endswith(WITHDRAWN)


def read_sentence(text: str) -> Sentence:
    """What ``text`` says; nothing where it is worded otherwise."""
    text = without_also(text[:_LOOKED_AT]).removesuffix(LIMITED)
    found = _TEXT.fullmatch(text)
    if found is None:
        return Sentence()
    return Sentence(
        verdict="drop" if found["verdict"] == "dropped" else "reject",
        direction=SENT if found["action"] == "sending" else RECEIVED,
        reply=found["what"] == "a reply",
        peer=found["peer"] or "",
        address=found["address"] or "",
        port=int(found["port"]) if found["port"] else None,
        protocol=found["protocol"] or found["icmp"] or found["other"] or "",
        icmp=(found["message"] or "").strip(),
        policy=(found["policy"] or found["policies"] or "").strip('"'),
        why=_why(found["ending"] or ""),
    )


def _why(ending: str) -> str:
    if ending == PROBES:
        return PROBES.strip(" ()")
    return ending.removeprefix(": ") if ending.startswith(": ") and not is_withdrawn(ending) else ""
