"""What is said of whoever is at an end."""

from __future__ import annotations

import pytest

from kiptail.events.endpoint import Endpoint, Kind, workload_at
from kiptail.pods.ownership import PodRef

A, B = PodRef("team-a", "a", "1"), PodRef("team-a", "b", "2")
IP = "10.0.0.1"


@pytest.mark.parametrize(
    ("pods", "workload"),
    [
        ((), ""),
        ((A,), ""),
        ((A._replace(workload="deploy/web"),), "deploy/web"),
        ((A._replace(workload="deploy/web"), B._replace(workload="deploy/web")), "deploy/web"),
        ((A._replace(workload="deploy/web"), B._replace(workload="sts/db")), ""),
        ((A._replace(workload="deploy/web"), B._replace(namespace="team-b", workload="deploy/web")), ""),
    ],
    ids=["nobody", "not known", "one", "two of one", "two of two", "two namespaces"],
)
def test_the_workload_at_an_end_is_that_of_all_who_may_be_there(pods: tuple[PodRef, ...], workload: str) -> None:
    assert workload_at(Endpoint(Kind.POD, IP, pods)) == workload
    assert workload_at(None) == ""
