"""Every key of a kubeconfig with every wrong type: one line with key and file, and nothing is sent."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiptail.credentials.schema import KEYS, typed
from kiptail.errors import ClusterError
from kiptail.kube.api import KubeApi
from kiptail.kube.session import open_session
from tests.apiserver.certificates import authority
from tests.support.kube import RawServer, pem, reply, server_tls, write
from tests.support.running import run_kiptail

SECRET = "hunter2"
EXTENSIONS = [{"name": "x", "extension": {"a": [1]}}]
#: All keys that kubectl knows, with values that it takes.
FULL: dict[str, Any] = {
    "kind": "Config",
    "apiVersion": "v1",
    "preferences": {"colors": True, "extensions": EXTENSIONS},
    "current-context": "one",
    "extensions": EXTENSIONS,
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "team", "extensions": EXTENSIONS}},
    ],
    "clusters": [
        {
            "name": "c",
            "cluster": {
                "server": "https://127.0.0.1:6443",
                "tls-server-name": "kubernetes",
                "insecure-skip-tls-verify": False,
                "certificate-authority": "ca.crt",
                "certificate-authority-data": "YWJj",
                "proxy-url": f"http://ann:{SECRET}@127.0.0.1:1",
                "disable-compression": True,
                "extensions": EXTENSIONS,
            },
        },
    ],
    "users": [
        {
            "name": "u",
            "user": {
                "client-certificate": "c.crt",
                "client-certificate-data": "YWJj",
                "client-key": "c.key",
                "client-key-data": "YWJj",
                "token": SECRET,
                "tokenFile": "token",
                "as": "ann",
                "as-uid": "1",
                "as-groups": ["a", "b"],
                "as-user-extra": {"a": ["b", "c"]},
                "username": "ann",
                "password": SECRET,
                "auth-provider": {"name": "oidc", "config": {"id-token": SECRET}},
                "exec": {
                    "command": "x",
                    "args": ["a", "b"],
                    "env": [{"name": "A", "value": SECRET}],
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "installHint": "x",
                    "provideClusterInfo": True,
                    "interactiveMode": "Never",
                },
                "extensions": EXTENSIONS,
            },
        },
    ],
}
#: By JSON's types. Base64 is a text of its own kind.
VALUES: dict[str, list[Any]] = {
    "text": [SECRET, "", "true", "5", "null"],
    "truth": [True, False],
    "number": [0, 1, -5, 1.5],
    "list": [[], [SECRET], [5], [[]], [{SECRET: SECRET}]],
    "mapping": [{}, {SECRET: SECRET}, {"name": 5}],
}
BASE64 = ("certificate-authority-data", "client-certificate-data", "client-key-data")
NO_BASE64 = [SECRET, "YWJ", "YW Jj", "YWJj=", "-_-_", "\u4e2d", "-----BEGIN CERTIFICATE-----"]

Place = tuple[Any, ...]


def places(value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """All keys and elements, but for what is an extension's own."""
    if at:
        yield at, value
    if at and at[-1] == "extension":
        return
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*at, key))


def kind_of(value: object) -> str:
    kinds = {str: "text", bool: "truth", list: "list", dict: "mapping"}
    return kinds[type(value)]


def wrong() -> Iterator[tuple[Place, Any]]:
    for place, value in places(FULL):
        if place[-1] == "extension":
            continue
        for kind, others in VALUES.items():
            yield from ((place, other) for other in others if kind != kind_of(value))
        if place[-1] in BASE64:
            yield from ((place, other) for other in NO_BASE64)


def put(place: Place, value: object, server: str = "https://127.0.0.1:6443") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(FULL))  # nothing in it is twice the same object
    document["clusters"][0]["cluster"]["server"] = server
    *way, last = place
    holder: Any = document
    for step in way:
        holder = holder[step]
    holder[last] = value
    return document


def shown(place: Place) -> str:
    return re.sub(r"\.(?=\[)", "", ".".join(f"[{step}]" if isinstance(step, int) else step for step in place))


def named(place: Place) -> str:
    """What an error calls it: not by the keys that may be any."""
    for number, step in enumerate(place[:-1]):
        if step in ("as-user-extra", "config"):
            return f"a value of {shown(place[: number + 1])}{shown(place[number + 2 :])}"
    return shown(place)


WRONG = list(wrong())


def test_the_table_has_every_key() -> None:
    assert typed(FULL) == FULL
    assert set(KEYS) == set(FULL)
    assert len({place for place, _ in WRONG}) > 70
    assert len(WRONG) > 700


