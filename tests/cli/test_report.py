"""``kiptail report`` as its users meet it."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.report.records import fields
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.policies import policy
from tests.support.reported import record_entry
from tests.support.running import ROOT, _environment, run_kiptail

T0 = 1_795_000_000_000_000
SECOND = 1_000_000
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)
#: What a policy's name in a log line can be.
HOSTILE = "=HYPERLINK('x')\x1b[31m<script>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten packets of three flows, one each ten seconds, and a pod for two of the three addresses."""
    path = tmp_path_factory.mktemp("report")
    lines = [LINE.format(prefix="calico-drop:", dst="10.0.0.2", port=80)] * 6
    lines += [LINE.format(prefix="calico-drop:", dst="10.0.0.2", port=443)] * 3
    lines += [LINE.format(prefix="calico-drop:", dst="192.0.2.7", port=443)]
    export_to_journal(
        (
            kernel_entry(line, realtime_us=T0 + n * 10 * SECOND, monotonic_us=10 * SECOND + n * 10 * SECOND)
            for n, line in enumerate(lines)
        ),
        path / "a.journal",
    )
    owner = {"kind": "ReplicaSet", "name": "web-5d4f8c", "controller": True}
    web = pod("web-5d4f8c-x", "10.0.0.2", uid="u2", labels={"pod-template-hash": "5d4f8c"}, ownerReferences=[owner])
    (path / "pods.json").write_text(json.dumps({"items": [pod("client", "10.0.0.1", uid="u1"), web]}))
    (path / "empty.toml").write_text("")
    return path


def report(place: Path, *more: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    given = ("--journal-file", place / "a.journal", "--pods", place / "pods.json", "--prefix", "calico-drop:")
    return run_kiptail("report", "--config", place / "empty.toml", *given, *more, **environment)


def document(done: subprocess.CompletedProcess[bytes]) -> Any:
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return json.loads(done.stdout)


def test_text_is_for_people(place: Path) -> None:
    done = report(place, "--by", "workload", "--top", "2")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0] == (
        "2026-11-18T11:06:40Z to 2026-11-18T11:08:10Z: 10 packets (drop 10) in 3 flows, from 1 address to 2"
    )
    at = lines.index("from and to, workloads: 2 in all")
    assert lines[at + 2] == "           9  90.0%  2026-11-18T11:08:00Z  team-a/pod/client → team-a/deploy/web"
    assert lines[at + 3].endswith("team-a/pod/client → 192.0.2.7")


def test_json_is_for_programs(place: Path) -> None:
    made = document(report(place, "--output", "json"))
    assert (made["from"], made["to"], made["packets"]) == ("2026-11-18T11:06:40Z", "2026-11-18T11:08:10Z", 10)
    assert [flow["count"] for flow in made["flows"]] == [6, 3, 1]
    assert made["flows"][0]["dst"] == {
        "address": "10.0.0.2", "namespace": "team-a", "pod": "web-5d4f8c-x", "workload": "deploy/web", "name": "",
    }  # fmt: skip


def test_csv_is_for_spreadsheets(place: Path) -> None:
    done = report(place, "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert [(row["dst_pod"], row["port"], row["count"]) for row in rows] == [
        ("web-5d4f8c-x", "80", "6"), ("web-5d4f8c-x", "443", "3"), ("", "443", "1"),
    ]  # fmt: skip


