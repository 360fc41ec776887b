"""kubeapi against the stand-in API server, and against servers that behave badly."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import logging
import os
import socket
import socketserver
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail import __version__, kubeapi
from kiptail.errors import ApiError, ClusterError
from kiptail.kubeapi import KubeApi, WatchStream
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority

#: A request's time in tests of what happens when it is over, in seconds.
SHORT = 0.25
#: What "at once" may take on a busy machine.
AT_ONCE = 2.0
POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "team-a"},
    "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}]},
}
EVENT: dict[str, Any] = {
    "metadata": {"name": "web.1", "namespace": "team-a"},
    "involvedObject": {"kind": "Pod", "namespace": "team-a", "name": "web"},
    "message": "m",
    "count": 1,
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.namespaces.put({"metadata": {"name": "team-a"}})
        yield server


@pytest.fixture
def opened(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., KubeApi]]:
    """Makes clients of `server`; keyword arguments that `ApiServer.kubeconfig` takes go to it."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> KubeApi:
            keys = ("token", "token_file", "client", "ca", "user")
            path = server.kubeconfig(tmp_path / "kubeconfig", **{k: options.pop(k) for k in keys if k in options})
            api = KubeApi.from_kubeconfig(path, **options)
            stack.callback(api.close)
            return api

        yield make


class Connection(socketserver.StreamRequestHandler):
    """Reads requests and lets the server's `answer(connection, head)` send what it likes."""

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while head := self._head():
                self.server.heads.append(head)  # type: ignore[attr-defined]
                self.server.answer(self.connection, head)  # type: ignore[attr-defined]

    def _head(self) -> str:
        lines = list(iter(lambda: self.rfile.readline().decode(), "\r\n")) if self.rfile.peek(1) else []
        length = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
        self.rfile.read(length[0] if length else 0)
        return "".join(lines)


class RawServer(socketserver.ThreadingTCPServer):
    """An HTTP server that does what no real one would; with TLS where `tls` is its context."""

    def __init__(self, answer: Callable[[socket.socket, str], None], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.answer = answer
        self.heads: list[str] = []
        self.connections = 0
        self._tls = tls
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        self._open.append(connection)
        self.connections += 1
        return connection, address

    def handle_error(self, *_: Any) -> None:
        pass

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority().server.certificate, authority().server.key)
    return context


@contextlib.contextmanager
def raw(
    tmp_path: Path,
    answer: Callable[[socket.socket, str], None],
    *,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> Iterator[tuple[KubeApi, RawServer]]:
    """A client, and a RawServer that answers it."""
    with RawServer(answer, tls) as server:
        cluster = {"server": server.url, "certificate-authority": str(authority().certificate)}
        path = write(tmp_path / "raw", kubeconfig(cluster=cluster))
        api = KubeApi.from_kubeconfig(path, **options)
        try:
            yield api, server
        finally:
            api.close()


def reply(body: bytes, *, status: str = "200 OK", headers: str = "") -> Callable[[socket.socket, str], None]:
    def answer(connection: socket.socket, _: str) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        connection.sendall(head.encode() + body)

    return answer


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def kubeconfig(*, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": user or {}}],
    }


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def pem(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def plugin(path: Path, script: str, **more: Any) -> dict[str, Any]:
    """A user whose credential comes from a shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "args": None, **more}}


def credential(**status: str) -> str:
    """What an exec plugin prints."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"cat <<'END'\n{json.dumps(answer)}\nEND"


def failure(request: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        request()
    assert "\n" not in str(caught.value)
    return caught.value


def list_pods(api: KubeApi) -> Any:
    return api.list_pods_page(limit=10)


# -- kubeconfigs that cannot be used -------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[object, dict[str, str], str]] = {
    "empty": ("", {}, "is empty or not valid YAML"),
    "tab": (
        "a:\n\t- b",
        {},
        "not valid YAML: found character '\\t' that cannot start any token in line 2",
    ),
    "binary": ("\x00\x01", {}, "is empty or not valid YAML"),
    "a list": ("[1, 2]", {}, "is not a kubeconfig: it lists no clusters"),
    "another document": ({"kind": "Pod"}, {}, "is not a kubeconfig: it lists no clusters"),
    "no current context": (
        {**kubeconfig(), "current-context": ""},
        {},
        "has no current-context; name one with --context (it has one)",
    ),
    "unknown context": (kubeconfig(), {"context": "two"}, "has no context 'two' (it has one)"),
    "no contexts": ({**kubeconfig(), "contexts": None}, {}, "has no context 'one' (it has none)"),
    "unknown cluster": ({**kubeconfig(), "clusters": []}, {}, "has no cluster 'c'"),
    "unknown user": ({**kubeconfig(), "users": None}, {}, "has no user 'u'"),
    "no server": (kubeconfig(cluster={"x": 1}), {}, "the cluster has no server; give one with --server"),
    "server without scheme": (
        kubeconfig(cluster={"server": "10.0.0.1:6443"}),
        {},
        "the cluster's server is not a URL such as https://10.0.0.1:6443: 10.0.0.1:6443",
    ),
    "server with a bad port": (kubeconfig(cluster={"server": "https://h:99999"}), {}, "is not a URL"),
    "other server is no URL": (kubeconfig(), {"server": "tcp://h:1"}, "--server is not a URL"),
    "CA is missing": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority": "ca.crt"}),
        {},
        "unusable: certificate-authority {dir}/ca.crt does not exist",
    ),
    "CA is no certificate": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority": "unusable"}),
        {},
        "the certificate-authority holds no PEM certificate",
    ),
    "CA data is no base64": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority-data": "%"}),
        {},
        "certificate-authority-data is not base64",
    ),
    "CA data is no certificate": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority-data": "YWJj"}),
        {},
        "the certificate-authority holds no PEM certificate",
    ),
    "token file is missing": (
        kubeconfig(user={"tokenFile": "/nowhere/token"}),
        {},
        "unusable: tokenFile /nowhere/token does not exist",
    ),
    "token file is a directory": (kubeconfig(user={"tokenFile": "/"}), {}, "cannot be read: Is a directory"),
    "token file is empty": (kubeconfig(user={"tokenFile": "/dev/null"}), {}, "/dev/null is empty or holds"),
    "token file is no path": (kubeconfig(user={"tokenFile": 5}), {}, "tokenFile is not a path"),
    "token of two lines": (
        kubeconfig(user={"token": "se\ncret"}),
        {},
        "the token of the kubeconfig's user is empty or holds blanks",
    ),
    "client certificate is missing": (
        kubeconfig(user={"client-certificate": "c.crt", "client-key": "c.key"}),
        {},
        "unusable: client-certificate {dir}/c.crt does not exist",
    ),
    "plugin does not exist": (
        kubeconfig(user={"exec": {"apiVersion": "v1", "command": "/nowhere/plugin"}}),
        {},
        "the exec plugin failed: exec: process returned 127",
    ),
    "plugin without a command": (
        kubeconfig(user={"exec": {"apiVersion": "v1"}}),
        {},
        "the exec plugin failed: exec: malformed request. missing key 'command'",
    ),
    "users of odd types": (
        kubeconfig(user={"auth-provider": {"name": "oidc", "config": {"id-token": 5}}}),
        {},
        "cannot be used",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_is_wrong_with_a_kubeconfig_is_said_in_one_line(case: str, tmp_path: Path) -> None:
    document, options, expected = UNUSABLE[case]
    path = write(tmp_path / "unusable", document)
    with pytest.raises(ClusterError) as caught:
        KubeApi.from_kubeconfig(path, **options)
    text = str(caught.value)
    assert expected.replace("{dir}", str(tmp_path)) in text
    assert "--server" in text or str(path) in text or "token" in text
    assert "\n" not in text
    assert "cret" not in text


def test_a_missing_kubeconfig_is_named_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"kubeconfig .*/none does not exist; name another with --kubeconfig"):
        KubeApi.from_kubeconfig(tmp_path / "none")


