"""`kiptail kubeconfig`: a kubeconfig for nodes, made with an administrator's."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kiptail.admin.manifests import dedicated
from kiptail.cli.commands import read_environment
from kiptail.credentials.tokens import claims_of
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.support.running import run_kiptail


class Admin:
    """An administrator in front of a cluster that has `kiptail manifests` applied."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        server.apply(dedicated())
        self.kubeconfig = server.kubeconfig(directory / "admin.conf")
        self.out = directory / "node.kubeconfig"

    def run(self, *arguments: object, out: object = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
        given = ("kubeconfig", "--out", out or self.out, *arguments)
        return run_kiptail(*given, **({"KUBECONFIG": str(self.kubeconfig)} | environment))

    def written(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out.read_text())
        return document


@pytest.fixture
def admin(server: ApiServer, tmp_path: Path) -> Admin:
    return Admin(server, tmp_path)


def test_it_writes_a_kubeconfig_that_works_and_that_nobody_else_can_read(admin: Admin) -> None:
    admin.out.write_text("an older one")
    admin.out.chmod(0o644)
    done = admin.run("--duration", "2d")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert stat.S_IMODE(admin.out.stat().st_mode) == 0o600
    assert sorted(path.name for path in admin.directory.iterdir()) == ["admin.conf", "node.kubeconfig"]
    document = admin.written()
    token = document["users"][0]["user"]["token"]
    claims = claims_of(token)
    assert claims is not None
    assert claims.account == ("kube-system", "kiptail")
    assert claims.expires == pytest.approx(time.time() + 2 * 86_400, abs=60)
    assert token.encode() not in done.stderr
    assert admin.server.admin_token not in admin.out.read_text()
    api = KubeApi.from_kubeconfig(admin.out)
    assert api.who().user == "system:serviceaccount:kube-system:kiptail"
    assert api.allowed("patch", "events") is True
    assert api.allowed("get", "pods") is False
    api.close()


def test_it_says_when_the_server_shortens_the_life(admin: Admin) -> None:
    admin.server.access.longest_token = 3_600
    done = admin.run("--duration", "7d")
    assert done.returncode == 0
    assert b"warning: the API server shortened the token's life from 7 days to 1 hour" in done.stderr
    admin.server.access.longest_token = None
    assert b"shortened" not in admin.run("--duration", "7d").stderr


def test_nothing_in_it_names_a_file_of_this_machine(admin: Admin) -> None:
    admin.server.kubeconfig(admin.kubeconfig, ca="file")
    assert admin.run().returncode == 0
    cluster = admin.written()["clusters"][0]["cluster"]
    assert base64.b64decode(cluster["certificate-authority-data"]) == admin.server.ca_file.read_bytes()
    assert "certificate-authority" not in cluster


def test_another_address_for_the_nodes(admin: Admin) -> None:
    assert b"this machine only" in admin.run().stderr
    done = admin.run("--server", "https://10.0.0.1:6443")
    assert b"this machine only" not in done.stderr
    assert admin.written()["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"


def test_it_can_be_piped(admin: Admin) -> None:
    done = admin.run(out="-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["kind"] == "Config"
    assert not admin.out.exists()


def test_a_secret_is_not_shown_on_a_terminal(admin: Admin) -> None:
    leader, follower = os.openpty()
    try:
        command = ["python3", "-c", "import kiptail.cli.main; kiptail.cli.main.main()"]
        import sys  # noqa: PLC0415 - the interpreter with the libraries

        command[0] = sys.executable
        done = subprocess.run(
            [*command, "kubeconfig", "--out", "-", "--kubeconfig", admin.kubeconfig],
            stdout=follower, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 2
    assert b"terminal" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--namespace", "apps"), 4, "; apply `kiptail manifests --namespace apps` first"),
        (("--service-account", "nobody"), 4, "(`kubectl create serviceaccount nobody --namespace kube-system`)"),
        (("--duration", "1m"), 2, "less than 10m"),
        (("--duration", "soon"), 2, "--duration"),
        (("--kubeconfig", "/no/such"), 4, "/no/such"),
        (("--namespace", "a/b"), 2, "--namespace"),
        (("--server", "ftp://x"), 2, "--server"),
        (("--out", "/no/such/place"), 1, "cannot write /no/such/place"),
        (("--out", "/"), 1, "cannot write /: it is a directory"),
        (("--context", "nope"), 4, "nope"),
        *(((option, ""), 2, f"{option}: '' is") for option in ("--kubeconfig", "--context", "--server", "--duration")),
        *(((option, ""), 2, f"{option}: '' is") for option in ("--namespace", "--service-account", "--out")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_does_not_work_is_told_in_one_line(admin: Admin, arguments: tuple[str, ...], code: int, told: str) -> None:
    done = admin.run(*arguments)
    lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("Try ")]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert told in lines[0]
    assert not admin.out.exists()
    if code < 4:
        assert not admin.server.requests(), "no token that would be lost"


def test_what_it_says_to_do_first_is_what_was_missing(admin: Admin) -> None:
    done = admin.run("--namespace", "apps")
    command = done.stderr.decode().split("`")[1].split()
    admin.server.apply(run_kiptail(*command[1:]).stdout.decode())
    done = admin.run("--namespace", "apps")
    assert done.returncode == 0
    assert b"renews it before, if it may (`kiptail manifests --namespace apps`)" in done.stderr
    admin.server.serviceaccounts.put({"metadata": {"name": "agent", "namespace": "apps"}})
    done = admin.run("--namespace", "apps", "--service-account", "agent")
    assert b"if it may (create serviceaccounts/token for itself)" in done.stderr


def test_an_administrators_credential_that_has_expired(admin: Admin) -> None:
    admin.server.access.revoke_token(admin.server.admin_token)
    done = admin.run()
    assert done.returncode == 4
    assert b"it may have expired: name another with --kubeconfig" in done.stderr


def test_who_may_not_is_told_who_may(admin: Admin) -> None:
    token = admin.server.add_user("somebody")
    admin.server.kubeconfig(admin.kubeconfig, token=token)
    done = admin.run()
    assert done.returncode == 4
    assert b"this takes an administrator's kubeconfig" in done.stderr


def test_the_units_environment_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "kiptail"
    path.write_text("# KIPTAIL_NODE_NAME=x\nKIPTAIL_PREFIX='a b:'\nKIPTAIL_SINCE=-5m\nrubbish\n")
    assert read_environment(path) == {"KIPTAIL_PREFIX": "a b:", "KIPTAIL_SINCE": "-5m"}
    assert read_environment(tmp_path / "none") == {}
    path.write_text("A='open")
    assert read_environment(path) == {}
