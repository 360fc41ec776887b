"""What is kept of a pod object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.pods.pod import PodRef
from kiptail.pods.pod_object import reduce_pod, timestamp_us

WIRE = Path(__file__).parents[1] / "wire"
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
    assert reduced.ref == PodRef("cases", "server", "d1cb82b1-be2e-4b7d-9e80-d979c9f6e055", "server", "pod/server")
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


def test_of_a_pod_whose_address_calico_took_back_the_object_alone_proves_nothing() -> None:
    reduced = reduce_pod(recorded("45-pod-calico-released.json"))
    assert reduced is not None
    assert (reduced.shown, reduced.blank, reduced.released, reduced.until_us) == (0, 1, False, None)


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


@pytest.mark.parametrize(("annotation", "bit"), [("cni.projectcalico.org/podIP", 1), ("vpc.amazonaws.com/pod-ips", 2)])
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
    annotation: str, bit: int, status: dict[str, Any], metadata: dict[str, Any], until: str
) -> None:
    obj = made(
        {"phase": "Running", "podIP": "10.0.0.1", "startTime": at("10:00:00"), **status},
        annotations={annotation: ""},
        **metadata,
    )
    reduced = reduce_pod(obj)
    assert reduced is not None
    assert (reduced.blank, reduced.alive_us) == (bit, us(until))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("10.0.0.1/32", 1),
        ("10.0.0.1", 1),
        ("fd00::1/128", 1),
        ("10.0.0.9, FD00:0::1", 1),
        ("10.0.0.2/32", 0),
        ("10.0.0.1/32" + " " * 1_000, 0),
        ("yes", 0),
        (" ", 0),
        (None, 0),
    ],
)
def test_an_annotation_that_holds_an_address_of_the_pod_is_one_that_its_plugin_writes(value: Any, shown: int) -> None:
    status = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    reduced = reduce_pod(made(status, annotations={"cni.projectcalico.org/podIP": value}))
    assert reduced is not None
    assert (reduced.shown, reduced.blank, reduced.alive_us) == (shown, 0, 0)


@pytest.mark.parametrize(
    ("claim", "uid"),
    [
        ("86a79c8fac174d36b3964991a9a55925", "86a79c8fac174d36b3964991a9a55925"),
        ("86a79c8f-ac17-4d36-b396-4991a9a55925", "86a79c8f-ac17-4d36-b396-4991a9a55925"),
        ("", "u"),
        ("x" * 129, "u"),
        ("a\nb", "u"),
        ("a b", "u"),
        ("ä", "u"),
        (None, "u"),
    ],
)
def test_what_no_kubelet_writes_is_no_mirrors_uid(claim: Any, uid: str) -> None:
    reduced = reduce_pod(made({}, annotations={"kubernetes.io/config.mirror": claim}))
    assert reduced is not None
    assert (reduced.key, reduced.ref.uid) == ("u", uid)


@pytest.mark.parametrize(
    ("conditions", "ready", "lost"),
    [
        pytest.param([condition(READY, "True", "10:00:05")], "10:00:05", None, id="ready"),
        pytest.param([condition(READY, "False", "11:00:00")], None, "11:00:00", id="its sandbox is gone"),
        pytest.param([condition(READY, "Unknown", "11:00:00")], None, None, id="unknown"),
        pytest.param([condition("Ready", "True", "10:01:00")], None, None, id="not the readiness of its containers"),
    ],
)
def test_when_the_sandbox_was_ready_and_when_it_went(
    conditions: list[Any], ready: str | None, lost: str | None
) -> None:
    reduced = reduce_pod(made({"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}))
    assert reduced is not None
    assert (reduced.ready_us, reduced.lost_us) == (us(ready) if ready else None, us(lost) if lost else None)


def test_a_pod_that_never_had_an_address_has_lost_none() -> None:
    reduced = reduce_pod(made({"phase": "Pending", "conditions": [condition(READY, "False", "11:00:00")]}))
    assert reduced is not None
    assert reduced.lost_us is None


WAITS: dict[str, Any] = {"state": {"waiting": {"reason": "ContainerCreating"}}}


@pytest.mark.parametrize(
    ("statuses", "running", "ran", "stopped"),
    [
        pytest.param({}, None, None, None, id="no containers yet"),
        pytest.param({"containerStatuses": [WAITS]}, None, None, None, id="none has begun"),
        pytest.param({"containerStatuses": [runs("10:00:05"), runs("10:00:03")]}, "10:00:03", None, None, id="run"),
        pytest.param(
            {"initContainerStatuses": [ended("10:00:02")], "containerStatuses": [runs("10:00:03")]},
            "10:00:00", None, None, id="init containers ran before",
        ),
        pytest.param(
            {"containerStatuses": [runs("10:09:00") | {"lastState": runs("10:00:05")["state"]}]},
            "10:09:00", "10:00:05", None, id="one was started anew",
        ),
        pytest.param(
            {"containerStatuses": [ended("10:05:00"), ended("10:06:00")]},
            "10:00:00", None, "10:06:00", id="all have ended",
        ),
        pytest.param(
            {"containerStatuses": [ended("10:05:00"), WAITS]}, "10:00:00", None, "10:05:00", id="all that had begun",
        ),
        pytest.param({"containerStatuses": [ended(None)]}, "10:00:00", None, None, id="nobody knows when it ended"),
        pytest.param(
            {"containerStatuses": [ended("10:05:00"), runs("10:00:03")]}, "10:00:00", None, None, id="one runs",
        ),
    ],
)  # fmt: skip
def test_when_its_containers_ran(
    statuses: dict[str, Any], running: str | None, ran: str | None, stopped: str | None
) -> None:
    reduced = reduce_pod(made({"phase": "Running", "podIP": "10.0.0.1", **statuses}))
    assert reduced is not None
    times = [clock and us(clock) for clock in (running, ran, stopped)]
    assert [reduced.running_us, reduced.ran_us, reduced.stopped_us] == times


@pytest.mark.parametrize(
    ("metadata", "spec", "asked", "grace"),
    [
        pytest.param({}, {}, None, 0, id="stays"),
        pytest.param({}, {"terminationGracePeriodSeconds": 30}, None, 30, id="stays, and would have time"),
        pytest.param(
            {"deletionTimestamp": at("10:00:30"), "deletionGracePeriodSeconds": 30},
            {"terminationGracePeriodSeconds": 30}, "10:00:00", 30, id="asked to go",
        ),
        pytest.param(
            {"deletionTimestamp": at("10:00:30")}, {"terminationGracePeriodSeconds": 60}, "10:00:30", 60,
            id="asked to go at once",
        ),
        pytest.param({}, {"terminationGracePeriodSeconds": 10**9}, None, 86_400, id="longer than anybody waits"),
        pytest.param({}, {"terminationGracePeriodSeconds": -30}, None, 0, id="less than none"),
    ],
)  # fmt: skip
def test_when_it_was_asked_to_go_and_how_long_it_has(
    metadata: dict[str, Any], spec: dict[str, Any], asked: str | None, grace: int
) -> None:
    reduced = reduce_pod(made({"phase": "Running", "podIP": "10.0.0.1"}, spec, **metadata))
    assert reduced is not None
    assert (reduced.asked_us, reduced.leaving) == (asked and us(asked), asked is not None)
    assert reduced.grace_us == grace * 1_000_000


@pytest.mark.parametrize(
    ("status", "spec", "claiming"),
    [
        pytest.param({"phase": "Pending"}, {}, False, id="not scheduled"),
        pytest.param({"phase": "Pending", "startTime": at("10:00:00")}, {}, True, id="its sandbox is being made"),
        pytest.param({"podIP": "10.0.0.1", "startTime": at("10:00:00")}, {}, False, id="it has its address"),
        pytest.param({"phase": "Failed", "startTime": at("10:00:00")}, {}, False, id="it never had one"),
        pytest.param({"startTime": at("10:00:00")}, {"hostNetwork": True}, False, id="it needs none"),
    ],
)
def test_who_is_about_to_have_an_address(status: dict[str, Any], spec: dict[str, Any], claiming: bool) -> None:
    reduced = reduce_pod(made(status, spec))
    assert reduced is not None
    assert reduced.claiming is claiming


def test_the_ports_of_the_probes_of_this_nodes_pods_are_kept() -> None:
    spec = {
        "nodeName": "here",
        "containers": [
            {
                "ports": [{"name": "web", "containerPort": 8080}, {"containerPort": 9}],
                "livenessProbe": {"httpGet": {"port": "web"}},
                "readinessProbe": {"tcpSocket": {"port": 5432}},
                "startupProbe": {"exec": {"command": ["true"]}},
            },
            {"livenessProbe": {"grpc": {"port": 50051}}, "readinessProbe": {"httpGet": {"port": "nameless"}}},
            {"livenessProbe": {"tcpSocket": {"port": 70_000}}, "readinessProbe": "garbage"},
        ],
        "initContainers": [{"startupProbe": {"tcpSocket": {"port": 8080}}}],
    }
    kept = [reduce_pod(made({}, spec), node=node) for node in ("here", "there", "")]
    assert [pod and pod.probes for pod in kept] == [(5432, 8080, 50051), (), ()]


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
        {"podIPs": [None, {"ip": "not an address"}], "conditions": [None], "phase": "Failed"},
        {"startTime": "yesterday", "phase": "Succeeded", "containerStatuses": [{"state": {"terminated": None}}]},
        {"startTime": "2026-01-01T00:00:00", "podIP": "", "initContainerStatuses": [None, {"state": None}]},
        {"startTime": "9999-12-31T23:59:59Z", "podIP": "fe80::1%eth0", "hostIP": None},
    ],
)
def test_odd_values_are_passed_over(status: dict[str, Any]) -> None:
    odd = {"annotations": {"kubernetes.io/config.mirror": "x\n"}, "labels": {"app": "a b"}}
    reduced = reduce_pod(made(status, {"nodeName": "../.."}, **odd), label="app")
    assert reduced is not None
    assert (reduced.addresses, reduced.start_us, reduced.node) == ((), None, "")
    assert reduced.ref == PodRef("n", "p", "u", workload="pod/p")


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": []},
        {"spec": "x"},
        {"status": [1]},
        *(
            {"metadata": {"uid": "u", "namespace": "n", "name": "p", field: value}}
            for field, value in {
                "name": 7, "namespace": {}, "uid": ["u"], "labels": "x", "annotations": [], "resourceVersion": {},
                "deletionTimestamp": 5, "deletionGracePeriodSeconds": True,
            }.items()
        ),
        *(
            {"metadata": {"uid": "u", "namespace": "n", "name": "p", field: {"kubernetes.io/config.mirror": value}}}
            for field in ("labels", "annotations") for value in (3, [], {}, True)
        ),
        *({"spec": {field: "30"}} for field in ("hostNetwork", "terminationGracePeriodSeconds")),
        {"spec": {"nodeName": 4}},
        *({"status": {field: {"ip": "10.0.0.1"}}} for field in ("podIP", "podIPs", "hostIP", "hostIPs", "startTime")),
        *({"status": {field: value}} for field in ("podIPs", "hostIPs") for value in (["10.0.0.1"], [{"ip": 7}])),
        *({"status": {field: value}} for field in ("conditions", "containerStatuses") for value in ("x", [7], {})),
        {"status": {"conditions": [{"lastTransitionTime": 0}]}},
        {"status": {"containerStatuses": [{"state": {"running": {"startedAt": 5}}}]}},
        {"status": {"initContainerStatuses": [{"lastState": []}]}},
    ],
    ids=str,
)  # fmt: skip
def test_an_object_with_a_field_of_another_type_is_no_pod(change: dict[str, Any]) -> None:
    good = made({"podIP": "10.0.0.1"}, {"nodeName": "worker-3"})
    assert reduce_pod(good) is not None
    assert reduce_pod(good | change) is None


NAMES = {
    "uid": ["", "a b", "ü", "\ud800", "x" * 129, "a\n"],
    "name": ["", ".", "..", "a/b", "../x", "A", "a\n", "x" * 254, "\ud800", "-a", "a-", "a b"],
    "namespace": ["", "..", "a/b", "a.b", "x" * 64, "a\n", "A", "\ud800"],
}


@pytest.mark.parametrize(("field", "name"), [(field, name) for field, names in NAMES.items() for name in names])
def test_an_object_whose_name_is_none_is_no_pod(field: str, name: str) -> None:
    assert reduce_pod(made({"podIP": "10.0.0.1"}, **{field: name})) is None


def test_of_countless_addresses_a_few_are_read() -> None:
    countless = [{"ip": f"10.{n >> 8}.{n & 255}.1"} for n in range(10_000)]
    reduced = reduce_pod(made({"podIPs": countless, "hostIPs": countless}))
    assert reduced is not None
    assert (len(reduced.addresses), len(reduced.host_addresses)) == (8, 8)


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
