"""NetworkPolicies in Events on the real thing: packets that nft drops, kernel, journald, kiptail, and kubectl."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from kiptail.admin.manifests import dedicated
from tests.apiserver import ApiServer
from tests.support.journald import Journald
from tests.support.netns import network
from tests.support.pods import pod
from tests.support.policies import policy
from tests.support.running import Kiptail

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft and journald"),
]

ACCOUNT = "system:serviceaccount:kube-system:kiptail"
CLIENT, WEB = "10.244.1.9", "10.244.1.3"


def describe(server: ApiServer, directory: Path, namespace: str, name: str) -> str:
    """What the owner of a pod sees."""
    command = ["kubectl", "--kubeconfig", str(server.kubeconfig(directory / "admin")), "describe", "pod"]
    done = subprocess.run(
        [*command, "-n", namespace, name],
        capture_output=True, text=True, timeout=60, check=True, env=os.environ | {"HOME": str(directory)},
    )  # fmt: skip
    return done.stdout


def test_kubectl_describe_names_the_policy_at_both_ends_until_it_is_removed(tmp_path: Path) -> None:
    with ApiServer() as server, network() as net, Journald(tmp_path / "journald") as journald:
        net.add_pod("client", CLIENT)
        net.add_pod("web-0", WEB)
        net.drop("calico-drop: ", "ct state new")
        server.apply(dedicated())
        server.pods.put(pod("client", CLIENT, labels={"app": "client"}))
        server.pods.put(pod("web-0", WEB, namespace="team-b", labels={"app": "web"}))
        server.network_policies.put(policy("default-deny", namespace="team-b", policyTypes=["Ingress"]))
        kubeconfig = server.kubeconfig(tmp_path / "kubeconfig", token=server.add_user(ACCOUNT))
        with Kiptail(
            tmp_path,
            "--kubeconfig", kubeconfig, "--journal-directory", journald.directory, "--prefix", "calico-drop:",
            "--state-directory", tmp_path / "state", "--node-name", "worker-3", "--since", "now",
            "--metrics-address", "off",
            module="tests.support.short_memory",
        ) as kiptail:  # fmt: skip
            net.send("client", "tcp", WEB, 8080)
            net.send("client", "ping", WEB)
            kiptail.wait_for(lambda: len(server.events()) == 4, "two flows' Events at both ends")
            sender, receiver = (
                describe(server, tmp_path, *whose) for whose in (("team-a", "client"), ("team-b", "web-0"))
            )
            for about in ("on port 8080/TCP", "ICMP echo-request"):
                assert f"{about}: isolated by NetworkPolicy team-b/default-deny\n" in sender
                assert f"{about}: no rule of NetworkPolicy default-deny allows it\n" in receiver

            server.network_policies.delete("default-deny", namespace="team-b")
            time.sleep(1.1)  # what was known of policies is old then
            net.send("client", "tcp", WEB, 8081)
            kiptail.wait_for(lambda: len(server.events()) == 6, "another flow's Events")
            for whose in (("team-a", "client"), ("team-b", "web-0")):
                assert "on port 8081/TCP\n" in describe(server, tmp_path, *whose)
