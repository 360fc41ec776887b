"""The command line as its users meet it: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import ROOT, Kiptail, run_kiptail

T0 = 1_795_000_000_000_000
LINE = (
    "calico-drop: IN=a OUT=b MAC= SRC=10.0.0.1 DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)
PREFIX = ("--prefix", "calico-drop:")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal file with kernel entries: two flows of pods, one to a stranger, one line that is cut."""
    lines = [LINE.format(dst="10.0.0.2", port=80)] * 3 + [LINE.format(dst="10.0.0.2", port=81)]
    lines += [LINE.format(dst="192.0.2.7", port=443), LINE.format(dst="10.0.0.2", port=80)[:48]]
    path = tmp_path_factory.mktemp("journal") / "recorded.journal"
    export_to_journal(
        (
            kernel_entry(line, realtime_us=T0 + n * 1_000_000, monotonic_us=10_000_000 + n * 1_000_000)
            for n, line in enumerate(lines)
        ),
        path,
    )
    return path


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pods = [pod("client", "10.0.0.1", uid="u1"), pod("web-0", "10.0.0.2", uid="u2", labels={"app": "shop"})]
    path = tmp_path_factory.mktemp("pods") / "pods.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    return path


def offline(recorded: Path, snapshot: Path, *more: object) -> tuple[object, ...]:
    return ("--dry-run", "--no-follow", "--journal-file", recorded, "--pods", snapshot, *PREFIX, *more)


def test_a_dry_run_offline_prints_each_event_once_with_its_final_count(recorded: Path, snapshot: Path) -> None:
    done = run_kiptail(*offline(recorded, snapshot, "--output", "json"))
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["operation"] for line in printed} == {"create"}
    told = {(e["involvedObject"]["name"], e["message"]): e["count"] for e in (line["event"] for line in printed)}
    assert told == {
        ("client", "Packet dropped when sending traffic to team-a/web-0 (10.0.0.2) on port 80/TCP"): 3,
        ("web-0", "Packet dropped when receiving traffic from team-a/client (10.0.0.1) on port 80/TCP"): 3,
        ("client", "Packet dropped when sending traffic to team-a/web-0 (10.0.0.2) on port 81/TCP"): 1,
        ("web-0", "Packet dropped when receiving traffic from team-a/client (10.0.0.1) on port 81/TCP"): 1,
        ("client", "Packet dropped when sending traffic to 192.0.2.7 on port 443/TCP"): 1,
    }


def test_a_dry_run_reads_well(recorded: Path, snapshot: Path) -> None:
    done = run_kiptail(*offline(recorded, snapshot, "--pod-identifier", "label", "--pod-identifier-label", "app"))
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 5
    event = "create team-a/client Warning PacketDrop x3: Packet dropped when sending traffic to shop (10.0.0.2)"
    assert lines[0].endswith(f"{event} on port 80/TCP")


