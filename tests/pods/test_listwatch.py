"""How all pods are read from the API server. The rest of it: test_reflector.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiptail.errors import ApiError
from kiptail.pods.listwatch import PodFeed
from tests.apiserver import ApiServer
from tests.support.kube import KubeApi
from tests.support.pods import pod


def test_a_list_in_pages_of_a_nodes_pods_comes_from_the_servers_memory(server: ApiServer, tmp_path: Path) -> None:
    server.watch_list = "reject"
    server.pods.put(pod("a", "10.0.0.1"))
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    pods, version = PodFeed(api, field_selector="spec.nodeName=worker-3").all()
    assert [pod.ref.name for pod in pods] == ["a"]
    assert version.isdecimal()
    (request,) = server.requests(verb="list")
    assert request.query["resourceVersion"] == "0"
    api.close()


def test_what_is_closed_before_it_begins_reads_nothing(server: ApiServer, tmp_path: Path) -> None:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"))
    reader = PodFeed(api)
    reader.close()
    with pytest.raises(ApiError):
        reader.all()
    assert server.requests() == []
    api.close()
