"""What the parts of a run count, read at each scrape; :mod:`kiptail.daemon.metrics` makes metrics of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Protocol

from kiptail.daemon.observer import Reading
from kiptail.daemon.report import Report
from kiptail.daemon.wiring import Explanations
from kiptail.events.poster import Poster
from kiptail.events.tally import Tally
from kiptail.flows.flow import ENDS
from kiptail.flows.intake import Follower
from kiptail.flows.known_lines import Line
from kiptail.flows.ledger import Ledger
from kiptail.journal.follow import Journal
from kiptail.pods.stats import IndexStats
from kiptail.text import one_line

__all__ = ["Index", "Readings"]


class Index(Protocol):
    """What is read of the pod index."""

    def ready(self) -> bool:
        """The pods that are followed are known."""

    def stats(self) -> IndexStats:
        """How large and how old it is, and what it cost."""


class Readings:
    """Reads what the parts keep anyway; counts nothing itself."""

    def __init__(
        self,
        *,
        journal: Journal[Line],
        follower: Follower,
        ledger: Ledger,
        poster: Poster,
        index: Index,
        tally: Tally,
        report: Report,
        damaged: bool,
        explanations: Explanations | None = None,
    ) -> None:
        """``damaged``: a state file was set aside at the start. ``explanations``: None where none are wanted."""
        self._journal = journal
        self._follower = follower
        self._ledger = ledger
        self._poster = poster
        self._index = index
        self._tally = tally
        self._report = report
        self._damaged = damaged
        self._explanations = explanations

    def read(self) -> Iterator[Reading]:
        """Everything that is counted, for a scrape."""
        counts, intake, progress = self._journal.counts, self._follower.intake, self._poster.progress
        ledger = self._ledger
        for outcome, value in (
            ("scanned", counts.scanned),
            ("wanted", counts.wanted),
            ("untrusted", counts.untrusted + intake.untrusted),
            ("unreadable", counts.unreadable),
            ("unparsed", intake.unparsed),
            ("expired", intake.expired),
        ):
            yield Reading("kiptail_journal_entries", "Kernel entries, by outcome.", value, {"outcome": outcome})
        for (verdict, protocol), value in list(intake.drops.items()):
            labels = {"verdict": verdict, "protocol": protocol}
            yield Reading("kiptail_drops", "Packets dropped, rejected, accepted or logged.", value, labels)
        for (policy, verdict), value in _by_label(intake.policies).items():
            text = "Packets by the policy that their log line names; those without one are left out."
            yield Reading("kiptail_policy_drops", text, value, {"policy": policy, "verdict": verdict})
        for reason, value in list(intake.ignored.items()):
            text = "Packets that filters leave out of everything else, by the filters' reasons."
            yield Reading("kiptail_drops_ignored", text, value, {"reason": reason})
        for reason, value in progress.muted.items():
            text = "Drops whose Event is left out, by why; each side by itself."
            yield Reading("kiptail_drops_muted", text, value, {"reason": reason})
        for kind, value in self._tally.items():
            text = "Drops that a pod sent or was to receive, by its namespace and the peer's; each side by itself."
            # Workloads only where they are wanted.
            labels = {name: label for name, label in kind._asdict().items() if label}
            yield Reading("kiptail_pod_drops", text, value, labels)
        for end in ENDS:
            text = "Drops that a folded Event counts, by the end that it is posted to."
            yield Reading("kiptail_drops_folded", text, ledger.folded[end], {"side": end})
        for name, text, value in (
            ("kiptail_missed_kernel_messages", "Kernel messages that journald missed.", counts.missed),
            ("kiptail_suppressed_nflog_lines", "Lines of ulogd that journald left out.", counts.suppressed),
            ("kiptail_nflog_overruns", "Times that ulogd lost packets.", counts.overruns),
            ("kiptail_journal_gaps", "Times that unread entries had been vacuumed.", counts.lost),
            ("kiptail_journal_reopens", "Times that the journal was opened anew.", counts.reopened),
            (
                "kiptail_sides_denied",
                "Ends of drops without an Event, as the node had too many new addresses.",
                ledger.denied,
            ),
            ("kiptail_drops_untold", "Drops without an Event at either end for that reason.", ledger.untold),
            (
                "kiptail_drops_ambiguous",
                "Drops of either of several pods, for which none is blamed.",
                progress.ambiguous,
            ),
            (
                "kiptail_flows_reattributed",
                "Times that who is at the end of a flow was put right.",
                progress.reattributed,
            ),
            ("kiptail_state_damaged", "State files that were damaged and set aside.", self._damaged),
        ):
            yield Reading(name, text, value)
        for result, value in asdict(progress.records).items():
            yield Reading("kiptail_flow_records", "Flow records, by result.", value, {"result": result})
        for name, text, gauge in (
            ("kiptail_journal_lag_seconds", "How far reading is behind the journal.", self._report.lag),
            ("kiptail_events_untold", "Events that were never written.", progress.unposted),
            ("kiptail_flows_unplaced", "Flows whose ends are undecided.", progress.unattributed),
            ("kiptail_flows_open", "Flows that go on.", len(ledger)),
            (
                "kiptail_flows_ended_untold",
                "Flows that have ended and whose last counts are not posted yet.",
                progress.ended,
            ),
            ("kiptail_state_unavailable", "1 while the state cannot be written.", bool(self._follower.trouble)),
            ("kiptail_index_ready", "1 once the pods that are followed are known.", self._index.ready()),
            (
                "kiptail_token_unrenewable",
                "1 while kiptail's own token cannot be renewed.",
                bool(self._report.token_trouble),
            ),
            ("kiptail_nf_log_all_netns", "1: any namespace can log under any prefix.", self._report.all_netns),
        ):
            yield Reading(name, text, gauge, counter=False)
        for unit, runs in list(self._report.ulogd.runs.items()):
            text = "1 while a unit that runs ulogd does, 0 while it does not."
            yield Reading("kiptail_nflog_unit_up", text, runs, {"unit": unit}, counter=False)
        yield from _index_readings(self._index.stats())
        if self._explanations is not None:
            yield from _explanation_readings(self._explanations)


def _by_label(policies: Mapping[tuple[str, str], int]) -> Mapping[tuple[str, str], int]:
    """Counts by policy, as a label shows it, and verdict: a page with one label set twice would be refused."""
    shown: dict[tuple[str, str], int] = {}
    for (policy, verdict), value in list(policies.items()):
        label = one_line(policy)
        shown[label, verdict] = shown.get((label, verdict), 0) + value
    return shown


def _explanation_readings(explanations: Explanations) -> Iterator[Reading]:
    for result in ("denied", "allowed", "unknown", "refused"):
        text = "Flows by what NetworkPolicies say of them, as far as that could be found out."
        yield Reading("kiptail_explanations", text, explanations.explainer.results[result], {"result": result})
    for resource in ("networkpolicies", "namespaces"):
        for result in ("answered", "unusable", "refused", "failed"):
            text = "Requests for the NetworkPolicies or the labels of a namespace."
            value = explanations.asker.requests[resource, result]
            yield Reading("kiptail_policy_requests", text, value, {"resource": resource, "result": result})


def _index_readings(stats: IndexStats) -> Iterator[Reading]:
    for how, pods in (("watch", stats.pods), ("look-up", stats.remote_pods)):
        yield Reading("kiptail_index_pods", "Pods that are known, by how.", pods, {"by": how}, counter=False)
    for name, text, gauge in (
        ("kiptail_index_age_seconds", "Since the API server last said anything about pods.", stats.age_s),
        ("kiptail_lookups_pending", "Addresses that wait for a look-up or a dual-stack list.", stats.pending),
    ):
        yield Reading(name, text, gauge, counter=False)
    for result in ("hit", "miss", "forbidden", "failed", "overflow"):
        value = stats.lookups.get(result, 0)
        yield Reading("kiptail_lookups", "Look-ups of pods by address, by result.", value, {"result": result})
    text = "Pods and lines of a watch that were not what they should be and were passed over."
    yield Reading("kiptail_index_refused", text, stats.refused)
    text = "Pods whose annotation about further addresses could not be read."
    yield Reading("kiptail_network_status_ignored", text, stats.malformed)
    yield Reading("kiptail_sweeps", "Times that all pods were read for second addresses.", stats.dual_stack_lists)
    yield Reading("kiptail_sweep_pods", "Pods that were read for that.", stats.dual_stack_pods)
    yield Reading("kiptail_sweep_seconds", "Seconds that this took.", stats.dual_stack_s)