def test_each_drop_is_logged_on_request_at_any_level(recorded: Path, snapshot: Path) -> None:
    done = run_kiptail(*offline(recorded, snapshot, "--log-drops", "--log-level", "error"))
    records = [json.loads(line.split(" info: ", 1)[1]) for line in done.stderr.decode().splitlines()]
    assert [record["dst_port"] for record in records] == [80, 80, 80, 81, 443]
    assert {"time_us", "src", "dst", "protocol", "verdict"} <= set(records[0])


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_dry_run_names_the_policy(recorded: Path, snapshot: Path, tmp_path: Path, output: str) -> None:
    """In the Events and in the log of drops; and that its rule logs at a limited rate."""
    config = tmp_path / "kiptail.toml"
    config.write_text('log-drops = true\n[[prefixes]]\ntext = "calico-{policy}:"\nlimited = true\n')
    done = run_kiptail(
        "--dry-run", "--no-follow", "--config", config, "--journal-file", recorded, "--pods", snapshot,
        "--output", output,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (printed,) = (line for line in done.stdout.decode().splitlines() if "port 443" in line)
    said = json.loads(printed)["event"]["message"] if output == "json" else printed
    assert said.endswith(
        "Packet dropped when sending traffic to 192.0.2.7 on port 443/TCP, by policy drop;"
        " the rule logs at a limited rate, so there may have been more packets"
    )
    drops = [json.loads(line[line.index("{") :]) for line in done.stderr.decode().splitlines() if '"time_us"' in line]
    assert [(drop["policy"], drop["limited"]) for drop in drops] == [("drop", True)] * 5


def test_a_dry_run_leaves_nothing_behind(recorded: Path, snapshot: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = run_kiptail(*offline(recorded, snapshot, "--state-directory", state), KIPTAIL_METRICS_ADDRESS="127.0.0.1:1")
    assert done.returncode == 0
    assert not state.exists()
    assert b"metrics" not in done.stderr


def test_settings_come_from_the_environment_and_a_file_too(recorded: Path, snapshot: Path, tmp_path: Path) -> None:
    config = tmp_path / "kiptail.toml"
    config.write_text(f'prefix = ["calico-drop:"]\npods = "{snapshot}"\nno-follow = true\n')
    done = run_kiptail("--dry-run", "--config", config, "--output", "json", KIPTAIL_JOURNAL_FILE=str(recorded))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_parse_prints_what_was_understood() -> None:
    lines = [
        LINE.format(dst="10.0.0.2", port=80),
        "no netfilter line",
        "other: " + LINE.format(dst="10.0.0.2", port=80).removeprefix("calico-drop: "),
        LINE.format(dst="10.0.0.2", port=80)[:48],
        "Nov 23 10:00:00 node kernel: [   12.345678] " + LINE.format(dst="10.0.0.5", port=81),
    ]
    done = run_kiptail("parse", *PREFIX, stdin=("\r\n".join(lines) + "\n\xff\n").encode("latin-1"))
    assert done.returncode == 0, done.stderr
    first, cut, last = map(json.loads, done.stdout.splitlines())
    assert first == {
        "prefix": "calico-drop:", "verdict": "drop", "in": "a", "out": "b", "src": "10.0.0.1", "dst": "10.0.0.2",
        "protocol": "TCP", "src_port": 40000, "dst_port": 80,
    }  # fmt: skip
    assert set(cut) == {"error", "line"}
    assert (last["dst"], last["dst_port"]) == ("10.0.0.5", 81)


def test_parse_takes_what_journalctl_prints(tmp_path: Path, recorded: Path) -> None:
    """Of a real journal, in all of its forms, with bytes that are no text in a prefix as well."""
    journal = tmp_path / "bytes.journal"
    line = LINE.format(dst="10.0.0.2", port=80)
    entries = [line.encode(), b"f\xfcr drop: " + line.removeprefix("calico-drop: ").encode()]
    export_to_journal(
        (kernel_entry(text, realtime_us=T0 + n, monotonic_us=10 + n) for n, text in enumerate(entries)), journal
    )
    forms = ["short", "short-full", "short-iso", "short-precise", "short-monotonic", "short-unix", "with-unit", "cat"]
    forms += ["verbose", "export", "json", "json-pretty", "json-sse", "json-seq"]
    expected = run_kiptail("parse", *PREFIX, stdin=line.encode())
    assert b'"dst_port": 80' in expected.stdout
    for form in forms:
        text = subprocess.run(
            ["journalctl", "--file", journal, "--all", "--output", form], capture_output=True, check=True, timeout=60
        ).stdout
        found = run_kiptail("parse", *PREFIX, "--prefix", r"f\xfcr drop:", stdin=text)
        assert found.stderr == b"", form
        printed = [json.loads(said) for said in found.stdout.splitlines()]
        assert printed[0] == json.loads(expected.stdout), form
        # Others show [blob], or what they like; json-pretty has a line for each byte.
        if form in {"export", "json", "json-sse", "json-seq"}:
            assert [said["prefix"] for said in printed] == ["calico-drop:", r"f\xfcr drop:"], form


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        pytest.param(b"", "no line of the input looked like", id="nothing"),
        pytest.param(b"usb 1-1: new device\n", "no line of the input looked like", id="other lines"),
        pytest.param(
            LINE.format(dst="10.0.0.2", port=80).encode(), "the first has 'calico-drop:'", id="another prefix"
        ),
    ],
)
def test_parse_says_why_it_printed_nothing(stdin: bytes, told: str) -> None:
    done = run_kiptail("parse", "--prefix", "other:", stdin=stdin)
    assert (done.returncode, done.stdout) == (0, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("kiptail: ")
    assert told in line


def test_a_dry_run_says_what_it_could_not_use(recorded: Path, tmp_path: Path) -> None:
    """A line that is cut, a pod without its UID, one whose name would write to the terminal; a Service has a name."""
    escapes = "x\x1b]0;owned\x07\x1b[2J"
    items = [
        pod("client", "10.0.0.1", uid="u1"),
        pod("web-0", "10.0.0.2"),
        pod(escapes, "10.0.0.2", uid="u3", labels={"app": escapes}),
        {
            "kind": "Service",
            "metadata": {"namespace": "team-a", "name": "db"},
            "spec": {"clusterIPs": ["192.0.2.7"]},
        },
    ]
    path = tmp_path / f"{escapes}.json"
    path.write_text(json.dumps({"items": items}))
    more = ("--pod-identifier", "label", "--pod-identifier-label", "app", "--log-level", "debug")
    done = run_kiptail(*offline(recorded, path, *more))
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "\x1b" not in said + done.stdout.decode()
    assert "2 of 4 items are not used: 1 without a usable metadata.name, 1 without metadata.uid" in said
    assert "6 kernel lines read: 5 drops, 1 line not understood (addresses are cut off)" in said
    assert b"sending traffic to service team-a/db (192.0.2.7) on port 443/TCP" in done.stdout


@pytest.mark.parametrize("command", ["parse", "check"])
@pytest.mark.parametrize("option", ["--config", "--prefix"])
def test_an_empty_value_is_refused(command: str, option: str) -> None:
    done = run_kiptail(command, option, "")
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"kiptail: {option}: '' is empty")