def test_html_is_one_page(place: Path, tmp_path: Path) -> None:
    done = report(place, "--output", "html", "--out", tmp_path / "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "team-a/web-5d4f8c-x" in page


def test_a_period_is_as_it_was_asked_for(place: Path) -> None:
    bounds = ("--since", f"@{T0 // SECOND + 20}", "--until", f"@{T0 // SECOND + 50}")
    made = document(report(place, *bounds, "--output", "json"))
    assert (made["from"], made["to"], made["packets"]) == ("2026-11-18T11:07:00Z", "2026-11-18T11:07:30Z", 3)


def test_the_services_settings_are_used_but_for_since_and_output(place: Path, tmp_path: Path) -> None:
    config = tmp_path / "kiptail.toml"
    config.write_text(
        f'prefix = ["calico-drop:"]\nsince = "now"\noutput = "json"\njournal-file = ["{place / "a.journal"}"]\n'
    )
    done = run_kiptail("report", "--config", config, "--pods", place / "pods.json")
    assert b": 10 packets (drop 10)" in done.stdout.splitlines()[0]


def test_without_pods_there_are_addresses_and_a_word_on_it(place: Path, tmp_path: Path) -> None:
    done = run_kiptail(
        "report", "--config", place / "empty.toml", "--journal-file", place / "a.journal", "--prefix", "calico-drop:",
        "--output", "json", KUBECONFIG=str(tmp_path / "none"),
    )  # fmt: skip
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.endswith("there is neither --pods nor a kubeconfig, so packets are reported by addresses alone")
    assert {flow["src"]["pod"] for flow in json.loads(done.stdout)["flows"]} == {""}


def records(directory: Path) -> tuple[object, ...]:
    """A journal of flow records alone."""
    export_to_journal(
        [
            record_entry(
                fields(number, count=number, at=(number, number)), realtime_us=T0 + number, monotonic_us=number
            )
            for number in range(1, 6)
        ],
        directory / "records.journal",
    )
    return ("--journal-file", directory / "records.journal", "--output", "json")


def test_flow_records_need_neither_pods_nor_a_prefix(place: Path, tmp_path: Path) -> None:
    given = records(tmp_path)
    done = run_kiptail(
        "report", "--config", place / "empty.toml", "--pods", place / "pods.json", "--from", "records", *given
    )
    made = document(done)
    assert (made["packets"], {flow["src"]["pod"] for flow in made["flows"]}) == (15, {"client"})
    assert report(place, *given, "--from", "lines").returncode == 0
    # The place's file is named as well: its lines, and the records of the same machine.
    assert document(report(place, *given))["packets"] == 10


def test_without_pods_records_give_names_and_the_word_says_so(place: Path, tmp_path: Path) -> None:
    done = run_kiptail(
        "report", "--config", place / "empty.toml", "--prefix", "calico-drop:", *records(tmp_path),
        KUBECONFIG=str(tmp_path / "none"),
    )  # fmt: skip
    (line,) = done.stderr.decode().splitlines()
    assert line.endswith("so packets of which no flow record tells are reported by addresses alone")
    assert {flow["src"]["pod"] for flow in json.loads(done.stdout)["flows"]} == {"client"}


def test_slow_reading_of_records_shows_how_far_it_is(place: Path, tmp_path: Path) -> None:
    given = ("--config", place / "empty.toml", "--pods", place / "pods.json", "--from", "records", *records(tmp_path))
    text = on_a_terminal("report", *given)
    assert "reading the journal" in text
    assert "records/s" in text


def test_policies_are_tried(place: Path, tmp_path: Path) -> None:
    rule = {"ports": [{"port": 80}]}
    (tmp_path / "p.json").write_text(json.dumps(policy("web", ingress=[rule], podSelector={})))
    made = document(report(place, "--policies", tmp_path / "p.json", "--output", "json"))
    assert [(flow["with_policies"], flow["why"]) for flow in made["flows"]] == [
        ("admitted", ""), ("denied", "team-a/web"), ("admitted", ""),
    ]  # fmt: skip
    done = report(place, "--policies", tmp_path / "none.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_the_clusters_pods(place: Path, server: ApiServer, tmp_path: Path) -> None:
    server.pods.put(pod("client", "10.0.0.1"))
    kubeconfig = server.kubeconfig(tmp_path / "k")
    done = run_kiptail(
        "report", "--config", place / "empty.toml", "--journal-file", place / "a.journal", "--prefix", "calico-drop:",
        "--output", "json", "--kubeconfig", kubeconfig, KIPTAIL_STATE_DIRECTORY=str(tmp_path),
    )  # fmt: skip
    assert {flow["src"]["pod"] for flow in document(done)["flows"]} == {"client"}


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    line = LINE.format(prefix=f"np:{HOSTILE.replace(' ', '')}:", dst="10.0.0.2", port=80)
    export_to_journal([kernel_entry(line, realtime_us=T0, monotonic_us=SECOND)], tmp_path / "a.journal")
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "pods.json").write_text(json.dumps({"items": [pod("web-0", "10.0.0.2", uid="u")]}))
    given = ("--config", tmp_path / "empty.toml", "--journal-file", tmp_path / "a.journal", "--prefix", "np:{policy}:")
    for output in ("text", "csv", "json", "html"):
        done = run_kiptail("report", *given, "--pods", tmp_path / "pods.json", "--output", output)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode()
        assert "HYPERLINK" in text
        assert "\x1b" not in text
        assert '"=HYPERLINK' not in text or output == "json"
        assert output != "html" or text.count("<script>") == 1


@pytest.mark.parametrize("output", ["text", "csv", "json", "html"])
def test_names_and_labels_that_no_api_server_has_are_nobodys(tmp_path: Path, output: str) -> None:
    lines = [LINE.format(prefix="calico-drop:", dst=f"10.0.0.{n}", port=80) for n in range(2, 6)]
    export_to_journal(
        [kernel_entry(line, realtime_us=T0 + n, monotonic_us=SECOND + n) for n, line in enumerate(lines)],
        tmp_path / "a.journal",
    )
    (tmp_path / "empty.toml").write_text("")
    owner = {"kind": f"@{HOSTILE}", "name": f"-{HOSTILE}", "controller": True}
    labels = {"pod-template-hash": HOSTILE, HOSTILE: HOSTILE}
    items = [
        pod("web-0", "10.0.0.1", uid="u1", labels=labels, ownerReferences=[owner]),
        pod(HOSTILE, "10.0.0.2", uid="u2", labels=labels),
        pod("web-1", "10.0.0.3", namespace=HOSTILE, uid="u3"),
        {"kind": "Node", "metadata": {"name": HOSTILE}, "status": {"addresses": [{"address": "10.0.0.4"}]}},
        {"kind": "Service", "metadata": {"namespace": HOSTILE, "name": HOSTILE}, "spec": {"clusterIPs": ["10.0.0.5"]}},
    ]
    (tmp_path / "pods.json").write_text(json.dumps({"items": items}))
    given = ("--config", tmp_path / "empty.toml", "--journal-file", tmp_path / "a.journal", "--prefix", "calico-drop:")
    for by in ("pod", "workload", "namespace"):
        done = run_kiptail("report", *given, "--pods", tmp_path / "pods.json", "--output", output, "--by", by)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode()
        assert "web-0" in text or by == "namespace"
        assert all(f"10.0.0.{n}" in text for n in range(2, 6)) or by == "namespace"
        assert "HYPERLINK" not in text + done.stderr.decode().replace(repr(HOSTILE), "")
        assert text.count("<script>") == (output == "html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "--since: 'yesterday' is no time"),
        (["--since", "@200", "--until", "@100"], "--until: is not later than --since"),
        (["--until", "@-1"], "--until: '@-1' is no time"),
        (["--by", "node"], "Invalid value for '--by'"),
        (["--top", "0"], "--top: '0' is not from 1 to 10000"),
        (["--output", "pdf"], "--output: 'pdf'"),
        (["--from", "events"], "--from: 'events'"),
        (["--from", ""], "--from: ''"),
        (["--policies", ""], "--policies: '' is empty"),
        (["--output", ""], "--output: ''"),
        (["--out", ""], "--out: '' is empty"),
    ],
)
def test_wrong_usage(place: Path, arguments: list[str], said: str) -> None:
    done = report(place, *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode().splitlines()[0]


def test_no_prefix_is_wrong_usage(place: Path) -> None:
    done = run_kiptail("report", "--config", place / "empty.toml", "--journal-file", place / "a.journal")
    assert done.returncode == 2
    assert b"no log prefix is configured" in done.stderr


def test_a_journal_that_cannot_be_read(place: Path) -> None:
    done = run_kiptail(
        "report", "--config", place / "empty.toml", "--pods", place / "pods.json", "--prefix", "calico-drop:",
        "--journal-file", place / "none.journal",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, b"")
    assert len(done.stderr.splitlines()) == 1


def test_a_cluster_that_was_named_and_does_not_answer(place: Path) -> None:
    done = run_kiptail(
        "report", "--config", place / "empty.toml", "--journal-file", place / "a.journal", "--prefix", "calico-drop:",
        "--kubeconfig", place / "none",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, b"")
    assert len(done.stderr.splitlines()) == 1


def test_it_writes_a_file_whole(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    out.write_text("what was there")
    done = report(place, "--output", "json", "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert json.loads(out.read_bytes())["packets"] == 10
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_is_a_link_stays_one(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "report.json")
    assert report(place, "--output", "json", "--out", tmp_path / "link.json").returncode == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "report.json").read_bytes())["packets"] == 10


def test_a_pipe_is_written_as_it_comes(place: Path) -> None:
    assert document(report(place, "--output", "json", "--out", "/dev/stdout"))["packets"] == 10


@pytest.mark.parametrize("out", ["none/report.json", "."])
def test_a_file_that_cannot_be_written(place: Path, tmp_path: Path, out: str) -> None:
    done = report(place, "--out", tmp_path / out)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("kiptail: --out: cannot write")


def test_a_full_disk_keeps_what_was_there(place: Path) -> None:
    done = report(place, "--out", "/dev/full")
    assert done.returncode == 1
    assert done.stderr.decode() == f"kiptail: --out: cannot write /dev/full: {os.strerror(errno.ENOSPC)}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_blocks_gets_plain_characters(place: Path, encoding: str) -> None:
    done = report(place, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"team-a/client -> team-a/web-5d4f8c-x" in done.stdout
    assert b"|" in done.stdout


def on_a_terminal(*arguments: object, width: int = 100) -> str:
    """All that kiptail, reading slowly, writes on a terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    slow = (
        "from kiptail.cli import main, progress\n"
        "from kiptail.flows import intake\nfrom kiptail.report import kernel_lines, record_reading\n"
        "progress._AFTER = 0.0\nrecord_reading.STEP = 2\nkernel_lines.BATCH = intake.BATCH = 2\nmain.main()"
    )
    command = [sys.executable, "-c", slow, *map(str, arguments)]
    environment = _environment({"TERM": "xterm"})
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment, cwd=ROOT) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                data = os.read(controller, 65_536)
            except OSError:  # EIO: the other end is closed
                break
            if not data:
                break
            shown += data
    os.close(controller)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminals_width_is_used_and_slow_reading_shows_how_far_it_is(place: Path) -> None:
    given = ("--journal-file", place / "a.journal", "--pods", place / "pods.json", "--prefix", "calico-drop:")
    text = on_a_terminal("report", "--config", place / "empty.toml", *given)
    assert "reading the journal" in text
    assert "lines/s" in text
    bars = [line.rstrip("\r") for line in text.split("\n") if line.startswith("█")]
    assert max(map(len, bars)) > 80


def test_an_offline_dry_run_shows_how_far_it_is_before_it_prints(place: Path) -> None:
    given = ("--journal-file", place / "a.journal", "--pods", place / "pods.json", "--prefix", "calico-drop:")
    text = on_a_terminal("--dry-run", "--no-follow", "--config", place / "empty.toml", "--log-level", "error", *given)
    lines = [line.rstrip("\r") for line in text.replace("\x1b[?25h", "").split("\n")]
    assert "reading the journal" in lines[0]
    assert "100%" in lines[0]
    assert len([line for line in lines[1:] if line.startswith("create ") or " create " in line]) == 5
    assert not any("reading the journal" in line for line in lines[1:])
