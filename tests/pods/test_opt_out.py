"""What owners say of Events in an annotation, as long as it is known of their pods."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.clock.own import OwnClock
from kiptail.pods import opt_out as opt_out_module
from kiptail.pods.local import LocalPods
from kiptail.pods.opt_out import ANNOTATION, OptOut, OptOuts, opt_out, stronger
from kiptail.pods.other_nodes import NoOtherNodes
from kiptail.pods.owners import LiveOwners
from kiptail.pods.ownership import Interval, Ownership, PodRef
from kiptail.pods.pod import Pod
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.ranges import PodRanges
from kiptail.pods.remote import RemotePods
from kiptail.pods.snapshot import Collector, SnapshotIndex
from tests.support.pods import NoNames
from tests.support.pods import pod as pod_object

S = 1_000_000
T0 = 1_800_000_000 * S
IP = "10.0.0.1"


def pod(name: str = "web", said: OptOut | None = "", *, address: str = IP, uid: str = "") -> Pod:
    ref = PodRef("team-a", name, uid or f"uid-{name}")
    return Pod(f"key-{name}", ref, (address,), T0, T0, None, False, "here", (), opt_out=said)


def put(made: Ownership, *pods: Pod) -> None:
    for each in pods:
        made.put(each, now_us=T0 + S, live=True)


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({ANNOTATION: "off"}, "off"),
        ({ANNOTATION: "peers"}, "peers"),
        ({ANNOTATION: "on"}, ""),
        ({ANNOTATION: "OFF"}, ""),
        ({ANNOTATION: ""}, ""),
        ({ANNOTATION: None}, ""),
        ({ANNOTATION: ["off"]}, ""),
        ({"events": "off"}, ""),
        ({}, ""),
        (None, ""),
        ("off", ""),
    ],
)
def test_what_an_annotation_says(annotations: Any, said: OptOut) -> None:
    assert opt_out(annotations) == said


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [("", "", ""), ("", "peers", "peers"), ("peers", "off", "off"), ("off", "", "off"), ("peers", "peers", "peers")],
)
def test_the_stronger_counts(one: OptOut, other: OptOut, both: OptOut) -> None:
    assert stronger(one, other) == stronger(other, one) == both


@pytest.mark.parametrize("said", ["", "off", "peers"])
def test_it_is_kept_of_a_pod_object(said: str) -> None:
    annotations = {ANNOTATION: said} if said else {"x": "y"}
    made = reduce_pod(pod_object("web", IP, uid="u", annotations=annotations))
    assert made is not None
    assert made.opt_out == said


def said(made: Ownership | RemotePods | LocalPods, ref: PodRef) -> OptOut:
    return made.opt_outs.of(*ref[:3])


def test_it_changes_without_a_change_of_hands() -> None:
    made = Ownership(node="here")
    put(made, pod())
    before = made.register.intervals(IP)
    assert (said(made, pod().ref), bool(made.opt_outs)) == ("", False)
    assert made.put(pod(said="off"), now_us=T0 + 2 * S, live=True) == set()
    assert (said(made, pod().ref), bool(made.opt_outs)) == ("off", True)
    put(made, pod(said="peers"))
    assert said(made, pod().ref) == "peers"
    put(made, pod())
    assert (said(made, pod().ref), bool(made.opt_outs)) == ("", False)
    assert made.register.intervals(IP) == before


def test_a_pod_that_is_gone_has_said_what_it_said() -> None:
    made = Ownership(node="here")
    put(made, pod(said="off"), pod("other", address="10.0.0.2"))
    made.remove("key-web", now_us=T0 + 5 * S)
    made.remove("key-other", now_us=T0 + 5 * S)
    assert (said(made, pod().ref), bool(made.opt_outs)) == ("off", True)
    assert said(made, pod("other").ref) == ""


def test_those_that_are_gone_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opt_out_module, "MAX_GONE", 3)
    made = Ownership(node="here")
    for number in range(5):
        put(made, pod(f"p{number}", "off"))
        made.remove(f"key-p{number}", now_us=T0 + 5 * S)
    assert [said(made, pod(f"p{n}").ref) for n in range(5)] == ["", "", "off", "off", "off"]


def test_another_pod_with_the_same_uid_says_nothing_for_it() -> None:
    """Whoever may create pods can claim to be a mirror of any UID."""
    made = Ownership(node="here")
    put(made, pod(), pod("claims", "off", address="10.0.0.9", uid="uid-web"))
    assert said(made, pod().ref) == ""
    made.remove("key-claims", now_us=T0 + 5 * S)
    assert said(made, pod().ref) == ""


def test_of_what_was_restored_nothing_is_known_before_it_is_listed() -> None:
    made = Ownership(node="here")
    ref = pod().ref
    made.restore([(IP, Interval("key-web", ref, T0, T0, None, None, local=True))], seen_us=T0)
    assert [each.opt_out for each in made.pods_at(IP)] == [None]
    assert not made.opt_outs
    made.replace([pod(said="peers")], now_us=T0 + S, seen_us=T0)
    assert said(made, ref) == "peers"


def test_a_label_in_the_name_of_a_pod_does_not_matter() -> None:
    made = Ownership(node="here")
    put(made, pod(said="off"))
    ref = pod().ref._replace(label="x")
    assert said(made, ref) == "off"
    made.remove("key-web", now_us=T0 + 5 * S)
    assert said(made, ref) == "off"


def test_pods_of_other_nodes_as_they_were_found() -> None:
    class Others(NoOtherNodes):
        def __init__(self) -> None:
            self.remote = RemotePods()

        @property
        def opt_outs(self) -> OptOuts:
            return self.remote.opt_outs

    clock, others = OwnClock(), Others()
    local = LocalPods(node="here", clock=clock)
    owners = LiveOwners(local, others, ranges=PodRanges(()), names=NoNames(), unhurried=False)
    far = pod("far", "off", address="10.9.0.1")._replace(node="there")

    def known(ref: PodRef) -> list[OptOut]:
        return [each.of(*ref[:3]) for each in owners.opt_outs]

    assert not any(owners.opt_outs)
    others.remote.found("10.9.0.1", [far], now_us=T0)
    assert known(far.ref) == ["", "off"]
    others.remote.found("10.9.0.1", [far._replace(opt_out="")], now_us=T0 + S)
    assert known(far.ref) == ["", ""]
    local.replace([pod(said="peers")])
    assert known(pod().ref) == ["peers", ""]
    assert not NoOtherNodes().opt_outs


def test_a_snapshot_has_it_too_and_labels_where_they_are_wanted() -> None:
    found = []
    for labelled in (False, True):
        collector = Collector(labelled=labelled)
        labels = {"app": "web"}
        made = pod_object("web", IP, uid="u", annotations={ANNOTATION: "off"}, labels=labels)
        collector.add(made, "Pod")
        owners = SnapshotIndex(collector.snapshot(), now_us=T0).owners
        ref = PodRef("team-a", "web", "u")
        assert [each.of(*ref[:3]) for each in owners.opt_outs] == ["off"]
        kept = owners.pod(IP, "u")
        assert kept is not None
        found.append(kept.traits.labels if kept.traits is not None else None)
        assert owners.pod(IP, "other") is None
    assert found == [{}, {"app": "web"}]
