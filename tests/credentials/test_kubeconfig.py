"""Several kubeconfigs, merged as kubectl merges them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials.kubeconfig import choose, context_namespace, read_kubeconfigs
from kiptail.errors import ClusterError
from kiptail.kube.api import KubeApi
from kiptail.kube.session import open_session
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority
from tests.support.kube import list_pods, write
from tests.support.kube import server as server  # noqa: PLC0414 - a fixture
from tests.support.running import run_kiptail


def config(current: str = "", **entries: Mapping[str, Any]) -> dict[str, Any]:
    """``clusters={"c": {...}}`` and so on."""
    document: dict[str, Any] = {"current-context": current} if current else {}
    for section, named in entries.items():
        kind = section.removesuffix("s")
        document[section] = [{"name": name, kind: value} for name, value in named.items()]
    return document


ONE = {"cluster": "c", "user": "u"}
#: Files, and what `kubectl config view --raw --minify` shows of them.
MERGED: dict[str, tuple[list[object], dict[str, Any]]] = {
    "the context is in the second": (
        [
            config(clusters={"c": {"server": "http://one"}}, users={"u": {"token": "first"}}),
            config("x", contexts={"x": ONE}),
        ],
        {"cluster": {"server": "http://one"}, "user": {"token": "first"}},
    ),
    "all of an entry is the first's": (
        [
            config("x", contexts={"x": ONE}, clusters={"c": {"server": "http://one"}}, users={"u": {"token": "first"}}),
            config(
                "y",
                contexts={"x": {"cluster": "d"}, "y": ONE},
                clusters={"c": {"server": "http://two", "tls-server-name": "two"}},
                users={"u": {"username": "ann", "password": "p"}},
            ),
        ],
        {"cluster": {"server": "http://one"}, "user": {"token": "first"}},
    ),
    "empty entries count": (
        [
            config(users={"u": {}}),
            config(
                "x", contexts={"x": ONE}, clusters={"c": {"server": "http://two"}}, users={"u": {"token": "second"}}
            ),
        ],
        {"cluster": {"server": "http://two"}, "user": {}},
    ),
    "an empty file": (
        ["", config("x", contexts={"x": ONE}, clusters={"c": {"server": "http://two"}}, users={"u": {}})],
        {"cluster": {"server": "http://two"}, "user": {}},
    ),
    "a missing file": (
        [None, config("x", contexts={"x": ONE}, clusters={"c": {"server": "http://two"}}, users={"u": {}})],
        {"cluster": {"server": "http://two"}, "user": {}},
    ),
}


def files(documents: list[object], directory: Path) -> list[Path]:
    made = []
    for number, document in enumerate(documents):
        (directory / str(number)).mkdir()
        made.append(directory / str(number) / "config")
        if document is not None:
            write(made[-1], document)
    return made


@pytest.mark.parametrize("case", MERGED)
def test_the_first_file_wins_for_each_entry(case: str, tmp_path: Path) -> None:
    documents, expected = MERGED[case]
    paths = files(documents, tmp_path)
    cluster, user = choose(read_kubeconfigs(paths), None)
    assert {"cluster": cluster.value, "user": user.value} == expected


def test_paths_are_relative_to_the_file_that_they_stand_in(server: ApiServer, tmp_path: Path) -> None:
    script = "echo '" + json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": server.admin_token},
        }
    )
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin"}}
    first, second = files(
        [
            config("x", contexts={"x": ONE}, users={"u": plugin}),
            config(clusters={"c": {"server": server.url, "certificate-authority": "ca.crt"}}),
        ],
        tmp_path,
    )
    (first.parent / "plugin").write_text(f"#!/bin/sh\n{script}'\n")
    (first.parent / "plugin").chmod(0o755)
    (second.parent / "ca.crt").write_bytes(authority().certificate.read_bytes())
    api = KubeApi.from_kubeconfig(first, second)
    assert list_pods(api)["items"] == []
    api.close()


def test_a_change_of_any_of_the_files_is_noticed(server: ApiServer, tmp_path: Path) -> None:
    whole = json.loads(server.kubeconfig(tmp_path / "whole").read_text())
    first, second = files([None, whole], tmp_path)
    api = KubeApi.from_kubeconfig(first, second, files_check_s=0.0)

    def asks_as(user: str) -> bool:
        """Soon: the next look at the files comes no sooner than the last reading took."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            list_pods(api)
            if server.requests()[-1].user == user:
                return True
        return False

    assert asks_as("kubernetes-admin")
    token = server.add_user("second", "system:masters")
    write(second, {**whole, "users": [{"name": "test", "user": {"token": token}}]})
    assert asks_as("second")
    token = server.add_user("first", "system:masters")
    write(first, config(users={"test": {"token": token}}))  # which was missing
    assert asks_as("first")
    first.unlink()
    assert asks_as("second")
    api.close()


