"""docs/filters.md: each of its examples is run."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiptail.config.ignore_tables import KEYS, MOST_FILTERS, filter_of_text
from kiptail.config.settings import resolve
from kiptail.events.muting import ANNOTATED
from kiptail.flows.flow import FlowKey
from kiptail.pods.opt_out import ANNOTATION, OFF, PEERS, opt_out
from kiptail.pods.pod_object import reduce_pod
from kiptail.quiet.filters import Filters
from kiptail.quiet.noise import NOISE
from tests.support.pods import pod

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "filters.md").read_text()


def blocks(kind: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for language, text in fenced if language == kind]


def rows() -> list[tuple[str, ...]]:
    """Of the table of examples."""
    code = r"`([^`]+)`"
    found = (re.fullmatch(rf"\| {code} \| {code} \| {code} \|", line) for line in PAGE.splitlines())
    return [match.groups() for match in found if match and "→" in match[2]]


def key_of(packet: str) -> FlowKey:
    """``TCP SOURCE → DESTINATION:PORT`` or ``ICMP/TYPE SOURCE → DESTINATION``."""
    protocol, source, _, target = packet.split()
    protocol, _, icmp = protocol.partition("/")
    port = None
    if protocol in ("TCP", "UDP"):
        target, _, text = target.rpartition(":")
        port = int(text)
    number, code = (int(icmp), 0) if icmp else (None, None)
    return FlowKey(source, target, protocol, port, number, code, False, "p:", "drop")


@pytest.mark.parametrize(("text", "left_out", "kept"), rows())
def test_what_a_filter_leaves_out_and_what_not(text: str, left_out: str, kept: str) -> None:
    filters = Filters([filter_of_text(text)])
    assert filters.leave_out(key_of(left_out), False) is not None
    assert filters.leave_out(key_of(kept), False) is None


@pytest.mark.parametrize("block", blocks("toml"))
def test_configurations_are_taken(block: str, tmp_path: Path) -> None:
    file = tmp_path / "kiptail.toml"
    file.write_text(f'prefix = ["calico-drop:"]\n{block}')
    ignore = resolve({}, {}, now_us=1, default_config=file).ignore
    assert len(ignore) == block.count("[[ignore]]") + len(re.findall(r"^  [\"{]", block, re.MULTILINE))


def test_the_list_of_names_is_taken() -> None:
    (listed,) = re.findall(r"`ignore = \[(.+?)\]`:?\.?", PAGE.split("## Noise that is known")[1])[:1]
    names = [each.strip('" ') for each in listed.split(",")]
    assert names == list(NOISE)
    assert [filter_of_text(name).noise for name in names] == names


def commands() -> list[tuple[str, str]]:
    """The shell commands with what they print."""
    found = [block for block in blocks("") if block.startswith("$ kiptail")]
    return [(command.removeprefix("$ "), out) for command, _, out in (block.partition("\n") for block in found)]


@pytest.mark.parametrize(("command", "out"), commands())
def test_a_dry_run_says_what_the_page_says(command: str, out: str, tmp_path: Path) -> None:
    journal = tmp_path / "system.journal"
    journal.write_bytes(gzip.decompress((ROOT / "demo" / "sample.journal.gz").read_bytes()))
    replaced = {"system.journal": str(journal), "pods.json": str(ROOT / "demo" / "pods.json")}
    program, *arguments = [replaced.get(word, word) for word in shlex.split(command)]
    assert program == "kiptail"
    done = subprocess.run(
        [sys.executable, "-m", "kiptail", *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PATH": os.environ["PATH"], "KIPTAIL_CONFIG": os.devnull},
    )  # fmt: skip
    assert out.strip() in done.stderr
    assert "port 8080" not in done.stdout
    assert "echo-request" not in done.stdout
    assert "port 9090" in done.stdout


def test_the_template_of_a_workload_opts_out() -> None:
    (text,) = blocks("yaml")
    metadata: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]["metadata"]
    made = reduce_pod(pod("crawler-1", "10.0.0.1", uid="u", **metadata))
    assert made is not None
    assert made.opt_out == OFF


def test_annotate_commands_set_what_is_understood() -> None:
    (block,) = [block for block in blocks("") if block.startswith("kubectl")]
    said = []
    for line in block.splitlines():
        _kubectl, verb, _kind, _name, setting = shlex.split(line)
        assert verb == "annotate"
        key, equals, value = setting.partition("=")
        assert key.removesuffix("" if equals else "-") == ANNOTATION
        said.append(opt_out({key: value} if equals else {}))
    assert said == [PEERS, OFF, ""]


def test_every_key_and_name_has_its_row() -> None:
    rows_of_keys = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE)
    named = [word for row in rows_of_keys for word in re.findall(r"`(\w+)`", row)]
    assert {*named} >= {*KEYS, *NOISE, OFF, PEERS}
    assert f"{MOST_FILTERS:,} at most" in PAGE
    assert f"`{ANNOTATED}`" in PAGE


def test_there_are_examples() -> None:
    assert (len(rows()), len(blocks("toml")), len(commands())) == (9, 2, 1)
