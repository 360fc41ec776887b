"""``kubectl drops`` as its users meet it: as a plugin of kubectl, with rights to list Events and no others."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from kiptail.events.endpoint import Endpoint, Kind
from tests.apiserver import ApiServer
from tests.support.drops import SERVER, command, drop_event, flow_of, other_event, pod_at, run_drops, variables
from tests.support.policies import namespace, policy, workload_pod

#: The time in which a new drop has to be seen, in seconds.
SOON = 2.0
HEADING = "LAST SEEN   COUNT"


@pytest.fixture
def kubeconfig(server: ApiServer, tmp_path: Path) -> str:
    """Of a user who may list the Events of team-a, which is the context's namespace."""
    token = server.add_user("jane")
    server.grant("jane", "list", "events", namespace="team-a")
    return str(server.kubeconfig(tmp_path / "jane", token=token, namespace="team-a"))


@contextlib.contextmanager
def running(kubeconfig: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """``kubectl-drops`` with these arguments, until the block ends."""
    process = subprocess.Popen(
        command(*arguments), env=variables(KUBECONFIG=kubeconfig), text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().rstrip("\n")


def test_the_table_has_the_newest_last(server: ApiServer, kubeconfig: str) -> None:
    now = time.time()
    server.events.put(drop_event("web-0", flow=flow_of(5, last=now - 30)))
    server.events.put(drop_event("web-1", end="dst", flow=flow_of(7, last=now - 3_000, policy="team-b/deny")))
    server.events.put(drop_event("web-2", withdrawn=True))
    server.events.put(drop_event("web-3", namespace="team-b"))
    server.events.put(other_event("Packet dropped when receiving traffic from db (10.1.1.1)"))
    done = run_drops(KUBECONFIG=kubeconfig)
    assert (done.returncode, done.stderr) == (0, "")
    heading, *rows = done.stdout.splitlines()
    assert re.split(r" {2,}", heading) == [
        "LAST SEEN", "COUNT", "POD", "DIRECTION", "PEER", "PORT", "POLICY", "WHY",
    ]  # fmt: skip
    cells = [re.split(r" {2,}", row)[1:] for row in rows]
    assert [each for each in cells if each[0] != "2"] == [
        ["7", "web-1", "received", "team-b/server", "8080/TCP", "team-b/deny", "-"],
        ["5", "web-0", "sent", "team-b/server", "8080/TCP", "-", "-"],
    ]
    assert ["2", "web-0", "received", "db", "-", "-", "-"] in cells


def test_it_takes_the_right_to_list_events_and_no_other(server: ApiServer, kubeconfig: str) -> None:
    server.events.put(drop_event("web-6d4cf56db6-x7k2p"))
    for arguments in ((), ("--for", "deploy/web"), ("--for", "pod/web-6d4cf56db6-x7k2p"), ("-o", "wide")):
        done = run_drops(*arguments, KUBECONFIG=kubeconfig)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert "web-6d4cf56db6-x7k2p" in done.stdout
    assert {request.method for request in server.requests(user="jane")} == {"GET"}


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (("-n", "team-b"), "it takes the right to list events in namespace team-b"),
        (("-A",), "it takes the right to list events in all namespaces, or name one of yours: -n NAMESPACE"),
        (("-n", "team-b", "-w"), "it takes the right to list events in namespace team-b"),
    ],
)
def test_a_right_that_is_missing_is_one_clear_line(kubeconfig: str, arguments: tuple[str, ...], right: str) -> None:
    done = run_drops(*arguments, KUBECONFIG=kubeconfig)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("kubectl-drops: cannot list events")
    assert line.endswith(right)


def test_all_namespaces_have_a_column(server: ApiServer, tmp_path: Path) -> None:
    admin = str(server.kubeconfig(tmp_path / "admin"))
    server.events.put(drop_event("web-0"))
    server.events.put(drop_event("db-0", namespace="team-b"))
    done = run_drops("-A", "--sort", "pod", "--kubeconfig", admin)
    heading, *rows = done.stdout.splitlines()
    assert heading.startswith("NAMESPACE")
    assert [row.split()[0] for row in rows] == ["team-a", "team-b"]
    other, *others = run_drops("-A", "-n", "team-a", "--sort", "pod", "--kubeconfig", admin).stdout.splitlines()
    assert other.split() == heading.split()
    # Without when that was, for that grows.
    assert [row.split()[2:] for row in others] == [row.split()[2:] for row in rows]
    done = run_drops(KUBECONFIG=admin)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No drops found in default namespace.\n")


