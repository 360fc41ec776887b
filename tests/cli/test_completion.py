"""What <TAB> offers for ``kubectl drops``, as kubectl asks for it, and for ``kubectl-drops`` in shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.support.drops import drop_event, other_event, variables

#: What kubectl does with the lines (cobra's ShellCompDirective).
FILES, NO_FILES, NO_FILES_NO_SPACE = ":0", ":4", ":6"


@pytest.fixture
def home(server: ApiServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who may list the Events of team-a, with the plugin as packages install it."""
    program = tmp_path / "bin" / "kubectl-drops"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom kiptail.cli.drops import main\n\nmain()\n")
    program.chmod(0o755)
    (program.parent / "kubectl_complete-drops").symlink_to(program.name)
    token = server.add_user("jane")
    server.grant("jane", "list", "events", namespace="team-a")
    kubeconfig = str(server.kubeconfig(tmp_path / "jane", token=token, namespace="team-a"))
    path = f"{program.parent}:{os.environ['PATH']}"
    return variables(KUBECONFIG=kubeconfig, HOME=str(tmp_path), PATH=path)


def completions(home: dict[str, str], *arguments: str) -> tuple[list[str], str]:
    """What the program says: values, and the directive."""
    done = subprocess.run(
        ["kubectl_complete-drops", *arguments],
        env=home, executable=shutil.which("kubectl_complete-drops", path=home["PATH"]),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    *lines, directive = done.stdout.splitlines()
    return [line.split("\t")[0] for line in lines], directive


@pytest.mark.parametrize(
    ("arguments", "values", "directive"),
    [
        (["ex"], ["explain"], NO_FILES),
        (["--no"], ["--no-headers"], NO_FILES),
        (["explain", "--na"], ["--namespace"], NO_FILES),
        (["-n", "team-a", "-o", ""], ["table", "wide", "json", "name"], NO_FILES),
        (["--output", "j"], ["json"], NO_FILES),
        (["--sort", "p"], ["pod", "peer", "port"], NO_FILES),
        (["--sort=co"], ["count"], NO_FILES),
        (["--for", ""], ["pod/", "deploy/", "rs/", "sts/", "ds/", "job/", "cronjob/"], NO_FILES_NO_SPACE),
        (["--for", "d"], ["deploy/", "ds/"], NO_FILES_NO_SPACE),
        (["--for", "deploy/w"], [], NO_FILES),
        (["--kubeconfig", "/etc"], [], FILES),
        (["-n", ""], [], NO_FILES),
        (["--no-such", ""], ["explain"], NO_FILES),
        (["explain", "--", "-"], [], NO_FILES),
        ([""], ["explain"], NO_FILES),
        ([], ["explain"], NO_FILES),
    ],
)
def test_words_are_completed(home: dict[str, str], arguments: list[str], values: list[str], directive: str) -> None:
    assert completions(home, *arguments) == (values, directive)


def test_pods_are_those_that_lost_packets(server: ApiServer, home: dict[str, str]) -> None:
    for pod in ("web-0", "web-1", "db-0"):
        server.events.put(drop_event(pod))
    server.events.put(drop_event("web-2", namespace="team-b"))
    server.events.put(other_event("hostile", pod="web-3\n:0\nweb-4\x1b[31m", name="hostile.17f"))
    assert completions(home, "explain", "") == (["db-0", "web-0", "web-1"], NO_FILES)
    assert completions(home, "explain", "db-0", "web") == (["web-0", "web-1"], NO_FILES)
    assert completions(home, "--for", "pod/d") == (["pod/db-0"], NO_FILES)
    # Where one may not look, and where nobody answers, there is nothing to offer.
    assert completions(home, "-n", "team-b", "explain", "") == ([], NO_FILES)
    assert completions(home, "explain", "-n", "team-b", "") == ([], NO_FILES)
    assert completions(home, "-s", "https://127.0.0.1:9", "explain", "") == ([], NO_FILES)
    assert completions(home | {"KUBECONFIG": "/nowhere"}, "explain", "") == ([], NO_FILES)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_asks_it(server: ApiServer, home: dict[str, str]) -> None:
    server.events.put(drop_event("web-0"))
    for words, wanted in (
        (
            ["--so"],
            ["--sort\tWhat to sort by, the greatest last: last, first, count, pod, peer, port. [default: last]"],
        ),
        (["-n", "team-a", "-o", "w"], ["wide"]),
        (["explain", ""], ["web-0"]),
    ):
        done = subprocess.run(
            ["kubectl", "__complete", "drops", *words],
            env=home, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        *lines, directive = done.stdout.splitlines()
        assert (lines, directive) == (wanted, NO_FILES)


def test_nobody_who_reads_it_is_no_error(home: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", "kubectl_complete-drops --for '' | true; exit ${PIPESTATUS[0]}"],
        env=home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
