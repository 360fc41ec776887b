"""Which labels name a workload and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.policies.ends import Pod, pod_of
from kiptail.policies.selector import Requirement, Selector
from kiptail.policies.workload import identify, same_workload, short_name
from tests.support.policies import workload_pod


def pod(name: str, owner: str = "", **labels: str) -> Pod:
    named = {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}
    return pod_of(workload_pod(name, labels=named, **({"owner": owner} if owner else {})))


def words(selector: Selector) -> list[str]:
    return [requirement.wanted() for requirement in selector.requirements]


@pytest.mark.parametrize(
    ("mine", "others", "wanted"),
    [
        ({"app": "web"}, [], ["app=web"]),
        ({"app": "web", "tier": "front"}, [{"app": "db", "tier": "back"}], ["app=web"]),
        ({"app": "web", "tier": "front"}, [{"app": "web", "tier": "back"}], ["app=web", "tier=front"]),
        ({"app": "a", "k": "v"}, [{"app": "a", "k": "x"}, {"app": "x", "k": "v"}], ["app=a", "k=v"]),
        ({"app": "web"}, [{"app": "web", "tier": "back"}], ["app=web", "no label tier"]),
        ({"app": "web", "pod_template_hash": "5d8"}, [{"app": "db"}], ["app=web"]),
        ({"zone": "z", "app": "web", "app.kubernetes.io__name": "shop"}, [], ["app.kubernetes.io/name=shop"]),
        ({"version": "1", "zone": "z"}, [], ["zone=z"]),
        ({"job_name": "migrate", "controller_uid": "u"}, [], ["job-name=migrate"]),
        ({"job_name": "backup-29384756"}, [], []),
        ({"apps.kubernetes.io__pod_index": "0", "app": "db"}, [], ["app=db"]),
        ({"statefulset.kubernetes.io__pod_name": "db-0"}, [{"app": "db"}], ["no label app"]),
        ({"app": "w\x1b"}, [], []),
        ({}, [{"app": "x"}, {"tier": "y", "app": "z"}], ["no label app"]),
    ],
)  # fmt: skip
def test_the_least_that_tells_it_from_others_is_chosen(mine: Any, others: Any, wanted: list[str]) -> None:
    made = identify(pod("mine", **mine), [pod(f"other-{n}", **labels) for n, labels in enumerate(others)])
    assert words(made.selector) == wanted
    assert made.also == ()


def test_who_has_the_same_labels_is_named() -> None:
    twin = pod("twin", app="web")
    made = identify(pod("mine", app="web"), [twin, pod("db", app="db")])
    assert words(made.selector) == ["app=web"]
    assert made.also == (twin,)


def test_many_labels_take_no_time() -> None:
    labels = {f"k{n}": "v" for n in range(300)}
    others = [pod(f"other-{n}", **{**labels, f"k{n % 300}": "w"}) for n in range(600)]
    made = identify(pod("mine", **labels), others)
    assert made.also == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (pod("a"), pod("a"), True),
        (pod("a"), pod("b"), False),
        (pod("a", "StatefulSet/db"), pod("b", "StatefulSet/db"), True),
        (pod("a", "StatefulSet/db"), pod("b", "DaemonSet/db"), False),
        (pod("a", "ReplicaSet/w-5", pod_template_hash="5"), pod("b", "ReplicaSet/w-7", pod_template_hash="7"), True),
        (pod("a", "ReplicaSet/web-5d8"), pod("b", "ReplicaSet/web-77f"), False),
        (pod("a", "Job/backup-29384756"), pod("b", "Job/backup-29384816"), True),
        (pod("a", "Job/migrate-1"), pod("b", "Job/migrate-2"), False),
    ],
)  # fmt: skip
def test_one_workload_is_one_controller(one: Pod, other: Pod, same: bool) -> None:
    assert same_workload(one, other) is same


def test_a_workload_is_called_as_its_controller() -> None:
    assert short_name(pod("web-5d8-x", "ReplicaSet/web-5d8", pod_template_hash="5d8")) == "web"
    assert short_name(pod("backup-29384756-x", "Job/backup-29384756")) == "backup"
    assert short_name(pod("alone")) == "alone"


def test_a_namespaces_pods_are_not_anothers() -> None:
    other = pod_of(workload_pod("a", namespace="team-b", owner="StatefulSet/db"))
    assert not same_workload(pod("a", "StatefulSet/db"), other)
    assert Requirement("app", "In", ("x",)).holds({"app": "x"})
