"""What is said of facts about the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kiptail.check.facts import Answer, ClusterFacts, Finding, Level, Life, Need
from kiptail.check.findings.cluster import cluster_findings
from kiptail.credentials.identity import Identity
from kiptail.kube.rights import Right, Wanted
from kiptail.text import ago, span

NOW = 1_800_000_000.0
DAY = 86_400.0
LIST_PODS = Wanted(Right("list", "pods", "so"))
PATCH_EVENTS = Wanted(Right("patch", "events", "so x"))
RENEW = Wanted(Right("create", "serviceaccounts/token", "so", optional=True, called="renew its token"))
GOOD = ClusterFacts(
    "/etc/kiptail/kubeconfig",
    server="https://s:1",
    identity=Identity("u"),
    life=Life("token", NOW - DAY, NOW + 29 * DAY),
    answer=Answer("ok", "v1.36.0", 0.2, 0.5),
    needs=(Need(LIST_PODS, True),),
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
    (
        "untrusted", {"answer": Answer("untrusted", "bad CA", remedy="put it there")}, Level.PROBLEM, "bad CA",
        "put it there",
    ),
    ("401", {"answer": Answer("unauthorized", "401")}, Level.PROBLEM, "401", "renew it: `kiptail kubeconfig`"),
    ("away", {"answer": Answer("unreachable", "refused")}, Level.PROBLEM, "refused", "--server"),
    ("a minute", {"answer": Answer("ok", "v", 60.0, 1.0)}, Level.WARNING, "1 minute behind", "timedatectl"),
    ("an hour", {"answer": Answer("ok", "v", -3_590.0, 1.0)}, Level.PROBLEM, "1 hour ahead of", "timedatectl"),
    ("a right", {"needs": (Need(PATCH_EVENTS, False),)}, Level.PROBLEM, "may not patch events, so", "manif"),
    ("optional", {"needs": (Need(RENEW, False),)}, Level.WARNING, "may not renew its token, so", "manifests"),
    ("cannot ask", {"needs": (Need(LIST_PODS, None),)}, Level.WARNING, "may not ask", "system:basic-user"),
    ("no pods", {"node_pods": 0}, Level.PROBLEM, "no pod runs on a node named n1", "--node-name"),
    (
        "no list", {"node_pods": None, "node_trouble": "403"}, Level.WARNING, "could not be listed: 403",
        "run `kiptail check` again",
    ),
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


SPANS = [
    (0.0, "0 seconds"), (0.6, "1 second"), (59.0, "59 seconds"), (60.0, "1 minute"), (90.0, "90 seconds"),
    (119.6, "2 minutes"), (3_598.0, "1 hour"), (3_600.0, "1 hour"), (5_400.0, "90 minutes"), (7_190.0, "2 hours"),
    (86_000.0, "1 day"), (DAY, "1 day"), (1.5 * DAY, "36 hours"), (2 * DAY - 5, "2 days"), (29.9 * DAY, "30 days"),
    (-60.0, "1 minute"),
]  # fmt: skip


@pytest.mark.parametrize(("seconds", "told"), SPANS)
def test_a_time_reads_as_one_would_say_it(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_what_is_near_is_now() -> None:
    assert [ago(NOW + offset, NOW) for offset in (-0.9, 0.0, 0.9)] == ["just now"] * 3
    assert (ago(NOW - 1, NOW), ago(NOW + 1, NOW)) == ("1 second ago", "in 1 second")
    (expired,) = bad(replace(GOOD, life=Life("token", 1, NOW - 0.4)))
    assert expired.text.startswith("the token expired just now, ")


def test_a_missing_right_of_a_user_whom_nobody_knows() -> None:
    (finding,) = bad(replace(GOOD, identity=Identity(), needs=(Need(PATCH_EVENTS, False),)))
    assert finding.remedy.startswith("bind this credential's user to the ClusterRole kiptail")
