"""Profiles as text for people (pure): a list of them, and one explained, with what its samples say."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from kiptail.config.profile import READING_KEYS, Profile, Sample
from kiptail.netfilter.log_text import LogText
from kiptail.netfilter.patterns import VERDICT
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, compiled
from kiptail.text import one_line

__all__ = ["explained", "listed", "reading_of"]

_WIDTH = 100
#: The longest line of a description, and the longest sample, in characters.
_LONGEST = 1_000
#: What the kernel prints behind a prefix.
_PACKET = (
    "IN=eth0 OUT=eth1 SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=40000 DPT=80"
    " WINDOW=64240 RES=0x00 SYN URGP=0 "
)


def listed(profiles: Iterable[Profile]) -> str:
    """A line for each."""
    rows = [(one.name, _summary(one), _origin(one)) for one in profiles]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return "".join(f"{name:<{widths[0]}}  {summary:<{widths[1]}}  {origin}\n" for name, summary, origin in rows)


def explained(profile: Profile) -> tuple[str, bool]:
    """The page, and whether each sample reads as the profile says."""
    lines = [f"{profile.name} ({_origin(profile)})", ""]
    for paragraph in profile.description.splitlines():
        lines += _wrapped(paragraph)
    lines += ["", *_wrapped(f"Applies to: {' '.join(profile.applies_to.split())}"), "", "Prefixes:"]
    lines += [f"  {one_line(rule.text)}  → {_meaning(rule)}" for rule in profile.prefixes] or ["  none"]
    well = True
    if profile.samples:
        lines += ["", "Samples:"]
        prefixes = Prefixes(profile.prefixes)
        for sample in profile.samples:
            reading = reading_of(sample, prefixes)
            lines += [f"  {one_line(sample.text, _LONGEST)}", f"    {_shown(reading)}"]
            if reading != sample.reading:
                well = False
                lines.append(f"    the profile says otherwise: {_shown(sample.reading)}")
    return "\n".join(lines) + "\n", well


def reading_of(sample: Sample, prefixes: Prefixes) -> Mapping[str, object]:
    """What `kiptail parse` says of the sample that follows from its prefix; empty where it has none."""
    answers = LogText(prefixes).read(sample.text if sample.whole_line else sample.text + _PACKET)
    return {key: value for answer in answers[:1] for key, value in answer.items() if key in (*READING_KEYS, "error")}


def _summary(profile: Profile) -> str:
    return one_line(profile.description.splitlines()[0], 120)


def _origin(profile: Profile) -> str:
    return one_line(str(profile.file)) if profile.file else "shipped"


def _wrapped(paragraph: str) -> list[str]:
    return textwrap.wrap(one_line(paragraph, _LONGEST), _WIDTH, break_on_hyphens=False)


def _meaning(rule: PrefixRule) -> str:
    return ", ".join(_meanings(rule))


def _meanings(rule: PrefixRule) -> Iterator[str]:
    if VERDICT not in compiled(rule).holes:
        yield rule.verdict
    else:
        words = [f"{one_line(word)} is {verdict}" for word, verdict in rule.verdicts]
        yield "what the line says" + (f" ({', '.join(words)})" if words else "")
    if rule.limited:
        yield "logged at a limited rate"
    if rule.cut_at:
        yield f"cut at {rule.cut_at} characters"


def _shown(reading: Mapping[str, object]) -> str:
    return one_line(json.dumps(reading), _LONGEST) if reading else "is not read: no prefix of the profile is in it"