def test_parse_takes_absurd_lines_and_bytes() -> None:
    hostile = b"calico-drop: IN=" * 20_000 + b"\n" + bytes(range(256)) * 50 + b"\ncalico-drop: IN= OUT=\x1b[31m\n"
    done = run_kiptail("parse", *PREFIX, stdin=hostile)
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    for line in done.stdout.splitlines():
        assert "error" in json.loads(line)


def test_parse_answers_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kiptail", "parse", *PREFIX],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LINE.format(dst="10.0.0.2", port=80).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 10)
        process.stdin.close()
        assert ready, "before the input's end"
        assert json.loads(process.stdout.readline())["dst_port"] == 80


def test_version_and_help() -> None:
    assert run_kiptail("--version").stdout.startswith(b"kiptail 0.")
    shown = run_kiptail("--help").stdout.decode()
    for option in ("--prefix", "--dry-run", "--kubeconfig", "--since", "--pods", "--metrics-address", "parse"):
        assert option in shown


def test_a_recorded_journal_can_be_posted_and_posting_it_again_changes_nothing(place: Place) -> None:
    for name, address in (("client", "10.0.0.1"), ("web-0", "10.0.0.2")):
        place.server.pods.put(pod(name, address))
    arguments = (
        "--no-follow", "--kubeconfig", place.kubeconfig(), "--state-directory", place.directory / "state",
        "--journal-file", place.journal, "--metrics-address", "off", *PREFIX,
    )  # fmt: skip
    counts = []
    for _ in range(3):
        done = run_kiptail(*arguments)
        assert done.returncode == 0, done.stderr
        counts.append({event["metadata"]["name"]: event["count"] for event in place.server.events()})
    assert sorted(counts[0].values()) == [1, 1, 1, 3, 3]
    assert counts[0] == counts[1] == counts[2]