def test_what_is_wrong_names_the_file_that_it_is_in(tmp_path: Path) -> None:
    good = config("x", contexts={"x": ONE}, clusters={"c": {"server": "https://h"}})
    first, second = files([good, config(users={"u": {"token": 5}})], tmp_path)
    for document, expected in (
        (config(users={"u": {"token": 5}}), f"the kubeconfig {second}: users[0].user.token is not text"),
        ("a: [", f"the kubeconfig {second} is not valid YAML"),
        ([1], f"{second} is not a kubeconfig; make one with `kiptail kubeconfig`, or name another"),
        (config(users={"u": {"tokenFile": "nowhere"}}), f"{second}: tokenFile {second.parent}/nowhere does not exist"),
        (config(users={"u": {"client-certificate-data": "YWJj"}}), f"{second}: the client certificate and key"),
        (config(users={"u": {"as-uid": "5"}}), f"{second}: as-uid, as-groups and as-user-extra are of no use"),
        ({}, f"the kubeconfigs {first} and {second} have no user 'u'"),
    ):
        write(second, document)
        with pytest.raises(ClusterError) as caught:
            open_session([first, second], None, None)
        assert expected in str(caught.value)


def test_a_file_that_cannot_be_seen_is_not_missing(tmp_path: Path) -> None:
    (good,) = files([config("x", contexts={"x": ONE}, clusters={"c": {"server": "https://h"}})], tmp_path)
    for path, expected in ((good / "below", "Not a directory"), (tmp_path / ("x" * 300), "File name too long")):
        with pytest.raises(ClusterError, match=f"cannot be read: {expected}"):
            read_kubeconfigs([good, path])


def test_when_all_are_missing_the_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=rf"{tmp_path}/a does not exist; name another with --kubeconfig"):
        read_kubeconfigs([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("command", ["check", "kubeconfig"])
def test_the_variable_lists_files_and_the_option_names_one(command: str, server: ApiServer, tmp_path: Path) -> None:
    server.serviceaccounts.put({"metadata": {"name": "kiptail", "namespace": "kube-system"}})
    whole = json.loads(server.kubeconfig(tmp_path / "whole").read_text())
    rest = {key: whole.pop(key) for key in ("contexts", "current-context")}
    first, second = files([whole, rest], tmp_path)
    options: tuple[object, ...] = ("--state-directory", tmp_path / "state")
    if command == "kubeconfig":
        options = ("--out", tmp_path / "out")
    done = run_kiptail(command, *options, KUBECONFIG=f"{first}:{tmp_path}/none:{second}")
    said = done.stdout.decode() + done.stderr.decode()
    if command == "check":
        assert f"{first}:{tmp_path}/none:{second} can be used" in said
    else:
        assert (done.returncode, "written to" in said) == (0, True)
    done = run_kiptail(command, *options, "--kubeconfig", f"{first}:{second}")
    assert f"{first}:{second} does not exist" in done.stdout.decode() + done.stderr.decode()


def test_a_context_may_name_a_namespace(tmp_path: Path) -> None:
    contexts = {"x": ONE | {"namespace": "team-a"}, "y": ONE}
    path = tmp_path / "config"
    path.write_text(json.dumps(config("x", contexts=contexts, clusters={"c": {"server": "https://h"}})))
    merged = read_kubeconfigs([path])
    assert [context_namespace(merged, name) for name in (None, "x", "y", "none")] == ["team-a", "team-a", "", ""]
