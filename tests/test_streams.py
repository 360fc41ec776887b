"""Every command with streams that are closed, full, broken or cannot show a character: exit code and one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import ROOT

LINE = (
    "calico-drop: IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
T0 = 1_795_000_000_000_000

PARSE = ["parse", "--prefix", "calico-drop:"]
OFFLINE = ["--dry-run", "--no-follow", "--journal-file", "DIRECTORY/a.journal", "--pods", "DIRECTORY/pods.json"]
#: Each with the exit code that it has in peace; ``DIRECTORY`` holds what they read.
COMMANDS = {
    "help": (["--help"], 0),
    "help of a command": (["parse", "--help"], 0),
    "version": (["--version"], 0),
    "parse": (PARSE, 0),
    "manifests": (["manifests"], 0),
    "rules": (["rules", "--for", "nftables"], 0),
    "check": (["check", "--journal-directory", "/no/such", "--kubeconfig", "/no/such"], 1),
    "report": (["report", *OFFLINE[2:], "--prefix", "calico-drop:"], 0),
    "dry run": ([*OFFLINE, "--prefix", "calico-drop:", "--log-level", "warning"], 0),
}
#: These say something on the standard error.
FAILING = {
    "usage": (["nonsense"], 2),
    "settings": (["--dry-run", "--prefix", "größer→:", "--prefix", "→" * 200], 2),
    "kubeconfig": (["kubeconfig", "--kubeconfig", "/no/such", "--out", "-"], 4),
}
#: Bash's redirections, and what the one line on the standard error says: "" is no line.
BROKEN_OUTPUT = {
    "closed": (">&-", "the standard output is closed"),
    "full": (">/dev/full", "No space left on device"),
    "read only": ("1</dev/null", "the standard output is closed"),
    "closed and no stderr": (">&- 2>&-", ""),
    "full, and stderr too": (">/dev/full 2>/dev/full", ""),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams")
    pods = [pod("client", "10.0.0.1", uid="u1"), pod("web-0", "10.0.0.2", uid="u2")]
    (path / "pods.json").write_text(json.dumps({"items": pods}))
    export_to_journal(
        (kernel_entry(LINE, realtime_us=T0 + n, monotonic_us=10 + n) for n in range(3)), path / "a.journal"
    )
    return path


def run(
    directory: Path, arguments: list[str], redirections: str = "", *, lines: int = 1, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """``kiptail`` in a shell that does odd things to its streams; PIPE stands for a pipe that nobody reads."""
    words = [word.replace("DIRECTORY", str(directory)) for word in arguments]
    readable, unread = os.pipe()
    script = f'exec "$@" {redirections.replace("PIPE", f"&{unread}")}'
    os.close(readable)
    try:
        return subprocess.run(
            ["bash", "-c", script, "bash", sys.executable, "-m", "kiptail", *words],
            input=(LINE.encode() + b"\n") * lines,
            capture_output=True,
            timeout=60,
            check=False,
            pass_fds=[unread],
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | environment,
        )
    finally:
        os.close(unread)


def quiet(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """What it said on its standard error, which is a line at most but for the hint of click."""
    text = done.stderr.decode()
    assert done.returncode == code, text
    for word in ("Traceback", "Exception ignored", "Logging error"):
        assert word not in text
    lines = [line for line in text.splitlines() if line != "Try 'kiptail --help'."]
    assert len(lines) <= 1, text
    return text


@pytest.mark.parametrize(
    ("command", "broken"),
    [(c, b) for c in COMMANDS for b in BROKEN_OUTPUT if b in ("closed", "full") or c in ("parse", "dry run")],
)
def test_output_that_cannot_be_written(directory: Path, command: str, broken: str) -> None:
    redirections, told = BROKEN_OUTPUT[broken]
    said = quiet(run(directory, COMMANDS[command][0], redirections), 1)
    assert told in said if told else said == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_nobody_reads_any_more(directory: Path, command: str) -> None:
    assert quiet(run(directory, COMMANDS[command][0], ">PIPE"), 0) == ""


@pytest.mark.parametrize("redirections", ["> >(head -n 1 >/dev/null)", ">/dev/full"])
def test_output_that_ends_in_the_middle(directory: Path, redirections: str) -> None:
    quiet(run(directory, PARSE, redirections, lines=3_000), 1 if "full" in redirections else 0)


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", "2>PIPE"])
@pytest.mark.parametrize("command", ["dry run", "usage", "kubeconfig"])
def test_errors_that_nobody_can_read(directory: Path, command: str, redirections: str) -> None:
    arguments, code = (COMMANDS | FAILING)[command]
    done = run(directory, [*arguments, *(["--log-level", "info"] if command == "dry run" else [])], redirections)
    assert quiet(done, code) == ""
    assert done.stdout.count(b"\n") == (2 if command == "dry run" else 0)


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        *((command, {"PYTHONIOENCODING": "ascii"}) for command in ("help", "dry run", "check", *FAILING)),
        *((command, C_LOCALE) for command in ("check", "settings")),
        ("check", {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_signs_that_the_terminal_lacks(directory: Path, command: str, environment: dict[str, str]) -> None:
    arguments, code = (COMMANDS | FAILING)[command]
    done = run(directory, arguments, **environment)
    quiet(done, code)
    assert (done.stdout + done.stderr).isascii()
    assert (b"->" in done.stdout) == (command == "check")
    assert b"\\u2192" not in done.stdout + done.stderr


def test_json_stays_json_where_the_encoding_lacks_its_signs(directory: Path) -> None:
    arguments = ["check", "--output", "json", "--kubeconfig", "/größe→\U0001f600"]
    done = run(directory, arguments, PYTHONIOENCODING="ascii")
    assert "größe->\U0001f600" in str(json.loads(done.stdout))


def test_nothing_to_read(directory: Path) -> None:
    assert "the standard input is closed" in quiet(run(directory, PARSE, "<&-"), 1)
    assert "no line of the input" in quiet(run(directory, PARSE, "</dev/null"), 0)
    done = run(directory, ["manifests"], "<&- 2>&-")
    assert quiet(done, 0) == ""
    assert done.stdout