@dataclass
class Place:
    """Where a bad input is tried."""

    directory: Path
    server: ApiServer
    journal: Path

    def kubeconfig(self, **options: object) -> Path:
        return self.server.kubeconfig(self.directory / "kubeconfig", **options)  # type: ignore[arg-type]

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def follow(self, kubeconfig: Path, *more: object) -> tuple[object, ...]:
        return (
            "--kubeconfig", kubeconfig, "--journal-directory", self.journal.parent, "--metrics-address", "off",
            "--state-directory", self.directory / "state", *PREFIX, *more,
        )  # fmt: skip

    def limited(self, *rights: tuple[str, str]) -> Path:
        token = self.server.add_user("limited")
        for verbs, resource in rights:
            self.server.grant("limited", verbs, resource)
        return self.kubeconfig(token=token)


@pytest.fixture
def place(tmp_path: Path, recorded: Path) -> Iterator[Place]:
    with ApiServer() as server:
        yield Place(tmp_path, server, recorded)


def stopped(place: Place) -> Path:
    path = place.kubeconfig()
    place.server.stop()
    return path


BAD: list[tuple[str, Callable[[Place], tuple[object, ...]], int, list[str]]] = [
    ("no prefix", lambda p: ("--dry-run",), 2, ["--prefix", "kiptail check"]),
    ("an unknown option", lambda p: ("--prefixx", "a"), 2, ["--prefixx"]),
    ("a bad duration", lambda p: (*PREFIX, "--expire-after", "soon"), 2, ["--expire-after", "soon"]),
    ("--pods without --dry-run", lambda p: (*PREFIX, "--pods", "x"), 2, ["--pods", "--dry-run"]),
    ("TOML that is none", lambda p: ("--config", p.write("c.toml", "prefix = [")), 2, ["c.toml"]),
    ("a key that is unknown", lambda p: ("--config", p.write("c.toml", "prefixx = 'a'")), 2, ["c.toml", "prefixx"]),
    ("a value of the wrong type", lambda p: ("--config", p.write("c.toml", "since = 5.5")), 2, ["c.toml", "since"]),
    ("no such settings", lambda p: ("--config", p.directory / "no.toml"), 2, ["no.toml"]),
    ("pods that are none", lambda p: (*PREFIX, "--dry-run", "--pods", p.write("p", "{}")), 2, ["--pods", "kubectl"]),
    ("no such pods", lambda p: (*PREFIX, "--dry-run", "--pods", p.directory / "no"), 2, ["--pods", "/no", "kubectl"]),
    ("pods without an end", lambda p: (*PREFIX, "--dry-run", "--pods", "/dev/zero"), 2, ["/dev/zero", "kubectl"]),
    (
        "no such journal directory",
        lambda p: (*PREFIX, "--dry-run", "--pods", p.write("p", '{"items":[]}'), "--journal-directory", "/no/such"),
        3, ["/no/such"],
    ),
    (
        "no such journal file",
        lambda p: (*PREFIX, "--dry-run", "--pods", p.write("p", '{"items":[]}'), "--journal-file", "/no/file"),
        3, ["/no/file"],
    ),
    (
        "a file that is no journal",
        lambda p: (
            *PREFIX, "--dry-run", "--pods", p.write("p", '{"items":[]}'), "--journal-file", p.write("j", "text"),
        ),
        3, ["/j"],
    ),
    ("no kubeconfig", lambda p: p.follow(p.directory / "none"), 4, ["/none", "--kubeconfig"]),
    ("a kubeconfig that is no YAML", lambda p: p.follow(p.write("k", "a: [")), 4, ["/k"]),
    ("a kubeconfig without clusters", lambda p: p.follow(p.write("k", "kind: Config")), 4, ["/k"]),
    ("an unknown context", lambda p: p.follow(p.kubeconfig(), "--context", "nope"), 4, ["nope"]),
    ("the wrong CA", lambda p: p.follow(p.kubeconfig(ca="wrong")), 4, ["certificate", "not trusted"]),
    ("an unknown token", lambda p: p.follow(p.kubeconfig(token="wrong")), 4, ["401"]),
    (
        "no right to list pods",
        lambda p: p.follow(p.limited(("watch", "pods"), ("create patch", "events"))), 4, ["list pods"],
    ),
    (
        "no right to watch pods",
        lambda p: p.follow(p.limited(("list", "pods"), ("create patch", "events"))), 4, ["watch pods"],
    ),
    (
        "no right to create Events",
        lambda p: p.follow(p.limited(("list watch", "pods"), ("patch", "events"))), 4, ["create events"],
    ),
    (
        "no right to patch Events",
        lambda p: p.follow(p.limited(("list watch", "pods"), ("create", "events"))), 4, ["patch events"],
    ),
    (
        "a dry run without an answer from the cluster",
        lambda p: ("--dry-run", *p.follow(stopped(p))), 4, ["does not answer", "127.0.0.1"],
    ),
    (
        "a state directory that cannot be made",
        lambda p: p.follow(p.kubeconfig(), "--state-directory", "/proc/kiptail"), 5, ["/proc/kiptail"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "named"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_ends_with_one_line_that_says_what_is_wrong(
    place: Place, arguments: Callable[[Place], tuple[object, ...]], code: int, named: list[str]
) -> None:
    done = run_kiptail(*arguments(place), "--log-level", "error")
    told = done.stderr.decode()
    assert done.returncode == code, told
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if not line.startswith("Try 'kiptail")]
    assert len(lines) == 1, told
    assert lines[0].startswith("kiptail: ")
    for word in named:
        assert word in lines[0]
    assert done.stdout == b""


def test_a_journal_that_may_not_be_read_names_the_group(recorded: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    # Everything is imported as root: the interpreter may be where nobody else can look.
    become = (
        "import os, sys, kiptail.cli.main, kiptail.daemon.run; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "kiptail.cli.main.main(sys.argv[1:])"
    )
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - another user is to find the journal and fail at its mode
        journal, pods = Path(directory, "recorded.journal"), Path(directory, "pods.json")
        journal.write_bytes(recorded.read_bytes())
        os.chmod(journal, 0o640)
        pods.write_text('{"items": []}')
        done = subprocess.run(
            [sys.executable, "-c", become, *map(str, offline(journal, pods))],
            capture_output=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert b"systemd-journal" in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_ends_a_follower_in_order(place: Place, snapshot: Path) -> None:
    arguments = (
        "--dry-run", "--pods", snapshot, *PREFIX, "--since", "@0", "--journal-directory", place.journal.parent,
        "--expire-after", "365d", "--output", "json", "--log-level", "error",
    )  # fmt: skip
    with Kiptail(place.directory, *arguments) as kiptail:
        kiptail.wait_for(lambda: kiptail.log.count("\n") == 5, "five Events")
        assert kiptail.stop(signal.SIGINT) == 0
    assert {json.loads(line)["operation"] for line in kiptail.log.splitlines()} == {"create"}


def test_a_run_that_ends_with_the_journal_waits_for_look_ups(recorded: Path, tmp_path: Path) -> None:
    with ApiServer() as server:
        server.pods.put(pod("client", "10.0.0.1"))
        server.pods.put(pod("web-0", "10.0.0.2", node="worker-9"))
        server.faults.delay(4.0, match=lambda request: "status.podIP" in request.query.get("fieldSelector", ""))
        done = run_kiptail(
            "--dry-run", "--no-follow", "--journal-file", recorded, "--node-name", "worker-3",
            "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"), *PREFIX,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert sum("team-a/web-0 Warning" in line for line in lines) == 2, "the other node's pod is told"
    assert sum("sending traffic to team-a/web-0 (10.0.0.2)" in line for line in lines) == 2
    assert sum("sending traffic to 192.0.2.7" in line for line in lines) == 1
