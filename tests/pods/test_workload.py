"""What a pod belongs to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.pods.ownership import Ownership
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.workload import workload_of
from tests.support.running import ROOT

WIRE = ROOT / "tests/wire"


def pod(kind: str = "", owner: str = "", *, name: str = "web-0", **labels: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {key.replace("_", "-"): value for key, value in labels.items()}}
    if kind:
        metadata["ownerReferences"] = [{"kind": kind, "name": owner, "controller": True}]
    return {"metadata": metadata}


@pytest.mark.parametrize(
    ("made", "workload"),
    [
        pytest.param(pod(), "pod/web-0", id="bare"),
        pytest.param(pod("Node", "worker-3"), "pod/web-0", id="static"),
        pytest.param(pod("ReplicaSet", "web-5d4f8c", pod_template_hash="5d4f8c"), "deploy/web", id="Deployment"),
        pytest.param(pod("ReplicaSet", "a-b-5d4f8c", pod_template_hash="5d4f8c"), "deploy/a-b", id="dashes"),
        pytest.param(pod("ReplicaSet", "web-5d4f8c"), "rs/web-5d4f8c", id="no hash"),
        pytest.param(pod("ReplicaSet", "web-5d4f8c", pod_template_hash="4f8c"), "rs/web-5d4f8c", id="another's hash"),
        pytest.param(pod("ReplicaSet", "web-5d4f8c", pod_template_hash=""), "rs/web-5d4f8c", id="empty hash"),
        pytest.param(pod("StatefulSet", "web"), "sts/web", id="StatefulSet"),
        pytest.param(pod("DaemonSet", "agent"), "ds/agent", id="DaemonSet"),
        pytest.param(pod("ReplicationController", "old"), "rc/old", id="ReplicationController"),
        pytest.param(pod("Job", "migrate"), "job/migrate", id="Job"),
        pytest.param(pod("Job", "backup-29913480"), "cronjob/backup", id="CronJob"),
        pytest.param(pod("Job", "backup-1609459200"), "cronjob/backup", id="CronJob up to 1.20"),
        pytest.param(pod("Job", "import-20261126"), "job/import-20261126", id="a date is no time of a CronJob"),
        pytest.param(pod("Job", "import-99999999"), "job/import-99999999", id="a number is no time either"),
        pytest.param(pod("Job", "29913480"), "job/29913480", id="a number alone"),
        pytest.param(pod("Rollout", "shop"), "rollout/shop", id="a custom controller"),
        pytest.param(pod("<b>", "shop"), "pod/web-0", id="no kind"),
        pytest.param(pod("StatefulSet", "=1+1"), "pod/web-0", id="no name"),
        pytest.param(pod(name="../x"), "", id="the pod has no name"),
        pytest.param({"metadata": {"name": "web-0", "ownerReferences": {"kind": "Job"}}}, "pod/web-0", id="no list"),
        pytest.param(
            {"metadata": {"name": "web-0", "ownerReferences": [{"kind": "Job", "name": "x"}]}},
            "pod/web-0",
            id="an owner that does not manage it",
        ),
        pytest.param({}, "", id="nothing"),
    ],
)
def test_a_pod_belongs_to(made: dict[str, Any], workload: str) -> None:
    assert workload_of(made) == workload


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "name", "labels", "ownerReferences", "kind", "controller", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec"]), ANYTHING, max_size=2))
def test_whatever_an_object_is_the_answer_is_a_short_text(obj: dict[str, Any]) -> None:
    answer = workload_of(obj)
    assert answer.isascii()
    assert len(answer) <= 63 + 1 + 253


def test_pods_of_a_real_server_belong_to_themselves() -> None:
    """None of the recorded ones has a controller; a static pod's mirror has its node for an owner."""
    found = {}
    for path in sorted(WIRE.glob("*.json")):
        for obj in objects(json.loads(path.read_text())):
            reduced = reduce_pod(obj)
            if reduced is not None:
                found[reduced.ref.name] = reduced.ref.workload
    assert len(found) > 3
    assert found == {name: f"pod/{name}" for name in found}


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a recording, also those in texts."""
    if isinstance(value, dict):
        if "metadata" in value and "spec" in value:
            yield value
        value = list(value.values())
    elif isinstance(value, str) and value.startswith(("{", "[")):
        for line in value.splitlines():
            with contextlib.suppress(ValueError):
                yield from objects(json.loads(line))
    for inner in value if isinstance(value, list) else ():
        yield from objects(inner)


def test_a_pod_that_changes_hands_between_controllers_keeps_its_address() -> None:
    """Its ReplicaSet is deleted without it, another one adopts it: what it is called changes, and nothing else."""
    web = pod("ReplicaSet", "web-5d4f8c", pod_template_hash="5d4f8c") | {"spec": {"nodeName": "n"}}
    web["metadata"] |= {"uid": "u", "namespace": "team-a"}
    web["status"] = {"podIP": "10.0.0.1", "startTime": "2026-01-01T00:00:00Z"}
    orphan: dict[str, Any] = {**web, "metadata": {k: v for k, v in web["metadata"].items() if k != "ownerReferences"}}
    adopted = pod("ReplicaSet", "shop-7c9", name="web-0")["metadata"]["ownerReferences"]
    adopted = {**web, "metadata": {**web["metadata"], "ownerReferences": adopted}}
    ownership, now_us = Ownership(), 1_800_000_000_000_000
    called = []
    for obj in (web, orphan, adopted):
        reduced = reduce_pod(obj)
        assert reduced is not None
        changed = ownership.put(reduced, now_us=now_us, live=True)
        assert changed == ({"10.0.0.1"} if obj is web else set())
        called += [ref.workload for ref in ownership.owned("10.0.0.1", now_us).pods]
        now_us += 60_000_000
    assert called == ["deploy/web", "pod/web-0", "rs/shop-7c9"]