def test_a_kubeconfig_that_may_not_be_read_is_told_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "secret", kubeconfig())

    def refuse(self: Path, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(ClusterError, match=r"secret may not be read by this user \(uid \d+\)"):
        KubeApi.from_kubeconfig(path)


def test_a_kubeconfig_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(kubeapi.KUBECONFIG_BYTES + 1)
    with pytest.raises(ClusterError, match="is larger than 4 MiB"):
        KubeApi.from_kubeconfig(path)


def test_a_yaml_error_does_not_show_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "k", 'users:\n- user: {token: "hunter2\n\t}')
    with pytest.raises(ClusterError) as caught:
        KubeApi.from_kubeconfig(path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ((authority().client("a").certificate, authority().client("b").key), "do not belong together"),
        (
            (authority().client("a").certificate, Path(__file__).parent / "__init__.py"),
            "client certificate and key",
        ),
        ((Path(__file__), authority().client("a").key), "client certificate and key"),
    ],
    ids=["of two pairs", "no key", "no certificate"],
)
def test_client_certificate_that_cannot_be_used(tmp_path: Path, pair: tuple[Path, Path], expected: str) -> None:
    user = {"client-certificate": str(pair[0]), "client-key": str(pair[1])}
    with pytest.raises(ClusterError, match=expected):
        KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))


def test_an_encrypted_key_is_an_error_and_no_prompt(tmp_path: Path) -> None:
    pair = authority().client("a")
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", pair.key, "-passout", "pass:secret", "-out", encrypted]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    user = {"client-certificate": str(pair.certificate), "client-key": str(encrypted)}
    with pytest.raises(ClusterError, match="cannot be used: the key is encrypted"):
        KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))


# -- credentials ---------------------------------------------------------------------------------------------


def test_context_and_server_override_the_kubeconfigs(server: ApiServer, tmp_path: Path) -> None:
    document = json.loads(server.kubeconfig(tmp_path / "k").read_text())
    document["contexts"].append({"name": "other", "context": {"cluster": "gone", "user": "test"}})
    document["clusters"].append({"name": "gone", "cluster": {**document["clusters"][0]["cluster"]}})
    document["clusters"][1]["cluster"]["server"] = "http://127.0.0.1:1/"
    path = write(tmp_path / "k", document)
    assert KubeApi.from_kubeconfig(path, context="other").server == "http://127.0.0.1:1"
    api = KubeApi.from_kubeconfig(path, context="other", server=f"{server.url}/")
    assert api.server == server.url
    assert list_pods(api)["items"] == []  # with the CA, though the kubeconfig's own server has no TLS
    api.close()


def test_a_colon_in_the_path_is_no_separator(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "a:b" / "k"))
    list_pods(api)
    api.close()


@pytest.mark.parametrize("how", ["data", "files", "one file", "DER"])
def test_the_node_is_known_from_a_kubelets_certificate(how: str, tmp_path: Path) -> None:
    pair = authority().client("system:node:worker-7", "system:nodes")
    if how == "data":
        user = {"client-certificate-data": pem(pair.certificate), "client-key-data": pem(pair.key)}
    elif how == "files":
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    else:
        both = tmp_path / "current.pem"
        both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
        user = {
            "client-certificate": "current.pem",
            "client-key": "current.pem",
        }  # relative to the kubeconfig
    api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))
    assert (api.user_name, api.node_name) == ("system:node:worker-7", "worker-7")
    if how == "DER":
        der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
        assert kubeapi._common_name(der) == "system:node:worker-7"
        assert all(kubeapi._common_name(der[:length]) is None for length in range(len(der) // 3))


def test_no_node_without_such_a_certificate(tmp_path: Path) -> None:
    assert KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user={"token": "t"}))).user_name is None
    pair = authority().client("kiptail")
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))
    assert (api.user_name, api.node_name) == ("kiptail", None)


