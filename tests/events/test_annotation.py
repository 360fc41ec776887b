"""What an Event says of its flow for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.annotation import ANNOTATION, ANNOTATION_LIMIT, flow_annotation
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.sink import ApiSink
from kiptail.events.writer import Result, deliver
from kiptail.flows.flow import Spread
from kiptail.kube.api import KubeApi
from kiptail.pods.ownership import PodRef
from tests.apiserver import ApiServer
from tests.events.test_delivery import Desk
from tests.support.drops import SERVER, STYLE, drop_event, flow_of


def noted(peer: Endpoint = SERVER, *, end: str = "src", **key: Any) -> dict[str, Any]:
    """The annotation's object, of a flow with this key."""
    document = json.loads(flow_annotation(flow_of(**key), end, peer, STYLE))
    assert isinstance(document, dict)
    return document


def test_it_is_one_compact_object_in_which_nothing_changes_from_packet_to_packet() -> None:
    text = flow_annotation(flow_of(3, last=1e9), "src", SERVER, STYLE)
    assert text == (
        '{"src":"10.0.0.1","dst":"10.0.0.2","protocol":"TCP","port":8080,"direction":"sent","verdict":"drop",'
        '"prefix":"calico-drop:","peer":{"kind":"pod","namespace":"team-b","name":"server"},"node":"worker-3"}'
    )
    assert flow_annotation(flow_of(9_000, last=2e9), "src", SERVER, STYLE) == text


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (Endpoint(Kind.NOBODY, "192.0.2.1"), {"kind": "address"}),
        (Endpoint(Kind.NOBODY, "192.0.2.1", name="db.example.com"), {"kind": "dns", "name": "db.example.com"}),
        (Endpoint(Kind.NOBODY, "192.0.2.1", name="node/worker-3"), {"kind": "node", "name": "worker-3"}),
        (
            Endpoint(Kind.NOBODY, "10.96.0.1", name="service default/kubernetes"),
            {"kind": "service", "namespace": "default", "name": "kubernetes"},
        ),
        (
            Endpoint(Kind.AMBIGUOUS, "10.0.0.2", (PodRef("team-a", "old", "1"), PodRef("team-a", "new", "2"))),
            {"kind": "ambiguous", "names": ["team-a/old", "team-a/new"]},
        ),
    ],
)
def test_the_peer_is_what_it_is_known_to_be(peer: Endpoint, said: dict[str, Any]) -> None:
    assert noted(peer)["peer"] == said


def test_what_there_is_has_a_key_and_nothing_else_does() -> None:
    said = noted(end="dst", reply=True, policy="team-b/deny", verdict="reject")
    assert (said["direction"], said["reply"], said["policy"], said["verdict"]) == (
        "received",
        True,
        "team-b/deny",
        "reject",
    )
    ping = noted(protocol="ICMP", port=None, icmp_type=8, icmp_code=0, prefix="")
    assert ping["icmp"] == {"type": 8, "code": 0}
    assert not {"port", "prefix", "reply", "policy", "limited", "isolated_by"} & ping.keys()
    folded = json.loads(flow_annotation(replace(flow_of(dst=""), spread=Spread()), "src", SERVER, STYLE))
    assert folded["peer"] == {"kind": "several"}
    assert "dst" not in folded
    limited = replace(STYLE, limited=frozenset({"calico-drop:"}))
    text = flow_annotation(flow_of(), "dst", SERVER, limited, isolated_by=["team-b/deny", "team-b/web"])
    assert json.loads(text)["limited"] is True
    assert json.loads(text)["isolated_by"] == ["team-b/deny", "team-b/web"]


def test_the_longest_of_what_can_be_left_out_goes_first() -> None:
    flow = flow_of(policy="p" * 200, prefix="é" * 120)
    names = [f"team-b/{'n' * 200}{number}" for number in range(9)]
    said = json.loads(flow_annotation(flow, "src", SERVER, STYLE, isolated_by=names))
    assert "isolated_by" not in said
    assert (said["policy"], said["prefix"], said["node"]) == ("p" * 200, "é" * 120, "worker-3")
    crowd = Endpoint(Kind.AMBIGUOUS, "10.0.0.2", tuple(PodRef("team-a", f"{'p' * 200}{n}", str(n)) for n in range(20)))
    assert noted(crowd)["peer"] == {"kind": "ambiguous"}


