"""The whole answer: its notes, its text and its JSON."""

from __future__ import annotations

from typing import Any

from kiptail.policies.explanation import Explanation, explain
from kiptail.policies.words import as_json, as_lines, notes_of
from tests.support.policies import connection, namespace, objects_of, policy, workload_pod

WORKER = workload_pod("worker", "10.0.0.1", "fd00::1", labels={"app": "worker"})
WEB = workload_pod("web", "10.0.0.2", "fd00::2", namespace="team-b", labels={"app": "web"})
DENY = policy("default-deny", namespace="team-b")
RULE = {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}


def answer(*objects: Any, source: str = "team-a/worker", to: str = "team-b/web", port: str = "8080/TCP") -> Explanation:
    given = objects_of(namespace("team-a"), namespace("team-b"), *objects)
    return explain(connection(given, source, to, port), given)


def test_the_json_is_what_was_promised() -> None:
    web = policy("web", namespace="team-b", ingress=[RULE])
    document = as_json(answer(WORKER, WEB, DENY, web))
    (manifest,) = document.pop("suggestion")
    assert manifest["metadata"]["name"] == "web-from-worker-8080"
    reason = "is for pods of namespace team-b, the peer is in team-a; wants app=client, the peer has app=worker"
    assert document == {
        "allowed": False,
        "ends": [
            {
                "direction": "egress",
                "pod": "team-a/worker",
                "isolated_by": [],
                "allowed_by": [],
                "allowed": True,
                "misses": [],
            },
            {
                "direction": "ingress",
                "pod": "team-b/web",
                "isolated_by": ["team-b/default-deny", "team-b/web"],
                "allowed_by": [],
                "allowed": False,
                "misses": [{"policy": "team-b/web", "rule": 0, "reason": reason}],
            },
        ],
        "notes": [],
    }


def test_the_text_begins_with_the_verdict_and_says_why() -> None:
    lines = list(as_lines(answer(WORKER, WEB, DENY, policy("web", namespace="team-b", ingress=[RULE]))))
    assert lines == [
        "denied: team-a/worker (10.0.0.1) → team-b/web (10.0.0.2) on port 8080/TCP",
        "",
        "egress of team-a/worker: allowed, no NetworkPolicy selects it",
        "",
        "ingress of team-b/web: denied; isolated by NetworkPolicy team-b/default-deny, team-b/web",
        "  team-b/default-deny: has no ingress rule",
        "  team-b/web, rule 0: is for pods of namespace team-b, the peer is in team-a; wants app=client, the peer has"
        " app=worker",
    ]


def test_what_is_allowed_names_who_allows_it() -> None:
    lines = list(as_lines(answer(WORKER, WEB, DENY, policy("all", namespace="team-b", ingress=[{}]), port="")))
    assert lines[0] == "allowed: team-a/worker (10.0.0.1) → team-b/web (10.0.0.2), traffic without ports (ICMP)"
    assert "ingress of team-b/web: allowed by NetworkPolicy team-b/all" in lines
    assert lines[-1].startswith("note: allowed by the policies as they are now, so ")


def test_a_family_that_is_not_admitted_is_named() -> None:
    only6 = policy("six", namespace="team-b", ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}])
    made = answer(WORKER, WEB, only6)
    assert made.family == 6
    assert "over IPv4 (10.0.0.1 → 10.0.0.2) it is denied: an ipBlock is of one address family" in made.notes


def test_ends_without_a_family_in_common_cannot_connect() -> None:
    made = answer(
        workload_pod("six", "fd00::9"), workload_pod("web", "10.0.0.2", namespace="team-b"), source="team-a/six"
    )
    assert not made.allowed
    assert [end.verdict.allowed for end in made.ends] == [True, True]
    assert made.suggestion.manifests == []
    assert any("no address of the same family" in note for note in made.notes)


def test_pods_without_an_address_are_asked_about_by_their_labels() -> None:
    pending = workload_pod("pending", labels={"app": "client"}, phase="Pending")
    made = answer(
        pending,
        WEB,
        policy("web", namespace="team-b", ingress=[{"from": [{"namespaceSelector": {}}]}]),
        source="team-a/pending",
    )
    assert made.allowed
    assert any("team-a/pending has no address" in note for note in made.notes)
    made = answer(
        pending, workload_pod("web", namespace="team-b", labels={"app": "web"}), DENY, source="team-a/pending"
    )
    assert made.suggestion.manifests


def test_why_a_pods_own_node_gets_through_is_said() -> None:
    made = answer(WEB, DENY, source="198.51.100.1")
    assert made.allowed
    assert "traffic between a pod and its own node is always allowed" in made.notes
    assert any("is node/node-1's own address" in note for note in made.notes)
    assert any("allowed, for traffic between" in line for line in as_lines(made))


def test_two_outsiders_are_no_matter_of_policies() -> None:
    made = answer(source="192.0.2.7", to="192.0.2.8")
    assert made.allowed
    assert made.ends == []
    assert notes_of(made) == ["neither end is a pod: no NetworkPolicy has a say"]


def test_much_is_counted_in_text_and_whole_in_json() -> None:
    many = [policy(f"p{n:03}", namespace="team-b", ingress=[RULE] * 3) for n in range(50)]
    near = policy("p999", namespace="team-b", ingress=[{"ports": [{"port": 80}]}])
    made = answer(WORKER, WEB, *many, near)
    lines = list(as_lines(made))
    assert lines[-2] == "  team-b/p999, rule 0: allows 80/TCP, not 8080/TCP", "the nearest ones"
    assert lines[-1] == "  and 121 more rules, which are further from it"
    assert "and 41 more" in lines[4]
    assert len(as_json(made)["ends"][1]["misses"]) == 151


def test_whatever_labels_say_text_has_no_control_characters() -> None:
    odd = workload_pod("odd", "10.0.0.9", labels={"app": "\x1b[2J\n\u202e", "\x07key": "x" * 10_000})
    web = policy("web", namespace="team-b", ingress=[{"from": [{"namespaceSelector": {}, "podSelector": {
        "matchLabels": {"app": "\x1b]0;x\x07", "\x07key": "\x00"}}}]}])  # fmt: skip
    made = answer(odd, WEB, web, source="team-a/odd")
    for line in (*as_lines(made), *notes_of(made), as_json(made)["ends"][1]["misses"][0]["reason"]):
        assert line.isprintable()
        assert len(line) < 600
