"""What packages hold that is made from the table of options and the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from kiptail.cli.drops import drops
from kiptail.cli.main import cli
from kiptail.config.options import OPTIONS, Option
from kiptail.config.settings import Settings, resolve
from kiptail.events.flow_record import MESSAGE_IDS
from tools.package_files import MANUALS, PROGRAMS, SHELLS, configuration, manual, write

ROOT = Path(__file__).parent.parent
IN_FILE = [option for option in OPTIONS if option.in_file]


def settings(directory: Path, text: str) -> Settings:
    file = directory / "kiptail.toml"
    file.write_text(text)
    return resolve({"prefix": ["calico-drop:"]}, {}, now_us=10**15, default_config=file)


def test_the_configuration_file_is_that_of_the_options() -> None:
    made = configuration()
    kept = (ROOT / "packaging/kiptail.toml").read_text()
    assert kept == made, "run: .venv/pypi/bin/python -m tools.package_files --toml >packaging/kiptail.toml"


def test_the_configuration_file_sets_nothing_as_it_is(tmp_path: Path) -> None:
    assert tomllib.loads(configuration()) == {}
    assert settings(tmp_path, configuration()) == settings(tmp_path, "")


def test_every_option_that_a_file_may_set_is_in_it_once(tmp_path: Path) -> None:
    keys = re.findall(r"(?m)^#([a-z-]+) = ", configuration().split("#[[")[0])
    assert keys == [option.name for option in IN_FILE]


@pytest.mark.parametrize("option", IN_FILE, ids=lambda option: option.name)
def test_what_is_commented_out_is_the_default_or_can_be_set(option: Option[Any], tmp_path: Path) -> None:
    line = re.search(rf"(?m)^#({option.name} = .*)$", configuration())
    assert line is not None
    wanted = {"pods": "dry-run = true\n"}.get(option.name, "")
    there = settings(tmp_path, wanted + line[1])
    if option.switch or option.default is not None:
        assert there == settings(tmp_path, wanted)


def test_the_example_of_a_prefix_with_a_verdict_is_understood(tmp_path: Path) -> None:
    table = configuration().split("\n#[[prefixes]]\n")[1]
    text = "[[prefixes]]\n" + re.sub("(?m)^#", "", table)
    (tmp_path / "kiptail.toml").write_text(text)
    (prefix,) = resolve({}, {}, now_us=10**15, default_config=tmp_path / "kiptail.toml").prefixes
    assert (prefix.text, prefix.verdict) == ("FINAL_REJECT:", "reject")


def test_the_example_of_an_nflog_group_is_understood(tmp_path: Path) -> None:
    table = configuration().split("\n#[[nflog]]\n")[1].partition("\n\n")[0]
    (source,) = settings(tmp_path, "[[nflog]]\n" + re.sub("(?m)^#", "", table)).nflog
    assert (source.unit, source.verdict) == ("kiptail-ulogd@100.service", "reject")


@pytest.mark.parametrize("template", sorted(MANUALS.iterdir()), ids=lambda path: path.name)
def test_the_manual_pages_are_whole(template: Path) -> None:
    made = manual(template.read_text())
    assert not re.search("@[A-Z]+@", made)
    # A line that begins with a dot or an apostrophe and is no request would be swallowed.
    requests = set(re.findall(r"(?m)^[.'](\S*)", made))
    assert requests <= {
        "TH",
        "SH",
        "br",
        "SS",
        "PP",
        "TP",
        "B",
        "BR",
        "I",
        "IR",
        "RI",
        "RS",
        "RE",
        "EX",
        "EE",
        "nf",
        "fi",
    }
    for option in IN_FILE if template.name.startswith("kiptail") else ():
        assert option.name.replace("-", "\\-") in made


def test_all_of_kubectl_drops_is_in_its_manual() -> None:
    made = manual((MANUALS / "kubectl-drops.1").read_text())
    assert ".SS kubectl drops explain [OPTION]... POD...\n" in made
    for flag in (option for parameter in drops.params for option in parameter.opts):
        assert f"\\fB{flag.replace('-', chr(92) + '-')}\\fR" in made, flag


def test_every_command_is_in_the_manual() -> None:
    made = manual((MANUALS / "kiptail.1").read_text())
    for name in cli.commands:
        assert f".SS kiptail {name}" in made
    assert ".SS kiptail profiles [NAME]...\n" in made
    assert ".SS kiptail check [OPTION]...\n" in made


def test_everything_is_written(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert sorted(str(path.relative_to(tmp_path / "new")) for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        ["kiptail.toml", "kiptail.1", "kiptail.toml.5", "kubectl-drops.1"]
        + [f"completions/{name.format(program)}" for name in SHELLS for program in PROGRAMS]
    )
    for name in SHELLS:
        for program, variable in (("kiptail", "_KIPTAIL_COMPLETE"), ("kubectl-drops", "_KUBECTL_DROPS_COMPLETE")):
            text = (tmp_path / "new/completions" / name.format(program)).read_text()
            assert f"{variable}=" in text
            assert program in text.replace("_", " ").split()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_packages_have_all_completions(program: str) -> None:
    install = (ROOT / "packaging/debian/kiptail.install").read_text()
    spec = (ROOT / "packaging/rpm/kiptail.spec").read_text()
    for name in SHELLS:
        assert re.search(rf"(?m)^debian/generated/completions/{name.format(program)} ", install)
        assert f" generated/completions/{name.format(program)} " in spec


def test_bash_completes_kubectl_drops(tmp_path: Path) -> None:
    """The file, in a bash that loads it as bash-completion does."""
    write(tmp_path)
    (tmp_path / "kubectl-drops").write_text(f"#!{sys.executable}\nfrom kiptail.cli.drops import main\n\nmain()\n")
    (tmp_path / "kubectl-drops").chmod(0o755)
    script = """
        source completions/kubectl-drops
        COMP_WORDS=(kubectl-drops --no) COMP_CWORD=1 COMP_LINE='kubectl-drops --no' COMP_POINT=18
        $(complete -p kubectl-drops | sed -E 's/.* -F (\\S+) .*/\\1/') kubectl-drops
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("--no-headers\n", "", 0)


