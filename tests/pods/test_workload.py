"""What a pod belongs to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.pods.workload import workload_of


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
