"""Record the README's transcript: `python -m tests.system.record` installs, enables, drops and describes for real.

Everything between the two marks in README.md is replaced by what a freshly booted Debian 12 answered.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from kiptail import __version__
from tests.apiserver.process import ServerProcess
from tests.support.netns import network
from tests.support.pods import pod
from tests.system.conftest import ROOT
from tests.system.machine import Machine, booted
from tests.system.root import Release, debian_root

__all__ = ["BEGIN", "DESCRIBE", "END", "INSTALL", "LOOK"]

BEGIN, END = "<!-- transcript: make transcript -->", "<!-- end of the transcript -->"
#: What an administrator types before packets are dropped and after that, with the lines of the answers that are shown.
INSTALL = {
    f"apt-get install --yes --no-install-recommends ./kiptail_{__version__}_all.deb": r"Setting up kiptail.*",
    "sed -i 's/^#prefix = .*/prefix = [\"calico-drop:\"]/' /etc/kiptail/kiptail.toml": r".*",
    "install --mode 0600 kubeconfig /etc/kiptail/kubeconfig": r".*",
    "systemctl enable --now kiptail": r".*",
}
LOOK = {"systemctl status kiptail": r" +(Active|Status): .*"}
DESCRIBE = {"kubectl describe pods --namespace team-a web-0": r"Events:|  .*(Age|----|kiptail) .*"}


def _shown(prompt: str, command: str, output: str, wanted: str) -> list[str]:
    return [f"{prompt} {command}", *(line.rstrip() for line in output.splitlines() if re.fullmatch(wanted, line))]


def _typed(machine: Machine, commands: Mapping[str, str]) -> list[str]:
    """The commands as root in the machine, and what is shown of their answers."""
    shown = []
    for command, wanted in commands.items():
        done = machine.try_run("sh", "-c", f"cd /srv && {command}")
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        shown += _shown("#", command, done.stdout + done.stderr, wanted)
    return shown


def _described(kubectl: str, kubeconfig: Path) -> list[str]:
    """What the pod's owner sees."""
    ((command, wanted),) = DESCRIBE.items()
    done = subprocess.run(
        [kubectl, "--kubeconfig", kubeconfig, *command.split()[1:]],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return _shown("$", command, done.stdout, wanted)


def main() -> int:
    """Record, and write it into README.md."""
    kubectl = shutil.which("kubectl", path=f"{os.environ['PATH']}:{ROOT / '.venv' / 'tools'}")
    assert kubectl is not None, "kubectl is missing: tools/prepare live"
    # Addresses of this run alone: the kernel's log still holds what an earlier one dropped.
    net = f"10.244.{secrets.randbelow(250)}"
    client, web = f"{net}.9", f"{net}.3"
    pods = [pod("client", client, uid="uid-client"), pod("web-0", web, uid="uid-web-0")]
    with (
        tempfile.TemporaryDirectory() as name,
        ServerProcess(Path(name) / "server", pods) as server,
        debian_root(Release.DEBIAN_12) as root,
        network() as wires,
        booted(root, Path(name) / "machine") as machine,
    ):
        wires.add_pod("client", client)
        wires.add_pod("web-0", web)
        wires.drop("calico-drop: ", "ct state new")
        subprocess.run([ROOT / "tools" / "deb", __version__, Path(name)], check=True, stdout=subprocess.DEVNULL)
        shutil.copy(Path(name) / f"kiptail_{__version__}_all.deb", machine.files / "srv")
        shutil.copy(server.kubeconfig, machine.files / "srv" / "kubeconfig")
        shown = _typed(machine, INSTALL)
        wires.send("client", "tcp", web, 8080, count=37)
        machine.until(lambda: [event["count"] for event in server.events()] == [37, 37], "both ends are told")
        time.sleep(6)  # STATUS is renewed every 5 s
        shown += [*_typed(machine, LOOK), *_described(kubectl, server.admin_kubeconfig)]
    text = "\n".join(shown)
    readme = ROOT / "README.md"
    content = readme.read_text()
    head, rest = content.split(BEGIN)
    readme.write_text(f"{head}{BEGIN}\n```\n{text}\n```\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