def test_every_key_with_every_wrong_type(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As JSON and as YAML; a server that takes any connection sees none."""
    caplog.set_level(logging.DEBUG)
    with RawServer(reply(b"{}"), server_tls()) as server:
        for number, (place, value) in enumerate(WRONG):
            document = put(place, value, server.url)
            text = yaml.safe_dump(document) if number % 10 == 0 else json.dumps(document)
            path = write(tmp_path / "config", text)
            told = f"{shown(place)}: {value!r}"
            with pytest.raises(ClusterError) as caught:
                KubeApi.from_kubeconfig(path).claims()
            said = str(caught.value)
            assert caught.value.exit_code == 4
            assert said.startswith(f"the kubeconfig {path}: "), told
            assert said.removeprefix(f"the kubeconfig {path}: ").startswith(f"{named(place)}"), told
            assert re.search(r" is not (text|a path|true or false|base64|a mapping|a list)\b[a-z ]*$", said), told
            assert SECRET not in said, told
            assert said.isprintable(), told
        assert server.connections == 0
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("as-groups", "a"),
        ("as-groups", [["a"]]),
        ("as-groups", [1]),
        ("as-user-extra", {"a": "b"}),
        ("as-user-extra", {"a": [1]}),
        ("as-user-extra", [["a", "b"]]),
        ("as-user-extra", {1.5: ["b"]}),
    ],
)
def test_what_is_in_lists_and_mappings_has_its_type_too(key: str, value: object, tmp_path: Path) -> None:
    path = write(tmp_path / "k", yaml.safe_dump(put(("users", 0, "user", key), value)))
    with pytest.raises(
        ClusterError, match=rf"{re.escape(str(path))}: (a value of )?users\[0\]\.user\.{key}(\[0\])? is not"
    ):
        open_session([path], None, None)


#: Their keys are any.
OPEN = (("as-user-extra",), ("config",))
#: As JSON, so that the type is what stands there.
GOOD: list[tuple[Place, Any, Any]] = [
    *((place, None, ...) for place, _ in places(FULL) if place[-1] not in (0, 1) and place[-2:-1] not in OPEN),
    (("users", 0, "user", "as-groups"), [None], [""]),
    (("users", 0, "user", "as-user-extra"), {"a": None, "b": [None]}, {"a": [], "b": [""]}),
    (("users", 0, "user", "exec", "args"), [None, "a"], ["", "a"]),
    (("clusters", 0, "cluster", "certificate-authority-data"), "YW\r\nJj\n", "YW\r\nJj\n"),
    (("clusters", 0, "cluster", "unknown"), 5, ...),
    (("clusters", 0, "cluster", "SERVER"), 5, ...),
    (("clusters", 0), None, {}),
    (("extensions", 0, "extension"), 5, 5),
]


@pytest.mark.parametrize(("place", "value", "made"), GOOD, ids=[f"{shown(row[0])}: {row[1]!r}" for row in GOOD])
def test_what_kubectl_takes_is_taken(place: Place, value: object, made: object) -> None:
    document = typed(put(place, value))
    *way, last = place
    holder: Any = document
    for step in way:
        holder = holder[step]
    assert (holder.get(last, ...) if isinstance(holder, dict) else holder[last]) == made


def test_keys_that_are_no_texts_are_texts_in_json() -> None:
    document = put(("users", 0, "user", "as-user-extra"), {7: ["a"], False: ["b"]})
    assert typed(document)["users"][0]["user"]["as-user-extra"] == {"7": ["a"], "false": ["b"]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "Pod"}, "kind and apiVersion are not Config and v1"),
        ({"apiVersion": "v2"}, "kind and apiVersion are not Config and v1"),
        ({"users": [{"name": "u"}, {"name": "u", "user": {"token": SECRET}}]}, "users has two entries 'u'"),
        ({"clusters": [{"name": "c"}, {"name": "c"}]}, "clusters has two entries 'c'"),
    ],
)
def test_what_kubectl_refuses_is_refused(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "k", {**FULL, **change})
    with pytest.raises(ClusterError) as caught:
        open_session([path], None, None)
    assert str(caught.value) == f"the kubeconfig {path}: {expected}"


@pytest.mark.parametrize("command", ["--dry-run", "check", "kubeconfig"])
def test_the_command_line_ends_with_exit_code_4(command: str, tmp_path: Path) -> None:
    """Nothing is sent though verification is "false"."""
    with RawServer(reply(b"{}"), server_tls()) as server:
        document = {
            "current-context": "one",
            "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.url, "insecure-skip-tls-verify": "false"}}],
            "users": [{"name": "u", "user": {"token": SECRET}}],
        }
        path = write(tmp_path / "k", document)
        options: tuple[object, ...] = ("--state-directory", tmp_path / "s", "--prefix", "x:", "--log-level", "debug")
        if command == "check":
            options = ("--state-directory", tmp_path / "s")
        elif command == "kubeconfig":
            options = ("--out", tmp_path / "out")
        done = run_kiptail(command, *options, "--kubeconfig", path)
        said = done.stdout.decode() + done.stderr.decode()
        assert f"{path}: clusters[0].cluster.insecure-skip-tls-verify is not true or false" in said
        assert "Traceback" not in said
        assert SECRET not in said
        # A check tells of problems, and ends with 1.
        assert done.returncode == (1 if command == "check" else 4)
        assert command == "check" or len(done.stderr.splitlines()) == 1
        assert server.connections == 0


def test_base64_of_certificates_may_have_line_breaks(tmp_path: Path) -> None:
    data = pem(authority().certificate)
    lines = "".join(f"{data[at : at + 64]}\r\n" for at in range(0, len(data), 64))
    assert base64.b64decode(data)
    document = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://h", "certificate-authority-data": lines}}],
    }
    open_session([write(tmp_path / "k", document)], None, None).close()
