"""What a cluster is asked for one question: no more than it takes, and with what rights there are."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from kiptail.admin.object_requests import request_objects
from kiptail.errors import ApiError, ClusterError
from tests.support.policies import namespace, policy, workload_pod

PODS = (
    workload_pod("a", "10.0.0.1", "fd00::1"),
    workload_pod("b", "10.0.0.2", namespace="team-b"),
    workload_pod("job", "10.0.0.2", namespace="team-c", phase="Failed"),
)


class Cluster:
    """Answers from a few objects, and notes what it was asked; ``refuses`` are questions that get an error."""

    def __init__(self, refuses: dict[str, int] | None = None) -> None:
        self.asked: list[str] = []
        self._refuses = refuses or {}

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if status := self._refuses.get(what):
            raise ApiError(f"{what} is refused", status=status)

    def list_pods_page(self, *, field_selector: str = "", namespace: str = "", **_: Any) -> dict[str, Any]:
        self._ask(" ".join(filter(None, ("pods", field_selector, namespace))))
        found = [pod for pod in PODS if namespace in ("", pod["metadata"]["namespace"])]
        address = field_selector.removeprefix("status.podIP=")
        return {"items": [pod for pod in found if not address or pod["status"]["podIP"] == address]}

    def list_network_policies_page(self, namespace: str, **_: Any) -> dict[str, Any]:
        self._ask(f"policies {namespace}")
        return {"items": [policy("p", namespace=namespace)]}

    def list_services_page(self, **_: Any) -> dict[str, Any]:
        self._ask("services")
        return {"items": []}

    def namespace(self, name: str) -> dict[str, Any]:
        self._ask(f"namespace {name}")
        return namespace(name, team=name)

    def groups(self) -> frozenset[str]:
        self._ask("groups")
        return frozenset({"apps", "cilium.io"})


def ask(cluster: Cluster, *names: str, at: str = "") -> tuple[Any, list[str]]:
    return request_objects(cluster, names, map(ipaddress.ip_address, at.split()))


def test_names_take_their_namespaces_once() -> None:
    cluster = Cluster()
    objects, notes = ask(cluster, "team-a", "team-a")
    assert cluster.asked == ["pods team-a", "policies team-a", "namespace team-a", "groups"]
    assert (list(objects.policies), objects.namespaces, notes) == (["team-a/p"], {"team-a": {"team": "team-a"}}, [])
    assert objects.other_groups == {"cilium.io"}


def test_an_address_takes_its_owners_namespace() -> None:
    cluster = Cluster()
    ask(cluster, at="10.0.0.2")
    assert cluster.asked == [
        "pods status.podIP=10.0.0.2", "pods team-b", "policies team-b", "namespace team-b", "groups"
    ]  # fmt: skip


def test_a_second_address_takes_all_pods() -> None:
    cluster = Cluster()
    ask(cluster, at="fd00::1")
    assert cluster.asked == ["pods status.podIP=fd00::1", "pods", "policies team-a", "namespace team-a", "groups"]


def test_an_address_that_is_known_already_is_not_asked_for() -> None:
    cluster = Cluster()
    ask(cluster, "team-a", at="fd00::1")
    assert cluster.asked == ["pods team-a", "policies team-a", "namespace team-a", "groups"]


def test_an_outsider_may_be_a_service_which_is_asked_once() -> None:
    cluster = Cluster()
    ask(cluster, at="192.0.2.7 192.0.2.8")
    assert cluster.asked.count("services") == 1
    assert cluster.asked.count("pods") == 1


@pytest.mark.parametrize("refused", ["namespace team-a", "groups", "services"])
def test_what_is_not_needed_may_be_refused(refused: str) -> None:
    _, notes = ask(Cluster({refused: 403}), "team-a", at="192.0.2.7")
    assert len(notes) == 1


@pytest.mark.parametrize("refused", ["pods team-a", "policies team-a"])
@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_is_needed_may_not(refused: str, status: int) -> None:
    with pytest.raises(ClusterError, match="is refused"):
        ask(Cluster({refused: status}), "team-a")


@pytest.mark.parametrize("refused", ["namespace team-a", "groups", "services", "pods", "pods status.podIP=192.0.2.7"])
def test_a_server_that_fails_is_no_missing_right(refused: str) -> None:
    with pytest.raises(ClusterError, match="is refused"):
        ask(Cluster({refused: 500}), "team-a", at="192.0.2.7")


def test_without_the_right_to_all_pods_an_address_is_taken_for_an_outsiders() -> None:
    objects, notes = ask(Cluster({"pods status.podIP=10.0.0.2": 403}), "team-a", at="10.0.0.2")
    assert objects.pods_at(ipaddress.ip_address("10.0.0.2")) == []
    assert notes == ["may not list the pods of all namespaces: 10.0.0.2 is taken for no pod's address"]
    with pytest.raises(ClusterError, match="list pods in all namespaces"):
        ask(Cluster({"pods status.podIP=10.0.0.2": 403}), at="10.0.0.2")