@given(
    prefix=st.text(max_size=130),
    policy=st.text(max_size=3_000),
    name=st.text(max_size=3_000),
    node=st.text(max_size=3_000),
    isolated_by=st.lists(st.text(max_size=600), max_size=12),
)
def test_it_is_json_within_its_limit_whatever_there_is_to_say(
    prefix: str, policy: str, name: str, node: str, isolated_by: list[str]
) -> None:
    flow = flow_of(prefix=prefix, policy=policy, protocol=name, src="fd00::" + "f" * 39, port=65_535)
    peer = Endpoint(Kind.NOBODY, "10.0.0.2", name=name)
    text = flow_annotation(flow, "src", peer, replace(STYLE, node_name=node), isolated_by=isolated_by)
    assert len(text.encode()) <= ANNOTATION_LIMIT
    assert text.isascii()
    assert text.isprintable()
    said = json.loads(text)
    assert (said["direction"], said["port"]) == ("sent", 65_535)
    assert None not in said.values()
    assert text == flow_annotation(flow, "src", peer, replace(STYLE, node_name=node), isolated_by=isolated_by)


def test_each_write_of_an_event_has_it() -> None:
    desk = Desk()
    tracked = desk.add(count=3)
    desk.send()
    for event in desk.server.events.values():
        assert json.loads(event["metadata"]["annotations"][ANNOTATION])["src"] == tracked.flow.key.src
    tracked.flow.count += 1
    tracked.endpoints["dst"] = Endpoint(Kind.NOBODY, tracked.flow.key.dst, name="db.example.com")
    desk.delivery.plan(tracked)
    desk.clock.now += 60.0
    desk.send()
    (sender,) = (event for event in desk.server.events.values() if event["involvedObject"]["name"] == "client")
    assert json.loads(sender["metadata"]["annotations"][ANNOTATION])["peer"]["name"] == "db.example.com"


def test_the_api_server_has_the_newest_and_what_others_have_annotated(server: ApiServer, tmp_path: Path) -> None:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "kubeconfig"))
    sink = ApiSink(api)
    old, new = drop_event("web-0"), drop_event("web-0", isolated_by=["team-b/deny"])

    def stored() -> dict[str, str]:
        (event,) = server.events()
        annotations: dict[str, str] = event["metadata"]["annotations"]
        return annotations

    try:
        # An earlier version posted it, without.
        bare = drop_event("web-0", annotated=False)
        sink.create(bare)
        api.patch_event("team-a", bare["metadata"]["name"], {"metadata": {"annotations": {"example.com/seen": "yes"}}})
        # It is there already, by an earlier try.
        outcome = deliver(sink, old, known=False, may_recreate=True)
        assert (outcome.operation, outcome.result) == ("update", Result.OK)
        assert stored() == {"example.com/seen": "yes"} | old["metadata"]["annotations"]
        assert deliver(sink, new, known=True, may_recreate=True).result is Result.OK
        assert stored() == {"example.com/seen": "yes"} | new["metadata"]["annotations"]
    finally:
        api.close()


def test_workloads_and_the_ports_name_have_keys_and_go_before_what_matters() -> None:
    peer = SERVER._replace(pods=(SERVER.pods[0]._replace(workload="deploy/server"),))
    text = flow_annotation(flow_of(), "src", peer, STYLE, workload="cronjob/backup", port_name="http")
    said = json.loads(text)
    assert (said["workload"], said["peer_workload"], said["port_name"]) == ("cronjob/backup", "deploy/server", "http")
    assert said["peer"] == {"kind": "pod", "namespace": "team-b", "name": "server"}
    long = flow_annotation(
        flow_of(policy="é" * 250), "src", peer, STYLE, workload="x" * 900, port_name="http", isolated_by=["n" * 290] * 2
    )
    assert len(long) <= ANNOTATION_LIMIT
    assert "workload" not in json.loads(long) or "policy" not in json.loads(long)
    assert json.loads(long)["port"] == 8080
