"""What is kept of a pod object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.pod import PodRef, reduce_pod, timestamp_us

WIRE = Path(__file__).parent / "wire"
READY = "PodReadyToStartContainers"


def recorded(name: str) -> dict[str, Any]:
    document = json.loads((WIRE / name).read_text())["response"]["body"]
    found: dict[str, Any] = document["items"][0] if "items" in document else document
    return found


def made(status: dict[str, Any], spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    identity = {"uid": "u", "namespace": "n", "name": "p"}
    return {"metadata": identity | metadata, "spec": spec or {}, "status": status}


def at(clock: str) -> str:
    return f"2026-11-22T{clock}Z"


def us(clock: str) -> int | None:
    return timestamp_us(at(clock))


def ended(clock: str | None) -> dict[str, Any]:
    """A container that ended then; at a time that the runtime forgot when it is None."""
    return {"state": {"terminated": {"exitCode": 1, "startedAt": at("10:00:00"), "finishedAt": clock and at(clock)}}}


def runs(clock: str) -> dict[str, Any]:
    return {"state": {"running": {"startedAt": at(clock)}}}


def condition(kind: str, status: str, clock: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": at(clock)}


def test_a_running_pod_of_a_real_server_is_reduced() -> None:
    reduced = reduce_pod(recorded("10-pods-list-by-node-for-node.json"), label="app")
    assert reduced is not None
    assert reduced.ref == PodRef("cases", "server", "d1cb82b1-be2e-4b7d-9e80-d979c9f6e055", "server")
    assert reduced.addresses == ("10.244.1.3", "fd00::3")
    assert reduced.start_us == us("00:00:00")
    assert (reduced.ready_us, reduced.until_us, reduced.node) == (None, None, "node1")
    assert reduced.host_addresses == ("192.168.7.7",)
    assert not reduced.leaving


def test_a_pod_of_everyday_size_is_reduced() -> None:
    reduced = reduce_pod(recorded("48-pod-realistic.json"), label="team")
    assert reduced is not None
    assert (reduced.ref.name, reduced.ref.label) == ("svc-0-000000", "team-0")
    assert (reduced.addresses, reduced.start_us, reduced.until_us) == (("10.128.1.0",), us("18:00:00"), None)


def test_a_finished_pod_of_a_real_server_owned_until_its_last_container_ended() -> None:
    reduced = reduce_pod(recorded("46-pod-finished.json"))
    assert reduced is not None
    assert reduced.until_us == us("17:05:00")
    assert reduced.ready_us is None, "the sandbox is gone: the condition's transition is its end"


def test_a_terminating_pod_of_a_real_server_still_owns_and_is_leaving() -> None:
    reduced = reduce_pod(recorded("44-pod-terminating.json"))
    assert reduced is not None
    assert (reduced.addresses, reduced.until_us, reduced.leaving) == (("10.244.9.20",), None, True)


def test_a_pod_whose_address_calico_took_back_no_longer_owns_it() -> None:
    reduced = reduce_pod(recorded("45-pod-calico-released.json"))
    assert reduced is not None
    assert (reduced.released, reduced.until_us) == (True, 0)


def test_a_mirror_pod_is_named_by_its_annotation_and_known_by_its_uid() -> None:
    reduced = reduce_pod(recorded("47-pod-mirror.json"))
    assert reduced is not None
    assert (reduced.key, reduced.ref.uid) == ("86a79c8f-ac17-4d36-b396-4991a9a55925", "3f1d2c")
    assert reduced.addresses == (), "host network"


@pytest.mark.parametrize(
    ("status", "until"),
    [
        pytest.param(
            {"containerStatuses": [ended("10:05:00"), ended("10:07:00")]}, "10:07:00", id="its last container's end"
        ),
        pytest.param(
            {"initContainerStatuses": [ended("10:09:00")], "containerStatuses": [ended("10:07:00")]},
            "10:09:00",
            id="a sidecar's (a restartable init container), which ends after the others",
        ),
        pytest.param(
            {"containerStatuses": [ended("10:07:00")], "ephemeralContainerStatuses": [ended("10:08:00")]},
            "10:08:00",
            id="an ephemeral container's",
        ),
        pytest.param(
            {
                "initContainerStatuses": [ended("10:01:00")],
                "containerStatuses": [runs("10:02:00")],
                "conditions": [condition("PodScheduled", "True", "10:00:00"), condition("Ready", "False", "12:00:00")],
            },
            "12:00:00",
            id="not an init container's when the others are shown as they were before its node was lost",
        ),
        pytest.param(
            {
                "containerStatuses": [ended("10:01:00"), ended(None)],
                "conditions": [condition("ContainersReady", "False", "11:00:00")],
            },
            "11:00:00",
            id="its last condition when the runtime forgot a container",
        ),
        pytest.param(
            {
                "containerStatuses": [{"state": {"terminated": {"finishedAt": "1970-01-01T00:00:00Z"}}}],
                "conditions": [condition("Ready", "False", "11:00:00")],
            },
            "11:00:00",
            id="1970 is no time",
        ),
        pytest.param(
            {
                "initContainerStatuses": [ended("10:03:00")],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
                "conditions": [condition("Ready", "False", "10:00:00")],
            },
            "10:03:00",
            id="its init container's when the others never began",
        ),
        pytest.param(
            {"conditions": [condition("DisruptionTarget", "True", "10:30:00")]}, "10:30:00", id="evicted early"
        ),
        pytest.param({}, "10:00:00", id="nothing tells: it owned at its start"),
    ],
)
@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_owned_until(status: dict[str, Any], until: str, phase: str) -> None:
    reduced = reduce_pod(made({"phase": phase, "podIP": "10.0.0.1", "startTime": at("10:00:00"), **status}))
    assert reduced is not None
    assert (reduced.until_us, reduced.addresses, reduced.released) == (us(until), ("10.0.0.1",), False)


@pytest.mark.parametrize("annotation", ["cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips"])
@pytest.mark.parametrize(
    ("status", "metadata", "until"),
    [
        pytest.param({}, {}, "10:00:00", id="it started"),
        pytest.param({"containerStatuses": [runs("10:01:00")]}, {}, "10:01:00", id="a container started"),
        pytest.param({"containerStatuses": [ended("10:07:00")]}, {}, "10:07:00", id="a container ended"),
        pytest.param(
            {},
            {"deletionTimestamp": at("10:20:30"), "deletionGracePeriodSeconds": 30},
            "10:20:00",
            id="its deletion was asked for",
        ),
    ],
)
def test_a_pod_that_gave_its_address_back_had_it_at_the_last_sign_of_life(
    annotation: str, status: dict[str, Any], metadata: dict[str, Any], until: str
) -> None:
    obj = made(
        {"phase": "Running", "podIP": "10.0.0.1", "startTime": at("10:00:00"), **status},
        annotations={annotation: ""},
        **metadata,
    )
    reduced = reduce_pod(obj)
    assert reduced is not None
    assert (reduced.released, reduced.until_us) == (True, us(until))


def test_an_annotation_that_is_there_and_holds_the_address_is_none_that_was_blanked() -> None:
    reduced = reduce_pod(made({"podIP": "10.0.0.1"}, annotations={"cni.projectcalico.org/podIP": "10.0.0.1/32"}))
    assert reduced is not None
    assert (reduced.released, reduced.until_us) == (False, None)


@pytest.mark.parametrize(
    ("conditions", "ready", "leaving"),
    [
        pytest.param([condition(READY, "True", "10:00:05")], "10:00:05", False, id="ready"),
        pytest.param([condition(READY, "False", "11:00:00")], None, True, id="its sandbox is gone"),
        pytest.param([condition(READY, "Unknown", "11:00:00")], None, False, id="unknown"),
        pytest.param([condition("Ready", "True", "10:01:00")], None, False, id="not the readiness of its containers"),
    ],
)
def test_when_the_sandbox_was_ready(conditions: list[Any], ready: str | None, leaving: bool) -> None:
    reduced = reduce_pod(made({"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}))
    assert reduced is not None
    assert (reduced.ready_us, reduced.leaving) == (us(ready) if ready else None, leaving)


def test_a_host_network_pod_owns_nothing() -> None:
    status = {"phase": "Running", "podIPs": [{"ip": "192.0.2.1"}], "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "fd00::1"}]}
    reduced = reduce_pod(made(status, spec={"hostNetwork": True, "nodeName": "worker-3"}))
    assert reduced is not None
    assert (reduced.addresses, reduced.host_addresses, reduced.node) == ((), ("192.0.2.1", "fd00::1"), "worker-3")


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": None},
        {"metadata": {"uid": "u", "namespace": "n"}},
        {"metadata": [], "spec": 3, "status": "x"},
    ],
)
def test_what_is_no_pod_is_none(obj: dict[str, Any]) -> None:
    assert reduce_pod(obj) is None


@pytest.mark.parametrize(
    "status",
    [
        {"podIPs": "x", "podIP": 3, "conditions": {}, "containerStatuses": 1},
        {"podIPs": [None, {"ip": "not an address"}], "conditions": [None], "phase": "Failed"},
        {"startTime": "yesterday", "phase": "Succeeded", "containerStatuses": [{"state": {"terminated": None}}]},
        {"startTime": "2026-01-01T00:00:00", "hostIP": [], "initContainerStatuses": [7, {"state": 3}]},
    ],
)
def test_odd_fields_are_passed_over(status: dict[str, Any]) -> None:
    odd = {"annotations": {"kubernetes.io/config.mirror": 3}, "labels": {"app": 7}, "deletionGracePeriodSeconds": "x"}
    reduced = reduce_pod(made(status, {"nodeName": 4}, **odd), label="app")
    assert reduced is not None
    assert (reduced.addresses, reduced.start_us, reduced.node) == ((), None, "")
    assert reduced.ref == PodRef("n", "p", "u")


def test_addresses_are_canonical() -> None:
    reduced = reduce_pod(made({"podIP": "fd00:0:0::3", "podIPs": [{"ip": "fd00:0:0::3"}, {"ip": "10.0.0.1"}]}))
    assert reduced is not None
    assert reduced.addresses == ("fd00::3", "10.0.0.1")


def test_what_many_pods_share_is_held_once() -> None:
    first, second = (
        reduce_pod(
            made(
                {"hostIP": "192.0.2.9"},
                {"nodeName": "".join(["work", "er-3"])},
                namespace="".join(["team", "-a"]),
                labels={"app": "".join(["we", "b"])},
            ),
            label="app",
        )
        for _ in range(2)
    )
    assert first is not None
    assert second is not None
    assert first.ref.namespace is second.ref.namespace
    assert first.ref.label is second.ref.label
    assert first.node is second.node
    assert first.host_addresses[0] is second.host_addresses[0]
