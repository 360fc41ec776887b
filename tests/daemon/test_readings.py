"""What is read of the parts of a run at a scrape. All of it, of a run that works: tests/test_monitoring.py."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kiptail.daemon.metrics import Metrics
from kiptail.daemon.observer import Reading
from kiptail.daemon.readings import Readings
from kiptail.daemon.report import Report
from kiptail.daemon.wiring import Explanations
from kiptail.events.journaling import RecordCounts
from kiptail.events.progress import Progress
from kiptail.events.tally import Labels, Tally
from kiptail.flows.counter import Intake, LineCounter
from kiptail.flows.ledger import Ledger
from kiptail.netfilter.prefixes import Prefixes, PrefixRule
from kiptail.pods.stats import IndexStats
from tests.support.clock import own_clock

T0 = 1_800_000_000
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)


class OpenFlows(SimpleNamespace):
    """One with three open flows."""

    def __len__(self) -> int:
        return 3


class Counted(NamedTuple):
    """What explains flows, and whom it asks, after some of both."""

    explainer: Any = SimpleNamespace(results=Counter(denied=2, refused=1))
    asker: Any = SimpleNamespace(requests=Counter({("networkpolicies", "answered"): 3, ("namespaces", "refused"): 4}))


def readings(
    *,
    explained: bool = False,
    token_trouble: str = "",
    damaged: bool = False,
    all_netns: bool = False,
    intake: Intake | None = None,
    tally: Tally | None = None,
    ulogd_runs: dict[str, bool] | None = None,
) -> dict[str, list[Reading]]:
    """By name, of parts that have counted something."""
    journal: Any = SimpleNamespace(
        counts=SimpleNamespace(
            scanned=9, wanted=8, untrusted=2, unreadable=1, missed=0, lost=0, reopened=0, suppressed=0, overruns=0
        )
    )
    intake = intake or Intake(untrusted=3, drops={("drop", "TCP"): 4})
    follower: Any = SimpleNamespace(intake=intake, trouble="")
    records = RecordCounts(written=6, failed=7, left_out=8)
    progress = Progress(
        unposted=1, unattributed=2, ended=3, ambiguous=4, reattributed=5, trouble="", records=records
    )  # fmt: skip
    poster: Any = SimpleNamespace(progress=progress)
    ledger: Any = OpenFlows(folded=Counter(src=6), denied=7, untold=8)
    index: Any = SimpleNamespace(ready=lambda: True, stats=lambda: IndexStats(pods=5, age_s=0.5))
    if tally is None:
        tally = Tally()
        tally._counts[Labels("drop", "TCP", "sent", "a", "b")] = 4
    ulogd: Any = SimpleNamespace(trouble="", runs=ulogd_runs or {})
    report = Report(journal=journal, follower=follower, poster=poster, index=index, ulogd=ulogd)
    report.all_netns = all_netns
    report.lag = 1.5
    report.renewal = SimpleNamespace(trouble=token_trouble)
    found: dict[str, list[Reading]] = {}
    for reading in Readings(
        journal=journal,
        follower=follower,
        ledger=ledger,
        poster=poster,
        index=index,
        tally=tally,
        report=report,
        damaged=damaged,
        explanations=cast(Explanations, Counted()) if explained else None,
    ).read():
        found.setdefault(reading.name, []).append(reading)
    return found


def test_entries_that_are_not_trusted_are_counted_wherever_that_turned_out() -> None:
    entries = {reading.labels["outcome"]: reading.value for reading in readings()["kiptail_journal_entries"]}
    assert entries == {"scanned": 9, "wanted": 8, "untrusted": 5, "unreadable": 1, "unparsed": 0, "expired": 0}


def test_units_of_ulogd_are_up_or_down_where_that_is_known() -> None:
    found = readings(ulogd_runs={"a.service": True, "b.service": False})["kiptail_nflog_unit_up"]
    assert [(r.labels, r.value, r.counter) for r in found] == [
        ({"unit": "a.service"}, 1, False),
        ({"unit": "b.service"}, 0, False),
    ]
    assert "kiptail_nflog_unit_up" not in readings()


def test_drops_are_told_by_verdict_and_by_namespace() -> None:
    found = readings()
    assert [(r.value, r.labels) for r in found["kiptail_drops"]] == [(4, {"verdict": "drop", "protocol": "TCP"})]
    (by_namespace,) = found["kiptail_pod_drops"]
    assert (by_namespace.value, by_namespace.labels["namespace"], by_namespace.labels["peer_namespace"]) == (
        4,
        "a",
        "b",
    )


def test_drops_are_told_by_workload_where_they_are_tallied_so() -> None:
    tally = Tally(workloads=True)
    tally._counts[Labels("drop", "TCP", "sent", "a", "b", "deploy/web", "sts/db")] = 4
    (by_workload,) = readings(tally=tally)["kiptail_pod_drops"]
    assert (by_workload.labels["src_workload"], by_workload.labels["dst_workload"]) == ("deploy/web", "sts/db")
    (by_namespace,) = readings()["kiptail_pod_drops"]
    assert "src_workload" not in by_namespace.labels


def test_drops_are_counted_by_the_policy_that_the_line_names() -> None:
    policies = {("a/deny", "drop"): 3, ("a/deny", "reject"): 1, ("b c", "drop"): 2, ("b\x1bc", "drop"): 4}
    found = readings(intake=Intake(policies=policies))
    assert [(r.labels["policy"], r.labels["verdict"], r.value) for r in found["kiptail_policy_drops"]] == [
        ("a/deny", "drop", 3),
        ("a/deny", "reject", 1),
        ("b c", "drop", 6),
    ], "what looks alike is one: a page that has a label set twice is refused"
    assert "kiptail_policy_drops" not in readings()


def test_policies_are_a_bounded_number_of_label_sets_and_their_sums_are_exact() -> None:
    prefixes = Prefixes([PrefixRule("{verdict} by {policy}:")])
    lines = LineCounter(prefixes, Ledger(), own_clock(lambda: T0), expire_after=None)
    for number in range(1_200):
        for verdict in ("drop", "reject", "accept"):
            line = LINE.format(prefix=f"{verdict} by p-{number % 600}:")
            lines.count([line], [T0 * 1_000_000])
    metrics = Metrics()
    metrics.read_from(lambda: readings(intake=lines.intake)["kiptail_policy_drops"])
    text = generate_latest(metrics.registry).decode()
    (family,) = [f for f in text_string_to_metric_families(text) if f.name == "kiptail_policy_drops"]
    values = {(s.labels["policy"], s.labels["verdict"]): s.value for s in family.samples if s.name.endswith("_total")}
    others = {verdict: value for (policy, verdict), value in values.items() if policy == "other"}
    assert (len(values) - len(others), set(others)) == (500, {"drop", "reject", "accept"})
    assert {value for (policy, _), value in values.items() if policy != "other"} == {2.0}
    assert sum(values.values()) == 3 * 1_200
    assert lines.intake.drops == {(verdict, "TCP"): 1_200 for verdict in ("drop", "reject", "accept")}


def test_explanations_and_what_they_cost_are_counted_where_they_are_wanted() -> None:
    found = readings(explained=True)
    assert {reading.labels["result"]: reading.value for reading in found["kiptail_explanations"]} == {
        "denied": 2, "allowed": 0, "unknown": 0, "refused": 1
    }  # fmt: skip
    asked = {(r.labels["resource"], r.labels["result"]): r.value for r in found["kiptail_policy_requests"]}
    assert len(asked) == 8
    assert {key: value for key, value in asked.items() if value} == {
        ("networkpolicies", "answered"): 3, ("namespaces", "refused"): 4
    }  # fmt: skip
    assert not {name for name in readings() if "expla" in name or "policy_req" in name}


def test_folded_drops_are_told_of_both_ends() -> None:
    folded = {reading.labels["side"]: reading.value for reading in readings()["kiptail_drops_folded"]}
    assert folded == {"src": 6, "dst": 0}


def test_flow_records_are_counted_by_what_became_of_them() -> None:
    found = {reading.labels["result"]: reading.value for reading in readings()["kiptail_flow_records"]}
    assert found == {"written": 6, "failed": 7, "left_out": 8}


def test_what_goes_up_and_down_is_a_gauge() -> None:
    found = readings()
    gauges = {name: reading.value for name, (reading, *_) in found.items() if not reading.counter}
    assert (gauges["kiptail_journal_lag_seconds"], gauges["kiptail_flows_open"]) == (1.5, 3)
    assert "kiptail_sides_denied" not in gauges


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"token_trouble": "refused"}, "kiptail_token_unrenewable"),
        ({"damaged": True}, "kiptail_state_damaged"),
        ({"all_netns": True}, "kiptail_nf_log_all_netns"),
    ],
)
def test_what_is_wrong_is_one(how: dict[str, Any], name: str) -> None:
    assert [reading.value for reading in readings()[name]] == [0]
    assert [reading.value for reading in readings(**how)[name]] == [1]