@pytest.mark.parametrize("user", [{"client": ("ann", "system:masters")}, {}], ids=["certificate", "token"])
def test_inline_secrets_are_not_left_on_disk(
    user: dict[str, Any], opened: Callable[..., KubeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    api = opened(**user)
    assert list(directory.iterdir()) == []
    list_pods(api)
    api.reload()
    list_pods(api)
    assert list(directory.iterdir()) == []


def test_tls_server_name_is_what_the_certificate_has_to_be_for(server: ApiServer, tmp_path: Path) -> None:
    document = json.loads(server.kubeconfig(tmp_path / "k").read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster["tls-server-name"] = "kubernetes.default.svc"
    api = KubeApi.from_kubeconfig(write(tmp_path / "k", document))
    list_pods(api)
    cluster["tls-server-name"] = "elsewhere.example"
    write(tmp_path / "k", document)
    api.reload()
    error = failure(lambda: list_pods(api))
    assert error.untrusted
    assert "is not trusted: its certificate is for another name" in str(error)
    api.close()


def test_requests_go_through_the_proxy_of_the_kubeconfig(tmp_path: Path) -> None:
    with RawServer(reply(b"", status="502 No route")) as proxy:
        cluster = {"server": "http://cluster.invalid", "proxy-url": proxy.url}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster)))
        assert failure(lambda: list_pods(api)).status == 502
        assert proxy.heads[0].startswith("GET http://cluster.invalid/api/v1/pods?")
        api.close()


def test_a_wrong_ca_and_a_missing_one_are_untrusted(opened: Callable[..., KubeApi]) -> None:
    for ca in ("wrong", "none"):
        error = failure(lambda: list_pods(opened(ca=ca)))  # noqa: B023 - called at once
        assert error.untrusted
        assert error.unreachable
        assert "is not signed by the certificate authority in the kubeconfig" in str(error)


def test_an_expired_certificate_is_untrusted(tmp_path: Path) -> None:
    pair = expired_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*pair)
    with RawServer(reply(b"{}"), tls) as server:
        cluster = {"server": server.url, "certificate-authority": str(pair[0])}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster)))
        error = failure(lambda: list_pods(api))
        assert error.untrusted
        assert "its certificate has expired" in str(error)
        api.close()


