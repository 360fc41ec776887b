"""What a report says, whatever it is written as (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from kiptail.netfilter.protocols import icmp_name, protocol_name
from kiptail.report.ends import By
from kiptail.report.moments import Moments
from kiptail.report.tally import Bars, Flow, FlowId, Tally
from kiptail.report.trial import Outcome, Trial
from kiptail.text import one_line

__all__ = ["Group", "Report", "pair_of", "policy_of", "port_of", "report_of", "top", "verdict_of"]

#: How much is shown of a text that a log line holds, in characters.
TEXT_LIMIT = 200
#: Texts that are made once: flows are many, ports and policies are few.
_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class Report:
    """The packets of a period."""

    #: The period, µs since the epoch: as it was asked for, else by the first and the last packet; None without any.
    from_us: int | None
    to_us: int | None
    packets: int
    #: Those with the most packets first.
    flows: Sequence[Flow]
    bars: Bars
    moments: Moments
    #: What is not in the sums, a sentence each.
    remarks: Sequence[str]
    #: What would become of each flow with other policies; None where that was not asked.
    trial: Mapping[FlowId, Outcome] | None = None


@dataclass(slots=True)
class Group:
    """Flows that are added up under one label."""

    label: tuple[str, ...]
    packets: int = 0
    last_us: int = 0
    flows: list[Flow] = field(default_factory=list)


def report_of(tally: Tally, remarks: Iterable[str], trial: Trial | None = None) -> Report:
    """The report of what was counted; ``trial`` is asked about each flow."""
    flows = sorted(tally.flows.values(), key=_rank)
    since_us, until_us = tally.period
    return Report(
        from_us=min((flow.first_us for flow in flows), default=None) if since_us is None else since_us,
        to_us=max((flow.last_us for flow in flows), default=None) if until_us is None else until_us,
        packets=tally.packets,
        flows=flows,
        bars=tally.bars,
        moments=tally.moments,
        remarks=(*remarks, *(trial.remarks() if trial is not None else ())),
        trial=trial.outcomes(flow.id for flow in flows) if trial is not None else None,
    )


def _rank(flow: Flow) -> tuple[int, int, str, str, str]:
    return -flow.count, flow.first_us, flow.id.src.address, flow.id.dst.address, str(flow.id.port)


def top(flows: Iterable[Flow], label: Callable[[FlowId], tuple[str, ...]]) -> list[Group]:
    """The flows by label, those with the most packets first."""
    groups: dict[tuple[str, ...], Group] = {}
    for flow in flows:
        name = label(flow.id)
        group = groups.get(name)
        if group is None:
            group = groups[name] = Group(name)
        group.packets += flow.count
        group.flows.append(flow)
        group.last_us = max(group.last_us, flow.last_us)
    return sorted(groups.values(), key=lambda group: (-group.packets, group.label))


def pair_of(by: By) -> Callable[[FlowId], tuple[str, ...]]:
    """Who sent, and for whom it was."""
    return lambda one: (one.src.label(by), one.dst.label(by))


def port_of(one: FlowId) -> tuple[str, ...]:
    """``5432/TCP``, ``ICMP echo-request``, ``GRE``: as one text."""
    return _port(one.protocol, one.port, one.icmp_type, one.icmp_code, one.reply)


def policy_of(one: FlowId) -> tuple[str, ...]:
    """The policy that the log line names, else its prefix; as one text."""
    return _policy(one.policy or one.prefix)


@lru_cache(_REMEMBERED)
def _port(
    protocol: str, port: int | None, icmp_type: int | None, icmp_code: int | None, reply: bool
) -> tuple[str, ...]:
    name = one_line(protocol_name(protocol), TEXT_LIMIT)
    if port is not None:
        return (f"{port}/{name}{' (replies)' if reply else ''}",)
    if icmp_type is not None:
        return (f"{name} {icmp_name(protocol, icmp_type, icmp_code)}",)
    return (name or "(others)",)


@lru_cache(_REMEMBERED)
def _policy(text: str) -> tuple[str, ...]:
    return (one_line(text, TEXT_LIMIT) or "(others)",)


def verdict_of(one: FlowId) -> tuple[str, ...]:
    """What became of the packet, as one text."""
    return (one.verdict,)