def test_json_is_for_programs(server: ApiServer, kubeconfig: str) -> None:
    server.events.put(drop_event("web-0", flow=flow_of(5, last=1.8e9), isolated_by=["team-b/deny"]))
    done = run_drops("-o", "json", KUBECONFIG=kubeconfig)
    assert json.loads(done.stdout) == {
        "items": [
            {
                "namespace": "team-a",
                "pod": "web-0",
                "direction": "sent",
                "peer": "team-b/server",
                "port": 8080,
                "protocol": "TCP",
                "count": 5,
                "first": "2027-01-15T07:59:00Z",
                "last": "2027-01-15T08:00:00Z",
                "policy": "",
                "why": "no rule of NetworkPolicy team-b/deny allows it",
                "message": "Packet dropped when sending traffic to team-b/server (10.0.0.2) on port 8080/TCP",
            }
        ]
    }
    assert run_drops("-o", "name", KUBECONFIG=kubeconfig).stdout == "pod/web-0\n"
    bare = run_drops("--no-headers", KUBECONFIG=kubeconfig).stdout
    assert len(bare.splitlines()) == 1


def test_since_and_sort(server: ApiServer, kubeconfig: str) -> None:
    now = time.time()
    for number, (age, count) in enumerate(((10, 1), (1_000, 9), (5_000, 5))):
        server.events.put(drop_event(f"web-{number}", flow=flow_of(count, last=now - age)))
    for arguments, pods in (
        (("--since", "1h"), "web-1 web-0"),
        (("--since", "-1h"), "web-1 web-0"),
        (("--since", "@1"), "web-2 web-1 web-0"),
        (("--sort", "count"), "web-0 web-2 web-1"),
    ):
        done = run_drops("-o", "name", *arguments, KUBECONFIG=kubeconfig)
        assert done.stdout.replace("pod/", "").split() == pods.split(), arguments


def test_of_a_workload_whose_pods_are_known(server: ApiServer, kubeconfig: str) -> None:
    """By the controller where pods may be listed; by the name where they may not, or are gone."""
    own = "web-abc-x7k2p"
    server.pods.put(workload_pod(own, "10.0.0.1", owner="ReplicaSet/web-abc", labels={"pod-template-hash": "abc"}))
    like = "web-6d4cf56db6-x7k2p"
    server.pods.put(workload_pod(like, "10.0.0.2", owner="ReplicaSet/another"))
    gone = "web-6d4cf56db6-gggg5"
    for name in (own, like, gone):
        server.events.put(drop_event(name))
    arguments = ("--for", "deploy/web", "-o", "name")
    assert set(run_drops(*arguments, KUBECONFIG=kubeconfig).stdout.split()) == {f"pod/{like}", f"pod/{gone}"}
    server.grant("jane", "list", "pods", namespace="team-a")
    assert set(run_drops(*arguments, KUBECONFIG=kubeconfig).stdout.split()) == {f"pod/{own}", f"pod/{gone}"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--for", "svc/web"), ("--for", ""), ("--since", "soon"), ("-o", "xml"), ("--sort", "x"), ("-n", "Team A"),
        ("-n", ""), ("--reason", "x y"), ("--server", "x"), ("web-0",), ("explain",),
        ("--wrong",), ("explain", "../x"),
    ],
)  # fmt: skip
def test_usage(kubeconfig: str, arguments: tuple[str, ...]) -> None:
    done = run_drops(*arguments, KUBECONFIG=kubeconfig)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kubectl-drops: ")
    assert "Traceback" not in done.stderr