def test_options_are_completed() -> None:
    found = ShellComplete(cli, {}, "kiptail", "_KIPTAIL_COMPLETE").get_completions([], "--pod-")
    assert [item.value for item in found] == [
        option.flag for option in OPTIONS if option.flag.startswith("--pod-")
    ]  # fmt: skip


def test_the_package_depends_on_what_the_program_imports() -> None:
    required = re.search(r"install_requires =\n((?: +\S.*\n)+)", (ROOT / "setup.cfg").read_text())
    assert required is not None
    names = re.findall(r"(?m)^ +([a-z0-9-]+)", required[1])
    debian = {"systemd-python": "systemd", "pyyaml": "yaml"}
    control = (ROOT / "packaging/debian/control").read_text().split("\nDepends:")[1]
    spec = (ROOT / "packaging/rpm/kiptail.spec").read_text()
    for name in names:
        assert re.search(rf"\bpython3-{debian.get(name, name)}\b", control), name
    fedora = debian | {"prometheus-client": "prometheus_client", "dnspython": "dns", "pyyaml": "pyyaml"}
    for name in names:
        assert re.search(rf"(?m)^Requires: +python3-{fedora.get(name, name)}\b", spec), name


def test_journalctl_takes_the_catalog_as_it_is(tmp_path: Path) -> None:
    """Below a root of its own, where it makes a database of nothing else."""
    catalog = tmp_path / "usr/lib/systemd/catalog"
    catalog.mkdir(parents=True)
    shutil.copy(ROOT / "packaging/catalog/kiptail.catalog", catalog)
    journalctl = ["journalctl", f"--root={tmp_path}"]
    done = subprocess.run([*journalctl, "--update-catalog"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    shown = subprocess.run([*journalctl, "--dump-catalog"], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.count("Defined-By: kiptail") == len(MESSAGE_IDS)
    for message_id in MESSAGE_IDS.values():
        assert f"-- {message_id}" in shown.stdout
