"""An explanation as text for people, and as the JSON that ``kiptail explain`` promises (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kiptail.policies.ends import Connection, End, Outside, address_of, shown
from kiptail.policies.explanation import EndAnswer, Explanation
from kiptail.policies.misses import Miss, port_text
from kiptail.policies.selector import listed
from kiptail.text import one_line

__all__ = ["as_json", "as_lines", "notes_of"]

#: What is listed of policies, and of rules that do not admit, at each end.
_MOST_POLICIES = 10
_MOST_MISSES = 30
_REASON = 400
_NOTE = 8_000


def as_json(answer: Explanation) -> dict[str, Any]:
    """The contract of ``--output json``."""
    return {
        "allowed": answer.allowed,
        "ends": [
            {
                "direction": end.verdict.direction,
                "pod": end.verdict.pod.ref,
                "isolated_by": [policy.ref for policy in end.verdict.isolated_by],
                "allowed_by": [policy.ref for policy in end.verdict.allowed_by],
                "allowed": end.verdict.allowed,
                "misses": [
                    {"policy": miss.policy, "rule": miss.rule, "reason": one_line(miss.reason, _REASON)}
                    for miss in end.misses
                ],
            }
            for end in answer.ends
        ],
        "suggestion": answer.suggestion.manifests,
        "notes": notes_of(answer),
    }


def notes_of(answer: Explanation) -> list[str]:
    """The notes, each once, safe for a terminal."""
    return list(dict.fromkeys(one_line(note, _NOTE) for note in answer.notes))


def as_lines(answer: Explanation) -> Iterator[str]:
    """The verdict first, then each end, then what the answer hangs on."""
    yield f"{'allowed' if answer.allowed else 'denied'}: {_asked(answer.connection, answer.family)}"
    for end in answer.ends:
        yield ""
        yield from _end(end)
    notes = notes_of(answer)
    if notes:
        yield ""
        yield from (f"note: {note}" for note in notes)


def _asked(connection: Connection, family: int | None) -> str:
    ends = " → ".join(_called(end, family) for end in (connection.source, connection.destination))
    port = port_text(connection)
    return f"{ends} on port {port}" if port else f"{ends}, traffic without ports (ICMP)"


def _called(end: End, family: int | None) -> str:
    if isinstance(end, Outside):
        return shown(end.address)
    address = address_of(end, family)
    return f"{end.ref} ({shown(address)})" if address is not None else end.ref


def _end(end: EndAnswer) -> Iterator[str]:
    verdict = end.verdict
    whose = f"{verdict.direction} of {verdict.pod.ref}"
    if not verdict.isolated_by:
        yield f"{whose}: allowed, no NetworkPolicy selects it"
        return
    if verdict.allowed_by:
        yield f"{whose}: allowed by NetworkPolicy {_policies(end, admitting=True)}"
        return
    word = f"allowed, for {verdict.exempt}" if verdict.allowed else "denied"
    yield f"{whose}: {word}; isolated by NetworkPolicy {_policies(end, admitting=False)}"
    for policy in verdict.isolated_by[:_MOST_POLICIES]:
        if not policy.rules(verdict.direction):
            yield f"  {policy.ref}: has no {verdict.direction} rule"
    for miss in _nearest(end):
        yield f"  {miss.policy}, rule {miss.rule}: {one_line(miss.reason, _REASON)}"
    if len(end.misses) > _MOST_MISSES:
        yield f"  and {len(end.misses) - _MOST_MISSES} more rules, which are further from it"


def _nearest(end: EndAnswer) -> list[Miss]:
    """As many as are shown, in the order of the rules."""
    by_distance = sorted(range(len(end.misses)), key=lambda at: end.misses[at].distance)
    return [end.misses[at] for at in sorted(by_distance[:_MOST_MISSES])]


def _policies(end: EndAnswer, *, admitting: bool) -> str:
    policies = end.verdict.allowed_by if admitting else end.verdict.isolated_by
    return listed((policy.ref for policy in policies), _MOST_POLICIES)