def expired_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, of the year 2020, and its key."""
    config, request = directory / "cnf", directory / "csr"
    key, certificate = directory / "old.key", directory / "old.crt"
    config.write_text(
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=old\n[ca]\ndefault_ca=d\n[p]\ncommonName=supplied\n"
        f"[d]\ndatabase={directory}/db\nserial={directory}/serial\nnew_certs_dir={directory}\n"
        "default_md=sha256\npolicy=p\nx509_extensions=e\n"
        "[e]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n"
    )
    (directory / "db").touch()
    (directory / "serial").write_text("01\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
    files = ["-in", str(request), "-out", str(certificate)]
    for command in (
        ["req", "-new", "-config", str(config), *new_key, "-out", str(request)],
        ["ca", "-batch", "-selfsign", "-notext", "-config", str(config), "-keyfile", str(key), *dates, *files],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=20)
    return certificate, key


def test_without_verification_one_warning_is_logged_and_nothing_else(
    opened: Callable[..., KubeApi], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        api = opened(ca="insecure")
        list_pods(api)
        api.reload()
        list_pods(api)
    assert [record.getMessage() for record in caplog.records] == [
        f"insecure-skip-tls-verify: anybody between here and {api.server} can read the token"
    ]
    assert not caught
    assert capfd.readouterr() == ("", "")


def test_nothing_of_the_libraries_reaches_the_log(
    opened: Callable[..., KubeApi], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = opened(client=("ann", "system:masters"))
    list_pods(api)
    document = json.loads((tmp_path / "kubeconfig").read_text())
    document["clusters"][0]["cluster"]["tls-server-name"] = "elsewhere.example"
    write(tmp_path / "kubeconfig", document)
    api.reload()
    failure(lambda: list_pods(api))
    assert caplog.records == []


def test_a_token_file_is_read_again_when_it_changes(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"  {server.add_user('first', 'system:masters')}\n\n")
    api = opened(token_file=file, files_check_s=1000)
    list_pods(api)
    fresh = tmp_path / "fresh"
    fresh.write_text(server.add_user("second", "system:masters") + "\n")
    fresh.rename(file)
    list_pods(api)
    file.unlink()
    list_pods(api)  # with the last one
    assert [request.user for request in server.requests()] == ["first", "second", "second"]


def test_a_token_file_that_looks_the_same_is_read_again_after_a_minute(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeapi, "_stamp", lambda path: (1, 2, 3))
    file = tmp_path / "token"
    file.write_text(server.add_user("first", "system:masters"))
    api = opened(token_file=file)
    list_pods(api)
    file.write_text(server.add_user("second", "system:masters"))
    list_pods(api)
    monkeypatch.setattr(kubeapi, "TOKEN_READ_S", 0.0)
    list_pods(api)
    assert [request.user for request in server.requests()] == ["first", "first", "second"]


def test_after_a_401_a_renewed_token_file_is_used(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeapi, "_stamp", lambda path: (1, 2, 3))  # the change goes unnoticed
    file = tmp_path / "token"
    old = server.add_user("first", "system:masters")
    file.write_text(old)
    api = opened(token_file=file)
    list_pods(api)
    server.access.revoke_token(old)
    file.write_text(server.add_user("second", "system:masters") + "\n")
    list_pods(api)
    assert [request.status for request in server.requests()] == [200, 401, 200]


def test_one_reload_serves_all_threads_that_got_a_401(server: ApiServer, tmp_path: Path) -> None:
    old, new = (server.add_user(name, "system:masters") for name in ("old", "new"))
    runs, token = tmp_path / "runs", tmp_path / "token"
    token.write_text(old)
    script = f"echo run >> {runs}\n" + credential(token="@").replace("'END'", f"'END' | sed s/@/$(cat {token})/")
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    list_pods(api)
    server.access.revoke_token(old)
    token.write_text(new)
    # All four are refused before one of them reloads.
    with server.faults.delay(0.2, match=lambda request: request.headers["Authorization"] == f"Bearer {old}"):
        threads = [threading.Thread(target=list_pods, args=(api,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests(user="new", status=200)) == 4
    assert runs.read_text() == "run\n" * 2
    api.close()


def test_a_second_401_is_told_with_what_the_reload_met(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path
) -> None:
    api = opened(token="wrong", files_check_s=1000)
    error = failure(lambda: list_pods(api))
    assert (error.status, error.reason, error.transient) == (401, "Unauthorized", False)
    assert len(server.requests(status=401)) == 2
    (tmp_path / "kubeconfig").unlink()
    error = failure(lambda: list_pods(api))
    assert error.status == 401
    assert "answered 401, and the kubeconfig" in str(error)
    assert "wrong" not in str(error)


def test_a_rotated_client_certificate_is_noticed(server: ApiServer, tmp_path: Path) -> None:
    link = tmp_path / "current.pem"

    def rotate(name: str) -> None:
        pair = authority().client(name, "system:masters")
        target = tmp_path / f"{name}.pem"
        target.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").rename(link)

    rotate("one")
    user = {"client-certificate": str(link), "client-key": str(link)}
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k", user=user), files_check_s=0)
    list_pods(api)
    rotate("two")
    list_pods(api)
    assert api.user_name == "two"
    assert [request.user for request in server.requests()] == ["one", "two"]
    api.close()


def test_files_are_looked_at_once_in_a_while(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "k")
    api = KubeApi.from_kubeconfig(path, files_check_s=0.3)
    server.kubeconfig(path, token=server.add_user("second", "system:masters"))
    list_pods(api)
    time.sleep(0.3)
    list_pods(api)
    assert [request.user for request in server.requests()] == ["kubernetes-admin", "second"]
    api.close()


def test_a_kubeconfig_that_is_broken_meanwhile_leaves_the_old_credentials(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = opened(files_check_s=0)
    write(tmp_path / "kubeconfig", "[")
    list_pods(api)
    list_pods(api)
    assert len(caplog.records) == 1
    assert "still using the old credentials: the kubeconfig" in caplog.text
    with pytest.raises(ClusterError, match="not valid YAML"):
        api.reload()
    server.kubeconfig(tmp_path / "kubeconfig", token=server.add_user("second", "system:masters"))
    list_pods(api)
    assert server.requests()[-1].user == "second"


# -- exec plugins --------------------------------------------------------------------------------------------


def test_a_plugins_token_is_used_and_renewed_before_it_expires(server: ApiServer, tmp_path: Path) -> None:
    token = server.add_user("plugged", "system:masters")
    script = f"echo run >> {tmp_path}/runs\n" + credential(token=token, expirationTimestamp="2020-01-01T00:00:00Z")
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    before = (tmp_path / "runs").read_text().count("run")
    list_pods(api)
    assert server.requests()[-1].user == "plugged"
    assert (tmp_path / "runs").read_text().count("run") == before + 1
    api.close()


def test_a_plugin_that_can_renew_no_more_is_warned_about_and_left_alone_for_a_while(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = server.add_user("plugged", "system:masters")
    good = credential(token=token, expirationTimestamp="2020-01-01T00:00:00Z")
    script = f"test -e {tmp_path}/broken && {{ echo 'no such region' >&2; exit 3; }}\n{good}"
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    (tmp_path / "broken").touch()
    list_pods(api)
    list_pods(api)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot renew the credential: exec: process returned 3. no such region"
    ]
    api.close()


def test_a_plugin_may_give_a_certificate(server: ApiServer, tmp_path: Path) -> None:
    pair = authority().client("system:node:node1", "system:nodes")
    script = credential(clientCertificateData=pair.certificate.read_text(), clientKeyData=pair.key.read_text())
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    assert api.node_name == "node1"
    assert api.allowed("create", "events") is True
    api.close()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'cannot reach the\nlogin server' >&2; exit 4", "process returned 4. cannot reach the login"),
        ("echo token", "failed to decode process output"),
        (credential(other="x"), "missing token or clientCertificateData"),
        (credential(token="a b"), "is empty or holds blanks or control characters"),
        ("sleep 30", "the exec plugin took longer than 1 s"),
    ],
    ids=["fails", "no JSON", "nothing", "odd token", "hangs"],
)
def test_a_plugin_that_fails_ends_the_start(
    script: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kubeapi, "EXEC_TIMEOUT_S", 1)
    path = write(tmp_path / "k", kubeconfig(user=plugin(tmp_path / "plugin", script)))
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(ClusterError) as caught:
        KubeApi.from_kubeconfig(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


# -- requests ------------------------------------------------------------------------------------------------


def test_pods_come_page_by_page(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    for number in range(5):
        server.pods.put({**POD, "metadata": {"name": f"p{number}", "namespace": "team-a"}})
    api = opened()
    page = api.list_pods_page(limit=3, field_selector="spec.nodeName=node1")
    assert [pod["metadata"]["name"] for pod in page["items"]] == ["p0", "p1", "p2"]
    rest = api.list_pods_page(
        limit=3,
        continue_token=page["metadata"]["continue"],
        resource_version="0",  # would be refused beside a token
        field_selector="spec.nodeName=node1",
    )
    assert [pod["metadata"]["name"] for pod in rest["items"]] == ["p3", "p4"]
    assert api.list_pods_page(limit=1, resource_version="0", field_selector="spec.nodeName=x")["items"] == []
    asked = server.requests()[-1]
    assert asked.query == {"limit": "1", "resourceVersion": "0", "fieldSelector": "spec.nodeName=x"}
    assert asked.headers["User-Agent"] == f"kiptail/{__version__}"


def test_an_event_is_created_once_and_then_patched(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    api.create_event("team-a", EVENT)
    error = failure(lambda: api.create_event("team-a", EVENT))
    assert (error.status, error.reason, error.transient) == (409, "AlreadyExists", False)
    api.patch_event("team-a", "web.1", {"count": 7})
    assert [(event["message"], event["count"]) for event in server.events()] == [("m", 7)]
    error = failure(lambda: api.patch_event("team-a", "web.2", {"count": 7}))
    assert (error.status, error.reason) == (404, "NotFound")
    assert server.requests("PATCH")[0].headers["Content-Type"] == "application/strategic-merge-patch+json"


def test_causes_are_passed_on(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.terminate_namespace("team-a")
    error = failure(lambda: opened().create_event("team-a", EVENT))
    assert (error.status, error.causes) == (403, ("NamespaceTerminating",))


def test_names_cannot_change_the_path(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b"{}")) as (api, server):
        api.patch_event("a/../b", "n?m#k ü%41", {})
        assert server.heads[0].startswith("PATCH /api/v1/namespaces/a%2F..%2Fb/events/n%3Fm%23k%20%C3%BC%2541 ")
        for namespace, name in ((".", "a"), ("..", "a"), ("", "a"), ("a", ".."), ("a", "")):
            with pytest.raises(ValueError, match="not a name"):
                api.patch_event(namespace, name, {})


def test_rights_are_asked_for_with_the_selector_that_will_be_used(
    server: ApiServer, opened: Callable[..., KubeApi]
) -> None:
    api = opened(client=("system:node:node1", "system:nodes"))
    assert api.allowed("list", "pods") is False
    assert api.allowed("list", "pods", field_selector=("spec.nodeName", "node1")) is True
    assert api.allowed("list", "pods", field_selector=("spec.nodeName", "node2")) is False
    assert api.allowed("create", "events") is True
    for status in (403, 404):
        with server.faults.status(status):
            assert api.allowed("create", "events") is None
    with server.faults.status(500):
        assert failure(lambda: api.allowed("create", "events")).status == 500


def test_exchanges_are_observed(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    seen: list[tuple[str, str]] = []
    api = opened(observe=lambda verb, code, seconds: seen.append((verb, code)) if seconds >= 0 else None)
    list_pods(api)
    api.create_event("team-a", EVENT)
    api.patch_event("team-a", "web.1", {"count": 2})
    api.allowed("create", "events")
    with api.watch_pods(resource_version="0", timeout_s=5):
        pass
    with server.faults.status(401, count=1):
        list_pods(api)
    server.stop()
    failure(lambda: list_pods(api))
    assert seen == [
        ("list", "200"),
        ("create", "201"),
        ("patch", "200"),
        ("review", "201"),
        ("watch", "200"),
        ("list", "401"),
        ("list", "200"),
        ("list", "error"),
    ]


def test_connections_are_used_again(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    for _ in range(5):
        list_pods(api)
        failure(lambda: api.patch_event("team-a", "none", {}))
    assert len({request.connection for request in server.requests()}) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_no_error(
    server: ApiServer, opened: Callable[..., KubeApi]
) -> None:
    api = opened()
    list_pods(api)
    server.stop()
    server.start()
    list_pods(api)


def test_many_threads_may_ask_at_once(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                list_pods(api)
        except BaseException as error:  # noqa: BLE001 - raised in no thread's place
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(server.requests(status=200)) == 80


def test_a_page_of_many_megabytes(tmp_path: Path) -> None:
    items = [{"metadata": {"name": "x" * 1000}}] * 20_000
    body = json.dumps({"kind": "PodList", "metadata": {}, "items": items}).encode()
    assert len(body) > 19 << 20
    with raw(tmp_path, reply(body), tls=server_tls()) as (api, _):
        assert len(list_pods(api)["items"]) == 20_000


# -- answers that are no success -----------------------------------------------------------------------------


def test_too_many_requests_tell_when_to_come_back(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    with server.faults.status(429, retry_after=3):
        error = failure(lambda: list_pods(api))
    assert (error.status, error.reason, error.retry_after, error.transient) == (
        429,
        "TooManyRequests",
        3.0,
        True,
    )


STATUS = {"kind": "Status", "message": "m", "reason": "R", "details": {"retryAfterSeconds": 2}}
ANSWERS: dict[str, tuple[str, str, bytes, tuple[Any, ...], str]] = {
    "proxy's text": (
        "503 x",
        "",
        b"no healthy\n upstream\x1b[1m",
        (503, "", None),
        "503: no healthy upstream",
    ),
    "proxy's page": (
        "502 Bad Gateway",
        "",
        b"<html><title>Bad</title><h1>Gateway</h1></html>",
        (502, "", None),
        "502: Bad Gateway",
    ),
    "nothing": ("504 x", "", b"", (504, "", None), "504"),
    "a delay in the Status": ("500 x", "", json.dumps(STATUS).encode(), (500, "R", 2.0), "500: m"),
    "a delay in the header": (
        "500 x",
        "Retry-After: 7\r\n",
        json.dumps(STATUS).encode(),
        (500, "R", 7.0),
        "m",
    ),
    "a date in the header": (
        "503 x",
        "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n",
        b"x",
        (503, "", None),
        "x",
    ),
    "odd types": (
        "500 x",
        "",
        b'{"message":["a"],"reason":{},"details":{"causes":[1,{"reason":2}],"retryAfterSeconds":"1"}}',
        (500, "", None),
        "['a']",
    ),
    "more odd types": ("500 x", "", b'{"message":"","details":[],"reason":7}', (500, "", None), "500"),
    "deep nesting": ("500 x", "", b"[" * 100_000, (500, "", None), "[[["),
    "a redirect": ("302 x", "Location: http://elsewhere.invalid/\r\n", b"", (302, "", None), "302: Found"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_refusal_is_understood(case: str, tmp_path: Path) -> None:
    status, headers, body, expected, text = ANSWERS[case]
    with raw(tmp_path, reply(body, status=status, headers=headers)) as (api, server):
        error = failure(lambda: list_pods(api))
        assert (error.status, error.reason, error.retry_after) == expected
        assert text in str(error)
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{", b'{"items":5,"metadata":{}}', b'{"items":[]}', b"[" * 100_000, b"\xff"],
    ids=["nothing", "page", "list", "cut", "items", "no metadata", "deep", "binary"],
)
def test_a_list_that_is_none_is_a_bad_answer(body: bytes, tmp_path: Path) -> None:
    with raw(tmp_path, reply(body)) as (api, _):
        error = failure(lambda: list_pods(api))
        assert (error.status, error.reason, error.transient) == (502, "BadResponse", True)


def test_a_review_that_is_none_is_a_bad_answer(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b'{"status":{"allowed":"yes"}}')) as (api, _):
        assert failure(lambda: api.allowed("list", "pods")).reason == "BadResponse"


def test_what_a_created_event_looks_like_does_not_matter(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b"\xff{", status="201 Created")) as (api, _):
        api.create_event("a", EVENT)


def test_an_answer_that_does_not_end_is_not_kept(tmp_path: Path) -> None:
    def flood(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(chunk(b" " * 65_536))

    with raw(tmp_path, flood) as (api, _):
        error = failure(lambda: api.create_event("a", EVENT))
        assert error.reason == "BadResponse"
        assert "is larger than 1 MiB" in str(error)


# -- no answer -----------------------------------------------------------------------------------------------


def test_a_server_that_is_down(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    server.stop()
    error = failure(lambda: list_pods(api))
    assert (error.unreachable, error.untrusted, error.transient) == (True, False, True)
    assert str(error) == f"cannot list pods: {server.url}: Connection refused"
    server.start()
    list_pods(api)


def test_a_reset(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    with server.faults.reset():
        error = failure(lambda: list_pods(api))
    assert error.unreachable
    assert str(error).endswith(("reset by peer", "the connection was closed without an answer"))


def test_a_name_that_is_none(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "k", server="https://no-such-host.invalid:6443")
    api = KubeApi.from_kubeconfig(path)
    error = failure(lambda: list_pods(api))
    assert error.unreachable
    assert "https://no-such-host.invalid:6443: " in str(error)
    assert "object at" not in str(error)
    api.close()


def test_http_where_tls_is_expected(tmp_path: Path) -> None:
    with RawServer(reply(b"")) as server:
        cluster = {"server": server.url.replace("http", "https")}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster)), request_timeout_s=5)
        error = failure(lambda: list_pods(api))
        assert error.unreachable
        assert "TLS failed" in str(error) or "cut off" in str(error) or "no answer" in str(error)
        api.close()


def late(request: Callable[[], object]) -> ApiError:
    """The failure of a request whose time was `SHORT`."""
    started = time.monotonic()
    error = failure(request)
    taken = time.monotonic() - started
    assert SHORT * 0.9 <= taken < SHORT + AT_ONCE
    assert error.unreachable
    assert f"no complete answer within {SHORT} s" in str(error) or "in time" in str(error)
    return error


def test_a_hanging_server(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened(request_timeout_s=SHORT)
    with server.faults.hang():
        late(lambda: list_pods(api))
        late(lambda: api.create_event("team-a", EVENT))
    list_pods(api)


def test_a_hanging_handshake(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened(request_timeout_s=SHORT)
    server.freeze()
    late(lambda: list_pods(api))
    server.thaw()
    list_pods(api)


def drip_head(connection: socket.socket, _: str) -> None:
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(65)):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drip_body(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def drip_chunks(connection: socket.socket, _: str) -> None:
    connection.sendall(CHUNKED)
    while True:
        connection.sendall(chunk(b" "))
        time.sleep(0.05)


def drip_without_length(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


DRIPS = [drip_head, drip_body, drip_chunks, drip_without_length]


@pytest.mark.parametrize("drip", DRIPS, ids=lambda drip: drip.__name__)
def test_a_dripping_server_gets_no_more_time_than_a_silent_one(
    drip: Callable[[socket.socket, str], None], tmp_path: Path
) -> None:
    with raw(tmp_path, drip, tls=server_tls(), request_timeout_s=SHORT) as (api, _):
        late(lambda: list_pods(api))


def test_a_name_server_that_hangs(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k"), request_timeout_s=SHORT)
    answered = threading.Event()
    look_up = socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        answered.wait(20)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    late(lambda: list_pods(api))
    answered.set()
    list_pods(api)
    api.close()


CUT: dict[str, bytes] = {
    "no answer": b"",
    "in a line": b"HTTP/1",
    "in the head": b"HTTP/1.1 200",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    "in a chunk": CHUNKED + b"9\r\n{",
    "between chunks": CHUNKED + chunk(b"{}"),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "no chunk": CHUNKED + b"xyz\r\n",
}


@pytest.mark.parametrize("case", CUT)
def test_an_answer_that_is_cut_off(case: str, tmp_path: Path) -> None:
    def cut(connection: socket.socket, _: str) -> None:
        connection.sendall(CUT[case])
        connection.shutdown(socket.SHUT_RDWR)

    with raw(tmp_path, cut) as (api, _):
        error = failure(lambda: list_pods(api))
        assert error.unreachable or error.reason == "BadResponse"
        assert "object at" not in str(error)
        assert "Error" not in str(error)


def test_closing_breaks_off_what_any_thread_is_doing(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    errors: list[ApiError] = []
    with server.faults.hang():
        thread = threading.Thread(target=lambda: errors.append(failure(lambda: list_pods(api))))
        thread.start()
        server.wait_for(server.requests)
        started = time.monotonic()
        api.close()
        thread.join()
    assert time.monotonic() - started < AT_ONCE
    assert "kiptail is closing" in str(errors[0])
    assert "is closed" in str(failure(lambda: list_pods(api)))
    with pytest.raises(ApiError), api.watch_pods(resource_version="0", timeout_s=5):
        pass


def test_a_deadline_does_not_hit_the_next_request_on_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        call = kubeapi._Call()
        call.hold(ours)
        call.finish()
        call.break_off("late")
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


# -- watches -------------------------------------------------------------------------------------------------


def watch(api: KubeApi, **options: Any) -> WatchStream:
    return api.watch_pods(**{"resource_version": "0", "timeout_s": 20, **options})


def kinds(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["type"] for line in lines]


def test_a_watch_gives_lines_and_ends_without_an_error(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    version = list_pods(api)["metadata"]["resourceVersion"]
    with watch(api, resource_version=version, timeout_s=1, field_selector="spec.nodeName=node1") as stream:
        server.pods.put(POD)
        server.pods.delete("web", namespace="team-a")
        lines = list(stream)
    assert kinds(lines)[:2] == ["ADDED", "DELETED"]
    assert set(kinds(lines)[2:]) <= {"BOOKMARK"}
    assert all(line == line.strip() for line in lines)
    assert server.requests(verb="watch")[0].query == {
        "watch": "1",
        "timeoutSeconds": "1",
        "resourceVersion": version,
        "fieldSelector": "spec.nodeName=node1",
        "allowWatchBookmarks": "true",
    }


def test_a_watch_may_begin_with_the_state(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.pods.put(POD)
    with watch(opened(), resource_version="", initial_events=True) as stream:
        first, second = json.loads(next(stream)), json.loads(next(stream))
    assert first["type"] == "ADDED"
    assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_an_error_event_is_a_line_like_others(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with server.faults.watch("gone"), watch(opened()) as stream:
        lines = list(stream)
    assert json.loads(lines[-1])["object"]["code"] == 410


def test_a_watch_that_is_refused(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened(token=server.add_user("nobody"))
    with pytest.raises(ApiError) as caught, watch(api):
        pass
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


def test_a_watch_after_a_401_uses_fresh_credentials(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with server.faults.status(401, count=1), watch(opened()) as stream:
        server.pods.put(POD)
        assert kinds([next(stream)]) == ["ADDED"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_lines_may_be_cut_anywhere_by_chunks(tls: bool, tmp_path: Path) -> None:
    lines = [json.dumps({"type": "ADDED", "object": "é" * size}).encode() for size in (0, 1, 70_000, 200_000)]
    data = b"\n".join(lines) + b"\n\n"

    def answer(connection: socket.socket, _: str) -> None:
        pieces = [data[at : at + 1] for at in range(100)] + [data[at : at + 777] for at in range(100, len(data), 777)]
        connection.sendall(CHUNKED + b"".join(chunk(piece) for piece in pieces) + chunk(b""))

    with raw(tmp_path, answer, tls=server_tls() if tls else None) as (api, server), watch(api) as stream:
        assert list(stream) == lines
        list_again = api.watch_pods(resource_version="", timeout_s=5, bookmarks=False)
        with list_again as second:
            assert list(second) == lines
        assert "Bookmarks" not in server.heads[1]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (chunk(b'{"type"') + chunk(b""), "ended in the middle of a line"),
        (chunk(b'{"type"'), "cut off"),
        (b"5\r\n{", "cut off"),
        (b"xyz\r\n", "cut off"),
    ],
    ids=["line", "stream", "chunk", "garbage"],
)
def test_a_watch_that_is_cut_off(ending: bytes, expected: str, tmp_path: Path) -> None:
    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED + chunk(b'{"type":"ADDED"}\n') + ending)
        connection.shutdown(socket.SHUT_RDWR)

    with raw(tmp_path, answer) as (api, _), watch(api) as stream:
        assert next(stream) == b'{"type":"ADDED"}'
        error = failure(lambda: next(stream))
        assert error.unreachable
        assert expected in str(error)


@pytest.mark.parametrize("disturbance", ["cut", "reset"])
def test_a_watch_that_the_server_breaks(disturbance: str, server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    server.pods.put(POD)
    with server.faults.watch(disturbance, after_lines=1), watch(opened()) as stream:
        next(stream)
        assert failure(lambda: next(stream)).unreachable


def test_silence_is_an_error(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with watch(opened(), silence_s=0.3) as stream:
        started = time.monotonic()
        error = failure(lambda: next(stream))
    assert 0.25 <= time.monotonic() - started < AT_ONCE
    assert error.unreachable
    assert str(error) == "cannot watch pods: nothing came for 0.3 s"


def test_bytes_without_lines_are_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeapi, "WATCH_SLACK_S", 0.4)
    with raw(tmp_path, drip_chunks) as (api, _), watch(api, timeout_s=0) as stream:
        assert "no complete answer within 0.4 s" in str(failure(lambda: next(stream)))


def test_a_watch_goes_on_longer_than_a_request(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    with watch(opened(request_timeout_s=SHORT)) as stream:
        time.sleep(2 * SHORT)
        server.pods.put(POD)
        assert kinds([next(stream)]) == ["ADDED"]


def test_a_watch_gets_its_headers_in_time_or_not_at_all(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    stream = watch(opened(request_timeout_s=SHORT))
    with server.faults.hang():
        late(stream.__enter__)


def test_a_line_that_does_not_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeapi, "WATCH_LINE_BYTES", 1 << 20)

    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(chunk(b"x" * 100_000))

    with raw(tmp_path, answer) as (api, _), watch(api) as stream:
        error = failure(lambda: next(stream))
        assert error.reason == "BadResponse"
        assert "a line of more than 1 MiB" in str(error)


def test_a_page_is_no_watch(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b"{}\n")) as (api, _), pytest.raises(ApiError, match="is no stream"), watch(api):
        pass


def closing_later(stream: WatchStream | KubeApi) -> threading.Timer:
    timer = threading.Timer(0.2, stream.close)
    timer.start()
    return timer


@pytest.mark.parametrize("closed_by", ["stream", "client"])
@pytest.mark.parametrize("transport", ["https", "https, used before", "http", "http, closed at the end"])
def test_closing_a_watch_ends_a_blocked_read_at_once(closed_by: str, transport: str, tmp_path: Path) -> None:
    def answer(connection: socket.socket, head: str) -> None:
        if "watch=1" not in head:
            reply(b'{"items":[],"metadata":{}}')(connection, head)
            return
        end = b"\r\nConnection: close\r\n\r\n" if "closed" in transport else b"\r\n\r\n"
        connection.sendall(CHUNKED.replace(b"\r\n\r\n", end) + chunk(b'{"type":"ADDED"}\n'))
        connection.recv(1)

    tls = server_tls() if "https" in transport else None
    with raw(tmp_path, answer, tls=tls) as (api, server):
        if "before" in transport:
            list_pods(api)
        stream = watch(api)
        with stream:
            assert next(stream) == b'{"type":"ADDED"}'
            timer = closing_later(stream if closed_by == "stream" else api)
            started = time.monotonic()
            assert list(stream) == []
            assert time.monotonic() - started < AT_ONCE
        timer.join()
        assert server.connections == 1


@pytest.mark.parametrize("phase", ["look-up", "handshake", "headers"])
@pytest.mark.parametrize("closed_by", ["stream", "client"])
def test_closing_a_watch_that_is_still_connecting(
    phase: str,
    closed_by: str,
    server: ApiServer,
    opened: Callable[..., KubeApi],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = opened()
    stream = watch(api)
    released = threading.Event()
    if phase == "look-up":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20))
    elif phase == "handshake":
        server.freeze()
    else:
        server.faults.hang()
    timer = closing_later(stream if closed_by == "stream" else api)
    started = time.monotonic()
    with stream:
        assert list(stream) == []
    assert time.monotonic() - started < AT_ONCE
    released.set()
    timer.join()
    server.thaw()
    server.faults.clear()


def test_a_watch_that_was_closed_before_it_began_asks_nothing(
    server: ApiServer, opened: Callable[..., KubeApi]
) -> None:
    stream = watch(opened())
    stream.close()
    with stream:
        assert list(stream) == []
    assert server.requests() == []


def test_leaving_a_watch_lets_go_of_its_connection(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    server.pods.put(POD)
    with watch(api) as stream:
        next(stream)
    server.wait_for(lambda: not server.watches())
    assert list(stream) == []
    stream.close()
    list_pods(api)


def test_a_dead_link_is_found_out_by_keepalive(
    server: ApiServer, opened: Callable[..., KubeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[int, int]] = []

    class Call(kubeapi._Call):
        def finish(self) -> None:
            assert self._line is not None
            held.append(
                (
                    self._line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    self._line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                )
            )
            super().finish()

    monkeypatch.setattr(kubeapi, "_Call", Call)
    list_pods(opened())
    assert held == [(1, 15)]


# -- cost ----------------------------------------------------------------------------------------------------


def test_importing_it_does_not_import_the_client_library() -> None:
    script = "import sys, kiptail.kubeapi; sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=20)


def test_no_descriptor_is_left(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    def sockets() -> int:
        count = 0
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                count += stat.S_ISSOCK(os.stat(f"/proc/self/fd/{entry}").st_mode)
        return count

    api = opened(request_timeout_s=SHORT)
    list_pods(api)
    before = sockets()
    for _ in range(2):
        list_pods(api)
        with watch(api, timeout_s=5):
            pass
        with server.faults.status(500):
            failure(lambda: list_pods(api))
        with server.faults.hang():
            failure(lambda: list_pods(api))
        list_pods(api)
    server.wait_for(lambda: sockets() <= before, message=f"{sockets()} sockets, before {before}")
