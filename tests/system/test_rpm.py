"""The RPM, as far as Debian's rpmbuild and rpmlint can tell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import Packages

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs rpmbuild, which tools/prepare installs as root"),
]


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Lines that rpm says of the package that is built here; rpmlint fails the build."""
    directory = tmp_path_factory.mktemp("rpm")
    _output(ROOT / "tools/rpm", directory)
    (package,) = directory.glob("*.noarch.rpm")
    return lambda *options: set(_output("rpm", "--query", "--package", *options, package).split("\n"))


def test_it_holds_what_the_debian_package_holds(asked: Callable[..., set[str]], packages: Packages) -> None:
    debian = _output("dpkg-deb", "--contents", packages.this).splitlines()
    names = {Path(line.split()[-1]).name.removesuffix(".gz") for line in debian if not line.endswith("/")}
    theirs = {"changelog", "changelog.Debian", "copyright", "RECORD"}
    assert names - theirs - {Path(line).name for line in asked("--list")} == set()


def test_an_upgrade_keeps_the_configuration(asked: Callable[..., set[str]]) -> None:
    assert "/etc/kiptail/kiptail.toml" in asked("--configfiles")
    flags = asked("--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]")
    assert "/etc/kiptail/kiptail.toml cn" in flags  # config, noreplace


def test_it_starts_nothing(asked: Callable[..., set[str]]) -> None:
    scripts = "\n".join(asked("--scripts"))
    assert "enable" not in scripts.replace("disable", "")
    assert " start" not in scripts
