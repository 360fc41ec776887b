"""What is said of facts about the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kiptail.checkcluster import cluster_findings
from kiptail.checkfacts import Answer, ClusterFacts, Finding, Level, Life, Need

NOW = 1_800_000_000.0
DAY = 86_400.0
GOOD = ClusterFacts(
    "/etc/kiptail/kubeconfig",
    server="https://s:1",
    user="u",
    life=Life("token", NOW - DAY, NOW + 29 * DAY),
    answer=Answer("ok", "v1.36.0", 0.2, 0.5),
    needs=(Need("list pods", True, "so"),),
    node_name="n1",
    node_pods=3,
)


def bad(facts: ClusterFacts) -> list[Finding]:
    return [finding for finding in cluster_findings(facts, now=NOW) if finding.level is not Level.OK]


def test_all_well() -> None:
    assert bad(GOOD) == []


CASES: list[tuple[str, dict[str, Any], Level, str, str]] = [
    ("none", {"kubeconfig": ""}, Level.PROBLEM, "no kubeconfig is configured", "kiptail kubeconfig"),
    ("unusable", {"refusal": "is no YAML"}, Level.PROBLEM, "is no YAML", "kiptail kubeconfig"),
    ("insecure", {"verified": False}, Level.WARNING, "insecure-skip-tls-verify", "certificate-authority-data"),
    ("expired", {"life": Life("token", 1, NOW - 3 * DAY)}, Level.PROBLEM, "the token expired 3 days ago", "renew"),
    (
        "expires soon", {"life": Life("client certificate", 1, NOW + 7_200)}, Level.WARNING,
        "the client certificate expires in 2 hours", "renew",
    ),
    ("not yet", {"life": Life("token", NOW + 600, NOW + DAY)}, Level.PROBLEM, "not valid before", "clock"),
    ("untrusted", {"answer": Answer("untrusted", "bad CA")}, Level.PROBLEM, "bad CA", "cluster's CA"),
    ("401", {"answer": Answer("unauthorized", "401")}, Level.PROBLEM, "401", "renew the token"),
    ("away", {"answer": Answer("unreachable", "refused")}, Level.PROBLEM, "refused", "--server"),
    ("a minute", {"answer": Answer("ok", "v", 60.0, 1.0)}, Level.WARNING, "1 minute behind", "timedatectl"),
    ("an hour", {"answer": Answer("ok", "v", -4_000.0, 1.0)}, Level.PROBLEM, "1 hour ahead of", "timedatectl"),
    ("a right", {"needs": (Need("patch events", False, "so x"),)}, Level.PROBLEM, "may not patch events, so", "manif"),
    ("optional", {"needs": (Need("renew", False, "so", True),)}, Level.WARNING, "may not renew", "manifests"),
    ("cannot ask", {"needs": (Need("list pods", None, "so"),)}, Level.WARNING, "may not ask", "system:basic-user"),
    ("no pods", {"node_pods": 0}, Level.PROBLEM, "no pod runs on a node named n1", "--node-name"),
    ("no list", {"node_pods": None, "node_trouble": "403"}, Level.WARNING, "could not be listed: 403", "list pods"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "level", "told", "remedy"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_thing_that_is_wrong(changes: dict[str, Any], level: Level, told: str, remedy: str) -> None:
    (finding,) = bad(replace(GOOD, **changes))
    assert finding.level is level
    assert told in finding.text
    assert remedy in finding.remedy


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert bad(replace(GOOD, answer=Answer("ok", "v", 33.0, 4.0))) == []


def test_a_token_that_is_renewed_by_itself_may_end_soon() -> None:
    assert bad(replace(GOOD, life=Life("token", NOW - 3_000, NOW + 600))) == []


def test_odd_times_are_told_too() -> None:
    assert bad(replace(GOOD, life=Life("client certificate", 0.0, 1e300))) == []
