"""The test server with kubectl, and as a process of its own."""

import base64
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apiserver.objects import EVENTS, event, pod
from tests.apiserver.process import ServerProcess


@pytest.fixture
def kubectl(server, tmp_path):
    """The real kubectl against the server."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl")
    config = server.kubeconfig(tmp_path / "kubeconfig")

    def run(*arguments):
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "KUBECONFIG": str(config)}
        done = subprocess.run(
            [program, "--request-timeout=10s", *arguments],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_kubectl_describes_a_pod_with_its_events(client, server, kubectl):
    uid = server.pods.put(pod("web"))["metadata"]["uid"]
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web", "uid": uid}
    times = {"firstTimestamp": "2026-11-22T18:00:00Z", "lastTimestamp": "2026-11-22T18:05:00Z"}
    message = "Packet dropped when sending traffic to team-b/db (10.0.0.9) on port 5432/TCP"
    body = event("web.1", involvedObject=involved, message=message, count=7, source={"component": "kiptail"})
    assert client.post(EVENTS, {**body, **times}).status == 201
    assert client.post(EVENTS, event("web.2", message="of another pod of that name")).status == 201
    text = kubectl("describe", "pod", "-n", "team-a", "web")
    assert re.search(r"Warning +PacketDrop +\S+ \(x7 over \S+\) +kiptail +" + re.escape(message), text)
    assert "of another pod" not in text
    listed = kubectl("get", "events", "-n", "team-a")
    assert listed.split("\n")[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "pod/web" in listed


def test_kubectl_lists_pods_with_pages_and_as_a_table(server, kubectl):
    for number in range(7):
        server.pods.put(pod(f"p{number}", namespace=f"team-{number % 2}"))
    found = json.loads(kubectl("get", "pods", "-A", "-o", "json", "--chunk-size=3"))
    assert [item["kind"] for item in found["items"]] == ["Pod"] * 7
    assert len([request for request in server.requests(verb="list") if "limit" in request.query]) == 3
    table = kubectl("get", "pods", "-A")
    assert table.split("\n")[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(table.strip().split("\n")) == 8


def test_kubectl_writes(server, kubectl):
    server.pods.put(pod("web"))
    kubectl("label", "pod", "-n", "team-a", "web", "tier=front")
    assert server.pods.get("web", namespace="team-a")["metadata"]["labels"] == {"tier": "front"}
    kubectl("delete", "pod", "-n", "team-a", "web", "--grace-period=0", "--force")
    assert server.pods() == []


def test_it_runs_as_a_process_until_sigterm(tmp_path):
    pods, config, events = tmp_path / "pods.json", tmp_path / "config", tmp_path / "events.json"
    user = tmp_path / "user"
    pods.write_text(json.dumps({"kind": "List", "items": [pod("web")]}, indent=1))
    lines = tmp_path / "pods.jsonl"
    lines.write_text("".join(json.dumps(pod(f"p{number}")) + "\n" for number in range(3)))
    command = [sys.executable, "-W", "error", "-m", "tests.apiserver", "--kubeconfig", config, "--pods", pods]
    command += ["--pods", lines, "--events", events]
    command += ["--user-kubeconfig", "kiptail", user, "--grant", "kiptail", "list", "pods"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(process.stdout.readline())
            for path in (config, user):
                written = json.loads(path.read_text())
                [cluster], [caller] = written["clusters"], written["users"]
                assert cluster["cluster"]["server"] == f"https://127.0.0.1:{port}"
                ca = ssl.create_default_context(
                    cadata=base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
                )
                connection = http.client.HTTPSConnection("127.0.0.1", port, context=ca, timeout=5)
                connection.request(
                    "GET", "/api/v1/pods", headers={"Authorization": "Bearer " + caller["user"]["token"]}
                )
                with connection.getresponse() as response:
                    assert len(json.load(response)["items"]) == 4
                connection.close()
        finally:
            process.terminate()
            _, complaints = process.communicate(timeout=10)
    assert (process.returncode, complaints) == (0, "")
    assert json.loads(events.read_text()) == []


def ask(kubeconfig, method, path, body=None):
    """One request as the kubeconfig's user, and the answer's status and JSON."""
    config = json.loads(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    ca = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    port = int(cluster["server"].rpartition(":")[2])
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=ca, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        with connection.getresponse() as response:
            return response.status, json.load(response)
    finally:
        connection.close()


def test_a_killed_server_comes_back_as_the_same_cluster(tmp_path):
    with ServerProcess(tmp_path, [pod("web", uid="u1")]) as server:
        assert ask(server.kubeconfig, "POST", EVENTS, event("web.1", count=3))[0] == 201
        before = ask(server.kubeconfig, "GET", "/api/v1/pods")
        events = server.events()
        kubeconfig = server.kubeconfig.read_text()
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            ask(server.kubeconfig, "GET", "/api/v1/pods")
        server.start()
        assert server.kubeconfig.read_text() == kubeconfig
        assert ask(server.kubeconfig, "GET", "/api/v1/pods") == before
        assert server.events() == events
        assert [event["count"] for event in events] == [3]
        assert ask(server.kubeconfig, "POST", EVENTS, event("web.1"))[0] == 409


def test_a_killed_server_may_come_back_empty_or_with_another_certificate(tmp_path):
    with ServerProcess(tmp_path, [pod("web", uid="u1")]) as server:
        assert ask(server.kubeconfig, "POST", EVENTS, event("web.1"))[0] == 201
        server.kill()
        server.start(empty=True)
        assert server.events() == []
        assert [pod["metadata"]["uid"] for pod in ask(server.kubeconfig, "GET", "/api/v1/pods")[1]["items"]] == ["u1"]
        server.kill()
        server.start(ca="renewed")
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(server.kubeconfig, "GET", "/api/v1/pods")
        server.trust("renewed")
        assert ask(server.kubeconfig, "GET", "/api/v1/pods")[0] == 200


def test_a_frozen_server_answers_when_it_goes_on(tmp_path):
    with ServerProcess(tmp_path, []) as server:
        server.freeze()
        with pytest.raises(TimeoutError):
            ask(server.kubeconfig, "GET", "/api/v1/pods")
        server.thaw()
        assert ask(server.kubeconfig, "GET", "/api/v1/pods")[0] == 200
