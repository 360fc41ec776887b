"""The package, a machine and a cluster: the tests share them, and each brings about what it starts from."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kiptail import __version__
from tests.apiserver.certificates import Authority
from tests.apiserver.process import ServerProcess
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.system.machine import Machine, booted
from tests.system.root import Release, debian_root

ROOT = Path(__file__).parents[2]
CLIENT, WEB = "10.244.1.9", "10.244.1.3"
NODE = "system:node:worker-3"
PEM = "/var/lib/kubelet/pki/kubelet-client-current.pem"


class Packages(NamedTuple):
    """Two versions of the package, built from this tree."""

    this: Path
    next: Path
    next_version: str


def _build(version: str, directory: Path) -> Path:
    done = subprocess.run(
        [ROOT / "tools/deb", version, directory], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return directory / f"kiptail_{version}_all.deb"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    following = f"{__version__}+next"
    directory = tmp_path_factory.mktemp("packages")
    return Packages(_build(__version__, directory), _build(following, directory), following)


@pytest.fixture(scope="module", params=list(Release))
def release(request: pytest.FixtureRequest) -> Release:
    """Whatever belongs to a machine depends on it, and is made anew with the next release's."""
    return request.param


@pytest.fixture(scope="module")
def machine(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with debian_root(release) as root, booted(root, tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture(scope="module")
def wires(release: Release) -> Iterator[Network]:
    """Two pods whose connections are dropped, logged under a prefix that is no other test's.

    Other tests wait until it is given back, also those of this run: never for the session.
    """
    with network() as net:
        net.add_pod("client", CLIENT)
        net.add_pod("web-0", WEB)
        yield net


@pytest.fixture(scope="module")
def prefix(wires: Network) -> str:
    prefix = f"kt-{secrets.token_hex(4)}:"
    wires.drop(f"{prefix} ", "ct state new")
    return prefix


@pytest.fixture(scope="module")
def server(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    pods = [pod("client", CLIENT, uid="uid-client"), pod("web-0", WEB, uid="uid-web-0")]
    with ServerProcess(tmp_path_factory.mktemp("server"), pods, also=[NODE]) as server:
        yield server


class Node:
    """The machine as a node: the package on it, and what an administrator does with it."""

    def __init__(
        self, machine: Machine, packages: Packages, server: ServerProcess, wires: Network, prefix: str
    ) -> None:
        self.machine, self.packages, self.server, self.prefix = machine, packages, server, prefix
        self._wires = wires

    def purge(self) -> None:
        """Bring about a machine that has never had kiptail."""
        if self.version():
            self.machine.run("apt-get", "purge", "--yes", "kiptail")
        for directory in ("kiptail.service.d", "kiptail-credentials.path.d"):
            self.machine.run("rm", "-rf", f"/etc/systemd/system/{directory}")
        self.machine.run("systemctl", "daemon-reload")

    def install(self) -> None:
        """Bring about a machine that has this version just installed."""
        self.purge()
        self.machine.install(self.packages.this)

    def configure(self) -> None:
        """What README says comes before the first start."""
        config = self.machine.files / "etc/kiptail/kiptail.toml"
        config.write_text(re.sub("(?m)^#prefix = .*$", f'prefix = ["{self.prefix}"]', config.read_text()))
        self.give_kubeconfig()

    def give_kubeconfig(self) -> None:
        """A new file in the old one's place."""
        self.put("etc/kiptail/kubeconfig", self.server.kubeconfig.read_text())

    def put(self, path: str, text: str) -> None:
        """A file for root only, which is there or not, and never half there."""
        file = self.machine.files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.new")
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(file)

    def run(self) -> None:
        """Bring about a machine on which this version works."""
        self.install()
        self.configure()
        self.machine.run("systemctl", "enable", "--now", "kiptail")
        self.wait_until_it_works()

    def wait_until_it_works(self) -> None:
        self.machine.until(lambda: self.machine.active("kiptail") == "active", "kiptail is ready")

    def version(self) -> str:
        """The version that is installed, empty for none."""
        return self.machine.try_run("dpkg-query", "--show", "--showformat=${Version}", "kiptail").stdout

    def main_pid(self) -> int:
        return int(self.machine.show("kiptail", "MainPID")["MainPID"])

    def restarted_since(self, pid: int) -> Callable[[], bool]:
        return lambda: self.main_pid() not in (0, pid) and self.machine.active("kiptail") == "active"

    def drop(self, port: int, count: int = 1) -> None:
        self._wires.send("client", "tcp", WEB, port, count=count)

    def counts(self, port: int) -> dict[str, int]:
        """By the pod's name; an Event too many would show as one more pod."""
        events = [event for event in self.server.events() if f"port {port}/TCP" in event["message"]]
        names = [event["involvedObject"]["name"] for event in events]
        assert len(set(names)) == len(names), events
        return {event["involvedObject"]["name"]: event["count"] for event in events}

    def wait_for_events(self, port: int, count: int = 1) -> None:
        """Both ends are told of so many packets."""
        told = {"client": count, "web-0": count}
        self.machine.until(lambda: self.counts(port) == told, f"{told} for port {port}")

    def kubelet_conf(self) -> str:
        """A kubeconfig as kubeadm writes it: the certificate by its absolute path."""
        config = json.loads(self.server.kubeconfig.read_text())
        config["users"][0]["user"] = {"client-certificate": PEM, "client-key": PEM}
        return json.dumps(config)

    def issue_kubelet_certificate(self) -> str:
        """Certificate and key in one, as kubelet keeps them."""
        pair = Authority(self.server.certificates).client(NODE, "system:nodes")
        return pair.certificate.read_text() + pair.key.read_text()


@pytest.fixture
def node(packages: Packages, machine: Machine, server: ServerProcess, wires: Network, prefix: str) -> Node:
    return Node(machine, packages, server, wires, prefix)
