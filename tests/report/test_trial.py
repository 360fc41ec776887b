"""Which recorded drops other NetworkPolicies would admit: as the naive evaluator says, or that nobody can say."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiptail.errors import SettingsError
from kiptail.report.as_html import as_html
from kiptail.report.as_text import Screen, as_text
from kiptail.report.ends import By, End
from kiptail.report.records import as_csv, as_json
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import FlowId, Tally
from kiptail.report.trial import Outcome, Trial
from tests.report.test_flow_records import LINE, T0
from tests.support.fuzzing import cases
from tests.support.policies import (
    OUTSIDE,
    Cluster,
    clusters,
    naive_end,
    namespace,
    objects_of,
    policy,
    workload_pod,
)
from tests.support.reported import reported, settings_of, written_journal

CLIENT = workload_pod("client", "10.0.0.1", labels={"app": "client"})
WEB = workload_pod("web", "10.0.0.2", namespace="team-b", labels={"app": "web"})
NAMESPACES = (namespace("team-a", team="a"), namespace("team-b", team="b"))
ISOLATED = policy("deny", namespace="team-b", ingress=[])
OPENED = policy(
    "allow",
    namespace="team-b",
    ingress=[
        {"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}], "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    ],
)


def flow(src: End, dst: End, port: int | None = 80, protocol: str = "TCP", **more: Any) -> FlowId:
    known = {"icmp_type": None, "icmp_code": None, "reply": False, "prefix": "drop:", "verdict": "drop", "policy": ""}
    return FlowId(src, dst, protocol, port, **(known | more))


def end_of(obj: Any, address: str = "") -> End:
    if isinstance(obj, str):
        return End(obj)
    metadata = obj["metadata"]
    return End(address or obj["status"]["podIP"], metadata["namespace"], metadata["name"])


def outcome(one: FlowId, *objects: Any) -> Outcome:
    return Trial(objects_of(*objects)).outcomes([one])[one]


@given(clusters(), st.integers(0, 2**32))
@settings(max_examples=cases(60), deadline=None)
def test_it_is_as_a_naive_evaluation_says(cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    trial = Trial(cluster.objects())
    pods = [each for each in cluster.pods if not each["spec"].get("hostNetwork")]
    for _ in range(40):
        source, destination = chance.choice([*pods, *OUTSIDE]), chance.choice([*pods, *OUTSIDE])
        if source == destination or (isinstance(source, str) and isinstance(destination, str)):
            continue
        version = chance.choice([4, 6])
        addresses = [_address(each, version) for each in (source, destination)]
        if not all(addresses):
            continue
        protocol, port = chance.choice([("TCP", 80), ("UDP", 53), ("SCTP", 8080), ("ICMP", None)])
        ends = [end_of(each, address) for each, address in zip((source, destination), addresses, strict=True)]
        icmp = {"icmp_type": 8 if version == 4 else 128, "icmp_code": 0} if port is None else {}
        spelled = protocol if port is not None or version == 4 else "ICMPv6"
        one = flow(*ends, port, spelled, **icmp)
        named = (protocol, port) if port is not None else (None, None)
        naive = [
            naive_end(cluster, direction, (source, destination), (addresses[0], addresses[1]), named)
            for direction in ("egress", "ingress")
        ]
        denying = sorted({name for each in naive if each is not None and each[0] and not each[1] for name in each[0]})
        found = trial.outcomes([one])[one]
        assert found.verdict == ("denied" if denying else "admitted"), (one, found)
        assert sorted(filter(None, found.why.split(", "))) == denying


def _address(end: Any, version: int) -> str:
    texts = [end] if isinstance(end, str) else [each["ip"] for each in end["status"]["podIPs"]]
    return next((text for text in texts if (":" in text) == (version == 6)), "")


A, B = end_of(CLIENT), end_of(WEB)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (flow(A, B, reply=True), "replies: policies are about connections"),
        (
            flow(A, B, None, "ICMP", icmp_type=3, icmp_code=1),
            "ICMP messages that begin nothing: policies are about connections",
        ),
        (flow(End("192.0.2.7"), End("192.0.2.8")), "neither end is a pod: no NetworkPolicy has a say"),
        (flow(A, End("", name="(several)")), "one of several pods or addresses is at an end"),
        (flow(A, End("10.0.0.9", name="team-b/x or team-b/y")), "one of several pods or addresses is at an end"),
        (flow(A, End("10.0.0.9", "team-b", name="x or 7 others")), "one of several pods or addresses is at an end"),
        (
            flow(A, End("10.0.0.9", "team-b", "gone")),
            "a pod's labels are not known: it is not among the pods that are there",
        ),
        (
            flow(A, End("10.96.0.1", name="service team-b/web")),
            "a Service's address is at an end: policies see the pod behind it",
        ),
        (
            flow(A, End("10.0.0.77")),
            "an address of the pods' range is no known pod's: whose it was is not known",
        ),
    ],
)
def test_what_cannot_be_said_is_not_guessed(one: FlowId, why: str) -> None:
    assert outcome(one, CLIENT, WEB, *NAMESPACES, ISOLATED, OPENED) == Outcome("unknown", why)


def test_the_labels_of_a_namespace_matter_only_where_they_decide() -> None:
    assert outcome(flow(A, B), CLIENT, WEB, ISOLATED, OPENED).why == "the labels of namespace team-a are not known"
    assert outcome(flow(A, B), CLIENT, WEB, ISOLATED) == Outcome("denied", "team-b/deny")
    assert outcome(flow(A, B), CLIENT, WEB, *NAMESPACES, ISOLATED, OPENED) == Outcome("admitted")


def test_addresses_that_pods_can_have_are_configured() -> None:
    import ipaddress  # noqa: PLC0415 - only here

    one = flow(A, End("10.7.0.1"))
    objects = objects_of(CLIENT, *NAMESPACES, ISOLATED)
    assert Trial(objects).outcomes([one])[one].verdict == "admitted"
    assert Trial(objects, [ipaddress.ip_network("10.7.0.0/16")]).outcomes([one])[one].verdict == "unknown"


def lines() -> list[tuple[int, str]]:
    """Three packets that would be admitted, one that would not, and one of which nobody can say."""
    said = [LINE] * 3 + [
        LINE.replace("DPT=80", "DPT=443"),
        LINE.replace("10.0.0.1", "192.0.2.9").replace("0.0.2", "9.9.9"),
    ]
    return [(T0 + number * 1_000_000, text) for number, text in enumerate(said)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    written_journal(tmp_path / "a.journal", lines(), [])
    items = [CLIENT, WEB, *NAMESPACES, policy("passed-over", namespace="team-b", ingress=[{}])]
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": items}))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "deny.json").write_text(json.dumps(ISOLATED))
    (tmp_path / "policies" / "allow.yaml").write_text(json.dumps(OPENED))
    (tmp_path / "policies" / "README").write_text("no policy")
    return tmp_path


def tried(place: Path, *paths: Path, **flags: object) -> Report:
    return reported(settings_of(place, "drop:", **flags), policies=paths or (place / "policies",))


def test_text_says_what_would_be_let_through_and_what_is_in_the_way(place: Path, caplog: Any) -> None:
    report = tried(place)
    assert not caplog.records, "namespaces and policies in the list of pods are of use"
    text = "".join(as_text(report, by=By.POD, most=10, screen=Screen(100, blocks=False)))
    assert (
        "with these policies: 3 packets in 1 flow would be admitted, 1 packet in 1 flow still denied;"
        " of 1 packet in 1 flow it cannot be said\n"
    ) in text
    rows = text[text.index("would be\n") :].splitlines()[1:]
    assert [row.split("Z  ")[1] for row in rows] == [
        "admitted",
        "denied by team-b/allow, team-b/deny",
        "unknown: neither end is a pod: no NetworkPolicy has a say",
    ]


def test_json_csv_and_the_page_say_it_of_each_flow_where_it_was_asked(place: Path) -> None:
    report, plain = tried(place), reported(settings_of(place, "drop:"))
    flows = json.loads("".join(as_json(report)))["flows"]
    assert [(each["with_policies"], each["why"]) for each in flows] == [
        ("admitted", ""),
        ("denied", "team-b/allow, team-b/deny"),
        ("unknown", "neither end is a pod: no NetworkPolicy has a say"),
    ]
    rows = list(csv.DictReader(io.StringIO("".join(as_csv(report)), newline="")))
    assert [row["with_policies"] for row in rows] == ["admitted", "denied", "unknown"]
    assert "3 packets in 1 flow would be admitted" in as_html(report, by=By.POD)
    assert "with_policies" not in "".join([*as_json(plain), *as_csv(plain)])


def test_a_file_can_be_named_and_the_later_one_counts(place: Path) -> None:
    (place / "open.yaml").write_text(json.dumps(policy("deny", namespace="team-b", ingress=[{}])))
    assert _verdicts(tried(place, place / "policies" / "deny.json")) == ["denied", "denied", "unknown"]
    assert _verdicts(tried(place, place / "policies" / "deny.json", place / "open.yaml")) == [
        "admitted", "admitted", "unknown",
    ]  # fmt: skip


def _verdicts(report: Report) -> list[str]:
    assert report.trial is not None
    return [report.trial[each.id].verdict for each in report.flows]


def test_what_was_given_without_policies_isolates_nothing_and_is_said(place: Path) -> None:
    (place / "none.json").write_text(json.dumps({"kind": "List", "items": []}))
    report = tried(place, place / "none.json")
    assert _verdicts(report) == ["admitted", "admitted", "unknown"]
    assert "no NetworkPolicy is in the files of --policies: nothing is isolated" in report.remarks


def test_policies_that_cannot_be_used_or_are_of_another_kind_are_said(place: Path) -> None:
    (place / "bad.json").write_text(
        json.dumps(policy("bad", namespace="team-b", podSelector=3))
        + json.dumps({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "x"}})
    )
    said = tried(place, place / "policies", place / "bad.json").remarks
    assert any("as NetworkPolicy team-b/bad" in remark for remark in said)
    assert any("Cilium (cilium.io)" in remark for remark in said)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none", None, "cannot be read: No such file"),
        ("bad.yaml", "{", "is no JSON, and"),
        ("number.json", "3", "holds something that is no Kubernetes object"),
        ("empty/", None, "holds no file that ends with .json, .yaml, .yml"),
    ],
)
def test_what_is_no_such_file_is_refused(place: Path, name: str, text: str | None, said: str) -> None:
    if name.endswith("/"):
        (place / name).mkdir()
    elif text is not None:
        (place / name).write_text(text)
    with pytest.raises(SettingsError, match=f"^--policies: .*{said}"):
        tried(place, place / name)


def test_a_report_without_flows_can_be_tried(place: Path) -> None:
    from kiptail.report.ends import Ends  # noqa: PLC0415 - only here
    from kiptail.report.tally import Period  # noqa: PLC0415 - likewise

    report = report_of(Tally(Ends(None, {}), Period()), [], Trial(objects_of()))
    assert "".join(as_text(report, by=By.POD, most=3, screen=Screen(80, blocks=True))).startswith("0 packets")