def test_what_stands_in_the_way_is_one_line(server: ApiServer, kubeconfig: str, tmp_path: Path) -> None:
    cases = [
        ({"KUBECONFIG": str(tmp_path / "nowhere"), "HOME": str(tmp_path)}, ()),
        ({"KUBECONFIG": kubeconfig}, ("--context", "other")),
        ({"KUBECONFIG": kubeconfig}, ("--server", "https://127.0.0.1:1")),
        ({"KUBECONFIG": str(server.kubeconfig(tmp_path / "x", token="wrong"))}, ()),
        ({"KUBECONFIG": str(server.kubeconfig(tmp_path / "y", ca="wrong"))}, ("-w",)),
    ]
    for environment, arguments in cases:
        done = run_drops(*arguments, **environment)
        assert (done.returncode, done.stdout) == (4, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_hostile_texts_are_text(server: ApiServer, kubeconfig: str) -> None:
    evil = "=HYPERLINK('http://192.0.2.1')\x1b]0;owned\x07\x1b[2J\u202e\r\nweb-9   9999   \u2028"
    server.events.put(other_event(f"Packet dropped when sending traffic to {evil} on port 1/TCP", pod="web-1"))
    server.events.put(other_event(evil, pod="web-2"))
    server.events.put(drop_event("web-3", Endpoint(Kind.NOBODY, "10.0.0.2", name=evil), flow_of(policy=evil)))
    server.events.put(drop_event("web-4") | {"source": {"component": evil, "host": evil}})
    forged = drop_event("web-5")
    note = {"direction": "sent", "policy": evil, "protocol": evil, "node": evil, "isolated_by": [evil], "verdict": evil}
    forged["metadata"]["annotations"]["kiptail/flow"] = json.dumps(note)
    server.events.put(forged)
    for form in ("table", "wide"):
        done = run_drops("-o", form, KUBECONFIG=kubeconfig)
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert len(lines) == 6
        assert all(line.isprintable() for line in lines)
        assert not any(re.search(r" {3}9999 {3}", line) for line in lines)
    raw = run_drops("-o", "json", KUBECONFIG=kubeconfig).stdout
    assert raw.isascii()
    assert all(line.isprintable() for line in raw.splitlines())
    assert len(json.loads(raw)["items"]) == 5


def test_a_pipe_that_is_closed_is_no_error(server: ApiServer, kubeconfig: str) -> None:
    for number in range(2_000):
        server.events.put(drop_event(f"web-{number}"))
    with running(kubeconfig, "-o", "wide") as process:
        assert next_line(process.stdout).startswith(HEADING[:9])
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_new_drops_are_seen_soon(server: ApiServer, kubeconfig: str) -> None:
    server.grant("jane", "watch", "events", namespace="team-a")
    server.events.put(drop_event("web-0", flow=flow_of(1, last=1.8e9)))
    with running(kubeconfig, "-w") as process:
        assert next_line(process.stdout).startswith("LAST SEEN")
        assert next_line(process.stdout).startswith("2027-01-15T08:00:00Z   1       web-0")
        server.wait_for(server.watches)
        began = time.monotonic()
        server.events.put(drop_event("web-1"))
        assert " web-1 " in next_line(process.stdout)
        server.events.put(drop_event("web-0", flow=flow_of(2, last=1.8e9)))
        assert "   2       web-0" in next_line(process.stdout)
        assert time.monotonic() - began < SOON
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == ""


def test_who_may_not_watch_sees_new_drops_soon_all_the_same(server: ApiServer, kubeconfig: str) -> None:
    with running(kubeconfig, "-w", "-o", "json") as process:
        assert "may not watch events" in next_line(process.stderr)
        began = time.monotonic()
        server.events.put(drop_event("web-1"))
        assert json.loads(next_line(process.stdout))["pod"] == "web-1"
        assert time.monotonic() - began < SOON


def on_terminal(kubeconfig: str, *arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """It writes to a terminal of 10 lines by 60 columns: the process, and the terminal's other side."""
    leader, follower = pty.openpty()
    subprocess.run(["stty", "rows", "10", "cols", "60"], stdin=follower, check=True)
    process = subprocess.Popen(
        command(*arguments), stdout=follower, stdin=follower, env=variables(KUBECONFIG=kubeconfig, **environment)
    )
    os.close(follower)
    return process, leader


def seen(leader: int, wanted: bytes, seconds: float = 20.0) -> bytes:
    """What came on the terminal up to ``wanted``."""
    data = b""
    deadline = time.monotonic() + seconds
    os.set_blocking(leader, False)
    while wanted not in data:
        assert time.monotonic() < deadline, data
        with contextlib.suppress(BlockingIOError):
            data += os.read(leader, 65_536)
        time.sleep(0.01)
    return data


def test_a_terminal_is_drawn_anew(server: ApiServer, kubeconfig: str) -> None:
    server.grant("jane", "watch", "events", namespace="team-a")
    for number in range(20):
        server.events.put(drop_event(f"web-{number}", flow=flow_of(1, last=time.time() - 1_000 + number)))
    process, leader = on_terminal(kubeconfig, "-w", LINES="", COLUMNS="")
    try:
        screen = seen(leader, b"web-19")
        assert screen.startswith(b"\x1b[2J\x1b[H")
        assert b"web-11 " not in screen
        assert screen.count(b"web-") == 8
        assert max(len(re.sub(r"\x1b\[[0-9]*[A-Za-z]", "", line)) for line in screen.decode().splitlines()) <= 60
        server.wait_for(server.watches)
        server.events.put(drop_event("web-new"))
        assert b"\x1b[33m" in seen(leader, b"web-new", SOON)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals(
    server: ApiServer, kubeconfig: str, environment: dict[str, str], coloured: bool
) -> None:
    server.events.put(drop_event("web-0"))
    process, leader = on_terminal(kubeconfig, **environment)
    try:
        assert (b"\x1b[" in seen(leader, b"team-b/server")) is coloured
    finally:
        process.wait(20)
        os.close(leader)
    assert "\x1b[" not in run_drops(KUBECONFIG=kubeconfig).stdout


def test_explain_asks_about_each_connection_of_a_pod(server: ApiServer, tmp_path: Path) -> None:
    for each in (namespace("team-a"), namespace("team-b")):
        server.namespaces.put(each)
    server.pods.put(workload_pod("client", "10.0.0.1", labels={"app": "client"}))
    server.pods.put(workload_pod("server", "10.0.0.2", namespace="team-b", labels={"app": "server"}))
    server.network_policies.put(policy("default-deny", namespace="team-b"))
    server.events.put(drop_event("client"))
    server.events.put(drop_event("client", flow=flow_of(port=53, protocol="UDP")))
    server.events.put(drop_event("client", flow=flow_of(reply=True)))
    admin = str(server.kubeconfig(tmp_path / "admin"))
    done = run_drops("explain", "-n", "team-a", "pod/client", KUBECONFIG=admin)
    assert done.returncode == 0, done.stderr
    for port in ("8080/TCP", "53/UDP"):
        assert f"denied: team-a/client (10.0.0.1) → team-b/server (10.0.0.2) on port {port}\n" in done.stdout
    assert "1 Event of replies or of many peers cannot be explained so" in done.stderr
    server.events.put(drop_event("client", pod_at("gone", "10.0.0.9")))
    done = run_drops("explain", "-n", "team-a", "client", KUBECONFIG=admin)
    assert done.returncode == 0
    assert "there is no pod team-b/gone" in done.stderr
    workload = run_drops("explain", "-n", "team-a", "sts/client", KUBECONFIG=admin)
    assert (workload.returncode, workload.stdout) == (1, "")
    none = run_drops("explain", "-n", "team-a", "nobody", KUBECONFIG=admin)
    assert (none.returncode, none.stdout) == (1, "")
    assert "pod/nobody: no drops in team-a namespace are known" in none.stderr


def test_explain_names_the_right_that_is_missing(server: ApiServer, kubeconfig: str) -> None:
    server.events.put(drop_event("client"))
    done = run_drops("explain", "client", KUBECONFIG=kubeconfig)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("it takes the right to list pods in namespace team-a")


@pytest.fixture
def with_kubectl(kubeconfig: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has kubectl, and the plugin in the PATH."""
    plugin = tmp_path / "bin" / "kubectl-drops"
    plugin.parent.mkdir()
    plugin.write_text(f"#!{sys.executable}\nfrom kiptail.cli.drops import main\n\nmain()\n")
    plugin.chmod(0o755)
    environment = variables(KUBECONFIG=kubeconfig, HOME=str(tmp_path))
    return environment | {"PATH": f"{plugin.parent}:{environment['PATH']}"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_finds_it_as_a_plugin(server: ApiServer, with_kubectl: dict[str, str]) -> None:
    server.events.put(drop_event("web-0", SERVER))
    done = subprocess.run(
        ["kubectl", "drops", "-n", "team-a"], env=with_kubectl, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "web-0" in done.stdout


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_new_drops_are_seen_soon_by_kubectl_with_the_right_to_list_alone(
    server: ApiServer, with_kubectl: dict[str, str]
) -> None:
    command_line = ["kubectl", "drops", "-n", "team-a", "-w"]
    with subprocess.Popen(
        command_line, env=with_kubectl, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert "may not watch events" in next_line(process.stderr)
            began = time.monotonic()
            server.events.put(drop_event("web-1"))
            assert next_line(process.stdout).startswith("LAST SEEN")
            assert " web-1 " in next_line(process.stdout)
            assert time.monotonic() - began < SOON
        finally:
            process.kill()
